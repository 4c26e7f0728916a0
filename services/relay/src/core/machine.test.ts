import assert from "node:assert/strict";
import { before, test } from "node:test";
import { decode, encode, equalBytes } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { ACCEPTED, NOT_TAKEN } from "@lattice/organism/outcomes/relay.ts";
import { CommitteeDriver } from "@lattice/organism/testing/committee-driver.ts";
import {
  acknowledgement,
  candidateBody,
  candidateOutcome,
  dealRelay,
  filled,
  SEQUENCER_SECRET,
  SLOT,
} from "../../test/fixture.ts";
import { COMMAND, SIGNED_ACKNOWLEDGEMENT, type SignedAcknowledgement } from "./codec.ts";
import { createMachine } from "./machine.ts";
import { ACKNOWLEDGEMENT_TOPIC, type RelayCommand, type RelayDuty, type RelayState } from "./types.ts";

before(() => initCrypto());

function start() {
  const { config, rosters, secrets } = dealRelay();
  const driver = new CommitteeDriver<RelayState, RelayCommand, RelayDuty>({
    config,
    roster: rosters.relay,
    secrets,
    createMachine: () => createMachine(config),
  });
  driver.nowMs = slotStartMs(config, SLOT);
  driver.joinAll();
  const observe = (outcome: Outcome) =>
    driver.author(0).say({ type: "observe", organism: "atelier", certified: driver.certify(outcome) });
  const saw = (author: number, signed: SignedAcknowledgement, slot = SLOT) =>
    driver
      .author(author)
      .say({ type: "saw", topic: ACKNOWLEDGEMENT_TOPIC, slot, fact: encode(SIGNED_ACKNOWLEDGEMENT, signed) });
  const shipped = (author: number, blockHash: Uint8Array, slot = SLOT) =>
    driver.author(author).say({ type: "machine", command: encode(COMMAND, { type: "shipped", slot, blockHash }) });
  const duties = (self: number, nowMs = driver.nowMs) => {
    const { committee } = driver;
    return committee.machine.duties(
      committee.state,
      committee.view(self, nowMs, () => false),
    );
  };
  return { config, driver, observe, saw, shipped, duties };
}

test("q members saw the acknowledgement of the certified block: accepted", () => {
  const { config, driver, observe, saw } = start();
  assert.equal(observe(candidateOutcome(config, candidateBody())).refusal, undefined);
  const signed = acknowledgement(config);
  assert.deepEqual(saw(0, signed).decided, []);
  const [outcome] = saw(1, signed).decided;
  assert.equal(outcome?.kind, "result");
  const accepted = decode(ACCEPTED, outcome?.commitment ?? new Uint8Array());
  assert.deepEqual(accepted.blockHash, filled(32, 0xaa));
  assert.equal(accepted.blockNumber, 5n);
  assert.deepEqual(accepted.sequencer, addressOfSecret(SEQUENCER_SECRET));
  assert.deepEqual(accepted.signature, signed.signature);
  driver.assertAlike();
  driver.restart(1);
  assert.ok(equalBytes(driver.replay().stateHash(), driver.committee.stateHash()));
});

test("everything else is not taken, with the word for why", () => {
  for (const [over, reason] of [
    [{ outcome: "fallback", blockHash: filled(32, 0xbb), reason: "NO_PAYLOAD" }, "NO_PAYLOAD"],
    [{ outcome: "none", blockHash: filled(32, 0), reason: "" }, "none"],
    // The word alone does not make a block ours.
    [{ outcome: "accepted", blockHash: filled(32, 0xbb) }, "not-our-block"],
  ] as const) {
    const { config, observe, saw } = start();
    observe(candidateOutcome(config, candidateBody()));
    const signed = acknowledgement(config, over);
    saw(0, signed);
    const [outcome] = saw(1, signed).decided;
    assert.equal(outcome?.kind, "empty");
    const notTaken = decode(NOT_TAKEN, outcome?.commitment ?? new Uint8Array());
    assert.equal(notTaken.reason, reason);
    assert.deepEqual(notTaken.blockHash, over.blockHash);
  }
});

test("a word that is not the pinned sequencer's on this slot of this lattice decides nothing", () => {
  const { config, driver, observe, saw } = start();
  observe(candidateOutcome(config, candidateBody()));
  for (const [slot, signed] of [
    [SLOT, acknowledgement(config, {}, filled(32, 8))],
    [SLOT + 1n, acknowledgement(config, { slot: SLOT })],
    [SLOT + 2n, acknowledgement(config, { slot: SLOT + 2n, latticeId: filled(32, 3) })],
  ] as const) {
    saw(0, signed, slot);
    const applied = saw(1, signed, slot);
    assert.equal(applied.refusal?.reason, "BAD_ACKNOWLEDGEMENT");
    assert.deepEqual(applied.decided, []);
  }
  driver.assertAlike();
});

test("a slot without a candidate is skipped at once, and stays so", () => {
  const { config, observe, saw } = start();
  const [outcome] = observe(candidateOutcome(config, undefined)).decided;
  assert.equal(outcome?.kind, "skipped");
  saw(0, acknowledgement(config));
  assert.equal(saw(1, acknowledgement(config)).refusal?.reason, "SLOT_DECIDED");
});

test("members record what they handed over: the certified block, each once", () => {
  const { config, driver, observe, shipped } = start();
  assert.equal(shipped(0, filled(32, 0xaa)).refusal?.reason, "NO_CANDIDATE");
  observe(candidateOutcome(config, candidateBody()));
  assert.equal(shipped(0, filled(32, 0xbb)).refusal?.reason, "OTHER_BLOCK");
  assert.equal(shipped(0, filled(32, 0xaa)).refusal, undefined);
  assert.equal(shipped(0, filled(32, 0xaa)).refusal?.reason, "DUPLICATE");
  assert.equal(shipped(2, filled(32, 0xaa)).refusal, undefined);
  assert.deepEqual(driver.committee.state.shipped.get(SLOT)?.members, [0, 2]);
  driver.assertAlike();
});

test("duties: ask about begun slots with a candidate, until one has spoken", () => {
  const { config, driver, observe, saw, duties } = start();
  assert.deepEqual(duties(0), []);
  observe(candidateOutcome(config, candidateBody()));
  assert.deepEqual(
    duties(0).map(({ key }) => key),
    [`acknowledge/${SLOT}`],
  );
  assert.deepEqual(duties(0, slotStartMs(config, SLOT) - 1), []);
  saw(0, acknowledgement(config));
  assert.deepEqual(duties(0), []);
  assert.equal(duties(1).length, 1);
  const { content } = config.relay;
  const expiry = slotStartMs(config, SLOT) + content.acceptedAfterMs + 2 * content.patienceMs;
  assert.equal(driver.committee.machine.skipAtMs("accepted", SLOT), expiry);
});

test("policies that are not built are refused when the machine is made", () => {
  const { config } = dealRelay();
  const { content } = config.relay;
  const other = { ...config, relay: { ...config.relay, content: { ...content, policy: "l1-mev-boost" as const } } };
  assert.throws(() => createMachine(other), /not built/);
});

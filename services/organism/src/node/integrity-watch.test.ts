/** Accusations, and what becomes of them when the log would not take them. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { encode } from "../codec/codec.ts";
import type { CommitteeCommand } from "../committee/commands.ts";
import { verifyFraudProof } from "../committee/fraud.ts";
import { ERAS } from "../committee/rules.ts";
import { SLOTS_KEPT, WINDOW_AHEAD } from "../committee/state.ts";
import { initCrypto } from "../crypto/engine.ts";
import { slotStartMs } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import { createNoMeters } from "../observe/meters.ts";
import { CommitteeDriver } from "../testing/committee-driver.ts";
import { firstEpoch, nextEpoch } from "../testing/dealt-eras.ts";
import { ManualTimers } from "../testing/manual-timers.ts";
import { FraudProofs } from "./fraud-proofs.ts";
import { IntegrityWatch } from "./integrity-watch.ts";

const MEMBERS = 4;
const LIAR = 3;
const NOW = 3n;
const BORDER = NOW + WINDOW_AHEAD + 1n;

let dealt: TestCommittee;
let driver: CommitteeDriver<ProbeState, ProbeCommand, Duty>;
const lines: string[] = [];

const note = (text: string): CommitteeCommand => ({
  type: "machine",
  command: encode(probeMachine().command, { type: "note", text }),
});

function begin(): void {
  const { config, rosters, secrets } = dealt;
  driver = new CommitteeDriver({
    config,
    roster: rosters.relay,
    secrets,
    createMachine: probeMachine,
    activationEntries: 4n,
    rules: { lowest: 1, highest: ERAS },
  });
  driver.nowMs = slotStartMs(config, NOW);
  driver.joinAll();
  for (const index of [0, 1, 2]) driver.author(index).say({ type: "rules", highest: ERAS, build: "test" });
  for (let turn = 0; turn < 6; turn++) driver.author(turn % MEMBERS).say(note("x"));
}

function passTo(slot: bigint): void {
  driver.nowMs = slotStartMs(dealt.config, slot);
  for (const author of [0, 1, 2, 3]) driver.author(author).say(note("y"));
  for (const stage of ["first", "second"])
    for (const author of [0, 1, 2]) driver.author(author).say({ type: "skip", stage, toSlot: slot - 1n });
}

/** Two entries in one place, under the incarnation that it has had from the beginning. */
function equivocate(): void {
  const liar = driver.author(LIAR);
  const [one, other] = ["one", "other"].map((text) => liar.sign(note(text), "ctl", { aside: true }));
  driver.apply(one ?? assert.fail());
  driver.apply(other ?? assert.fail());
}

/** What member 0 makes of the whole log. */
function watching() {
  const committee = driver.fresh();
  const kept = new Map<string, Uint8Array>();
  const proofs = new FraudProofs({
    put: async (name, value) => void kept.set(name, value),
    get: (name) => kept.get(name),
  });
  const line = (message: string): void => void lines.push(message);
  const shown: Uint8Array[] = [];
  const watch = new IntegrityWatch({
    config: dealt.config,
    self: 0,
    committee,
    certifiedRoster: dealt.certifiedRoster,
    proofs,
    log: { consume: () => assert.fail("nothing is read again") } as never,
    peers: () => [],
    withheldMs: () => 0,
    timers: new ManualTimers(),
    logger: { debug: line, info: line, warn: line, error: line },
    meters: createNoMeters(),
    onForked: (detail) => assert.fail(detail),
    onAccusation: () => undefined,
    onProof: (_, proof) => void shown.push(proof),
  });
  for (const [index, raw] of driver.log.entries()) watch.delivered(raw, committee.apply(BigInt(index + 1), raw));
  return { watch, committee, proofs, shown };
}

describe("an accusation", () => {
  before(async () => {
    await initCrypto();
    dealt = dealCommittee(MEMBERS, {}, "third");
  });

  test("is brought until the key is blocked", () => {
    begin();
    equivocate();
    const { watch, committee } = watching();
    const [first] = watch.accusations();
    assert.ok(first !== undefined && first.command.type === "fraud");
    assert.deepEqual(watch.accusations(), [first], "nothing has come of it yet");
    assert.equal(driver.author(1).say(first.command).refusal, undefined);
    const raw = driver.log.at(-1) ?? assert.fail();
    watch.delivered(raw, committee.apply(BigInt(driver.log.length), raw));
    assert.ok(committee.isBlocked(LIAR));
    assert.deepEqual(watch.accusations(), []);
  });

  test("that the log would refuse is shown to people, and not said to the log again and again", async () => {
    begin();
    const one = nextEpoch(firstEpoch(dealt, "relay", 3), { activationSlot: BORDER, newEra: true });
    assert.equal(driver.author(0).say({ type: "roster", certified: one.certified }).refusal, undefined);
    for (let slot = BORDER; slot <= BORDER + BigInt(SLOTS_KEPT) + 8n; slot += 4n) passTo(slot);
    assert.deepEqual(
      driver.committee.rosters.map(({ epoch }) => epoch),
      [1n],
      "the roster that the Join was signed under is forgotten",
    );
    equivocate();
    lines.length = 0;
    const { watch, proofs, shown } = watching();
    const [proof] = shown;
    assert.ok(proof !== undefined);
    assert.ok("fraud" in verifyFraudProof(dealt.config, "relay", proof), "by the config's own era it stands");
    assert.deepEqual(watch.accusations(), []);
    await new Promise(setImmediate);
    assert.deepEqual(proofs.toCommit(), []);
    assert.equal(lines.filter((text) => text.startsWith("the log does not take a proof that stands")).length, 1);
    assert.equal(driver.author(1).say({ type: "fraud", proof }).refusal?.reason, "OTHER_ERA");
  });
});

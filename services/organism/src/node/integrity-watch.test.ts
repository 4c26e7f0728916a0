/** Accusations, and what becomes of them when the log would not take them. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { encode } from "../codec/codec.ts";
import type { CommitteeCommand } from "../committee/commands.ts";
import { verifyFraudProof } from "../committee/fraud.ts";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import { ERAS, PROOFS_BY_SEAT } from "../committee/rules.ts";
import { SLOTS_KEPT, WINDOW_AHEAD } from "../committee/state.ts";
import { initCrypto } from "../crypto/engine.ts";
import { slotStartMs } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import { createNoMeters } from "../observe/meters.ts";
import { CommitteeDriver } from "../testing/committee-driver.ts";
import { firstEpoch, type NextEpoch, nextEpoch } from "../testing/dealt-eras.ts";
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

function begin(highest = ERAS): void {
  const { config, rosters, secrets } = dealt;
  driver = new CommitteeDriver({
    config,
    roster: rosters.relay,
    secrets,
    createMachine: probeMachine,
    activationEntries: 4n,
    rules: { lowest: 1, highest },
  });
  driver.nowMs = slotStartMs(config, NOW);
  driver.joinAll();
  for (const index of [0, 1, 2]) driver.author(index).say({ type: "rules", highest, build: "test" });
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

/** An era begins, and goes on until the roster before it is forgotten. */
function passBorder(): NextEpoch {
  const one = nextEpoch(firstEpoch(dealt, "relay", 3), { activationSlot: BORDER, newEra: true });
  assert.equal(driver.author(0).say({ type: "roster", certified: one.certified }).refusal, undefined);
  for (let slot = BORDER; slot <= BORDER + BigInt(SLOTS_KEPT) + 8n; slot += 4n) passTo(slot);
  assert.deepEqual(
    driver.committee.rosters.map(({ epoch }) => epoch),
    [1n],
    "the roster that the Joins were signed under is forgotten",
  );
  return one;
}

/** What member 0 makes of the log, from the beginning or from the state after so many entries, with the rosters that it was given. */
function watching({
  from = 0,
  rosters = [dealt.certifiedRoster],
}: {
  from?: number;
  rosters?: CertifiedOutcome[];
} = {}) {
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
    certifiedRosters: () => rosters,
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
  const read = (index: number, raw: Uint8Array) => committee.apply(BigInt(index + 1), raw);
  for (const [index, raw] of driver.log.slice(0, from).entries()) read(index, raw);
  watch.restore();
  for (const [index, raw] of driver.log.entries()) if (index >= from) watch.delivered(raw, read(index, raw));
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
    passBorder();
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

  test("of a process that joined before an era is taken by newer rules, from before and after the accuser's restart", () => {
    begin(PROOFS_BY_SEAT);
    const { certified } = passBorder();
    const before = driver.log.length;
    equivocate();
    for (const from of [0, before]) {
      const { watch, committee } = watching({ from, rosters: [dealt.certifiedRoster, certified] });
      const [due] = watch.accusations();
      assert.ok(due !== undefined && due.command.type === "fraud", `from ${from}`);
      assert.ok("fraud" in committee.judgeFraud(due.command.proof));
    }
  });

  test("is found in a later epoch also by who started there, and has read its roster from disk", () => {
    begin();
    const { certified } = passBorder();
    driver.author(LIAR).join();
    const before = driver.log.length;
    equivocate();
    const { watch } = watching({ from: before, rosters: [certified] });
    assert.equal(watch.accusations().length, 1);
  });
});

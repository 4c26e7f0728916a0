/** Epochs of other sizes: every slot is decided and certified by the quorum of its own epoch (docs/decisions/0033). */
import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { decode, encode } from "../codec/codec.ts";
import { blsSign } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { recoverSecret } from "../crypto/shamir.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { slotStartMs } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import { CommitteeDriver, ScriptedAuthor } from "../testing/committee-driver.ts";
import {
  certifyRoster,
  type DealtEpoch,
  firstEpoch,
  type NextEpoch,
  newcomer,
  nextEpoch,
} from "../testing/dealt-eras.ts";
import { checkpointDigest } from "./checkpoint.ts";
import type { CommitteeCommand } from "./commands.ts";
import type { Applied } from "./committee.ts";
import { type SuccessorTerms, successorProblem } from "./epochs.ts";
import { type Outcome, outcomeDigest, verifyCertificate } from "./outcome.ts";
import { faultsTolerated, quorumOf } from "./quorum.ts";
import { checkRoster, ROSTER, type Roster, sealingThreshold } from "./roster.ts";
import { OTHER_SIZES } from "./rules.ts";
import { SLOTS_KEPT, WINDOW_AHEAD } from "./state.ts";

const NOW = 3n;
const BORDER = NOW + WINDOW_AHEAD + 1n;
const quorumAmong = (members: number): number => quorumOf(members, faultsTolerated({ faults: "third" }, members));

let dealt: TestCommittee;
let driver: CommitteeDriver<ProbeState, ProbeCommand, Duty>;

function begin(members: number, rules = OTHER_SIZES): void {
  dealt = dealCommittee(members, {}, "third");
  const { config, rosters, secrets } = dealt;
  driver = new CommitteeDriver({
    config,
    roster: rosters.relay,
    secrets,
    createMachine: probeMachine,
    checkpointEvery: { entries: 8n, slots: 4n },
    activationEntries: 2n,
    rules: { lowest: 1, highest: rules },
  });
  driver.nowMs = slotStartMs(config, NOW);
  driver.joinAll();
  for (const author of driver.authors) author.say({ type: "rules", highest: rules, build: "test" });
  while (driver.committee.rules.active !== rules) say(0, note());
}

/** The same certificate key for the first `count` seats; those that are new get keys of their own, as do those in `replace`. */
function next(from: DealtEpoch, count: number, activationSlot: bigint, replace: readonly number[] = []): NextEpoch {
  const seats = Array.from({ length: count }, (_, index) => {
    const old = replace.includes(index) ? undefined : from.secrets[index];
    return old ?? newcomer();
  });
  return nextEpoch(from, { activationSlot, seats, threshold: quorumAmong(count) });
}

const first = (): DealtEpoch => firstEpoch(dealt, "relay", quorumAmong(dealt.secrets.length));
const machine = (command: ProbeCommand): CommitteeCommand => ({
  type: "machine",
  command: encode(probeMachine().command, command),
});
const note = (): CommitteeCommand => machine({ type: "note", text: "x" });
const say = (author: number, command: CommitteeCommand): Applied => driver.author(author).say(command);
const announce = (epoch: NextEpoch): string | undefined =>
  say(0, { type: "roster", certified: epoch.certified }).refusal?.detail;
const timeTo = (slot: bigint, authors: readonly ScriptedAuthor[] = driver.authors): void => {
  driver.nowMs = slotStartMs(dealt.config, slot);
  for (const author of authors) author.say(note());
};

function decide(slot: bigint, stage = "first"): Outcome {
  const applied = say(0, machine({ type: "decide", stage, slot, kind: "result", commitment: new Uint8Array([1]) }));
  const [outcome] = applied.decided;
  assert.ok(outcome !== undefined, applied.refusal?.detail);
  return outcome;
}

function vote(author: ScriptedAuthor, { secrets }: DealtEpoch, outcome: Outcome): Applied {
  const { certificateShare } = secrets[author.index] ?? assert.fail();
  const share = blsSign(certificateShare, outcomeDigest(outcome));
  return author.say({ type: "vote", votes: [{ stage: outcome.stage, slot: outcome.slot, share }] });
}

/** How many votes it takes, and that their certificate is the committee's. */
function votesNeeded(authors: readonly ScriptedAuthor[], epoch: DealtEpoch, outcome: Outcome): number {
  for (const [given, author] of authors.entries()) {
    const applied = vote(author, epoch, outcome);
    assert.equal(applied.refusal, undefined);
    if (applied.certified.length === 0) continue;
    const votes = [...driver.committee.votes(outcome.stage, outcome.slot)];
    const signature = combineSignatures(
      votes.map(([index, share]) => ({ index, signature: share })),
      given + 1,
    );
    assert.ok(verifyCertificate(dealt.config.relay.policy.certificateKey, outcome, signature));
    return given + 1;
  }
  return Number.POSITIVE_INFINITY;
}

function authorsOf(epoch: DealtEpoch): readonly ScriptedAuthor[] {
  return epoch.secrets.map((secrets, index) => driver.authors[index] ?? new ScriptedAuthor(driver, index, secrets));
}

before(initCrypto);

describe("a committee grows", () => {
  for (const [from, to] of [
    [3, 4],
    [4, 5],
    [6, 7],
  ] as const) {
    test(`${from} members become ${to}: before the border ${quorumAmong(from)} certify, from it on ${quorumAmong(to)}`, () => {
      begin(from);
      const second = next(first(), to, BORDER);
      assert.equal(announce(second), undefined);
      assert.deepEqual(driver.committee.quorum.members, from, "not yet");
      const authors = authorsOf(second);
      const newcomer = authors.at(-1) ?? assert.fail();
      assert.equal(newcomer.join(1n).refusal, undefined);
      timeTo(BORDER, authors);
      const [old, young] = [decide(BORDER - 1n), decide(BORDER)];
      assert.equal(vote(newcomer, second, old).refusal?.reason, "NOT_AUTHOR");
      assert.equal(votesNeeded(driver.authors, first(), old), quorumAmong(from));
      assert.equal(votesNeeded([newcomer, ...driver.authors], second, young), quorumAmong(to));
      driver.restart(0);
      driver.assertAlike();
      assert.deepEqual(driver.replay().snapshot(), driver.committee.snapshot());
    });
  }

  test("what a newcomer closes, sees or skips counts for slots of its epoch only", () => {
    begin(4);
    const second = next(first(), 5, BORDER);
    announce(second);
    const authors = authorsOf(second);
    const newcomer = authors[4] ?? assert.fail();
    newcomer.join(1n);
    timeTo(BORDER, authors);
    const [stage, topic, fact] = ["first", "topic", new Uint8Array([7])];
    const saw = (slot: bigint): CommitteeCommand => ({ type: "saw", topic, slot, fact });
    const close = (slot: bigint): CommitteeCommand => ({ type: "close", stage, slot, inputs: [] });
    for (const command of [saw, close]) {
      assert.equal(newcomer.say(command(BORDER - 1n)).refusal?.reason, "NOT_AUTHOR");
      assert.equal(newcomer.say(command(BORDER)).refusal, undefined);
    }
    // Its word on skipping is one word for all slots: counted where it has a seat.
    for (const author of [newcomer, driver.author(0), driver.author(1)]) {
      assert.deepEqual(author.say({ type: "skip", stage, toSlot: BORDER }).decided, []);
    }
    const third = say(2, { type: "skip", stage, toSlot: BORDER });
    assert.deepEqual(third.decided.map(({ slot }) => slot).at(0), 1n);
    assert.equal(driver.committee.floor(stage), BORDER + 1n, "4 of 5 have said so");
    driver.assertAlike();
  });

  test("with three of four and without the newcomer, only the old epoch's slots are skipped", () => {
    begin(4);
    announce(next(first(), 5, BORDER));
    timeTo(BORDER);
    for (const author of [0, 1, 2]) say(author, { type: "skip", stage: "first", toSlot: BORDER });
    assert.equal(driver.committee.floor("first"), BORDER);
    say(3, { type: "skip", stage: "first", toSlot: BORDER });
    assert.equal(driver.committee.floor("first"), BORDER + 1n, "four of five");
  });
});

describe("a committee shrinks", () => {
  let second: NextEpoch;

  beforeEach(() => {
    begin(4);
    second = next(first(), 3, BORDER);
    assert.equal(announce(second), undefined);
    timeTo(BORDER);
  });

  test("4 members become 3: three certify before the border, two from it on", () => {
    const [old, young] = [decide(BORDER - 1n), decide(BORDER)];
    assert.equal(
      votesNeeded(
        [3, 2, 1].map((each) => driver.author(each)),
        first(),
        old,
      ),
      3,
    );
    assert.equal(
      votesNeeded(
        [2, 1].map((each) => driver.author(each)),
        second,
        young,
      ),
      2,
    );
    driver.assertAlike();
  });

  test("the one who leaves is heard until its last slot is certified, and not after that", () => {
    const leaving = driver.author(3);
    for (const stage of ["first", "second"])
      for (const author of [0, 1, 2]) say(author, { type: "skip", stage, toSlot: BORDER - 2n });
    const open = driver.committee.decisions(1n).map(({ outcome }) => outcome);
    for (const outcome of open) votesNeeded(driver.authors.slice(0, 3), first(), outcome);
    const last = [decide(BORDER - 1n), decide(BORDER - 1n, "second")];
    assert.equal(driver.committee.roster.epoch, 1n);
    const refused = leaving.say({ type: "saw", topic: "t", slot: BORDER, fact: new Uint8Array() });
    assert.equal(refused.refusal?.reason, "NOT_AUTHOR", "of later slots it says nothing");
    assert.equal(driver.committee.hasLeft(3), false);
    for (const outcome of last) {
      assert.equal(vote(driver.author(0), first(), outcome).refusal, undefined);
      assert.equal(vote(driver.author(1), first(), outcome).refusal, undefined);
      assert.deepEqual(vote(leaving, first(), outcome).certified, [outcome]);
    }
    assert.equal(driver.committee.hasLeft(3), true);
    const after = leaving.say(note());
    assert.match(`${after.landed} ${after.refusal?.detail}`, /false member 3 has left/);
    assert.equal(leaving.join(2n).refusal?.reason, "NOT_AUTHOR");
    assert.equal(say(2, note()).refusal, undefined, "who stays goes on");
    driver.restart(1);
    driver.assertAlike();
    assert.deepEqual(driver.replay().snapshot(), driver.committee.snapshot());
  });

  test("a clock that has left does not count; checkpoints are certified by the epoch at their position", () => {
    for (const stage of ["first", "second"])
      for (const author of [0, 1, 2]) say(author, { type: "skip", stage, toSlot: BORDER - 1n });
    const slotLater = slotStartMs(dealt.config, BORDER + 1n);
    driver.nowMs = slotLater;
    say(0, note());
    assert.ok(driver.committee.logTimeMs < slotLater);
    say(1, note());
    assert.equal(driver.committee.logTimeMs, slotLater, "the lower median of three, not of four");
    let due: Applied["checkpoint"];
    while (due === undefined) due = say(0, note()).checkpoint;
    assert.equal(due.checkpoint.epoch, 1n);
    const { checkpoint } = due;
    const { position, stateHash, stateBytes, guestHash, guestBytes } = checkpoint;
    const certified = [1, 2].map((index) => {
      const share = blsSign(second.secrets[index]?.certificateShare ?? new Uint8Array(), checkpointDigest(checkpoint));
      return say(index, { type: "checkpoint", position, stateHash, stateBytes, guestHash, guestBytes, share });
    });
    assert.deepEqual(
      certified.map(({ certifiedCheckpoint }) => certifiedCheckpoint?.position),
      [undefined, position],
    );
  });

  test("whoever comes back to the seat goes on counting incarnations; the seat's old member stays out", () => {
    for (const stage of ["first", "second"])
      for (const author of [0, 1, 2]) say(author, { type: "skip", stage, toSlot: BORDER - 1n });
    timeTo(BORDER + SLOTS_KEPT + 2n, driver.authors.slice(0, 3));
    for (const stage of ["first", "second"])
      for (const author of [0, 1]) say(author, { type: "skip", stage, toSlot: BORDER + SLOTS_KEPT + 1n });
    assert.equal(driver.committee.rosters.length, 1, "its epoch is forgotten");
    const third = next(second, 4, BORDER + SLOTS_KEPT + WINDOW_AHEAD + 3n);
    assert.equal(announce(third), undefined);
    const newcomer = new ScriptedAuthor(driver, 3, third.secrets[3] ?? assert.fail());
    assert.equal(newcomer.join(1n).refusal?.reason, "NOT_AUTHOR", "an incarnation that was");
    assert.equal(newcomer.join(2n).refusal, undefined);
    assert.equal(driver.author(3).join(3n).refusal?.reason, "NOT_AUTHOR");
    driver.restart(0);
    driver.assertAlike();
  });
});

describe("what is refused", () => {
  const terms = (change: Partial<SuccessorTerms> = {}): SuccessorTerms => ({
    organism: "relay",
    earliestSlot: BORDER,
    rules: OTHER_SIZES,
    ...change,
  });

  test("two seats at once, a seat and a replacement, any seat but the last", () => {
    begin(4);
    assert.match(announce(next(first(), 6, BORDER)) ?? "", /6 members after 4/);
    assert.match(announce(next(first(), 5, BORDER, [1])) ?? "", /one at a time/);
    const { roster } = next(first(), 4, BORDER);
    const without = roster.members.filter(({ index }) => index !== 1).map((each, index) => ({ ...each, index }));
    assert.match(successorProblem(first().roster, { ...roster, members: without }, terms()) ?? "", /one at a time/);
    assert.equal(
      successorProblem(first().roster, { ...roster, members: roster.members.slice(0, 3) }, terms()),
      undefined,
    );
  });

  test("outside the policy, which the lattice id is made of", () => {
    begin(3);
    assert.match(announce(next(first(), 2, BORDER)) ?? "", /policy/);
  });

  test("before a quorum has taken up rules that know of it", () => {
    begin(4, OTHER_SIZES - 1);
    assert.match(announce(next(first(), 5, BORDER)) ?? "", /keeps its size before rules 4/);
    assert.match(announce(next(first(), 3, BORDER)) ?? "", /keeps its size before rules 4/);
    assert.equal(announce(next(first(), 4, BORDER)), undefined);
  });

  test("of zipnet and tally, whose members stand elsewhere as well", () => {
    begin(4);
    const { roster } = next(first(), 5, BORDER);
    for (const [organism, problem] of [
      ["zipnet", /operators/],
      ["tally", /signers/],
    ] as const) {
      assert.match(successorProblem(first().roster, roster, terms({ organism })) ?? "", problem);
    }
    assert.equal(successorProblem(first().roster, roster, terms({ organism: "atelier" })), undefined);
  });
});

describe("the sealing threshold", () => {
  const stated = (members: number, threshold: number | undefined): Roster => ({
    ...first().roster,
    ...(threshold === undefined ? { version: 1 } : { version: 2, sealingThreshold: threshold }),
    committee: dealt.rosters.unseal.committee,
    members: first().roster.members.slice(0, members),
  });
  const judged = (roster: Roster): string | undefined => {
    const { config, secrets } = dealt;
    const held = secrets.slice(0, quorumAmong(5)).map((each, index) => ({ index, share: each.certificateShare }));
    const checked = checkRoster(config, "unseal", certifyRoster(roster, recoverSecret(held)));
    return "problem" in checked ? checked.problem : undefined;
  };

  test("a roster may state one between the config's and all members", () => {
    begin(5);
    const { threshold } = dealt.config.unseal.content;
    for (let asked = 0; asked <= 6; asked++) {
      const problem = judged(stated(5, asked));
      assert.equal(problem === undefined, asked >= threshold && asked <= 5, `${asked}: ${problem}`);
    }
    assert.equal(sealingThreshold(dealt.config, "unseal", stated(5, 4)), 4);
    assert.equal(sealingThreshold(dealt.config, "unseal", stated(5, undefined)), threshold);
    assert.equal(judged(stated(5, undefined)), undefined);
  });

  test("both forms are read back as they were written, and no other", () => {
    begin(5);
    for (const roster of [stated(5, undefined), stated(5, 3)]) {
      assert.deepEqual(decode(ROSTER, encode(ROSTER, roster)), roster);
    }
    const third = encode(ROSTER, stated(5, 3));
    third[0] = 4;
    assert.throws(() => decode(ROSTER, third), /version/);
  });
});

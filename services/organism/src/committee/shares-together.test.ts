/** Rules 3: shares are combined first and looked at singly only when that fails. Whoever gives a bad one is named. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { encode } from "../codec/codec.ts";
import { initCrypto } from "../crypto/engine.ts";
import { slotStartMs } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import { CommitteeDriver } from "../testing/committee-driver.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { checkCheckpoint } from "./checkpoint.ts";
import type { CommitteeCommand } from "./commands.ts";
import type { Applied } from "./committee.ts";
import { type Outcome, verifyCertificate } from "./outcome.ts";
import type { RuleRange } from "./rules.ts";

const MEMBERS = 4;
const QUORUM = 3;
const AHEAD = 2n;
let dealt: TestCommittee;
let driver: CommitteeDriver<ProbeState, ProbeCommand, Duty>;

before(async () => {
  await initCrypto();
  dealt = dealCommittee(MEMBERS, {}, "third");
});
beforeEach(() => {
  driver = makeDriver({ lowest: 1, highest: 3 });
});

/** Under the highest rules of `range`, in slot 10. */
function makeDriver(range: RuleRange): CommitteeDriver<ProbeState, ProbeCommand, Duty> {
  const { config, rosters, secrets } = dealt;
  const made = new CommitteeDriver({
    config,
    roster: rosters.relay,
    secrets,
    createMachine: probeMachine,
    replicas: 2,
    rules: range,
    activationEntries: AHEAD,
    checkpointEvery: { entries: 30n, slots: 1000n },
  });
  made.nowMs = slotStartMs(config, 10n);
  made.joinAll();
  for (const author of made.authors) author.say({ type: "rules", highest: range.highest, build: "test" });
  for (let left = AHEAD; left > 0n; left--) made.author(0).say(note());
  assert.equal(made.committee.rules.active, range.highest);
  return made;
}

function note(): CommitteeCommand {
  return { type: "machine", command: encode(probeMachine().command, { type: "note", text: "x" }) };
}

function decided(slot = 10n): Outcome {
  const decide = { type: "decide", stage: "first", slot, kind: "result", commitment: new Uint8Array([1]) } as const;
  const applied = driver.author(0).say({ type: "machine", command: encode(probeMachine().command, decide) });
  const [outcome] = applied.decided;
  assert.ok(outcome !== undefined);
  return outcome;
}

const BAD = ["another member's", "another outcome's", "no point", "infinity", "a forged sum"] as const;
function badShare(kind: (typeof BAD)[number], index: number, outcome: Outcome): Uint8Array {
  switch (kind) {
    case "another member's":
      return driver.share((index + 1) % MEMBERS, outcome);
    case "another outcome's":
      return driver.share(index, { ...outcome, slot: outcome.slot + 1n });
    case "no point":
      return new Uint8Array(96).fill(0xff);
    case "infinity":
      return Uint8Array.from({ length: 96 }, (_, at) => (at === 0 ? 0xc0 : 0));
    case "a forged sum":
      return driver.certify(outcome).signature;
  }
}
function vote(index: number, outcome: Outcome, share = driver.share(index, outcome)): Applied {
  const { stage, slot } = outcome;
  return driver.author(index).say({ type: "vote", votes: [{ stage, slot, share }] });
}
const held = (outcome: Outcome): number[] => [...driver.committee.votes(outcome.stage, outcome.slot).keys()].sort();

describe("shares of an outcome", () => {
  test("good ones: one certificate, at the q-th share; nobody is named", () => {
    const outcome = decided();
    const results = [2, 0, 3, 1].map((index) => vote(index, outcome));
    assert.deepEqual(
      results.map(({ certified, refusal, badShares }) => [certified.length, refusal, badShares]),
      [0, 0, 1, 0].map((certified) => [certified, undefined, undefined]),
    );
    const signature = driver.committee.signature(outcome);
    assert.ok(signature !== undefined);
    assert.ok(verifyCertificate(dealt.config.relay.policy.certificateKey, outcome, signature));
    assert.deepEqual(signature, driver.certify(outcome).signature);
  });

  for (const kind of BAD) {
    test(`${kind} among them: taken, then found by the combination, struck out and named; a good one takes its place`, () => {
      const outcome = decided();
      assert.equal(vote(1, outcome, badShare(kind, 1, outcome)).refusal, undefined, "nobody has looked yet");
      vote(0, outcome);
      const found = vote(2, outcome);
      assert.equal(found.refusal, undefined, "its own is good");
      assert.deepEqual(found.badShares, [{ author: 1, what: "first of slot 10" }]);
      assert.deepEqual(found.certified, []);
      assert.deepEqual(held(outcome), [0, 2]);
      assert.equal(driver.committee.signature(outcome), undefined);
      assert.deepEqual(
        driver.committee.unvoted(1).map(({ slot }) => slot),
        [10n],
        "it may still say the right thing",
      );
      const again = vote(1, outcome, badShare(kind, 1, outcome));
      assert.equal(again.refusal?.reason, "BAD_SHARE", "with the others' all good, it is seen at once");
      assert.deepEqual(again.badShares, [{ author: 1, what: "first of slot 10" }]);
      assert.deepEqual(held(outcome), [0, 2]);
      assert.deepEqual(vote(1, outcome).certified, [outcome]);
      driver.assertAlike();
    });
  }

  test("a good one is refused as before when it is twice, of nothing, or too late to matter", () => {
    const outcome = decided();
    vote(0, outcome, badShare("no point", 0, outcome));
    assert.equal(vote(0, outcome).refusal?.reason, "DUPLICATE", "what stands there has not been looked at");
    assert.equal(vote(1, { ...outcome, slot: 12n }).refusal?.reason, "OUTCOME_UNKNOWN");
    for (const index of [1, 2, 3]) vote(index, outcome);
    assert.deepEqual(held(outcome), [1, 2, 3]);
    assert.equal(vote(0, outcome, badShare("no point", 0, outcome)).refusal, undefined, "certified: passed over");
    assert.deepEqual(held(outcome), [1, 2, 3]);
  });

  test("of several in one entry each counts for itself", () => {
    const [ten, eleven] = [decided(10n), decided(11n)];
    for (const index of [0, 1]) for (const outcome of [ten, eleven]) vote(index, outcome);
    const votes = [ten, eleven].map((outcome, at) => ({
      stage: outcome.stage,
      slot: outcome.slot,
      share: at === 0 ? badShare("another member's", 2, outcome) : driver.share(2, outcome),
    }));
    const applied = driver.author(2).say({ type: "vote", votes });
    assert.equal(applied.refusal?.reason, "BAD_SHARE");
    assert.deepEqual(applied.certified, [eleven]);
    assert.deepEqual(applied.badShares, [{ author: 2, what: "first of slot 10" }]);
  });

  test("members that know the certificate already may each give it as a share: what follows is that same certificate", () => {
    const outcome = decided();
    for (const index of [0, 1]) vote(index, outcome, badShare("a forged sum", index, outcome));
    assert.deepEqual(vote(2, outcome, badShare("a forged sum", 2, outcome)).certified, [outcome]);
    assert.deepEqual(driver.committee.signature(outcome), driver.certify(outcome).signature);
  });

  test("before rules 3 each is judged as it comes", () => {
    driver = makeDriver({ lowest: 1, highest: 2 });
    const outcome = decided();
    for (const kind of BAD) {
      const applied = vote(1, outcome, badShare(kind, 1, outcome));
      assert.equal(applied.refusal?.reason, "BAD_SHARE");
      assert.equal(applied.badShares, undefined);
    }
    assert.deepEqual(held(outcome), []);
  });

  test("whoever gives what in whatever order, restarts included: a certificate from q good ones, only liars are named, all replicas alike", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            author: fc.nat(MEMBERS - 1),
            bad: fc.option(fc.constantFrom(...BAD.slice(0, -1)), { nil: undefined, freq: 3 }),
            restart: fc.boolean(),
          }),
          { minLength: 3, maxLength: 9 },
        ),
        (steps) => {
          driver = makeDriver({ lowest: 1, highest: 3 });
          const outcome = decided();
          const lied = new Set<number>();
          const good = new Set<number>();
          let certified = false;
          for (const { author, bad, restart } of steps) {
            if (restart) driver.restart(1);
            const before = held(outcome);
            const share = bad === undefined ? undefined : badShare(bad, author, outcome);
            if (bad !== undefined) lied.add(author);
            const applied = vote(author, outcome, share);
            for (const { author: named } of applied.badShares ?? [])
              assert.ok(lied.has(named), `member ${named} is honest`);
            if (bad === undefined && !before.includes(author) && !certified) good.add(author);
            certified ||= applied.certified.length > 0;
            if (certified) break;
            assert.ok(held(outcome).length < QUORUM);
          }
          if (good.size >= QUORUM) assert.ok(certified, "q good shares stand in the log");
          if (certified) {
            const signature = driver.committee.signature(outcome);
            assert.deepEqual(signature, driver.certify(outcome).signature);
            assert.ok(held(outcome).every((author) => good.has(author)));
          }
          driver.assertAlike();
          assert.deepEqual(driver.replay().snapshot(), driver.committee.snapshot());
        },
      ),
      { numRuns: 15 },
    );
  });
});

describe("shares of a checkpoint", () => {
  function reach(): Checkpoint {
    for (;;) {
      const { checkpoint } = driver.author(0).say(note());
      if (checkpoint !== undefined) return checkpoint.checkpoint;
    }
  }
  const say = (index: number, checkpoint: Checkpoint, share?: Uint8Array): Applied => {
    const command = driver.checkpointVote(index, checkpoint);
    assert.ok(command.type === "checkpoint");
    return driver.author(index).say(share === undefined ? command : { ...command, share });
  };

  test("a bad one is found by the combination, struck out and named; the certificate stands without it", () => {
    const checkpoint = reach();
    const what = `position ${checkpoint.position}`;
    const other = driver.checkpointVote(2, checkpoint);
    assert.ok(other.type === "checkpoint");
    assert.equal(say(1, checkpoint, other.share).refusal, undefined);
    say(0, checkpoint);
    const found = say(2, checkpoint);
    assert.equal(found.certifiedCheckpoint, undefined);
    assert.deepEqual(found.badShares, [{ author: 1, what }]);
    const last = say(3, checkpoint, new Uint8Array(96));
    assert.equal(last.refusal?.reason, "BAD_SHARE");
    assert.deepEqual(last.badShares, [{ author: 3, what }]);
    assert.deepEqual(say(3, checkpoint).certifiedCheckpoint, checkpoint);
    assert.deepEqual([...driver.committee.checkpointVotes(checkpoint.position).keys()].sort(), [0, 2, 3]);
    const certified = driver.certifyCheckpoint(checkpoint);
    assert.equal(checkCheckpoint(dealt.config, "relay", certified), undefined);
    driver.assertAlike();
  });

  test("of another state is looked at singly: whoever differs is named only for what it signed", () => {
    const checkpoint = reach();
    const otherState = { ...checkpoint, stateHash: new Uint8Array(32).fill(5) };
    assert.equal(say(1, otherState, new Uint8Array(96)).refusal?.reason, "BAD_SHARE");
    const applied = say(1, otherState);
    assert.equal(applied.refusal?.reason, "STATE_DIFFERS");
    assert.deepEqual(applied.dissent?.authors, [1]);
  });
});

/** What is decided, voted on and let expire: one test per refusal, each beside the nearest thing that is accepted. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { accepted, decide, joinedBeforeEach, note, type ProbeDriver } from "../../test/probe-driver.ts";
import { probeMachine } from "../../test/probe-machine.ts";
import type { TestCommittee } from "../../test/test-lattice.ts";
import { Bug } from "../fault.ts";
import { slotStartMs } from "../identity/lattice-config.ts";
import { CommitteeDriver, type ScriptedAuthor } from "../testing/committee-driver.ts";
import type { CommitteeCommand } from "./commands.ts";
import { type Outcome, verifyCertificate } from "./outcome.ts";
import { SKIP_SPAN, WINDOW_AHEAD } from "./state.ts";

let dealt: TestCommittee;
let driver: ProbeDriver;
let author: ScriptedAuthor;

joinedBeforeEach((fresh) => {
  ({ dealt, driver, author } = fresh);
});

function vote(index: number, outcome: Outcome, share = driver.share(index, outcome)): CommitteeCommand {
  return { type: "vote", votes: [{ stage: outcome.stage, slot: outcome.slot, share }] };
}

describe("votes", () => {
  test("q shares make the certificate, which the group key alone verifies; more add nothing", () => {
    const outcome = driver.decided();
    const results = [0, 1, 2].map((index) => accepted(driver.author(index).say(vote(index, outcome))));
    assert.deepEqual(
      results.map(({ certified }) => certified.length),
      [0, 0, 1],
    );
    assert.deepEqual([...driver.committee.votes("first", 10n).keys()], [0, 1, 2]);
    accepted(driver.author(3).say(vote(3, outcome)));
    assert.equal(driver.committee.votes("first", 10n).size, 3);
    assert.deepEqual(driver.committee.complete(), [outcome]);
    const { signature } = driver.certify(outcome);
    const { certificateKey } = dealt.config.relay.policy;
    assert.ok(verifyCertificate(certificateKey, outcome, signature));
    assert.ok(!verifyCertificate(certificateKey, { ...outcome, epoch: 1n }, signature));
  });

  test("for what is not decided", () => {
    const outcome = driver.decided();
    driver.refusedCommand(() => author.say(vote(0, { ...outcome, slot: 11n })), "OUTCOME_UNKNOWN");
    driver.refusedCommand(() => author.say(vote(0, { ...outcome, stage: "second" })), "OUTCOME_UNKNOWN");
    accepted(author.say(vote(0, outcome)));
  });

  test("with a share that is another member's, another outcome's, or no point at all", () => {
    const outcome = driver.decided();
    driver.refusedCommand(() => author.say(vote(0, outcome, driver.share(1, outcome))), "BAD_SHARE");
    driver.refusedCommand(() => author.say(vote(0, outcome, driver.share(0, { ...outcome, slot: 11n }))), "BAD_SHARE");
    driver.refusedCommand(() => author.say(vote(0, outcome, new Uint8Array(96))), "BAD_SHARE");
    driver.refusedCommand(() => author.say(vote(0, outcome, new Uint8Array(96).fill(0xff))), "BAD_SHARE");
    const infinity = new Uint8Array(96);
    infinity[0] = 0xc0;
    driver.refusedCommand(() => author.say(vote(0, outcome, infinity)), "BAD_SHARE");
    accepted(author.say(vote(0, outcome)));
  });

  test("twice, in two entries or in one", () => {
    const outcome = driver.decided();
    const once = { stage: outcome.stage, slot: outcome.slot, share: driver.share(0, outcome) };
    driver.refusedCommand(() => author.say({ type: "vote", votes: [once, once] }), "DUPLICATE");
    accepted(author.say({ type: "vote", votes: [once] }));
    driver.refusedCommand(() => author.say({ type: "vote", votes: [once] }), "DUPLICATE");
  });

  test("of a batch count all or none", () => {
    const [ten, eleven] = [driver.decided(10n), driver.decided(11n)];
    const of = (outcome: Outcome, share = driver.share(0, outcome)) => ({
      stage: outcome.stage,
      slot: outcome.slot,
      share,
    });
    const bad = of(eleven, new Uint8Array(96));
    driver.refusedCommand(() => author.say({ type: "vote", votes: [of(ten), bad] }), "BAD_SHARE");
    accepted(author.say({ type: "vote", votes: [of(ten), of(eleven)] }));
    accepted(author.say({ type: "vote", votes: [] }));
  });

  test("are asked of members until the certificate is complete", () => {
    const outcomes = [driver.decided(12n), driver.decided(10n)];
    assert.deepEqual(
      driver.committee.unvoted(3).map(({ slot }) => slot),
      [10n, 12n],
    );
    for (const index of [0, 1, 2]) {
      for (const outcome of outcomes) accepted(driver.author(index).say(vote(index, outcome)));
      assert.equal(driver.committee.unvoted(index).length, 0);
    }
    assert.equal(driver.committee.unvoted(3).length, 0, "nobody is asked for what is certified");
  });
});

describe("decisions", () => {
  test("the first stands", () => {
    const first = driver.decided(10n);
    assert.deepEqual(accepted(author.say(decide(10n))).decided, []);
    assert.deepEqual(driver.committee.outcome("first", 10n), first);
  });

  test("within the window only", () => {
    const now = 10n;
    assert.equal(accepted(author.say(decide(now + WINDOW_AHEAD))).decided.length, 1);
    assert.equal(accepted(author.say(decide(now + WINDOW_AHEAD + 1n))).decided.length, 0);
    assert.equal(accepted(author.say(decide(0n))).decided.length, 0);
    assert.equal(accepted(author.say(decide(1n))).decided.length, 1);
  });

  test("of the machine's stages only", () => {
    assert.equal(accepted(author.say(decide(10n, "third"))).decided.length, 0);
    assert.equal(accepted(author.say(decide(10n, "second"))).decided.length, 1);
  });

  test("move the floor over what is decided without a hole", () => {
    driver.decided(2n);
    assert.equal(driver.committee.floor("first"), 1n);
    driver.decided(1n);
    assert.equal(driver.committee.floor("first"), 3n);
    assert.equal(driver.committee.floor("second"), 1n);
  });

  test("that a machine must not make are bugs, not outcomes", () => {
    const rogue = { ...probeMachine() };
    const { config, rosters, secrets } = dealt;
    const apply = rogue.apply.bind(rogue);
    let commitment = new Uint8Array(256 * 1024 + 1);
    rogue.apply = (state, event, context) => {
      if (event.type === "command") context.decide({ stage: "first", slot: 1n, kind: "result", commitment });
      return apply(state, event, context);
    };
    const make = () => {
      const each = new CommitteeDriver({
        config,
        roster: rosters.relay,
        secrets,
        createMachine: () => rogue,
        replicas: 1,
      });
      each.joinAll(1);
      return each;
    };
    assert.throws(() => make().author(0).say(note()), Bug);
    commitment = new Uint8Array(256 * 1024);
    assert.equal(make().author(0).say(note()).decided.length, 1);
  });
});

describe("skips", () => {
  const skip = (toSlot: bigint, stage = "first"): CommitteeCommand => ({ type: "skip", stage, toSlot });

  test("of q members decide every undecided slot up to the lowest of their q highest", () => {
    driver.decided(2n);
    accepted(driver.author(0).say(skip(4n)));
    accepted(driver.author(1).say(skip(3n)));
    assert.equal(driver.committee.floor("first"), 1n);
    const { decided: outcomes } = accepted(driver.author(2).say(skip(9n)));
    assert.deepEqual(
      outcomes.map(({ slot, kind }) => [slot, kind]),
      [
        [1n, "skipped"],
        [3n, "skipped"],
      ],
    );
    assert.equal(driver.committee.outcome("first", 2n)?.kind, "result");
    assert.deepEqual(
      driver.committee.state.events
        .filter((event) => event.includes("skipped"))
        .map((event) => event.split(" ").slice(1)),
      [
        ["skipped", "first", "1"],
        ["skipped", "first", "3"],
      ],
    );
  });

  test("of one member count once, however often it says so", () => {
    accepted(author.say(skip(3n)));
    driver.refusedCommand(() => author.say(skip(3n)), "DUPLICATE");
    driver.refusedCommand(() => author.say(skip(2n)), "DUPLICATE");
    accepted(author.say(skip(4n)));
    assert.equal(driver.committee.floor("first"), 1n);
  });

  test("of what has not begun", () => {
    driver.refusedCommand(() => author.say(skip(12n)), "SLOT_OUT_OF_WINDOW");
    accepted(author.say(skip(11n)));
  });

  test("of a stage that is not there", () => {
    driver.refusedCommand(() => author.say(skip(3n, "third")), "MALFORMED");
    accepted(author.say(skip(3n, "second")));
  });

  test("never decide more at once than a state can hold: a long outage is caught up in steps", () => {
    const now = 3n * SKIP_SPAN;
    driver.nowMs = slotStartMs(dealt.config, now);
    for (const each of driver.authors) accepted(each.say(note()));
    const limit = driver.committee.skipLimit;
    driver.refusedCommand(() => author.say(skip(limit + 1n)), "SLOT_OUT_OF_WINDOW");
    for (const stage of ["first", "second"]) {
      for (const index of [0, 1, 2]) accepted(driver.author(index).say(skip(limit, stage)));
    }
    assert.equal(driver.committee.floor("second"), limit + 1n);
    assert.ok(driver.committee.skipLimit > limit);
    driver.assertAlike();
  });
});

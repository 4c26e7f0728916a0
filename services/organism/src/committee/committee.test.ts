/** One test per refusal, each beside the nearest thing that is accepted; decisions; snapshots; random histories. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { CodecError, concat, encode, toHex } from "../codec/codec.ts";
import { initCrypto } from "../crypto/engine.ts";
import { Bug } from "../fault.ts";
import { committeeId, slotStartMs } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import { CommitteeDriver, type ScriptedAuthor } from "../testing/committee-driver.ts";
import { commandDigest } from "./chunks.ts";
import { type CommitteeCommand, encodeCommand } from "./commands.ts";
import type { Applied } from "./committee.ts";
import { CHUNK_BYTES, CHUNKS_MAX, entryHash } from "./entry.ts";
import { checkOutcome, type Outcome, verifyCertificate } from "./outcome.ts";
import {
  CLOSE_INPUTS_PER_AUTHOR,
  CLOSES_PER_AUTHOR,
  FACT_BYTES_PER_AUTHOR,
  FACTS_PER_AUTHOR,
  HEADS_KEPT,
  SKIP_SPAN,
  SLOTS_KEPT,
  WINDOW_AHEAD,
} from "./state.ts";

type Driver = CommitteeDriver<ProbeState, ProbeCommand, Duty>;

const MEMBERS = 4;
let dealt: TestCommittee;
let driver: Driver;
let author: ScriptedAuthor;

before(async () => {
  await initCrypto();
  dealt = dealCommittee(MEMBERS, {}, "third");
});

function makeDriver(replicas = 2): Driver {
  const { config, rosters, secrets } = dealt;
  return new CommitteeDriver({ config, roster: rosters.relay, secrets, createMachine: probeMachine, replicas });
}

beforeEach(() => {
  driver = makeDriver();
  driver.nowMs = slotStartMs(dealt.config, 10n);
  driver.joinAll();
  author = driver.author(0);
});

const machine = (command: ProbeCommand): CommitteeCommand => ({
  type: "machine",
  command: encode(probeMachine().command, command),
});
const note = (text = "x"): CommitteeCommand => machine({ type: "note", text });
const decide = (slot: bigint, stage = "first"): CommitteeCommand =>
  machine({ type: "decide", stage, slot, kind: "result", commitment: new Uint8Array([1]) });
const hash32 = (value: number): Uint8Array => new Uint8Array(32).fill(value);

function accepted(applied: Applied): Applied {
  assert.equal(applied.refusal, undefined);
  assert.equal(applied.landed, true);
  return applied;
}

/** Refused, and nothing but the head has moved: neither state nor lane. */
function refusedOutright(run: () => Applied, reason: string, author?: number): void {
  const before = inert();
  const applied = run();
  assert.equal(applied.refusal?.reason, reason, applied.refusal?.detail);
  assert.equal(applied.landed, false);
  assert.equal(applied.author, author);
  assert.deepEqual(inert(), before);
  driver.assertAlike();
}

/** Refused after it took its place in its author's lane: the organism's state and the slots have not moved. */
function refusedCommand(run: () => Applied, reason: string): Applied {
  const before = effects();
  const applied = run();
  assert.equal(applied.refusal?.reason, reason, applied.refusal?.detail);
  assert.equal(applied.landed, true);
  assert.deepEqual(effects(), before);
  driver.assertAlike();
  return applied;
}

/** Everything that a command may change: read through the committee's own windows. */
function effects(): unknown {
  const { committee } = driver;
  return {
    events: [...committee.state.events],
    inputs: committee.state.inputs.map(toHex),
    floors: ["first", "second"].map((stage) => committee.floor(stage)),
    votes: Array.from({ length: 20 }, (_, slot) =>
      ["first", "second"].map((stage) => [...committee.votes(stage, BigInt(slot)).keys()]),
    ),
    skips: driver.authors.map((each) => committee.skippedTo(each.index, "first")),
    outcomes: Array.from({ length: 20 }, (_, slot) => committee.outcome("first", BigInt(slot))),
    said: driver.authors.map(({ index }) => {
      const view = committee.view(index, 0, () => false);
      return Array.from({ length: 20 }, (_, slot) => [
        view.said("topic", BigInt(slot)),
        view.hasClosed("first", BigInt(slot)),
        view.observed("atelier", "candidate", BigInt(slot)),
      ]);
    }),
  };
}

function inert(): unknown {
  const { committee } = driver;
  return {
    effects: effects(),
    time: committee.logTimeMs,
    authors: driver.authors.map(({ index }) => committee.author(index)),
  };
}

describe("an entry that is not its author's next one", () => {
  test("bytes that are no entry", () => {
    refusedOutright(() => driver.apply(new Uint8Array([1, 2, 3])), "MALFORMED");
    refusedOutright(() => driver.apply(new Uint8Array()), "MALFORMED");
    const whole = author.sign(note(), "ctl", { aside: true });
    refusedOutright(() => driver.apply(whole.subarray(0, whole.length - 1)), "MALFORMED");
    refusedOutright(() => driver.apply(concat(whole, new Uint8Array(1))), "MALFORMED");
    accepted(author.say(note()));
  });

  test("another committee's", () => {
    const other = committeeId(dealt.config, "tally");
    refusedOutright(() => author.say(note(), "ctl", { body: { committee: other } }), "ORGANISM_MISMATCH");
    accepted(author.say(note(), "ctl", { body: { committee: committeeId(dealt.config, "relay") } }));
  });

  test("another generation's or epoch's", () => {
    refusedOutright(() => author.say(note(), "ctl", { body: { generation: 1n } }), "OUT_OF_ORDER");
    refusedOutright(() => author.say(note(), "ctl", { body: { epoch: 1n } }), "OUT_OF_ORDER");
    accepted(author.say(note(), "ctl", { body: { generation: 0n, epoch: 0n } }));
  });

  test("nobody's: an index beyond the roster", () => {
    for (const index of [MEMBERS, 15, 2 ** 40]) {
      refusedOutright(() => author.say(note(), "ctl", { body: { author: index } }), "NOT_AUTHOR");
    }
    accepted(driver.author(MEMBERS - 1).say(note()));
  });

  test("somebody's who has not joined", () => {
    driver = makeDriver();
    refusedOutright(() => driver.author(0).say(note()), "NOT_AUTHOR");
    accepted(driver.author(0).join());
    accepted(driver.author(0).say(note()));
  });

  test("an older incarnation's", () => {
    const late = author.sign(note(), "ctl", { aside: true });
    accepted(author.join());
    refusedOutright(() => driver.apply(late), "NOT_AUTHOR");
    refusedOutright(() => author.say(note(), "ctl", { body: { incarnation: author.incarnation + 1n } }), "NOT_AUTHOR");
    accepted(author.say(note()));
  });

  test("signed by another key, another member, or not at all", () => {
    const other = driver.author(1);
    refusedOutright(() => author.say(note(), "ctl", { signer: other.incarnationKey }), "NOT_AUTHOR");
    refusedOutright(() => author.say(note(), "ctl", { signer: author.memberKey }), "NOT_AUTHOR");
    refusedOutright(() => author.say(note(), "ctl", { body: { author: 1 } }), "NOT_AUTHOR");
    refusedOutright(
      () => author.say(note(), "ctl", { signature: (each) => each.map((byte, at) => (at === 5 ? byte ^ 1 : byte)) }),
      "NOT_AUTHOR",
    );
    refusedOutright(() => author.say(note(), "ctl", { signature: () => new Uint8Array(64) }), "NOT_AUTHOR");
    accepted(author.say(note()));
  });

  test("a changed body under a good signature", () => {
    const good = author.sign(note(), "ctl", { aside: true });
    // The command's last byte: the signature no longer covers what is there.
    const bad = good.slice();
    const at = bad.length - 64 - 1;
    bad[at] = (bad[at] ?? 0) ^ 1;
    refusedOutright(() => driver.apply(bad), "NOT_AUTHOR");
    accepted(driver.apply(good));
  });

  test("a gap, a repeat, another predecessor", () => {
    accepted(author.say(note()));
    const { sequence, previous } = author.lanes.ctl;
    refusedOutright(() => author.say(note(), "ctl", { body: { sequence: sequence + 2n } }), "OUT_OF_ORDER", 0);
    refusedOutright(() => author.say(note(), "ctl", { body: { sequence } }), "OUT_OF_ORDER", 0);
    refusedOutright(() => author.say(note(), "ctl", { body: { sequence: 0n } }), "OUT_OF_ORDER", 0);
    refusedOutright(() => author.say(note(), "ctl", { body: { previous: hash32(1) } }), "OUT_OF_ORDER", 0);
    accepted(author.say(note(), "ctl", { body: { sequence: sequence + 1n, previous } }));
  });

  test("the same entry again, at any distance", () => {
    const first = author.sign(note("first"));
    accepted(driver.apply(first));
    refusedOutright(() => driver.apply(first), "OUT_OF_ORDER", 0);
    for (let index = 0; index < 20; index++) accepted(author.say(note()));
    refusedOutright(() => driver.apply(first), "OUT_OF_ORDER", 0);
    accepted(author.join());
    refusedOutright(() => driver.apply(first), "NOT_AUTHOR");
  });

  test("two entries in the wrong order: the later one has to come again", () => {
    const first = author.sign(note("first"));
    const second = author.sign(note("second"));
    refusedOutright(() => driver.apply(second), "OUT_OF_ORDER", 0);
    accepted(driver.apply(first));
    accepted(driver.apply(second));
  });

  test("lanes are numbered apart", () => {
    const bulk = author.sign(note("bulk"), "bulk");
    const ctl = author.sign(note("ctl"), "ctl");
    accepted(driver.apply(ctl));
    accepted(driver.apply(bulk));
    refusedOutright(() => author.say(note(), "bulk", { body: { lane: "ctl" } }), "OUT_OF_ORDER", 0);
  });
});

describe("what an author says it saw", () => {
  test("a head that is not in this chain is a fork, at the first entry that crosses it", () => {
    refusedOutright(() => author.say(note(), "ctl", { body: { seenHead: hash32(7) } }), "FORKED_HEAD", 0);
    const { position, head } = driver.committee;
    accepted(author.say(note(), "ctl", { body: { seenPosition: position, seenHead: head } }));
  });

  test("the head of one position under the number of another", () => {
    const { position } = driver.committee;
    const seenHead = driver.committee.head;
    refusedOutright(
      () => author.say(note(), "ctl", { body: { seenPosition: position - 1n, seenHead } }),
      "FORKED_HEAD",
      0,
    );
  });

  test("a position that is not yet here", () => {
    const { position } = driver.committee;
    refusedOutright(() => author.say(note(), "ctl", { body: { seenPosition: position + 1n } }), "FORKED_HEAD", 0);
    refusedOutright(() => author.say(note(), "ctl", { body: { seenPosition: 2n ** 64n - 1n } }), "FORKED_HEAD", 0);
  });

  test("an older view is fine while it can be compared; then it is too old, which is no fork", () => {
    const { position: seenPosition, head: seenHead } = driver.committee;
    const view = { body: { seenPosition, seenHead } };
    // The heads kept are those of HEADS_KEPT positions, the present one included.
    while (driver.committee.position < seenPosition + BigInt(HEADS_KEPT) - 1n) driver.apply(new Uint8Array(1));
    accepted(author.say(note(), "ctl", view));
    refusedOutright(() => author.say(note(), "ctl", view), "VIEW_TOO_OLD", 0);
    refusedOutright(() => author.say(note(), "ctl", { body: { seenPosition: 0n } }), "VIEW_TOO_OLD", 0);
    accepted(author.say(note()));
  });

  test("a fork shows although the forked entry carries a valid signature and number", () => {
    const mirror = makeDriver();
    mirror.nowMs = driver.nowMs;
    mirror.joinAll();
    // The same joins at the same positions; then the broker shows one side a message more.
    assert.deepEqual(mirror.committee.head, driver.committee.head);
    mirror.apply(new Uint8Array([9]));
    const there = mirror.author(0).sign(note());
    driver.apply(new Uint8Array([8]));
    refusedOutright(() => driver.apply(there), "FORKED_HEAD", 0);
  });
});

describe("joining", () => {
  test("with the member key only", () => {
    refusedOutright(() => author.join(2n, { signer: author.incarnationKey }), "NOT_AUTHOR");
    refusedOutright(() => author.join(2n, { signer: driver.author(1).memberKey }), "NOT_AUTHOR");
    accepted(author.join(2n));
  });

  test("with a higher incarnation only", () => {
    accepted(author.join(5n));
    refusedOutright(() => author.join(5n), "NOT_AUTHOR", 0);
    refusedOutright(() => author.join(4n), "NOT_AUTHOR", 0);
    refusedOutright(() => author.join(6n, { body: { incarnation: 5n } }), "NOT_AUTHOR", 0);
    accepted(author.join(6n));
  });

  test("as the first of the ctl lane", () => {
    refusedOutright(() => author.join(2n, { body: { lane: "bulk" } }), "OUT_OF_ORDER", 0);
    refusedOutright(() => author.join(2n, { body: { sequence: 2n } }), "OUT_OF_ORDER", 0);
    refusedOutright(() => author.join(2n, { body: { previous: hash32(1) } }), "OUT_OF_ORDER", 0);
    accepted(author.join(2n));
  });

  test("starts both lanes and half-told commands anew, and keeps clock and skips", () => {
    accepted(author.say({ type: "skip", stage: "first", toSlot: 3n }));
    const big = largeCommand(2);
    accepted(author.say(chunk(big, 0), "bulk"));
    accepted(author.join());
    const state = driver.committee.author(0);
    assert.equal(state?.assembly, undefined);
    assert.equal(state?.ctl.sequence, 1n);
    assert.equal(state?.bulk.sequence, 0n);
    assert.equal(state?.clockMs, BigInt(driver.nowMs));
    assert.equal(driver.committee.skippedTo(0, "first"), 3n);
  });

  test("with a key of small order admits nobody", () => {
    const join: CommitteeCommand = { type: "join", incarnation: 9n, key: new Uint8Array(32) };
    const raw = author.sign(join, "ctl", {
      signer: author.memberKey,
      aside: true,
      body: { incarnation: 9n, sequence: 1n, previous: new Uint8Array(32) },
    });
    accepted(driver.apply(raw));
    const body = { incarnation: 9n, sequence: 2n };
    refusedOutright(() => author.say(note(), "ctl", { body, signature: () => new Uint8Array(64) }), "NOT_AUTHOR");
  });
});

describe("log time", () => {
  test("is the lower median of the members' clocks and never goes back", () => {
    const start = driver.committee.logTimeMs;
    const clock = (index: number, clockMs: number): number => {
      accepted(driver.author(index).say(note(), "ctl", { body: { clockMs: BigInt(clockMs) } }));
      return driver.committee.logTimeMs;
    };
    assert.equal(clock(0, start + 1000), start, "one member");
    assert.equal(clock(1, start + 500), start, "two members: a corrupt one and another");
    assert.equal(clock(2, start + 700), start + 500, "three of four have moved on");
    assert.equal(clock(3, 5), start + 500, "back");
    assert.equal(clock(1, 7), start + 500, "back again");
  });

  test("one member cannot drag it, however wild its clock", () => {
    const before = driver.committee.logTimeMs;
    accepted(author.say(note(), "ctl", { body: { clockMs: 2n ** 64n - 1n } }));
    assert.equal(driver.committee.logTimeMs, before);
    driver.assertAlike();
  });
});

describe("commands that change nothing", () => {
  test("are known by their reason, and the author goes on after them", () => {
    refusedCommand(() => author.say(new Uint8Array([1, 99])), "MALFORMED");
    refusedCommand(() => author.say(new Uint8Array([2])), "MALFORMED");
    refusedCommand(() => author.say(concat(encodeCommand(note()), new Uint8Array(1))), "MALFORMED");
    refusedCommand(() => author.say({ type: "machine", command: new Uint8Array([9]) }), "MALFORMED");
    const applied = refusedCommand(() => author.say(note("refuse")), "MALFORMED");
    assert.equal(applied.refusal?.detail, "as asked");
    accepted(author.say(note()));
  });
});

/** A decided slot, and votes for it. */
function decided(slot = 10n): Outcome {
  const { decided: outcomes } = accepted(author.say(decide(slot)));
  const [outcome] = outcomes;
  assert.ok(outcome !== undefined);
  return outcome;
}

function vote(index: number, outcome: Outcome, share = driver.share(index, outcome)): CommitteeCommand {
  return { type: "vote", votes: [{ stage: outcome.stage, slot: outcome.slot, share }] };
}

describe("votes", () => {
  test("q shares make the certificate, which the group key alone verifies; more add nothing", () => {
    const outcome = decided();
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
    const outcome = decided();
    refusedCommand(() => author.say(vote(0, { ...outcome, slot: 11n })), "OUTCOME_UNKNOWN");
    refusedCommand(() => author.say(vote(0, { ...outcome, stage: "second" })), "OUTCOME_UNKNOWN");
    accepted(author.say(vote(0, outcome)));
  });

  test("with a share that is another member's, another outcome's, or no point at all", () => {
    const outcome = decided();
    refusedCommand(() => author.say(vote(0, outcome, driver.share(1, outcome))), "BAD_SHARE");
    refusedCommand(() => author.say(vote(0, outcome, driver.share(0, { ...outcome, slot: 11n }))), "BAD_SHARE");
    refusedCommand(() => author.say(vote(0, outcome, new Uint8Array(96))), "BAD_SHARE");
    refusedCommand(() => author.say(vote(0, outcome, new Uint8Array(96).fill(0xff))), "BAD_SHARE");
    const infinity = new Uint8Array(96);
    infinity[0] = 0xc0;
    refusedCommand(() => author.say(vote(0, outcome, infinity)), "BAD_SHARE");
    accepted(author.say(vote(0, outcome)));
  });

  test("twice, in two entries or in one", () => {
    const outcome = decided();
    const once = { stage: outcome.stage, slot: outcome.slot, share: driver.share(0, outcome) };
    refusedCommand(() => author.say({ type: "vote", votes: [once, once] }), "DUPLICATE");
    accepted(author.say({ type: "vote", votes: [once] }));
    refusedCommand(() => author.say({ type: "vote", votes: [once] }), "DUPLICATE");
  });

  test("of a batch count all or none", () => {
    const [ten, eleven] = [decided(10n), decided(11n)];
    const of = (outcome: Outcome, share = driver.share(0, outcome)) => ({
      stage: outcome.stage,
      slot: outcome.slot,
      share,
    });
    const bad = of(eleven, new Uint8Array(96));
    refusedCommand(() => author.say({ type: "vote", votes: [of(ten), bad] }), "BAD_SHARE");
    accepted(author.say({ type: "vote", votes: [of(ten), of(eleven)] }));
    accepted(author.say({ type: "vote", votes: [] }));
  });

  test("are asked of members until the certificate is complete", () => {
    const outcomes = [decided(12n), decided(10n)];
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
    const first = decided(10n);
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
    decided(2n);
    assert.equal(driver.committee.floor("first"), 1n);
    decided(1n);
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
    decided(2n);
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
    refusedCommand(() => author.say(skip(3n)), "DUPLICATE");
    refusedCommand(() => author.say(skip(2n)), "DUPLICATE");
    accepted(author.say(skip(4n)));
    assert.equal(driver.committee.floor("first"), 1n);
  });

  test("of what has not begun", () => {
    refusedCommand(() => author.say(skip(12n)), "SLOT_OUT_OF_WINDOW");
    accepted(author.say(skip(11n)));
  });

  test("of a stage that is not there", () => {
    refusedCommand(() => author.say(skip(3n, "third")), "MALFORMED");
    accepted(author.say(skip(3n, "second")));
  });

  test("never decide more at once than a state can hold: a long outage is caught up in steps", () => {
    const now = 3n * SKIP_SPAN;
    driver.nowMs = slotStartMs(dealt.config, now);
    for (const each of driver.authors) accepted(each.say(note()));
    const limit = driver.committee.skipLimit;
    refusedCommand(() => author.say(skip(limit + 1n)), "SLOT_OUT_OF_WINDOW");
    for (const stage of ["first", "second"]) {
      for (const index of [0, 1, 2]) accepted(driver.author(index).say(skip(limit, stage)));
    }
    assert.equal(driver.committee.floor("second"), limit + 1n);
    assert.ok(driver.committee.skipLimit > limit);
    driver.assertAlike();
  });
});

describe("closes", () => {
  const close = (inputs: Uint8Array[] = [], slot = 10n, stage = "first"): CommitteeCommand => ({
    type: "close",
    stage,
    slot,
    inputs,
  });
  const closed = (): string[] =>
    driver.committee.state.events
      .filter((event) => event.includes("closed"))
      .map((event) => event.split(" ").slice(1).join(" "));

  test("of q members close a stage, once", () => {
    for (const index of [0, 1]) accepted(driver.author(index).say(close()));
    assert.deepEqual(closed(), []);
    accepted(driver.author(2).say(close()));
    assert.deepEqual(closed(), ["closed first 10"]);
    accepted(driver.author(3).say(close()));
    assert.deepEqual(closed(), ["closed first 10"]);
  });

  test("twice by one member", () => {
    accepted(author.say(close()));
    refusedCommand(() => author.say(close()), "DUPLICATE");
    refusedCommand(() => author.say(close([hash32(1)])), "DUPLICATE");
    accepted(author.say(close([], 11n)));
  });

  test("wait for what f + 1 of them list, and for nothing that fewer list", () => {
    const [one, two] = [hash32(1), hash32(2)];
    accepted(driver.author(0).say(close([one, two])));
    accepted(driver.author(1).say(close([one])));
    accepted(driver.author(2).say(close([])));
    assert.deepEqual(closed(), [], "two of four listed the first input, it has not landed");
    accepted(driver.author(3).say(machine({ type: "input", hash: two })));
    assert.deepEqual(closed(), []);
    accepted(driver.author(3).say(machine({ type: "input", hash: one })));
    assert.deepEqual(closed(), ["closed first 10"], "one member alone cannot hold it up for the second");
  });

  test("that become ripe at one position come in slot and stage order on every member", () => {
    const input = hash32(5);
    for (const [slot, stage] of [
      [12n, "b"],
      [10n, "b"],
      [12n, "a"],
      [11n, "first"],
    ] as const) {
      for (const index of [0, 1, 2]) accepted(driver.author(index).say(close([input], slot, stage)));
    }
    // One replica now holds the same in the order of its snapshot.
    driver.restart(1);
    accepted(author.say(machine({ type: "input", hash: input })));
    assert.deepEqual(closed(), ["closed b 10", "closed first 11", "closed a 12", "closed b 12"]);
    driver.assertAlike();
  });

  test("outside the window", () => {
    refusedCommand(() => author.say(close([], 10n + WINDOW_AHEAD + 1n)), "SLOT_OUT_OF_WINDOW");
    refusedCommand(() => author.say(close([], 0n)), "SLOT_OUT_OF_WINDOW");
    accepted(author.say(close([], 10n + WINDOW_AHEAD)));
  });

  test("of one author fill its own share of a slot and nobody else's", () => {
    for (let index = 0; index < CLOSES_PER_AUTHOR; index++) accepted(author.say(close([], 10n, `flood ${index}`)));
    refusedCommand(() => author.say(close([], 10n, "one more")), "MALFORMED");
    for (const index of [1, 2, 3]) accepted(driver.author(index).say(close()));
    assert.deepEqual(closed(), ["closed first 10"]);
  });

  test("with more inputs than a slot may have", () => {
    // Chunks of a close of 65 536 inputs; two of them use up the author's share.
    const inputs = Array.from({ length: 65_536 }, (_, index) => {
      const each = new Uint8Array(32);
      new DataView(each.buffer).setUint32(0, index);
      return each;
    });
    for (let index = 0; index < CLOSE_INPUTS_PER_AUTHOR / 65_536; index++) {
      assert.equal(sayLarge(encodeCommand(close(inputs, 10n, `large ${index}`)))?.refusal, undefined);
    }
    refusedCommand(() => author.say(close([hash32(1)], 10n, "one more")), "TOO_LARGE");
    accepted(author.say(close([], 10n, "one more")));
  });
});

describe("facts", () => {
  const saw = (fact: Uint8Array, slot = 10n, topic = "topic"): CommitteeCommand => ({ type: "saw", topic, slot, fact });
  const agreed = (): string[] =>
    driver.committee.state.events
      .filter((event) => event.includes("agreed"))
      .map((event) => event.split(" ").slice(1).join(" "));
  const [yes, no] = [new Uint8Array([1]), new Uint8Array([2])];

  test("need q members alike, and count once", () => {
    accepted(driver.author(0).say(saw(yes)));
    accepted(driver.author(1).say(saw(no)));
    accepted(driver.author(2).say(saw(yes)));
    assert.deepEqual(agreed(), []);
    accepted(driver.author(3).say(saw(yes)));
    assert.deepEqual(agreed(), ["agreed topic 10 01"]);
    for (const each of driver.authors) accepted(each.say(saw(no, 11n)));
    assert.deepEqual(agreed(), ["agreed topic 10 01", "agreed topic 11 02"]);
  });

  test("twice by one member, alike or not", () => {
    accepted(author.say(saw(yes)));
    refusedCommand(() => author.say(saw(yes)), "DUPLICATE");
    refusedCommand(() => author.say(saw(no)), "DUPLICATE");
    accepted(author.say(saw(no, 10n, "another topic")));
    assert.deepEqual(driver.committee.view(0, 0, () => false).said("topic", 10n), yes);
  });

  test("outside the window", () => {
    refusedCommand(() => author.say(saw(yes, 10n + WINDOW_AHEAD + 1n)), "SLOT_OUT_OF_WINDOW");
    accepted(author.say(saw(yes, 10n + WINDOW_AHEAD)));
  });

  test("of one author fill its own share of a slot and nobody else's", () => {
    for (let index = 0; index < FACTS_PER_AUTHOR; index++) accepted(author.say(saw(yes, 10n, `flood ${index}`)));
    refusedCommand(() => author.say(saw(yes, 10n, "one more")), "MALFORMED");
    for (const index of [1, 2, 3]) accepted(driver.author(index).say(saw(yes)));
    assert.deepEqual(agreed(), ["agreed topic 10 01"]);
  });

  test("of one author are bounded in bytes", () => {
    const large = new Uint8Array(256 * 1024);
    for (let index = 0; index < FACT_BYTES_PER_AUTHOR / large.length; index++) {
      accepted(author.say(saw(large, 10n, `large ${index}`), "bulk"));
    }
    refusedCommand(() => author.say(saw(yes, 10n, "one more")), "TOO_LARGE");
    accepted(driver.author(1).say(saw(large, 10n, "one more"), "bulk"));
    accepted(author.say(saw(yes, 11n, "one more")));
  });
});

describe("observed outcomes", () => {
  const upstream = (slot = 10n, changes: Partial<Outcome> = {}): Outcome => ({
    version: 1,
    committee: committeeId(dealt.config, "atelier"),
    generation: 0n,
    epoch: 0n,
    slot,
    stage: "candidate",
    kind: "result",
    commitment: new Uint8Array([1, 2, 3]),
    bodyHash: undefined,
    ...changes,
  });
  const observe = (outcome: Outcome, organism: "atelier" | "offer" = "atelier"): CommitteeCommand => ({
    type: "observe",
    organism,
    certified: driver.certify(outcome),
  });

  test("are shown to the machine once, whoever brings them", () => {
    accepted(author.say(observe(upstream())));
    refusedCommand(() => driver.author(1).say(observe(upstream())), "DUPLICATE");
    refusedCommand(
      () => driver.author(1).say(observe(upstream(10n, { commitment: new Uint8Array([9]) }))),
      "DUPLICATE",
    );
    accepted(driver.author(1).say(observe(upstream(11n))));
    assert.equal(driver.committee.newestObserved("atelier", "candidate"), 11n);
    assert.deepEqual(driver.committee.observed("atelier", "candidate", 10n)?.outcome, upstream());
    assert.equal(driver.committee.state.events.filter((event) => event.includes("observed")).length, 2);
  });

  test("with a certificate over something else", () => {
    const certified = driver.certify(upstream());
    const forged = (changes: Partial<Outcome>): CommitteeCommand => ({
      type: "observe",
      organism: "atelier",
      certified: { ...certified, outcome: { ...certified.outcome, ...changes } },
    });
    for (const changes of [
      { commitment: new Uint8Array([1, 2, 4]) },
      { slot: 11n },
      { kind: "empty" },
      { epoch: 1n },
      { generation: 1n },
      { bodyHash: hash32(1) },
    ] satisfies Partial<Outcome>[]) {
      refusedCommand(() => author.say(forged(changes)), "BAD_CERTIFICATE");
    }
    const short = driver.share(0, upstream());
    refusedCommand(
      () => author.say({ type: "observe", organism: "atelier", certified: { ...certified, signature: short } }),
      "BAD_CERTIFICATE",
    );
    accepted(author.say(forged({})));
  });

  test("of another lattice or another organism", () => {
    const foreign = upstream(10n, { committee: hash32(3) });
    refusedCommand(() => author.say(observe(foreign)), "ORGANISM_MISMATCH");
    const own = upstream(10n, { committee: driver.committee.id });
    refusedCommand(() => author.say(observe(own)), "ORGANISM_MISMATCH");
    assert.equal(checkOutcome(dealt.config, "atelier", driver.certify(upstream())), undefined);
  });

  test("of what this organism does not follow", () => {
    refusedCommand(() => author.say(observe(upstream(10n, { stage: "roster" }))), "MALFORMED");
    refusedCommand(() => author.say(observe(upstream(), "offer")), "MALFORMED");
    accepted(author.say(observe(upstream())));
  });

  test("outside the window", () => {
    refusedCommand(() => author.say(observe(upstream(10n + WINDOW_AHEAD + 1n))), "SLOT_OUT_OF_WINDOW");
    accepted(author.say(observe(upstream(10n + WINDOW_AHEAD))));
  });
});

/** An encoded command of `chunks` chunks. */
function largeCommand(chunks: number): Uint8Array {
  const padding = chunks * CHUNK_BYTES - 64;
  return encodeCommand({ type: "machine", command: new Uint8Array(padding) });
}

function chunk(command: Uint8Array, index: number, changes: Record<string, unknown> = {}): CommitteeCommand {
  return {
    type: "chunk",
    digest: commandDigest(command),
    index,
    count: Math.ceil(command.length / CHUNK_BYTES),
    part: command.slice(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
    ...changes,
  };
}

function sayLarge(command: Uint8Array): Applied | undefined {
  let last: Applied | undefined;
  for (let index = 0; index * CHUNK_BYTES < command.length; index++) last = author.say(chunk(command, index), "bulk");
  return last;
}

describe("chunks", () => {
  /** Two chunks that join to a note the machine accepts: its text is short, the padding is a close nobody reads. */
  const whole = (): Uint8Array => {
    const inputs = Array.from({ length: 20_000 }, (_, index) => hash32(index % 251));
    return encodeCommand({ type: "close", stage: "large", slot: 10n, inputs });
  };

  test("join to their command when they come in order", () => {
    const command = whole();
    assert.equal(sayLarge(command)?.refusal, undefined);
    assert.ok(driver.committee.view(0, 0, () => false).hasClosed("large", 10n));
    assert.equal(driver.committee.author(0)?.assembly, undefined);
  });

  test("other entries may come between them, on either lane", () => {
    const command = whole();
    accepted(author.say(chunk(command, 0), "bulk"));
    accepted(author.say(note(), "ctl"));
    accepted(author.say(note(), "bulk"));
    accepted(author.say(chunk(command, 1), "bulk"));
    assert.ok(driver.committee.view(0, 0, () => false).hasClosed("large", 10n));
  });

  test("misnumbered", () => {
    const command = whole();
    refusedCommand(() => author.say(chunk(command, 0, { count: 1 }), "bulk"), "MALFORMED");
    refusedCommand(() => author.say(chunk(command, 0, { count: CHUNKS_MAX + 1 }), "bulk"), "MALFORMED");
    refusedCommand(() => author.say(chunk(command, 0, { index: 2 }), "bulk"), "MALFORMED");
    refusedCommand(() => author.say(chunk(command, 1), "bulk"), "OUT_OF_ORDER");
    accepted(author.say(chunk(command, 0), "bulk"));
    refusedCommand(() => author.say(chunk(command, 1, { count: 3 }), "bulk"), "OUT_OF_ORDER");
    refusedCommand(() => author.say(chunk(command, 1), "bulk"), "OUT_OF_ORDER");
    assert.equal(sayLarge(command)?.refusal, undefined);
  });

  test("of another command in the middle", () => {
    const [one, two] = [whole(), largeCommand(2)];
    accepted(author.say(chunk(one, 0), "bulk"));
    refusedCommand(() => author.say(chunk(two, 1), "bulk"), "OUT_OF_ORDER");
    accepted(author.say(chunk(one, 0), "bulk"));
    accepted(author.say(chunk(two, 0), "bulk"));
    refusedCommand(() => author.say(chunk(one, 1), "bulk"), "OUT_OF_ORDER");
  });

  test("that do not add up to their digest", () => {
    const command = whole();
    accepted(author.say(chunk(command, 0), "bulk"));
    const part = command.slice(CHUNK_BYTES);
    part[0] = (part[0] ?? 0) ^ 1;
    refusedCommand(() => author.say(chunk(command, 1, { part }), "bulk"), "MALFORMED");
    assert.equal(sayLarge(command)?.refusal, undefined);
  });

  test("that add up to no command, to a join, or to a chunk", () => {
    const join = encodeCommand({ type: "join", incarnation: 2n, key: hash32(1) });
    const small = encodeCommand({ type: "chunk", digest: hash32(1), index: 0, count: 2, part: new Uint8Array(8) });
    for (const inner of [new Uint8Array(CHUNK_BYTES + 1), join, small]) {
      const digest = commandDigest(inner);
      const cut = Math.ceil(inner.length / 2);
      const parts = [inner.slice(0, cut), inner.slice(cut)];
      accepted(author.say({ type: "chunk", digest, index: 0, count: 2, part: parts[0] ?? new Uint8Array() }, "bulk"));
      const last: CommitteeCommand = { type: "chunk", digest, index: 1, count: 2, part: parts[1] ?? new Uint8Array() };
      refusedCommand(() => author.say(last, "bulk"), "MALFORMED");
    }
  });

  test("in the ctl lane", () => {
    refusedCommand(() => author.say(chunk(whole(), 0), "ctl"), "MALFORMED");
    accepted(author.say(chunk(whole(), 0), "bulk"));
  });

  test("of two authors do not mix", () => {
    const command = whole();
    accepted(author.say(chunk(command, 0), "bulk"));
    refusedCommand(() => driver.author(1).say(chunk(command, 1), "bulk"), "OUT_OF_ORDER");
    accepted(author.say(chunk(command, 1), "bulk"));
  });
});

describe("what is forgotten", () => {
  test("lies SLOTS_KEPT below the lowest undecided slot, alike on all", () => {
    const last = SLOTS_KEPT + 5n;
    driver.nowMs = slotStartMs(dealt.config, last);
    for (const each of driver.authors) accepted(each.say(note()));
    for (let slot = 1n; slot <= last; slot++) {
      accepted(author.say(decide(slot, "first")));
      if (slot < last) accepted(author.say(decide(slot, "second")));
    }
    // The lowest undecided is the last slot's second stage.
    assert.equal(driver.committee.collapsedBelow, last - SLOTS_KEPT);
    assert.equal(driver.committee.state.collapsed, last - SLOTS_KEPT);
    assert.equal(driver.committee.outcome("first", last - SLOTS_KEPT - 1n), undefined);
    assert.notEqual(driver.committee.outcome("first", last - SLOTS_KEPT), undefined);
    driver.assertAlike();
  });

  test("cannot be spoken of again", () => {
    const last = SLOTS_KEPT + 5n;
    driver.nowMs = slotStartMs(dealt.config, last);
    for (const each of driver.authors) accepted(each.say(note()));
    for (const stage of ["first", "second"]) {
      for (const index of [0, 1, 2]) accepted(driver.author(index).say({ type: "skip", stage, toSlot: last }));
    }
    const gone = driver.committee.collapsedBelow - 1n;
    const before = driver.committee.floor("first");
    assert.equal(accepted(author.say(decide(gone))).decided.length, 0);
    refusedCommand(() => author.say({ type: "close", stage: "first", slot: gone, inputs: [] }), "SLOT_OUT_OF_WINDOW");
    refusedCommand(
      () => author.say({ type: "saw", topic: "topic", slot: gone, fact: new Uint8Array() }),
      "SLOT_OUT_OF_WINDOW",
    );
    assert.equal(driver.committee.floor("first"), before);
  });
});

describe("snapshots", () => {
  test("restore to the same state hash; anything else is refused", () => {
    decided();
    const snapshot = driver.committee.snapshot();
    const again = driver.fresh();
    again.restore(snapshot);
    assert.deepEqual(again.stateHash(), driver.committee.stateHash());
    for (const bad of [
      new Uint8Array(),
      new Uint8Array(3),
      snapshot.subarray(0, snapshot.length - 1),
      concat(snapshot, new Uint8Array(1)),
      new Uint8Array(100).fill(0xff),
    ]) {
      assert.throws(() => driver.fresh().restore(bad), CodecError);
    }
  });

  test("of a committee of another size are refused", () => {
    const other = dealCommittee(3);
    const three = new CommitteeDriver({
      config: other.config,
      roster: other.rosters.relay,
      secrets: other.secrets,
      createMachine: probeMachine,
    });
    assert.throws(() => three.fresh().restore(driver.committee.snapshot()), CodecError);
    three.fresh().restore(three.committee.snapshot());
  });

  test("of a machine with other stages are refused", () => {
    const { config, rosters, secrets } = dealt;
    const createMachine = () => ({ ...probeMachine(), stages: ["first", "other"] });
    const other = new CommitteeDriver({ config, roster: rosters.relay, secrets, createMachine });
    assert.throws(() => other.fresh().restore(driver.committee.snapshot()), CodecError);
  });

  test("a refused restore leaves the replica as it was", () => {
    const before = driver.committee.stateHash();
    assert.throws(() => driver.committee.restore(new Uint8Array(50)), CodecError);
    assert.deepEqual(driver.committee.stateHash(), before);
  });
});

/** One random thing that happens to a committee. */
type Step =
  | { readonly type: "restart" }
  | { readonly type: "garbage"; readonly bytes: Uint8Array }
  | { readonly type: "repeat"; readonly back: number }
  | { readonly type: "mutate"; readonly back: number; readonly at: number }
  | { readonly type: "tick"; readonly ms: number }
  | { readonly type: "join"; readonly who: number }
  | {
      readonly type: "say";
      readonly who: number;
      readonly lane: "ctl" | "bulk";
      readonly pick: number;
      readonly slot: bigint;
    };

const who = fc.nat(MEMBERS - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 1, arbitrary: fc.record({ type: fc.constant("restart" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant("garbage" as const), bytes: fc.uint8Array({ maxLength: 60 }) }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("repeat" as const), back: fc.nat(8) }) },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant("mutate" as const), back: fc.nat(8), at: fc.nat(400) }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("tick" as const), ms: fc.nat(15_000) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("join" as const), who }) },
  {
    weight: 25,
    arbitrary: fc.record({
      type: fc.constant("say" as const),
      who,
      lane: fc.constantFrom("ctl" as const, "bulk" as const),
      pick: fc.nat(11),
      slot: fc.bigInt(0n, 60n),
    }),
  },
);

describe("random histories", () => {
  const stageOf = (slot: bigint): string => (slot % 2n === 0n ? "first" : "second");

  function perform(each: Driver, { who: index, lane, pick, slot }: Extract<Step, { type: "say" }>): Applied {
    const speaker = each.author(index);
    const stage = stageOf(slot);
    const input = hash32(Number(slot % 3n));
    const outcome = each.committee.outcome(stage, slot);
    switch (pick) {
      case 0:
      case 1:
        return speaker.say(decide(slot, stage), lane);
      case 2:
        return speaker.say({ type: "skip", stage, toSlot: slot }, lane);
      case 3:
      case 4:
        return speaker.say({ type: "close", stage, slot, inputs: slot % 5n === 0n ? [input] : [] }, lane);
      case 5:
      case 6:
        return speaker.say({ type: "saw", topic: stage, slot, fact: new Uint8Array([Number(slot % 2n)]) }, lane);
      case 7:
        return speaker.say(machine({ type: "input", hash: input }), lane);
      case 8:
        return speaker.say(new Uint8Array([1, Number(slot)]), lane);
      case 9:
        return speaker.say(note(slot % 7n === 0n ? "refuse" : "x"), lane, { body: { clockMs: slot * 1000n } });
      case 10:
        return speaker.say(chunk(encodeCommand(note("y")), 0, { count: 2, index: Number(slot % 2n) }), lane);
      default: {
        const share = outcome === undefined || slot % 4n === 0n ? new Uint8Array(96) : each.share(index, outcome);
        return speaker.say({ type: "vote", votes: [{ stage, slot, share }] }, lane);
      }
    }
  }

  test("replicas stay alike through restarts and garbage; replay gives the same; time and floors only grow", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 120 }), (steps) => {
        driver = makeDriver(2);
        driver.nowMs = slotStartMs(dealt.config, 3n);
        driver.joinAll();
        let time = 0;
        let floor = 0n;
        for (const each of steps) {
          if (each.type === "restart") driver.restart(1);
          else if (each.type === "tick") driver.nowMs += each.ms;
          else if (each.type === "garbage") driver.apply(new Uint8Array(each.bytes));
          else if (each.type === "join") driver.author(each.who).join();
          else if (each.type === "say") perform(driver, each);
          else {
            const old = driver.log.at(-1 - each.back);
            if (old === undefined) continue;
            const raw = old.slice();
            if (each.type === "mutate" && raw.length > 0) {
              const at = each.at % raw.length;
              raw[at] = (raw[at] ?? 0) ^ 0x10;
            }
            const applied = driver.apply(raw);
            // A copy is refused; a changed one too, unless it is the same entry under changed signature bytes.
            assert.ok(applied.refusal !== undefined);
            assert.equal(applied.landed, false);
          }
          assert.ok(driver.committee.logTimeMs >= time, "log time went back");
          assert.ok(driver.committee.floor("first") >= floor, "a floor went back");
          time = driver.committee.logTimeMs;
          floor = driver.committee.floor("first");
        }
        driver.assertAlike();
        const replayed = driver.replay();
        assert.deepEqual(replayed.stateHash(), driver.committee.stateHash());
        assert.deepEqual(replayed.head, driver.committee.head);
      }),
      { numRuns: 60 },
    );
  });

  test("an entry keeps its identity whatever its signature bytes are", () => {
    const raw = author.sign(note());
    const body = raw.subarray(4, raw.length - 64);
    assert.deepEqual(accepted(driver.apply(raw)).entry, entryHash(body));
  });
});

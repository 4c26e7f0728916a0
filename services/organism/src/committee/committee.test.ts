/** Log time, observed outcomes, what is forgotten, snapshots, random histories. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  accepted,
  chunk,
  decide,
  hash32,
  joinedBeforeEach,
  MEMBERS,
  machine,
  note,
  ProbeDriver,
} from "../../test/probe-driver.ts";
import { probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { CodecError, concat } from "../codec/codec.ts";
import { committeeId, slotStartMs } from "../identity/lattice-config.ts";
import { CommitteeDriver, type ScriptedAuthor } from "../testing/committee-driver.ts";
import { type CommitteeCommand, encodeCommand } from "./commands.ts";
import type { Applied } from "./committee.ts";
import { entryHash } from "./entry.ts";
import { checkOutcome, type Outcome } from "./outcome.ts";
import { SLOTS_KEPT, WINDOW_AHEAD } from "./state.ts";

let dealt: TestCommittee;
let driver: ProbeDriver;
let author: ScriptedAuthor;

joinedBeforeEach((fresh) => {
  ({ dealt, driver, author } = fresh);
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
    driver.refusedCommand(() => author.say(new Uint8Array([1, 99])), "MALFORMED");
    driver.refusedCommand(() => author.say(new Uint8Array([2])), "MALFORMED");
    driver.refusedCommand(() => author.say(concat(encodeCommand(note()), new Uint8Array(1))), "MALFORMED");
    driver.refusedCommand(() => author.say({ type: "machine", command: new Uint8Array([9]) }), "MALFORMED");
    const applied = driver.refusedCommand(() => author.say(note("refuse")), "MALFORMED");
    assert.equal(applied.refusal?.detail, "as asked");
    accepted(author.say(note()));
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
    driver.refusedCommand(() => driver.author(1).say(observe(upstream())), "DUPLICATE");
    driver.refusedCommand(
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
      driver.refusedCommand(() => author.say(forged(changes)), "BAD_CERTIFICATE");
    }
    const short = driver.share(0, upstream());
    driver.refusedCommand(
      () => author.say({ type: "observe", organism: "atelier", certified: { ...certified, signature: short } }),
      "BAD_CERTIFICATE",
    );
    accepted(author.say(forged({})));
  });

  test("of another lattice or another organism", () => {
    const foreign = upstream(10n, { committee: hash32(3) });
    driver.refusedCommand(() => author.say(observe(foreign)), "ORGANISM_MISMATCH");
    const own = upstream(10n, { committee: driver.committee.id });
    driver.refusedCommand(() => author.say(observe(own)), "ORGANISM_MISMATCH");
    assert.equal(checkOutcome(dealt.config, "atelier", driver.certify(upstream())), undefined);
  });

  test("of what this organism does not follow", () => {
    driver.refusedCommand(() => author.say(observe(upstream(10n, { stage: "roster" }))), "MALFORMED");
    driver.refusedCommand(() => author.say(observe(upstream(), "offer")), "MALFORMED");
    accepted(author.say(observe(upstream())));
  });

  test("outside the window", () => {
    driver.refusedCommand(() => author.say(observe(upstream(10n + WINDOW_AHEAD + 1n))), "SLOT_OUT_OF_WINDOW");
    accepted(author.say(observe(upstream(10n + WINDOW_AHEAD))));
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
    driver.refusedCommand(
      () => author.say({ type: "close", stage: "first", slot: gone, inputs: [] }),
      "SLOT_OUT_OF_WINDOW",
    );
    driver.refusedCommand(
      () => author.say({ type: "saw", topic: "topic", slot: gone, fact: new Uint8Array() }),
      "SLOT_OUT_OF_WINDOW",
    );
    assert.equal(driver.committee.floor("first"), before);
  });
});

describe("snapshots", () => {
  test("restore to the same state hash; anything else is refused", () => {
    driver.decided();
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

  function perform(each: ProbeDriver, { who: index, lane, pick, slot }: Extract<Step, { type: "say" }>): Applied {
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
        // Checkpoints all the time: the driver judges each of them.
        driver = new ProbeDriver(dealt, 2, { entries: 3n, slots: 1n });
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

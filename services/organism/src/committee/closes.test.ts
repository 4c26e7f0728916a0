/** What makes a close count, and what is refused beside it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import {
  accepted,
  decide,
  hash32,
  joinedBeforeEach,
  MEMBERS,
  machine,
  note,
  ProbeDriver,
  sayLarge,
} from "../../test/probe-driver.ts";
import { PROBE_STAGES } from "../../test/probe-machine.ts";
import { dealCommittee } from "../../test/test-lattice.ts";
import { concat, toHex } from "../codec/codec.ts";
import { hashBytes } from "../crypto/hash.ts";
import type { ScriptedAuthor } from "../testing/committee-driver.ts";
import { type CommitteeCommand, encodeCommand } from "./commands.ts";
import { LISTED_ONCE } from "./rules.ts";
import { CLOSE_INPUTS_PER_AUTHOR, CLOSES_PER_AUTHOR, WINDOW_AHEAD } from "./state.ts";

const VECTORS = JSON.parse(readFileSync(new URL("./vectors/closes.json", import.meta.url), "utf8"));

/** The same keys in each run. */
function drawn(): (length: number) => Uint8Array {
  let count = 0;
  const next = (): Uint8Array => hashBytes("lattice/test/closes/v1", new TextEncoder().encode(`${count++}`));
  return (length) => concat(next(), next()).slice(0, length);
}

let driver: ProbeDriver;
let author: ScriptedAuthor;

joinedBeforeEach((fresh) => {
  ({ driver, author } = fresh);
});

describe("closes", () => {
  const close = (inputs: Uint8Array[] = [], slot = 10n, stage = "first"): CommitteeCommand => ({
    type: "close",
    stage,
    slot,
    inputs,
  });
  const closed = (): string[] => driver.told("closed");

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
    driver.refusedCommand(() => author.say(close()), "DUPLICATE");
    driver.refusedCommand(() => author.say(close([hash32(1)])), "DUPLICATE");
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

  describe("that list one input several times", () => {
    const [one, two] = [hash32(1), hash32(2)];
    function listedTwice(): void {
      accepted(driver.author(0).say(close([one, one, two])));
      for (const index of [1, 2]) accepted(driver.author(index).say(close([two])));
      accepted(driver.author(3).say(machine({ type: "input", hash: two })));
    }

    test("hold up nobody", () => {
      driver.takeUp(LISTED_ONCE);
      listedTwice();
      assert.deepEqual(closed(), ["closed first 10"]);
      driver.assertAlike();
    });

    test("hold up everybody before that is a rule, and nobody from then on", () => {
      driver.takeUp(LISTED_ONCE - 1);
      listedTwice();
      accepted(driver.author(3).say(close([])));
      assert.deepEqual(closed(), [], "also when all have closed");
      // One replica has not counted before.
      driver.restart(1);
      driver.takeUp(LISTED_ONCE);
      assert.deepEqual(closed(), ["closed first 10"]);
      driver.assertAlike();
    });
  });

  describe("of slots that are decided", () => {
    const inputs = Array.from({ length: 1000 }, (_, index) => hash32(index % 256));
    const bytesOfLists = 3 * inputs.length * 32;
    /** Three close slots 1 and 2, and slot 1 is decided. @returns bytes of the state before that, and after */
    function closedAndDecided(): [number, number] {
      for (const slot of [1n, 2n]) {
        for (const index of [0, 1, 2]) accepted(driver.author(index).say(close(inputs, slot)));
      }
      const before = driver.committee.snapshot().length;
      for (const stage of PROBE_STAGES) driver.author(0).say(decide(1n, stage));
      return [before, driver.committee.snapshot().length];
    }
    const hasClosed = (index: number): boolean => driver.committee.view(index, 0, () => false).hasClosed("first", 1n);

    test("keep who has closed, and not what was listed", () => {
      driver.takeUp(LISTED_ONCE);
      const [before, after] = closedAndDecided();
      assert.ok(after < before - bytesOfLists * 0.8 && after > bytesOfLists, `${after} bytes of ${before}`);
      assert.deepEqual([0, 1, 2, 3].map(hasClosed), [true, true, true, false]);
      driver.refusedCommand(() => driver.author(3).say(close(inputs, 1n)), "SLOT_DECIDED");
    });

    test("keep all before that is a rule, and forget it when it becomes one", () => {
      driver.takeUp(LISTED_ONCE - 1);
      const [before, after] = closedAndDecided();
      assert.ok(after > before);
      driver.restart(1);
      driver.takeUp(LISTED_ONCE);
      assert.ok(driver.committee.snapshot().length < after - bytesOfLists * 0.4);
      driver.assertAlike();
    });
  });

  test("golden: what rules 6 and rules 7 make of lists is the same for ever", () => {
    const kept = driver;
    try {
      const found = Object.fromEntries(
        [LISTED_ONCE - 1, LISTED_ONCE].map((rules) => {
          driver = ProbeDriver.joined(dealCommittee(MEMBERS, {}, "third", undefined, drawn()));
          driver.takeUp(rules);
          const lists = [[hash32(1), hash32(1)], [hash32(2)], [hash32(2), hash32(3)]];
          for (const [index, inputs] of lists.entries()) accepted(driver.author(index).say(close(inputs, 1n)));
          accepted(driver.author(3).say(machine({ type: "input", hash: hash32(2) })));
          for (const stage of PROBE_STAGES) driver.author(0).say(decide(1n, stage));
          return [rules, { head: toHex(driver.committee.head), stateHash: toHex(driver.committee.stateHash()) }];
        }),
      );
      assert.deepEqual(found, VECTORS);
    } finally {
      driver = kept;
    }
  });

  test("that wait for one of many inputs ask for that one after each entry, and for no other", (context) => {
    const inputs = Array.from({ length: 20 }, (_, index) => hash32(index));
    for (const index of [0, 1, 2]) accepted(driver.author(index).say(close(inputs)));
    for (const hash of inputs.slice(0, -1)) accepted(author.say(machine({ type: "input", hash })));
    const asked = context.mock.method(driver.committee.machine, "hasInput");
    accepted(driver.author(3).say(note()));
    accepted(driver.author(3).say(note()));
    assert.equal(asked.mock.callCount(), 2, "whoever lists many would make every entry cost as much");
    assert.deepEqual(closed(), []);
    accepted(author.say(machine({ type: "input", hash: hash32(19) })));
    assert.deepEqual(closed(), ["closed first 10"]);
    driver.assertAlike();
  });

  test("that wait count what comes later", () => {
    const [one, two] = [hash32(1), hash32(2)];
    for (const index of [0, 1, 2]) accepted(driver.author(index).say(close(index === 2 ? [one, two] : [one])));
    accepted(driver.author(3).say(close([two])));
    accepted(author.say(machine({ type: "input", hash: one })));
    assert.deepEqual(closed(), [], "two of four have listed the second input by now");
    accepted(author.say(machine({ type: "input", hash: two })));
    assert.deepEqual(closed(), ["closed first 10"]);
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
    driver.refusedCommand(() => author.say(close([], 10n + WINDOW_AHEAD + 1n)), "SLOT_OUT_OF_WINDOW");
    driver.refusedCommand(() => author.say(close([], 0n)), "SLOT_OUT_OF_WINDOW");
    accepted(author.say(close([], 10n + WINDOW_AHEAD)));
  });

  test("of one author fill its own share of a slot and nobody else's", () => {
    for (let index = 0; index < CLOSES_PER_AUTHOR; index++) accepted(author.say(close([], 10n, `flood ${index}`)));
    driver.refusedCommand(() => author.say(close([], 10n, "one more")), "MALFORMED");
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
      assert.equal(sayLarge(author, encodeCommand(close(inputs, 10n, `large ${index}`)))?.refusal, undefined);
    }
    driver.refusedCommand(() => author.say(close([hash32(1)], 10n, "one more")), "TOO_LARGE");
    accepted(author.say(close([], 10n, "one more")));
  });
});

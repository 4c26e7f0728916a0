import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ManualTimers } from "../testing/manual-timers.ts";
import { OthersGoOn, othersNeeded, type ReadHead, watchOthers } from "./others-go-on.ts";

/** One that has read ten entries, and looks for so many others. */
function beginning(needed: number): { readonly asks: bigint; look(seen: ReadonlyMap<number, ReadHead>): boolean } {
  const others = new OthersGoOn(10n);
  return {
    get asks() {
      return others.asks;
    },
    look: (seen) => others.look(seen, needed),
  };
}

/** A chain by its name: the head after a position. */
const headOf = (chain: number, position: bigint): Uint8Array => new Uint8Array([chain, Number(position)]);

/** What members answer, asked where `others` asks: how far each has read, and on which chain. */
const seen = (
  others: { readonly asks: bigint },
  ...members: readonly (readonly [member: number, newest: bigint, chain?: number])[]
): Map<number, ReadHead> =>
  new Map(
    members.map(([member, newest, chain = 0]) => {
      const position = newest < others.asks ? newest : others.asks;
      return [member, { newest, position, head: headOf(chain, position) }];
    }),
  );

test("a quorum of others that reads on twice, past what this member has read, has left it alone", () => {
  const others = beginning(2);
  assert.equal(others.look(seen(others, [0, 12n], [1, 12n])), false);
  assert.equal(others.look(seen(others, [0, 13n], [1, 14n])), false);
  assert.equal(others.look(seen(others, [0, 15n], [1, 15n])), true);
});

test("others that have read further and stand still may have lost the log as well", () => {
  const others = beginning(2);
  for (let turn = 0; turn < 5; turn++) assert.equal(others.look(seen(others, [0, 12n], [1, 12n])), false);
  // What they had kept is taken in once.
  assert.equal(others.look(seen(others, [0, 13n], [1, 13n])), false);
  assert.equal(others.look(seen(others, [0, 13n], [1, 13n])), false);
});

test("fewer than a quorum, or such as are still behind, do not count", () => {
  const fewer = beginning(2);
  for (let turn = 11n; turn < 20n; turn++) assert.equal(fewer.look(seen(fewer, [0, turn])), false);
  const behind = beginning(2);
  // A round that compares at a position that this member has read says nothing of what follows it.
  for (let turn = 1n; turn <= 11n; turn++) assert.equal(behind.look(seen(behind, [0, turn], [1, turn])), false);
  assert.equal(behind.look(seen(behind, [0, 12n], [1, 12n])), false);
  assert.equal(behind.look(seen(behind, [0, 13n], [1, 13n])), true);
});

test("looks between at which they stand still, or one is late, do not matter", () => {
  const others = beginning(2);
  others.look(seen(others, [0, 11n], [1, 11n]));
  for (const [first, second] of [
    [11n, 11n],
    [12n, 11n],
    [12n, 12n],
    [12n, 12n],
    [12n, 13n],
  ] as const)
    assert.equal(others.look(seen(others, [0, first], [1, second])), false);
  assert.equal(others.look(seen(others, [0, 13n], [1, 13n])), true);
});

test("who does not answer at a look has to be seen from the beginning", () => {
  const others = beginning(2);
  others.look(seen(others, [0, 11n], [1, 11n]));
  assert.equal(others.look(seen(others, [0, 12n], [1, 12n])), false);
  assert.equal(others.look(seen(others, [0, 13n])), false);
  assert.equal(others.look(seen(others, [0, 14n], [1, 14n])), false);
  assert.equal(others.look(seen(others, [0, 15n], [1, 15n])), false);
  assert.equal(others.look(seen(others, [0, 16n], [1, 16n])), true);
});

describe("others on two chains", () => {
  test("are no quorum, however far they read: one may have certified with this member what it alone has read", () => {
    const others = beginning(2);
    for (let turn = 11n; turn < 30n; turn++) {
      assert.equal(others.look(seen(others, [0, turn], [2, turn + 1n, 1])), false);
    }
  });

  test("are one as soon as enough are on one of them", () => {
    const others = beginning(3);
    for (let turn = 11n; turn < 20n; turn++) {
      assert.equal(others.look(seen(others, [0, turn], [1, turn], [3, turn, 1])), false);
    }
    assert.equal(others.look(seen(others, [0, 20n], [1, 20n], [2, 20n], [3, 20n, 1])), false);
    assert.equal(others.look(seen(others, [0, 21n], [1, 21n], [2, 21n], [3, 21n, 1])), false);
    assert.equal(others.look(seen(others, [0, 22n], [1, 22n], [2, 22n], [3, 22n, 1])), true);
  });

  test("are none after one of them has changed sides without another", () => {
    const others = beginning(2);
    for (let turn = 11n; turn < 20n; turn++) {
      assert.equal(others.look(seen(others, [0, turn, Number(turn % 2n)], [1, turn, Number((turn + 1n) % 2n)])), false);
    }
  });

  test("one that reads less far than where it is asked is not known to be on the chain of the others", () => {
    const others = beginning(2);
    for (let turn = 0n; turn < 10n; turn++) {
      const [ahead, behind] = [100n + turn, 11n + turn];
      const answers = seen(others, [0, ahead], [1, behind]);
      answers.set(1, { newest: behind, position: 10n, head: headOf(0, 10n) });
      assert.equal(others.look(answers), false);
    }
  });
});

describe("how many others it takes", () => {
  const quorums = [
    { members: 3, faults: 0, quorum: 2 },
    { members: 4, faults: 1, quorum: 3 },
    { members: 5, faults: 1, quorum: 4 },
    { members: 7, faults: 2, quorum: 5 },
  ];

  test("is a quorum, and one fewer for each proven fraud, as far as frauds are counted on", () => {
    const needed = quorums.map((quorum) => [0, 1, 2, 3].map((blocked) => othersNeeded(quorum, blocked)));
    assert.deepEqual(needed, [
      [2, 2, 2, 2],
      [3, 2, 2, 2],
      [4, 3, 3, 3],
      [5, 4, 3, 3],
    ]);
  });

  test("leaves no quorum that may have signed on what one member alone has read, and no two sides to change to", () => {
    for (const { members, faults, quorum } of quorums) {
      for (let blocked = 0; blocked <= faults; blocked++) {
        const shown = othersNeeded({ members, faults, quorum }, blocked);
        const unknown = faults - blocked;
        assert.ok(members - shown + unknown < quorum);
        // On the other chain: everybody else who is not blocked, and the corrupt ones of these a second time.
        assert.ok(members - shown - blocked + unknown < shown);
        // One fewer would do for neither.
        assert.ok(members - (shown - 1) - blocked + unknown >= shown - 1);
      }
    }
  });
});

describe("asking the others", () => {
  /** Member 2 of three, which has read ten entries. */
  class Watch {
    readonly timers = new ManualTimers();
    readonly asked: bigint[] = [];
    /** How far the others have read, all on one chain. */
    newest: readonly bigint[] = [];
    blocked: ReadonlySet<number> = new Set();
    over = false;
    silent = false;
    wentOn = 0;

    constructor() {
      watchOthers({
        furthest: 10n,
        integrity: {
          heads: async (asks) => {
            this.asked.push(asks);
            if (this.silent) throw new Error("nobody answers");
            return seen({ asks }, ...this.newest.map((newest, member) => [member, newest] as const));
          },
          blockedAnywhere: async () => this.blocked,
        },
        quorum: () => ({ members: 3, faults: 1, quorum: 2 }),
        everyMs: 1000,
        over: () => this.over,
        onGoOn: async () => void this.wentOn++,
        timers: this.timers,
        logger: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
      });
    }

    async looks(...rounds: readonly (readonly bigint[])[]): Promise<void> {
      for (const newest of rounds) {
        this.newest = newest;
        await this.timers.advance(1000);
      }
    }
  }

  test("ends once they go on, and that is told once", async () => {
    const watch = new Watch();
    await watch.looks([12n, 12n], [13n, 14n], [15n, 15n], [16n, 16n], [17n, 17n]);
    assert.deepEqual([watch.wentOn, watch.asked.length, watch.timers.waiting], [1, 3, 0]);
  });

  test("goes on while they stand still, or do not answer", async () => {
    const watch = new Watch();
    await watch.looks([12n, 12n], [13n, 14n]);
    watch.silent = true;
    await watch.looks([15n, 15n]);
    watch.silent = false;
    await watch.looks([14n, 14n], [14n, 14n]);
    assert.deepEqual([watch.wentOn, watch.timers.waiting], [0, 1]);
  });

  test("counts nobody whose key is blocked, and needs one fewer for each", async () => {
    const watch = new Watch();
    watch.blocked = new Set([0]);
    await watch.looks([12n, 10n], [13n, 10n], [15n, 10n], [16n, 10n]);
    assert.equal(watch.wentOn, 0);
    await watch.looks([16n, 12n], [16n, 13n], [16n, 14n]);
    assert.equal(watch.wentOn, 1);
  });

  test("ends without a word when it does not matter any more", async () => {
    const watch = new Watch();
    await watch.looks([12n, 12n], [13n, 14n]);
    watch.over = true;
    await watch.looks([15n, 15n], [16n, 16n]);
    assert.deepEqual([watch.wentOn, watch.asked.length, watch.timers.waiting], [0, 2, 0]);
  });
});

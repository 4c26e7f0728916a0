/** One log read alone: what is handed on, what ends it, and what a log that loses its end is taken for. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { HistoryGone, LogLost } from "../ports.ts";
import { ManualTimers, settled } from "../testing/manual-timers.ts";
import { ScriptedLog } from "../testing/scripted-log.ts";
import { Halt } from "./halt.ts";
import type { VerifyElsewhere } from "./intake.ts";
import { endOfLog, LogReading } from "./log-reading.ts";

let log: ScriptedLog;
let timers: ManualTimers;
let halt: Halt;
let applied: bigint;
let over: boolean;
/** What the member is told, in order. */
let told: string[];
let reading: LogReading;
/** Cannot be applied. */
let failsAt: bigint | undefined;

beforeEach(() => {
  log = new ScriptedLog();
  timers = new ManualTimers();
  applied = 0n;
  over = false;
  told = [];
  halt = new Halt({ onSilent: () => undefined, onFatal: (reason) => void told.push(`fatal ${reason}`) });
  failsAt = undefined;
  reading = newReading();
});

function newReading(verify?: VerifyElsewhere): LogReading {
  return new LogReading({
    log,
    committee: {
      get position() {
        return applied;
      },
    },
    deliver: ({ position }) => {
      if (position === failsAt) throw new Error("an invariant does not hold");
      applied = position;
      reading.moved();
    },
    signedBy: () => undefined,
    keyOf: () => undefined,
    verify,
    over: () => over,
    onLost: ({ reason }) => void told.push(`lost ${reason}`),
    halt,
    slotMs: 1000,
    timers,
    logger: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
  });
}

describe("the end of a log, before anything of it is read", () => {
  test("is where it ends when it has what was read", async () => {
    log.last = 7n;
    assert.equal(await endOfLog(log, 7n), 7n);
  });

  test("shows a log that has less", async () => {
    log.last = 6n;
    assert.deepEqual(await endOfLog(log, 7n), {
      reason: "LOG_ROLLED_BACK",
      detail: "the log ends at 6, this member has applied 7",
    });
  });

  test("shows a log whose store has lost what was read; not one that lets nobody in", async () => {
    log.last = new LogLost("the stream was made anew", true);
    assert.deepEqual(await endOfLog(log, 7n), { reason: "LOG_LOST", detail: "the stream was made anew" });
    log.last = new LogLost("shut out");
    await assert.rejects(endOfLog(log, 7n), { message: "shut out" });
  });
});

describe("a target", () => {
  test("is reached once everything up to it is applied", async () => {
    let reached = false;
    void reading.run();
    const reaching = reading.reaches(2n).then(() => {
      reached = true;
    });
    log.put(1n);
    await settled();
    assert.equal(reached, false);
    log.put(2n);
    await reaching;
    assert.equal(timers.waiting, 0);
  });

  test("is reached at once where there is nothing to read", async () => {
    await reading.reaches(0n);
    assert.equal(timers.waiting, 0);
  });

  test("is waited for no longer when nothing is to be read any more", async () => {
    const reaching = reading.reaches(2n);
    over = true;
    reading.moved();
    await reaching;
    assert.deepEqual(told, []);
  });
});

describe("a log that shows nothing while a target is waited for", () => {
  const wait = (): void => {
    log.last = 5n;
    void reading.run();
    void reading.reaches(5n);
  };

  test("is asked for its end, and lost when that is before the target", async () => {
    wait();
    await timers.advance(3000);
    assert.deepEqual([told, log.asked], [[], 3]);
    log.last = 4n;
    await timers.advance(1000);
    assert.deepEqual(told, ["lost LOG_ROLLED_BACK"]);
  });

  test("is not asked while anything comes", async () => {
    wait();
    for (const position of [1n, 2n, 3n]) {
      log.put(position);
      await timers.advance(1000);
    }
    assert.equal(log.asked, 0);
  });

  test("is lost when its store says so, and asked again when nobody answers", async () => {
    wait();
    log.last = new Error("no answer");
    await timers.advance(1000);
    assert.deepEqual(told, []);
    log.last = new LogLost("the stream was made anew", true);
    await timers.advance(1000);
    assert.deepEqual(told, ["lost LOG_LOST"]);
  });

  test("is nobody's concern once the reading is over", async () => {
    wait();
    log.last = 4n;
    over = true;
    await timers.advance(1000);
    assert.deepEqual(told, []);
  });
});

describe("what ends a reading", () => {
  for (const [name, error, expected] of [
    ["the store has lost what was read", new LogLost("gone", true), "lost LOG_LOST"],
    ["this member is shut out", new LogLost("shut out"), "fatal LOG_LOST"],
    ["what comes next has been trimmed", new HistoryGone(9n), "fatal HISTORY_GONE"],
    ["it cannot be read any more", new Error("no such stream"), "fatal LOG_LOST"],
  ] as const) {
    test(`${name}: ${expected}`, async () => {
      const running = reading.run();
      log.break(error);
      await running;
      assert.deepEqual(told, [expected]);
    });
  }

  for (const [name, verify] of [
    ["one after another", undefined],
    ["in a burst", async () => true],
  ] as const) {
    test(`an entry that cannot be applied, ${name}: fatal APPLY_FAILED, and nothing is applied twice or behind it`, async () => {
      reading = newReading(verify);
      const running = reading.run();
      failsAt = 7n;
      for (let position = 1n; position <= 12n; position++) log.put(position);
      await running;
      await settled();
      assert.deepEqual([applied, told, log.readers], [6n, ["fatal APPLY_FAILED"], 0]);
    });
  }

  test("being told to: nothing more is handed on, and nothing told", async () => {
    const running = reading.run();
    log.put(1n);
    reading.end();
    log.put(2n);
    log.break(new LogLost("gone", true));
    await running;
    assert.deepEqual([applied, told, log.readers], [1n, [], 0]);
  });

  test("the end of the member: nothing told either", async () => {
    const running = reading.run();
    halt.stop();
    await running;
    assert.deepEqual([told, log.readers], [[], 0]);
  });
});

test("it goes on from where the committee stands", () => {
  applied = 3n;
  log.put(3n);
  log.put(4n);
  void reading.run();
  assert.equal(applied, 4n);
});

/** What every committee log must do, whichever it is (log.md §9). Test files run it against each implementation. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HistoryGone, type Log, type LogMessage, LogRefusal } from "../ports.ts";

/** A log under test: two members' handles on one stream, and ways to disturb it. */
export interface LogUnderTest {
  readonly members: readonly [Log, Log];
  /** The largest message it takes, bytes. */
  readonly messageBytesMax: number;
  /** Fills the first member's quota; absent where there is none to fill. */
  readonly fill?: () => Promise<void>;
  /** Removes everything below a position, as the trimmer does; absent where nothing is ever removed. */
  readonly trim?: (below: bigint) => Promise<void>;
  /** Restarts whatever stores the log; absent where that is the process itself. */
  readonly restart?: () => Promise<void>;
  readonly close: () => Promise<void>;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = (message: LogMessage): string => new TextDecoder().decode(message.raw);

/** Collects `count` messages from `from` on. */
async function collect(log: Log, from: bigint, count: number): Promise<LogMessage[]> {
  const messages: LogMessage[] = [];
  const stop = new AbortController();
  const timeout = AbortSignal.timeout(180_000);
  await log.consume(
    from,
    (message) => {
      messages.push(message);
      if (messages.length >= count) stop.abort();
    },
    AbortSignal.any([stop.signal, timeout]),
  );
  assert.equal(messages.length, count, "the log fell silent");
  return messages;
}

/** Says it until it has landed: a store on a busy disk may not answer in time. Under one id it lands once. */
async function land(log: Log, text: string, id = text): Promise<void> {
  for (let attempt = 0; (await log.append("ctl", bytes(text), id)) !== "stored"; attempt++) {
    assert.ok(attempt < 100, "the store does not answer");
  }
}

export function conformance(name: string, open: () => Promise<LogUnderTest>): void {
  describe(`${name} keeps the log contract`, () => {
    const withLog = (run: (log: LogUnderTest) => Promise<void>) => async () => {
      const log = await open();
      try {
        await run(log);
      } finally {
        await log.close();
      }
    };

    test(
      "an empty log starts at 1 and ends at 0",
      withLog(async ({ members: [a] }) => {
        assert.equal(await a.lastPosition(), 0n);
        assert.equal(await a.firstPosition(), 1n);
      }),
    );

    test(
      "both members read the same messages in the same order, from any position",
      withLog(async ({ members: [a, b] }) => {
        for (let index = 0; index < 20; index++) await land(index % 2 === 0 ? a : b, `message ${index}`);
        const [fromA, fromB] = await Promise.all([collect(a, 1n, 20), collect(b, 1n, 20)]);
        assert.deepEqual(fromA, fromB);
        assert.deepEqual(
          fromA.map((message) => message.position),
          Array.from({ length: 20 }, (_, index) => BigInt(index + 1)),
        );
        assert.deepEqual((await collect(b, 15n, 6)).map(textOf), fromA.slice(14).map(textOf));
        assert.equal(await b.lastPosition(), 20n);
      }),
    );

    test(
      "one author's appends keep their order without waiting for each other, on both lanes",
      withLog(async ({ members: [a] }) => {
        const lanes = ["ctl", "bulk"] as const;
        await Promise.all(
          lanes.flatMap((lane) =>
            Array.from({ length: 50 }, (_, index) => a.append(lane, bytes(`${lane} ${index}`), `${lane}.${index}`)),
          ),
        );
        const texts = (await collect(a, 1n, 100)).map(textOf);
        for (const lane of lanes) {
          assert.deepEqual(
            texts.filter((text) => text.startsWith(lane)),
            Array.from({ length: 50 }, (_, index) => `${lane} ${index}`),
          );
        }
      }),
    );

    test(
      "a live reader gets what lands after it started, and stops when told",
      withLog(async ({ members: [a, b] }) => {
        const reading = collect(b, 1n, 3);
        for (const text of ["one", "two", "three"]) await land(a, text);
        assert.deepEqual((await reading).map(textOf), ["one", "two", "three"]);
      }),
    );

    test(
      "the same message under another id may land again: de-duplication is not part of the contract",
      withLog(async ({ members: [a] }) => {
        await land(a, "again", "again.0");
        await land(a, "again", "again.1");
        const [first, second] = await collect(a, 1n, 2);
        assert.deepEqual(first?.raw, second?.raw);
      }),
    );

    test(
      "the largest message is taken, one byte more is refused",
      withLog(async ({ members: [a], messageBytesMax }) => {
        const largest = new Uint8Array(messageBytesMax).fill(7);
        assert.equal(await a.append("bulk", largest, "largest"), "stored");
        const [message] = await collect(a, 1n, 1);
        assert.equal(message?.raw.length, messageBytesMax);
        await assert.rejects(a.append("bulk", new Uint8Array(messageBytesMax + 1), "toolong"), (error: unknown) => {
          return error instanceof LogRefusal && error.reason === "ENTRY_TOO_LARGE";
        });
      }),
    );

    test(
      "reading from before the beginning is refused",
      withLog(async ({ members: [a] }) => {
        await a.append("ctl", bytes("x"), "x");
        await assert.rejects(
          a.consume(0n, () => undefined, AbortSignal.timeout(5000)),
          HistoryGone,
        );
      }),
    );

    test(
      "of a trimmed log only what is left is read; reading what is gone says where it starts",
      withLog(async ({ members: [a, b], trim }) => {
        if (trim === undefined) return;
        for (let index = 1; index <= 10; index++) await land(a, `${index}`);
        await trim(7n);
        assert.equal(await b.firstPosition(), 7n);
        assert.equal(await b.lastPosition(), 10n);
        const gone = b.consume(6n, () => assert.fail("position 6 is gone"), AbortSignal.timeout(180_000));
        await assert.rejects(gone, (error: unknown) => error instanceof HistoryGone && error.firstPosition === 7n);
        assert.deepEqual((await collect(b, 7n, 4)).map(textOf), ["7", "8", "9", "10"]);
        await trim(11n);
        assert.equal(await b.firstPosition(), 11n);
        const next = collect(b, 11n, 1);
        await land(a, "11");
        assert.deepEqual((await next).map(textOf), ["11"]);
      }),
    );

    test(
      "a full author is refused and the other goes on",
      withLog(async ({ members: [a, b], fill }) => {
        if (fill === undefined) return;
        await fill();
        await assert.rejects(a.append("ctl", bytes("too much"), "too much"), (error: unknown) => {
          return error instanceof LogRefusal && error.reason === "LOG_FULL";
        });
        assert.equal(await b.append("ctl", bytes("mine"), "mine"), "stored");
      }),
    );

    test(
      "a reader survives a restart of the store, without a hole or a repeat",
      withLog(async ({ members: [a, b], restart }) => {
        if (restart === undefined) return;
        const reading = collect(b, 1n, 20);
        for (let index = 0; index < 10; index++) await land(a, `m${index}`);
        await restart();
        for (let index = 10; index < 20; index++) {
          for (let attempt = 0; ; attempt++) {
            // Same id on purpose: the store may or may not drop the repeat, the text tells.
            if ((await a.append("ctl", bytes(`m${index}`), `m${index}`)) === "stored") break;
            assert.ok(attempt < 300, "the store does not come back");
            // A store that has no leader yet says so at once.
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
        }
        const read = await reading;
        assert.deepEqual(
          read.map((message) => message.position),
          Array.from({ length: 20 }, (_, index) => BigInt(index + 1)),
        );
        assert.deepEqual(
          read.slice(0, 10).map(textOf),
          Array.from({ length: 10 }, (_, index) => `m${index}`),
        );
      }),
    );
  });
}

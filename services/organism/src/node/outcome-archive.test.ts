import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import { Fault } from "../fault.ts";
import type { RecordFile } from "../ports.ts";
import { OutcomeArchive, WATCH_BUFFER_MAX } from "./outcome-archive.ts";

function certified(slot: bigint, stage = "first", mark = 1): CertifiedOutcome {
  return {
    outcome: {
      version: 1,
      committee: new Uint8Array(32),
      generation: 0n,
      epoch: 0n,
      slot,
      stage,
      kind: "result",
      commitment: new Uint8Array([mark]),
      bodyHash: undefined,
    },
    signature: new Uint8Array(96),
    signers: [0, 1],
  };
}

describe("the outcome archive", () => {
  let root: string;
  let folders = 0;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "lattice-archive-"));
  });
  after(() => rm(root, { recursive: true, force: true }));
  const fresh = (): string => join(root, `member-${folders++}`);
  const name = ({ outcome }: CertifiedOutcome): string => `${outcome.slot}/${outcome.stage}`;

  /** The first `count` names a watcher sees. */
  async function watched(
    archive: OutcomeArchive,
    stages: readonly string[],
    fromSlot: bigint,
    count: number,
    signal = AbortSignal.timeout(120_000),
  ): Promise<string[]> {
    const seen: string[] = [];
    if (count === 0) return seen;
    for await (const each of archive.watch(stages, fromSlot, signal)) {
      seen.push(name(each));
      if (seen.length === count) break;
    }
    return seen;
  }

  test("keeps the first of each slot and stage, also through a restart", async () => {
    const directory = fresh();
    let archive = await OutcomeArchive.open(directory, "relay");
    await archive.put(certified(2n));
    await archive.put(certified(2n, "second"));
    await archive.put(certified(7n));
    await archive.put(certified(2n, "first", 99));
    for (let restart = 0; restart < 2; restart++) {
      assert.deepEqual(await archive.get("first", 2n), certified(2n));
      assert.deepEqual(await archive.get("second", 2n), certified(2n, "second"));
      assert.equal(await archive.get("second", 7n), undefined);
      assert.ok(archive.has("first", 7n) && !archive.has("first", 3n));
      assert.deepEqual([archive.oldest("first"), archive.newest("first")], [2n, 7n]);
      assert.equal(archive.oldest("third"), undefined);
      await archive.close();
      archive = await OutcomeArchive.open(directory, "relay");
    }
    await archive.put(certified(2n, "first", 99));
    assert.deepEqual(await archive.get("first", 2n), certified(2n));
    await archive.close();
  });

  test("more than it keeps in memory come from the file", async () => {
    const archive = await OutcomeArchive.open(fresh(), "relay");
    await Promise.all(Array.from({ length: 600 }, (_, index) => archive.put(certified(BigInt(index + 1)))));
    assert.deepEqual(await archive.get("first", 1n), certified(1n));
    assert.equal(archive.recent("first", 1n), undefined);
    assert.deepEqual(archive.recent("first", 600n), certified(600n));
    const seen = await watched(archive, ["first"], 1n, 600);
    assert.deepEqual(
      seen,
      Array.from({ length: 600 }, (_, index) => `${index + 1}/first`),
    );
    await archive.close();
  });

  test("a watcher resumes at its slot: what is held by slot and stage, then what comes, each once", async () => {
    const archive = await OutcomeArchive.open(fresh(), "relay");
    for (const slot of [3n, 1n, 2n]) {
      await archive.put(certified(slot, "second"));
      await archive.put(certified(slot, "first"));
    }
    const reading = watched(archive, ["first", "second"], 2n, 6);
    void archive.put(certified(4n));
    void archive.put(certified(1n, "late"));
    await archive.put(certified(5n, "second"));
    assert.deepEqual(await reading, ["2/first", "2/second", "3/first", "3/second", "4/first", "5/second"]);
    assert.deepEqual(await watched(archive, ["second"], 5n, 1), ["5/second"]);
    await archive.close();
  });

  test("a watcher from slot 0 gets only what comes", async () => {
    const archive = await OutcomeArchive.open(fresh(), "relay");
    await archive.put(certified(1n));
    const stop = new AbortController();
    const watching = archive.watch(["first"], 0n, stop.signal);
    const next = watching.next();
    await archive.put(certified(2n));
    assert.equal((await next).value?.outcome.slot, 2n);
    stop.abort();
    assert.equal((await watching.next()).done, true);
    await archive.close();
  });

  test("a watcher ends when the archive is closed: waiting, or still reading what is held", async () => {
    const archive = await OutcomeArchive.open(fresh(), "relay");
    for (const slot of [1n, 2n]) await archive.put(certified(slot));
    const { signal } = new AbortController();
    const waiting = archive.watch(["first"], 0n, signal);
    const next = waiting.next();
    const reading = archive.watch(["first"], 1n, signal);
    assert.equal((await reading.next()).value?.outcome.slot, 1n);
    await archive.close();
    assert.equal((await next).done, true);
    assert.equal((await reading.next()).done, true);
  });

  test("watchers that begin with the oldest do not each have a list of all that is held", async () => {
    const records: Uint8Array[] = [];
    const file: RecordFile = {
      append: async (payload) => records.push(payload) - 1,
      read: async (offset) => records[offset] ?? assert.fail(),
      close: async () => undefined,
    };
    const archive = await OutcomeArchive.over(async () => file, "relay");
    const slots = 8192;
    for (let slot = 1; slot <= slots; slot++) await archive.put(certified(BigInt(slot)));
    const { signal } = new AbortController();
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const begun = async () => {
      const watching = archive.watch(["first"], 1n, signal);
      assert.equal((await watching.next()).value?.outcome.slot, 1n);
      return watching;
    };
    await begun();
    collect();
    const before = process.memoryUsage().heapUsed;
    const watchers = await Promise.all(Array.from({ length: 100 }, begun));
    collect();
    const each = (process.memoryUsage().heapUsed - before) / watchers.length;
    assert.ok(each < slots * 16, `${Math.round(each)} bytes for each`);
    let last = 1n;
    for await (const { outcome } of watchers[0] ?? assert.fail()) {
      assert.equal(outcome.slot, last + 1n);
      last = outcome.slot;
      if (last === BigInt(slots)) break;
    }
    await archive.close();
  });

  test("what comes while what is held is read is given once, wherever it belongs", async () => {
    const archive = await OutcomeArchive.open(fresh(), "relay");
    for (const slot of [1n, 3n, 2000n]) await archive.put(certified(slot));
    const stop = new AbortController();
    const watching = archive.watch(["first", "second"], 1n, stop.signal);
    const seen: string[] = [];
    const read = async (): Promise<void> => {
      const { value } = await watching.next();
      seen.push(value === undefined ? "the end" : name(value));
    };
    await read();
    await archive.put(certified(2n));
    await archive.put(certified(3n, "second"));
    await archive.put(certified(1999n));
    for (let turn = 0; turn < 5; turn++) await read();
    const whole = ["1/first", "3/first", "3/second", "2000/first", "2/first", "1999/first"];
    assert.deepEqual(seen, whole);
    await archive.put(certified(4n));
    await read();
    assert.equal(seen.at(-1), "4/first");
    await archive.close();
  });

  test("an outcome still on its way to the disk is not missed and not given twice", async () => {
    const archive = await OutcomeArchive.open(fresh(), "relay");
    const putting = archive.put(certified(1n));
    const reading = watched(archive, ["first"], 1n, 2);
    await putting;
    await archive.put(certified(2n));
    assert.deepEqual(await reading, ["1/first", "2/first"]);
    await archive.close();
  });

  test("a watcher that lags too far behind is told so; one at the limit is not", async () => {
    const archive = await OutcomeArchive.open(fresh(), "relay");
    const signal = AbortSignal.timeout(120_000);
    const [fits, slow] = [archive.watch(["first"], 0n, signal), archive.watch(["first", "second"], 0n, signal)];
    // Both are waiting: their first `next` takes one outcome, the buffer the others.
    const firstFits = fits.next();
    const tooSlow = assert.rejects(slow.next(), (error: unknown) => {
      return error instanceof Fault && error.reason === "SLOW_CONSUMER";
    });
    for (let slot = 1n; slot <= WATCH_BUFFER_MAX; slot++) void archive.put(certified(slot));
    await archive.put(certified(1n, "second"));
    assert.equal((await firstFits).value?.outcome.slot, 1n);
    await tooSlow;
    for (let slot = 2n; slot <= WATCH_BUFFER_MAX; slot++) assert.equal((await fits.next()).value?.outcome.slot, slot);
    assert.deepEqual(await watched(archive, ["first"], 1n, 3), ["1/first", "2/first", "3/first"]);
    await archive.close();
  });

  test("a watcher that is told to stop stops, waiting or not", async () => {
    const archive = await OutcomeArchive.open(fresh(), "relay");
    await archive.put(certified(1n));
    const stop = new AbortController();
    const seen: string[] = [];
    const reading = (async () => {
      for await (const each of archive.watch(["first"], 1n, stop.signal)) {
        seen.push(name(each));
        setImmediate(() => stop.abort());
      }
    })();
    await reading;
    assert.deepEqual(seen, ["1/first"]);
    for await (const _ of archive.watch(["first"], 1n, AbortSignal.abort())) assert.fail("aborted before it began");
    await archive.close();
  });

  test("files of old outcomes go, and no slot that tally has not attributed", async () => {
    const directory = fresh();
    const limits = { keptSlots: 8n, segmentRecords: 4 };
    const archive = await OutcomeArchive.open(directory, "relay", limits);
    await Promise.all(Array.from({ length: 20 }, (_, index) => archive.put(certified(BigInt(index + 1)))));
    const files = async (): Promise<string[]> => (await readdir(directory)).sort();
    assert.deepEqual(await files(), ["outcomes", "outcomes.1", "outcomes.2", "outcomes.3", "outcomes.4"]);
    await archive.prune(3n);
    assert.equal(archive.oldest("first"), 1n, "slot 4 shares its file with slots that are needed");
    await archive.prune(9n);
    assert.deepEqual([archive.oldest("first"), archive.newest("first")], [9n, 20n]);
    assert.deepEqual(await files(), ["outcomes.2", "outcomes.3", "outcomes.4"]);
    await archive.prune(0n);
    assert.equal(archive.oldest("first"), 9n, "8 slots are kept: 12 is within");
    await archive.close();
    const again = await OutcomeArchive.open(directory, "relay", limits);
    assert.deepEqual([again.oldest("first"), again.newest("first")], [9n, 20n]);
    assert.deepEqual(await watched(again, ["first"], 1n, 3), ["9/first", "10/first", "11/first"]);
    assert.equal(await again.get("first", 8n), undefined);
    await again.put(certified(21n));
    await again.prune(0n);
    assert.equal(again.oldest("first"), 13n);
    await again.close();
  });

  test("an older process that still writes on the same folder spoils nothing for the one that goes on", async () => {
    const directory = fresh();
    const first = await OutcomeArchive.open(directory, "relay");
    await first.put(certified(1n));
    await first.close();
    const older = await OutcomeArchive.open(directory, "relay");
    await older.put(certified(2n));
    const newer = await OutcomeArchive.open(directory, "relay");
    // It is told that the file is another's; the member hears soon that it is succeeded.
    await older.put(certified(3n, "an-older-process")).catch(() => undefined);
    // More than are kept in memory.
    for (let slot = 3n; slot < 300n; slot++) await newer.put(certified(slot));
    for (const slot of [1n, 2n, 3n, 4n, 299n]) assert.deepEqual(await newer.get("first", slot), certified(slot));
    await older.close();
    await newer.close();
    const again = await OutcomeArchive.open(directory, "relay");
    for (const slot of [1n, 2n, 3n, 299n]) assert.deepEqual(await again.get("first", slot), certified(slot));
    await again.close();
  });

  test("what the disk does not take for a while is kept when it does again", async () => {
    const directory = fresh();
    const archive = await OutcomeArchive.open(directory, "relay", { segmentRecords: 1 });
    await archive.put(certified(1n));
    // No file can begin under this name.
    await mkdir(join(directory, "outcomes.1"));
    await assert.rejects(archive.put(certified(2n)));
    assert.deepEqual(await archive.get("first", 2n), certified(2n), "it is served meanwhile");
    await rmdir(join(directory, "outcomes.1"));
    await archive.put(certified(3n));
    await archive.close();
    const again = await OutcomeArchive.open(directory, "relay");
    for (const slot of [1n, 2n, 3n]) assert.ok(again.has("first", slot), `slot ${slot}`);
    await again.close();
  });

  test("nothing is written behind a record that the disk took in part", async () => {
    const directory = fresh();
    const script = `
      import { OutcomeArchive } from ${JSON.stringify(import.meta.resolve("./outcome-archive.ts"))};
      const archive = await OutcomeArchive.open(process.argv[1], "relay");
      const failed = [];
      for (let slot = 1n; slot <= 12n; slot++) {
        const outcome = {
          version: 1, committee: new Uint8Array(32), generation: 0n, epoch: 0n, slot, stage: "first",
          kind: "result", commitment: new Uint8Array(3000), bodyHash: undefined,
        };
        await archive.put({ outcome, signature: new Uint8Array(96), signers: [0, 1] }).catch(() => failed.push(slot));
      }
      await archive.close();
      console.log(failed.length);
    `;
    // No file may become longer than a few of them.
    const limited = ["-c", 'ulimit -f 16 && exec "$0" --input-type=module -e "$1" "$2"', process.execPath];
    const said = execFileSync("sh", [...limited, script, directory], { encoding: "utf8" });
    assert.ok(Number(said) > 0, "the limit was met");
    const archive = await OutcomeArchive.open(directory, "relay");
    for (let slot = 1n; slot <= 12n; slot++) assert.ok(archive.has("first", slot), `slot ${slot}`);
    await archive.close();
  });
});

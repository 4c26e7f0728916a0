import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFile, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { LogRefusal } from "../ports.ts";
import { conformance } from "./conformance.ts";
import { EmbeddedLog, MESSAGE_BYTES_MAX } from "./embedded-log.ts";

conformance("the embedded log", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lattice-log-"));
  const quotaBytes = 4 * MESSAGE_BYTES_MAX;
  const log = await EmbeddedLog.open(join(directory, "log"), { quotaBytes });
  return {
    members: [log.member(0), log.member(1)],
    messageBytesMax: MESSAGE_BYTES_MAX,
    fill: async () => {
      for (let index = 0; index < 4; index++) await log.append(0, new Uint8Array(MESSAGE_BYTES_MAX));
    },
    trim: (below) => log.trim(below),
    close: async () => {
      await log.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});

test("what was acknowledged is there after a reopen, and a torn tail is cut off", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lattice-log-"));
  const path = join(directory, "log");
  const first = await EmbeddedLog.open(path);
  await first.append(0, new Uint8Array([1]));
  await first.append(1, new Uint8Array([2, 2]));
  await first.close();
  await appendFile(path, Buffer.from([0, 0, 0, 9, 1, 2]));
  const second = await EmbeddedLog.open(path);
  assert.equal(second.lastPosition, 2n);
  await second.append(0, new Uint8Array([3, 3, 3]));
  await second.close();
  const third = await EmbeddedLog.open(path);
  assert.equal(third.lastPosition, 3n);
  await third.close();
  await rm(directory, { recursive: true, force: true });
});

test("trimming frees quota and removes whole files; what is left is there after a reopen", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lattice-log-"));
  const path = join(directory, "log");
  const options = { quotaBytes: 60, bytesMax: 1000, segmentMessages: 4 };
  const log = await EmbeddedLog.open(path, options);
  const message = (value: number): Uint8Array => new Uint8Array(6).fill(value);
  await Promise.all(Array.from({ length: 10 }, (_, index) => log.append(0, message(index + 1))));
  assert.deepEqual(log.usage, { bytes: 60, bytesMax: 1000, firstPosition: 1n });
  await assert.rejects(log.append(0, message(11)), LogRefusal);
  assert.deepEqual((await readdir(directory)).sort(), ["log", "log.5", "log.9"]);
  await log.trim(7n);
  assert.deepEqual(log.usage, { bytes: 24, bytesMax: 1000, firstPosition: 7n });
  assert.deepEqual((await readdir(directory)).sort(), ["log.5", "log.9"]);
  await log.append(0, message(11));
  await log.close();
  const again = await EmbeddedLog.open(path, options);
  assert.equal(again.firstPosition, 5n, "whole files only");
  assert.equal(again.lastPosition, 11n);
  const read: number[] = [];
  const stop = new AbortController();
  await again.consume(
    5n,
    ({ position, raw }) => {
      assert.equal(raw[0], Number(position));
      read.push(Number(position));
      if (position === 11n) stop.abort();
    },
    stop.signal,
  );
  assert.deepEqual(read, [5, 6, 7, 8, 9, 10, 11]);
  await again.trim(100n);
  assert.equal(again.firstPosition, 12n);
  await again.append(0, message(12));
  assert.equal(again.lastPosition, 12n);
  await again.close();
  await rm(directory, { recursive: true, force: true });
});

test("a message that the disk takes in part is refused and costs no quota; what follows lands, also in what is opened again", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lattice-log-"));
  const path = join(directory, "log");
  const script = `
    import { EmbeddedLog } from ${JSON.stringify(import.meta.resolve("./embedded-log.ts"))};
    const log = await EmbeddedLog.open(process.argv[1], { quotaBytes: 60_000 });
    const message = (value, length = 3000) => new Uint8Array(length).fill(value);
    const landed = [];
    const append = (value, length) => log.append(0, message(value, length)).then(
      () => landed.push(value), (error) => error.code === "EFBIG" || landed.push(error.message));
    // Longer than any file may become: nothing is in the file that it stands in alone.
    await append(1, 40_000);
    await append(2, 40_000);
    for (let value = 3; value <= 12; value++) await append(value);
    // Whole in the file, and refused with the one that is not.
    await Promise.all([13, 14, 15, 16, 17].map((value) => append(value, 4000)));
    await append(18);
    await log.close();
    console.log(JSON.stringify(landed));
  `;
  // No file may become longer than a few of them.
  const limited = ["-c", 'ulimit -f 16 && exec "$0" --input-type=module -e "$1" "$2"', process.execPath];
  const landed: number[] = JSON.parse(execFileSync("sh", [...limited, script, path], { encoding: "utf8" }));
  assert.ok(!landed.includes(1) && landed.includes(3) && landed.includes(18), landed.join());
  const log = await EmbeddedLog.open(path);
  assert.equal(log.lastPosition, BigInt(landed.length));
  const read: (number | undefined)[] = [];
  const stop = new AbortController();
  const reading = log.consume(1n, ({ raw }) => read.push(raw[0]) === landed.length && stop.abort(), stop.signal);
  await reading;
  assert.deepEqual(read, landed);
  await log.append(0, new Uint8Array([1]));
  assert.equal(log.lastPosition, BigInt(landed.length + 1));
  await log.close();
  await rm(directory, { recursive: true, force: true });
});

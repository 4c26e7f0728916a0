/** What a member keeps of the log for itself survives a killed process, and is cut at checkpoints. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, rmdir, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { FileEntryTail, tailHash } from "./entry-tail.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "lattice-tail-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const raw = (position: bigint): Uint8Array => new Uint8Array(Number(position) + 3).fill(Number(position));
const fill = (tail: FileEntryTail, from: bigint, to: bigint, generation = 0n): void => {
  for (let at = from; at <= to; at++) tail.append(generation, at, raw(at));
};

test("what was read is there again after a start, and goes on", async () => {
  const tail = await FileEntryTail.open(folder);
  assert.equal(tail.newest(0n), undefined);
  fill(tail, 1n, 5n);
  assert.deepEqual(await tail.read(0n, 3n), raw(3n));
  await tail.close();
  const again = await FileEntryTail.open(folder);
  assert.equal(again.newest(0n), 5n);
  assert.deepEqual(again.hashAt(0n, 4n), tailHash(raw(4n)));
  fill(again, 4n, 8n);
  assert.equal(again.newest(0n), 8n);
  for (let at = 1n; at <= 8n; at++) assert.deepEqual(await again.read(0n, at), raw(at));
  assert.equal(await again.read(0n, 9n), undefined);
  assert.equal(await again.read(1n, 3n), undefined);
  await again.close();
});

test("a message larger than any entry, which a broker may deliver all the same, cuts nothing off", async () => {
  const tail = await FileEntryTail.open(folder);
  fill(tail, 1n, 2n);
  const large = new Uint8Array(5 * 1024 * 1024).fill(7);
  tail.append(0n, 3n, large);
  fill(tail, 4n, 5n);
  await tail.close();
  const again = await FileEntryTail.open(folder);
  assert.equal(again.newest(0n), 5n);
  assert.deepEqual(await again.read(0n, 3n), large);
  assert.deepEqual(await again.read(0n, 5n), raw(5n));
  await again.close();
});

test("checkpoints cut it; another generation and a jump begin anew", async () => {
  const tail = await FileEntryTail.open(folder);
  fill(tail, 1n, 4n);
  await tail.keepFrom(0n, 1n);
  fill(tail, 5n, 8n);
  await tail.keepFrom(0n, 5n);
  assert.equal(await tail.read(0n, 4n), undefined);
  assert.deepEqual(await tail.read(0n, 5n), raw(5n));
  fill(tail, 20n, 21n);
  assert.equal(tail.newest(0n), 21n);
  assert.equal(await tail.read(0n, 9n), undefined);
  fill(tail, 1n, 2n, 1n);
  assert.deepEqual(await tail.read(1n, 2n), raw(2n));
  await tail.keepFrom(1n, 1n);
  assert.equal(tail.newest(0n), undefined);
  assert.equal((await readdir(folder)).length, 1);
  await tail.close();
});

test("a cut while entries are still being written loses none of them", async () => {
  const tail = await FileEntryTail.open(folder);
  fill(tail, 1n, 4n);
  const cut = tail.keepFrom(0n, 1n);
  fill(tail, 5n, 6n);
  const second = tail.keepFrom(0n, 5n);
  fill(tail, 7n, 8n);
  await Promise.all([cut, second]);
  for (let at = 5n; at <= 8n; at++) assert.deepEqual(await tail.read(0n, at), raw(at));
  await tail.close();
  const again = await FileEntryTail.open(folder);
  for (let at = 5n; at <= 8n; at++) assert.deepEqual(again.hashAt(0n, at), tailHash(raw(at)), `position ${at}`);
  await again.close();
});

test("all of it may go while it is still being written, and what comes next is kept", async () => {
  const tail = await FileEntryTail.open(folder);
  fill(tail, 1n, 4n);
  const gone = tail.keepFrom(1n, 0n);
  assert.equal(tail.newest(0n), undefined);
  fill(tail, 1n, 2n);
  await gone;
  await tail.written();
  assert.deepEqual(await readdir(folder), [`${"0".repeat(20)}.${"1".padStart(20, "0")}`]);
  for (let at = 1n; at <= 2n; at++) assert.deepEqual(await tail.read(0n, at), raw(at));
  await tail.close();
});

const path = (generation: number, from: number): string =>
  join(folder, [generation, from].map((each) => `${each}`.padStart(20, "0")).join("."));

test("a file without a whole entry, as a crash leaves it, does not take its namesake with it", async () => {
  await writeFile(path(1, 1), "");
  const tail = await FileEntryTail.open(folder);
  fill(tail, 1n, 4n, 1n);
  await tail.keepFrom(1n, 3n);
  for (let at = 1n; at <= 4n; at++) assert.deepEqual(await tail.read(1n, at), raw(at));
  await tail.close();
  const again = await FileEntryTail.open(folder);
  assert.equal(again.newest(1n), 4n);
  await again.close();
});

test("a disk that does not take an entry costs what follows up to the next cut, and no more", async () => {
  const tail = await FileEntryTail.open(folder);
  fill(tail, 1n, 4n);
  await tail.keepFrom(0n, 1n);
  await mkdir(path(0, 5));
  fill(tail, 5n, 6n);
  await tail.written();
  fill(tail, 7n, 7n);
  assert.deepEqual(await tail.read(0n, 4n), raw(4n), "what was written before is still there");
  for (const at of [5n, 6n, 7n]) assert.equal(await tail.read(0n, at), undefined);
  await rmdir(path(0, 5));
  await tail.keepFrom(0n, 1n);
  fill(tail, 8n, 9n);
  for (const at of [8n, 9n]) assert.deepEqual(await tail.read(0n, at), raw(at));
  await tail.close();
  const again = await FileEntryTail.open(folder);
  assert.equal(again.newest(0n), 9n);
  assert.equal(again.hashAt(0n, 6n), undefined);
  assert.deepEqual(again.hashAt(0n, 8n), tailHash(raw(8n)));
  await again.close();
});

test("a torn end is cut off and written anew", async () => {
  const tail = await FileEntryTail.open(folder);
  fill(tail, 1n, 3n);
  await tail.close();
  const [name = ""] = await readdir(folder);
  await truncate(join(folder, name), 3 * 8 + 4 + 5 + 6 - 1);
  const again = await FileEntryTail.open(folder);
  assert.equal(again.newest(0n), 2n);
  fill(again, 3n, 4n);
  await again.close();
  const third = await FileEntryTail.open(folder);
  assert.equal(third.newest(0n), 4n);
  assert.deepEqual(await third.read(0n, 3n), raw(3n));
  await third.close();
});

test("a second process on the folder takes it over: what the first one still reads, and cuts, is not in it", async () => {
  const older = await FileEntryTail.open(folder);
  fill(older, 1n, 4n);
  await older.written();
  const newer = await FileEntryTail.open(folder);
  fill(older, 5n, 6n);
  await older.written();
  fill(newer, 5n, 8n);
  await newer.written();
  // The older one keeps its own, and takes nothing away.
  assert.deepEqual(await older.read(0n, 6n), raw(6n));
  await older.keepFrom(0n, 7n);
  for (let at = 1n; at <= 8n; at++) assert.deepEqual(await newer.read(0n, at), raw(at), `position ${at}`);
  for (const each of [older, newer]) await each.close();
  const third = await FileEntryTail.open(folder);
  assert.equal(third.newest(0n), 8n);
  for (let at = 1n; at <= 8n; at++) assert.deepEqual(third.hashAt(0n, at), tailHash(raw(at)), `position ${at}`);
  await third.close();
});

test("a takeover that a crash has cut off leaves what was there", async () => {
  const tail = await FileEntryTail.open(folder);
  fill(tail, 1n, 3n);
  await tail.close();
  await writeFile(`${path(0, 1)}.0a0b0c.new`, "half of it");
  const again = await FileEntryTail.open(folder);
  assert.equal(again.newest(0n), 3n);
  await again.close();
  assert.deepEqual(
    (await readdir(folder)).map((name) => join(folder, name)),
    [path(0, 1)],
  );
});

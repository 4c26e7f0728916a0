import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { FileJournal } from "./file-journal.ts";
import { type Reading, ReadMarks } from "./read-marks.ts";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "lattice-marks-"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** A chain whose heads say where they are; from `parted` on those of another one. */
function reading(position: bigint, parted = 1000n): Reading {
  const headAt = (at: bigint): Uint8Array => new Uint8Array(32).fill(Number(at)).fill(at >= parted ? 255 : 0, 0, 1);
  return { generation: 0n, position, head: headAt(position), headAt: (at) => (at > position ? undefined : headAt(at)) };
}

test("what was spoken on is what must be read again: another chain shows at its position, and is not what is reported", async () => {
  const journal = await FileJournal.open(join(folder, "spoken"));
  const speaks = new ReadMarks(reading(20n), journal, undefined).noting(() => false);
  await speaks.promise("vote/input/1", 1n, new Uint8Array(32));

  // The next process: its snapshot is older than what it has spoken on.
  assert.equal(new ReadMarks(reading(12n), journal, undefined).spokenOn()?.position, 20n);
  for (const [parted, same] of [
    [1000n, true],
    [21n, true],
    [20n, false],
    [14n, false],
  ] as const) {
    const at = (position: bigint): ReadMarks => new ReadMarks(reading(position, parted), journal, undefined);
    assert.equal(at(19n).agrees(), true, "nothing to compare with yet");
    assert.equal(at(20n).agrees(), same, `parted at ${parted}`);
    assert.equal(at(25n).spokenOn()?.position, same ? undefined : 20n, `parted at ${parted}`);
  }

  // A quorum goes on another way: it is forgotten, and the promise is not.
  await new ReadMarks(reading(20n, 14n), journal, undefined).forget();
  assert.equal(new ReadMarks(reading(25n, 14n), journal, undefined).spokenOn(), undefined);
  assert.equal(new ReadMarks(reading(20n, 14n), journal, undefined).agrees(), true);
  assert.ok(journal.isPromised("vote/input/1"));
  await journal.close();
});

test("how far the log was read is noted with its head", async () => {
  const journal = await FileJournal.open(join(folder, "applied"));
  await new ReadMarks(reading(7n), journal, undefined).note();
  const next = new ReadMarks(reading(3n), journal, undefined);
  assert.equal(next.furthest(), 7n);
  assert.equal(next.spokenOn(), undefined);
  assert.equal(new ReadMarks(reading(7n), journal, undefined).agrees(), true);
  assert.equal(new ReadMarks(reading(7n, 5n), journal, undefined).agrees(), false);
  await journal.close();
});

test("what is spoken on in the next generation is noted too, however far the one before went", async () => {
  const journal = await FileJournal.open(join(folder, "next"));
  const now = { ...reading(20n) };
  const speaks = new ReadMarks(now, journal, undefined).noting(() => false);
  await speaks.promise("vote/input/1", 1n, new Uint8Array(32));
  Object.assign(now, reading(3n), { generation: 1n });
  await speaks.promise("vote/input/2", 2n, new Uint8Array(32));
  // The next process: its snapshot is the beginning of that generation.
  const restarted = { ...reading(0n), generation: 1n };
  assert.equal(new ReadMarks(restarted, journal, undefined).spokenOn()?.position, 3n);
  await journal.close();
});

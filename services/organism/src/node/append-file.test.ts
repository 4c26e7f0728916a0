import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { AppendFile, CorruptFile, RECORD_BYTES_MAX } from "./append-file.ts";

describe("an append-only file", () => {
  let directory: string;
  let files = 0;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "lattice-append-"));
  });
  after(() => rm(directory, { recursive: true, force: true }));
  const fresh = (): string => join(directory, `file-${files++}`);

  async function read(path: string): Promise<number[][]> {
    const records: number[][] = [];
    const file = await AppendFile.open(path, (payload) => records.push([...payload]));
    await file.close();
    return records;
  }
  /** Writes each group as one batch; waits between groups, so that each has a sync of its own. */
  async function write(path: string, groups: readonly (readonly Uint8Array[])[]): Promise<void> {
    const file = await AppendFile.open(path, () => undefined);
    for (const group of groups) await Promise.all(group.map((payload) => file.append(payload)));
    await file.close();
  }
  const payload = (value: number, length = 5): Uint8Array => new Uint8Array(length).fill(value);

  test("gives back what was appended, in order, after a reopen", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 4 }), { maxLength: 5 }),
        async (groups) => {
          const path = fresh();
          await write(path, groups);
          assert.deepEqual(
            await read(path),
            groups.flat().map((each) => [...each]),
          );
        },
      ),
      { numRuns: 25 },
    );
  });

  test("tells where a payload lies, for what is read singly", async () => {
    const path = fresh();
    const file = await AppendFile.open(path, () => undefined);
    const offsets = await Promise.all([payload(1), payload(2, 0), payload(3, 70_000)].map((each) => file.append(each)));
    assert.deepEqual(await file.read(offsets[0] ?? 0, 5), payload(1));
    assert.deepEqual(await file.read(offsets[2] ?? 0, 70_000), payload(3, 70_000));
    await assert.rejects(file.read(file.size, 1), CorruptFile);
    await file.close();
    const found: number[] = [];
    const again = await AppendFile.open(path, (_, offset) => found.push(offset));
    assert.deepEqual(found, offsets);
    assert.equal(again.size, (await stat(path)).size);
    await again.close();
  });

  test("tells it rightly also while an older process still appends to the same file, and so does that one", async () => {
    const path = fresh();
    const older = await AppendFile.open(path, () => undefined);
    await older.append(payload(1));
    const newer = await AppendFile.open(path, () => undefined);
    await Promise.all([older.append(payload(2, 40)), older.append(payload(3))]);
    for (const [file, value] of [
      [newer, 4],
      [older, 5],
      [newer, 6],
    ] as const) {
      const offset = await file.append(payload(value, 9));
      assert.deepEqual(await file.read(offset, 9), payload(value, 9));
    }
    for (const file of [older, newer]) await file.close();
    assert.deepEqual(
      (await read(path)).map(([first]) => first),
      [1, 2, 3, 4, 5, 6],
    );
  });

  test("an append made by whoever waited for another is not forgotten", async () => {
    const file = await AppendFile.open(fresh(), () => undefined);
    // Directly in the continuation of the first: the flush is just ending.
    for (let index = 0; index < 50; index++) await file.append(payload(index));
    await file.append(payload(1)).then(() => file.append(payload(2)));
    await file.close();
    assert.equal((await read(file.path)).length, 52);
  });

  test("of many appends at once none resolves before its bytes are in the file", async () => {
    const file = await AppendFile.open(fresh(), () => undefined);
    const sizes: number[] = [];
    const all = Array.from({ length: 500 }, () =>
      file.append(payload(1, 100)).then(async (offset) => {
        sizes.push((await stat(file.path)).size - offset - 100);
      }),
    );
    await Promise.all(all);
    assert.ok(sizes.every((beyond) => beyond >= 0));
    await file.close();
  });

  test("the caller may reuse its buffer at once", async () => {
    const file = await AppendFile.open(fresh(), () => undefined);
    const buffer = payload(7);
    const appended = file.append(buffer);
    buffer.fill(0);
    await appended;
    await file.close();
    assert.deepEqual(await read(file.path), [[7, 7, 7, 7, 7]]);
  });

  test("a payload above the limit is refused, and what comes next is taken", async () => {
    const file = await AppendFile.open(fresh(), () => undefined);
    await assert.rejects(file.append(new Uint8Array(RECORD_BYTES_MAX + 1)), RangeError);
    await file.append(payload(1));
    await file.close();
    assert.equal((await read(file.path)).length, 1);
  });

  test("a tail torn at any byte is cut off, and appending goes on", async () => {
    const path = fresh();
    await write(path, [[payload(1)], [payload(2), payload(3)]]);
    const whole = await readFile(path);
    const frame = whole.length / 3;
    for (let length = whole.length - 1; length >= frame; length--) {
      await writeFile(path, whole.subarray(0, length));
      const kept = Math.floor(length / frame);
      assert.equal((await read(path)).length, kept, `${length} bytes`);
      assert.equal((await stat(path)).size, kept * frame);
      await write(path, [[payload(9)]]);
      assert.deepEqual((await read(path)).at(-1), [9, 9, 9, 9, 9]);
    }
  });

  test("a batch of which only the later part reached the disk was acknowledged to nobody, and is cut off", async () => {
    const path = fresh();
    await write(path, [[payload(1)], [payload(2), payload(3), payload(4)]]);
    const whole = await readFile(path);
    const frame = whole.length / 4;
    whole.fill(0, frame, 2 * frame);
    await writeFile(path, whole);
    assert.deepEqual(await read(path), [[1, 1, 1, 1, 1]]);
  });

  test("any changed byte of a record that a later one counts on is refused", async () => {
    const path = fresh();
    await write(path, [[payload(1)], [payload(2)], [payload(3)]]);
    const whole = await readFile(path);
    const last = (whole.length / 3) * 2;
    for (let at = 0; at < whole.length; at++) {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ 0x41;
      await writeFile(path, damaged);
      if (at < last) await assert.rejects(read(path), CorruptFile, `byte ${at}`);
      // Nothing was written after it, so nothing tells it from a torn tail.
      else assert.equal((await read(path)).length, 2, `byte ${at}`);
      if (at < last) assert.equal((await stat(path)).size, whole.length, "a refused file is left as it is");
    }
  });

  test("a file of rubbish is no file of ours: nothing in it was acknowledged", async () => {
    const path = fresh();
    await writeFile(path, Buffer.alloc(1000, 0xee));
    assert.deepEqual(await read(path), []);
  });

  test("records larger than what is read at once come back whole", async () => {
    const path = fresh();
    const large = new Uint8Array(9 * 1024 * 1024).map((_, index) => index % 251);
    await write(path, [[payload(1), large, payload(2)], [large]]);
    const lengths = (await read(path)).map((each) => each.length);
    assert.deepEqual(lengths, [5, large.length, 5, large.length]);
    await truncate(path, (await stat(path)).size - 1);
    assert.equal((await read(path)).length, 3);
  });
});

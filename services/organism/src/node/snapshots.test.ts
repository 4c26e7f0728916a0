import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Snapshots } from "./snapshots.ts";

const COMMITTEE = new Uint8Array(32).fill(1);
const state = (value: number): Uint8Array => new Uint8Array(100).fill(value);

describe("snapshots on disk", () => {
  let root: string;
  let folders = 0;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "lattice-snapshots-"));
  });
  after(() => rm(root, { recursive: true, force: true }));
  const fresh = (): string => join(root, `member-${folders++}`);

  async function positions(directory: string, committee = COMMITTEE): Promise<[bigint, bigint][]> {
    const found: [bigint, bigint][] = [];
    const snapshots = await Snapshots.open(directory, committee);
    for await (const snapshot of snapshots.candidates()) found.push([snapshot.generation, snapshot.position]);
    return found;
  }
  const files = async (directory: string): Promise<string[]> => (await readdir(join(directory, "snapshots"))).sort();

  test("the newest comes first, with its state; the oldest are removed", async () => {
    const directory = fresh();
    const snapshots = await Snapshots.open(directory, COMMITTEE);
    assert.deepEqual(await positions(directory), []);
    for (const position of [9n, 10n, 100n]) await snapshots.save(0n, position, state(Number(position)));
    assert.deepEqual(await positions(directory), [
      [0n, 100n],
      [0n, 10n],
    ]);
    for await (const snapshot of snapshots.candidates()) {
      assert.deepEqual(snapshot.state, state(Number(snapshot.position)));
    }
  });

  test("a new generation is newer, though its positions begin again", async () => {
    const directory = fresh();
    const snapshots = await Snapshots.open(directory, COMMITTEE);
    await snapshots.save(0n, 500n, state(1));
    await snapshots.save(0n, 600n, state(2));
    await snapshots.save(1n, 5n, state(3));
    assert.deepEqual(await positions(directory), [
      [1n, 5n],
      [0n, 600n],
    ]);
  });

  test("damaged, cut and foreign ones are passed over, and the one before is given", async () => {
    const directory = fresh();
    const snapshots = await Snapshots.open(directory, COMMITTEE);
    await snapshots.save(0n, 1n, state(1));
    await snapshots.save(0n, 2n, state(2));
    const [, newest = ""] = await files(directory);
    const path = join(directory, "snapshots", newest);
    const whole = await readFile(path);
    for (let at = 0; at < whole.length; at += 7) {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ 0x20;
      await writeFile(path, damaged);
      assert.deepEqual(await positions(directory), [[0n, 1n]], `byte ${at}`);
    }
    for (const length of [0, 10, whole.length - 1]) {
      await writeFile(path, whole.subarray(0, length));
      assert.deepEqual(await positions(directory), [[0n, 1n]]);
    }
    await writeFile(path, whole);
    assert.equal((await positions(directory)).length, 2);
    assert.deepEqual(await positions(directory, new Uint8Array(32).fill(2)), []);
    await rename(path, path.replace(/2$/, "3"));
    assert.deepEqual(await positions(directory), [[0n, 1n]], "another's name");
  });

  test("half-written and strange files are passed over", async () => {
    const directory = fresh();
    const snapshots = await Snapshots.open(directory, COMMITTEE);
    await snapshots.save(0n, 1n, state(1));
    const [only = ""] = await files(directory);
    const path = join(directory, "snapshots", only);
    await rename(path, `${path}.new`);
    await writeFile(join(directory, "snapshots", "notes"), "x");
    assert.deepEqual(await positions(directory), []);
  });
});

import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { toHex } from "../codec/codec.ts";
import { blake3 } from "../crypto/hash.ts";
import { FileBodyStore } from "./file-body-store.ts";

const body = (value: number, length = 1000): Uint8Array => new Uint8Array(length).fill(value);

describe("bodies on disk", () => {
  let root: string;
  let folders = 0;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "lattice-bodies-"));
  });
  after(() => rm(root, { recursive: true, force: true }));
  const fresh = (): string => join(root, `member-${folders++}`);
  const files = (directory: string): Promise<string[]> => readdir(join(directory, "bodies"));

  test("are found by their hash, also after a restart, and not by another", async () => {
    const directory = fresh();
    const store = await FileBodyStore.open(directory);
    const hash = await store.put(5n, body(1));
    assert.deepEqual(hash, blake3(body(1)));
    assert.deepEqual(await store.get(hash), body(1));
    const again = await FileBodyStore.open(directory);
    assert.deepEqual(await again.get(hash), body(1));
    assert.equal(await again.get(blake3(body(2))), undefined);
  });

  test("are on disk when put says so, whoever put them first", async () => {
    const directory = fresh();
    const store = await FileBodyStore.open(directory);
    const first = store.put(5n, body(1));
    const hash = await store.put(5n, body(1));
    assert.deepEqual(await (await FileBodyStore.open(directory)).get(hash), body(1));
    await first;
  });

  test("are copies: neither the caller nor a reader can change them", async () => {
    const store = await FileBodyStore.open(fresh());
    const given = body(1);
    const putting = store.put(5n, given);
    given.fill(9);
    const hash = await putting;
    (await store.get(hash))?.fill(8);
    assert.deepEqual(await store.get(hash), body(1));
  });

  test("are found while they are put again for a newer slot", async () => {
    const directory = fresh();
    const hash = await (await FileBodyStore.open(directory)).put(5n, body(1));
    for (let slot = 6n; slot < 16n; slot++) {
      const store = await FileBodyStore.open(directory);
      const getting = store.get(hash);
      const putting = store.put(slot, body(1));
      assert.deepEqual(await getting, body(1), `slot ${slot}`);
      await putting;
    }
  });

  test("that have gone from the disk are written anew by whoever puts them again", async () => {
    const directory = fresh();
    const store = await FileBodyStore.open(directory);
    const hash = await store.put(5n, body(1));
    await rm(join(directory, "bodies", `5.${toHex(hash)}`));
    await assert.rejects(store.put(6n, body(1)));
    await store.put(6n, body(1));
    assert.deepEqual(await (await FileBodyStore.open(directory)).get(hash), body(1));
  });

  test("damaged on disk are not served, and are repaired by whoever puts them again", async () => {
    const directory = fresh();
    const hash = await (await FileBodyStore.open(directory)).put(5n, body(1));
    await writeFile(join(directory, "bodies", `5.${toHex(hash)}`), body(2));
    const store = await FileBodyStore.open(directory);
    assert.equal(await store.get(hash), undefined);
    await store.put(5n, body(1));
    assert.deepEqual(await (await FileBodyStore.open(directory)).get(hash), body(1));
  });

  test("of slots far below the newest are removed, others stay", async () => {
    const directory = fresh();
    const store = await FileBodyStore.open(directory);
    const [old, kept] = [await store.put(10n, body(1)), await store.put(11n, body(2))];
    await store.markLanded(10n);
    await store.markLanded(11n);
    await store.prune(10n + 257n);
    assert.equal(await store.get(old), undefined);
    assert.deepEqual(await store.get(kept), body(2));
    assert.ok(!store.landed(10n) && store.landed(11n));
    assert.deepEqual((await files(directory)).sort(), [`11.${toHex(kept)}`, "11.landed"]);
  });

  test("that two slots share live as long as the newer of them", async () => {
    const directory = fresh();
    const store = await FileBodyStore.open(directory);
    const hash = await store.put(10n, body(1));
    await store.put(300n, body(1));
    await store.put(20n, body(1));
    await store.prune(400n);
    assert.deepEqual(await store.get(hash), body(1));
    const again = await FileBodyStore.open(directory);
    assert.deepEqual(await again.get(hash), body(1));
    await again.prune(300n + 257n);
    assert.equal(await again.get(hash), undefined);
    assert.deepEqual(await files(directory), []);
  });

  test("that landed are remembered", async () => {
    const directory = fresh();
    const store = await FileBodyStore.open(directory);
    assert.ok(!store.landed(5n));
    await store.markLanded(5n);
    await store.markLanded(5n);
    assert.ok((await FileBodyStore.open(directory)).landed(5n));
  });

  test("what is not a body is passed over; what a crash left half written is removed", async () => {
    const directory = fresh();
    await FileBodyStore.open(directory);
    const half = `7.${"ab".repeat(32)}.new`;
    for (const name of ["README", "x.landed", `-1.${"ab".repeat(32)}`, "5.short", half]) {
      await writeFile(join(directory, "bodies", name), "x");
    }
    const store = await FileBodyStore.open(directory);
    assert.equal(await store.get(new Uint8Array(32).fill(0xab)), undefined);
    await store.prune(1_000_000n);
    assert.equal((await files(directory)).length, 4);
  });

  test("larger than the memory that is lent to them are served from disk", async () => {
    const store = await FileBodyStore.open(fresh());
    const hashes: Uint8Array[] = [];
    for (let value = 0; value < 5; value++) hashes.push(await store.put(1n, body(value, 5 << 20)));
    for (const [value, hash] of hashes.entries()) assert.equal((await store.get(hash))?.[0], value);
  });
});

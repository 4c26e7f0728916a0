/** Snapshots on disk: what is whole and certified is given, newest first; everything else is passed over. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { certifyState, dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import type { CertifiedCheckpoint, Checkpoint } from "../committee/checkpoint.ts";
import { initCrypto } from "../crypto/engine.ts";
import { committeeId } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { FileSnapshotStore, SNAPSHOTS_KEPT, SnapshotMismatch } from "./snapshot-store.ts";

const ORGANISM: Organism = "relay";
const state = (value: number): Uint8Array => new Uint8Array(300).fill(value);

describe("certified snapshots on disk", () => {
  let root: string;
  let dealt: TestCommittee;
  let stranger: TestCommittee;
  let folders = 0;
  before(async () => {
    await initCrypto();
    dealt = dealCommittee(3);
    stranger = dealCommittee(3);
    root = await mkdtemp(join(tmpdir(), "lattice-snapshots-"));
  });
  after(() => rm(root, { recursive: true, force: true }));
  const fresh = (): string => join(root, `member-${folders++}`);

  const certify = (
    position: bigint,
    bytes: Uint8Array,
    changes: Partial<Checkpoint> = {},
    by: TestCommittee = dealt,
  ): CertifiedCheckpoint => certifyState(by, position, bytes, changes);
  const open = (folder: string): Promise<FileSnapshotStore> => FileSnapshotStore.open(folder, dealt.config, ORGANISM);
  const positions = async (folder: string): Promise<bigint[]> =>
    (await open(folder)).held().map(({ checkpoint }) => checkpoint.position);

  test("the newest comes first, with its state; the oldest are removed; a generation beats any position", async () => {
    const folder = fresh();
    const store = await open(folder);
    assert.deepEqual(store.held(), []);
    for (const position of [9n, 10n, 100n, 1000n]) {
      await store.save(certify(position, state(Number(position) % 256)), state(Number(position) % 256));
    }
    assert.deepEqual(await positions(folder), [1000n, 100n, 10n]);
    assert.equal((await readdir(folder)).length, SNAPSHOTS_KEPT);
    assert.deepEqual(await store.load({ generation: 0n, position: 100n }), state(100));
    assert.equal(await store.load({ generation: 0n, position: 9n }), undefined);
    await store.save(certify(5n, state(5), { generation: 1n }), state(5));
    assert.deepEqual(await positions(folder), [5n, 1000n, 100n]);
    assert.deepEqual(await (await open(folder)).load({ generation: 1n, position: 5n }), state(5));
  });

  test("what is saved while another is still being saved, or is looked for, is held: each, and the newest only", async () => {
    for (let turn = 0; turn < 3; turn++) {
      const folder = fresh();
      const store = await open(folder);
      // The first is large: what it finds when it looks is old.
      const large = new Uint8Array(8 * 1024 * 1024).fill(turn);
      await Promise.all([
        store.save(certify(1n, large), large),
        store.refresh(),
        store.save(certify(5n, state(5), { generation: 1n }), state(5)),
        store.save(certify(6n, state(6), { generation: 1n }), state(6)),
        store.save(certify(7n, state(7), { generation: 1n }), state(7)),
        store.refresh(),
      ]);
      const held = store.held().map(({ checkpoint }) => checkpoint.position);
      assert.deepEqual(held, [7n, 6n, 5n]);
      assert.deepEqual((await readdir(folder)).length, SNAPSHOTS_KEPT);
    }
  });

  test("parts of a state are read where they lie", async () => {
    const folder = fresh();
    const store = await open(folder);
    const bytes = Uint8Array.from({ length: 1000 }, (_, index) => index % 251);
    await store.save(certify(1n, bytes), bytes);
    const key = { generation: 0n, position: 1n };
    assert.deepEqual(await store.read(key, 10, 20), bytes.slice(10, 30));
    assert.deepEqual(await store.read(key, 990, 100), bytes.slice(990));
    assert.deepEqual(await store.read(key, 1000, 100), new Uint8Array());
    assert.deepEqual(await store.read(key, 5000, 100), new Uint8Array());
    assert.equal(await store.read({ generation: 0n, position: 2n }, 0, 10), undefined);
  });

  test("damaged at any byte or cut anywhere: passed over, and the one before is given", async () => {
    const folder = fresh();
    const store = await open(folder);
    await store.save(certify(1n, state(1)), state(1));
    await store.save(certify(2n, state(2)), state(2));
    const [, newest = ""] = (await readdir(folder)).sort();
    const path = join(folder, newest);
    const whole = await readFile(path);
    const signersAt = whole.length - 300 - 16 - 4;
    for (let at = 0; at < whole.length; at += 5) {
      // Who signed is informative: the certificate holds whoever it was.
      if (at >= signersAt && at < whole.length - 300) continue;
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ 0x20;
      await writeFile(path, damaged);
      assert.deepEqual(await positions(folder), [1n], `byte ${at}`);
    }
    for (const length of [0, 4, 5, 100, whole.length - 301, whole.length - 1]) {
      await writeFile(path, whole.subarray(0, length));
      assert.deepEqual(await positions(folder), [1n], `${length} bytes`);
    }
    await writeFile(path, Buffer.concat([whole, Buffer.alloc(1)]));
    assert.deepEqual(await positions(folder), [1n], "a byte too many");
    await writeFile(path, whole);
    assert.deepEqual(await positions(folder), [2n, 1n]);
    await rename(path, path.replace(/2$/, "3"));
    assert.deepEqual(await positions(folder), [1n], "under another position's name");
  });

  test("damaged after it was opened: not given, and not held any more", async () => {
    const folder = fresh();
    const store = await open(folder);
    await store.save(certify(1n, state(1)), state(1));
    const [only = ""] = await readdir(folder);
    const path = join(folder, only);
    const damaged = await readFile(path);
    damaged[damaged.length - 1] = 0xff;
    await writeFile(path, damaged);
    assert.equal(await store.load({ generation: 0n, position: 1n }), undefined);
    assert.deepEqual(store.held(), []);
  });

  test("what the disk does not give back is passed over, and the one before is given", async () => {
    const folder = fresh();
    const store = await open(folder);
    for (const value of [1, 2, 3]) await store.save(certify(BigInt(value), state(value)), state(value));
    const [, second = "", third = ""] = (await readdir(folder)).sort();
    // Reading a folder fails as reading a bad sector does, for whoever runs the test.
    const unreadable = async (name: string): Promise<void> => {
      await rm(join(folder, name));
      await mkdir(join(folder, name));
    };
    await unreadable(third);
    assert.deepEqual(await positions(folder), [2n, 1n]);
    assert.equal(await store.load({ generation: 0n, position: 3n }), undefined, "held when it was opened");
    await unreadable(second);
    assert.deepEqual(await positions(folder), [1n]);
    const again = await open(folder);
    assert.deepEqual(await again.load({ generation: 0n, position: 1n }), state(1));
    for (const value of [4, 5, 6]) await again.save(certify(BigInt(value), state(value)), state(value));
    assert.equal((await readdir(folder)).length, SNAPSHOTS_KEPT, "and is swept like what is damaged");
  });

  test("another lattice's, another organism's, an uncertified or a foreign state is refused", async () => {
    const folder = fresh();
    const store = await open(folder);
    const good = certify(1n, state(1));
    const refused: readonly [string, CertifiedCheckpoint, Uint8Array][] = [
      ["another lattice", certify(1n, state(1), {}, stranger), state(1)],
      [
        "another lattice's members for this one",
        certify(1n, state(1), { committee: committeeId(dealt.config, ORGANISM) }, stranger),
        state(1),
      ],
      ["another organism", certify(1n, state(1), { committee: committeeId(dealt.config, "tally") }), state(1)],
      ["no certificate", { ...good, signature: new Uint8Array(96) }, state(1)],
      ["another state", good, state(2)],
      ["a shorter state", good, state(1).slice(1)],
    ];
    for (const [name, certified, bytes] of refused) {
      await assert.rejects(store.save(certified, bytes), SnapshotMismatch, name);
    }
    assert.deepEqual(await readdir(folder), []);
    await store.save(good, state(1));
    assert.deepEqual(await positions(folder), [1n]);
    assert.deepEqual((await FileSnapshotStore.open(folder, stranger.config, ORGANISM)).held(), []);
    assert.deepEqual((await FileSnapshotStore.open(folder, dealt.config, "tally")).held(), []);
  });

  test("what a crash left half-written is passed over, and swept once something newer is whole", async () => {
    const folder = fresh();
    const store = await open(folder);
    const name = (position: number): string => `${"0".repeat(20)}.${position.toString().padStart(20, "0")}`;
    await writeFile(join(folder, `${name(1)}.abc.new`), "x");
    await writeFile(join(folder, `${name(9)}.abc.new`), "x");
    await writeFile(join(folder, "notes"), "x");
    assert.deepEqual(await positions(folder), []);
    await store.save(certify(5n, state(5)), state(5));
    assert.deepEqual((await readdir(folder)).sort(), [name(5), `${name(9)}.abc.new`, "notes"].sort());
  });

  test("two members write the same one into a shared archive", async () => {
    const folder = fresh();
    const [one, other] = [await open(folder), await open(folder)];
    const certified = certify(1n, state(1));
    await Promise.all([one.save(certified, state(1)), other.save(certified, state(1))]);
    assert.deepEqual(await positions(folder), [1n]);
    await one.save(certify(2n, state(2)), state(2));
    await other.refresh();
    assert.deepEqual(await other.load({ generation: 0n, position: 2n }), state(2));
  });
});

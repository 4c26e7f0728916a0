import assert from "node:assert/strict";
import {
  appendFile,
  copyFile,
  cp,
  link,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { PromiseConflict } from "../ports.ts";
import { CorruptFile, FileTaken } from "./append-file.ts";
import { FileJournal } from "./file-journal.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const id = (value: number): Uint8Array => new Uint8Array(32).fill(value);

describe("the journal on disk", () => {
  let root: string;
  let folders = 0;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "lattice-journal-"));
  });
  after(() => rm(root, { recursive: true, force: true }));
  const fresh = (): string => join(root, `member-${folders++}`);

  /** Closes it and opens it again, as a restart does. */
  async function reopen(journal: FileJournal, directory: string): Promise<FileJournal> {
    await journal.close();
    return FileJournal.open(directory);
  }

  test("keeps everything through restarts", async () => {
    const directory = fresh();
    let journal = await FileJournal.open(directory);
    assert.equal(await journal.nextIncarnation(0n), 1n);
    await journal.promise("vote/first/5", 5n, bytes("yes"));
    await journal.put("ratchet", bytes("one"));
    await journal.put("ratchet", bytes("two"));
    await journal.entry(id(1), bytes("an entry"));
    for (let restart = 0; restart < 3; restart++) {
      journal = await reopen(journal, directory);
      assert.deepEqual(journal.promised("vote/first/5"), bytes("yes"));
      assert.deepEqual(journal.get("ratchet"), bytes("two"));
      assert.equal(journal.promised("vote/first/6"), undefined);
      assert.equal(journal.get("other"), undefined);
      assert.ok(journal.wrote(id(1)));
      assert.ok(!journal.wrote(id(2)));
      assert.deepEqual(journal.newestEntry(), bytes("an entry"));
    }
    await journal.close();
    const other = await FileJournal.open(fresh());
    assert.equal(other.newestEntry(), undefined);
    await other.close();
  });

  test("long promises lie on disk alone, and are the same through writes, restarts and compactions", async () => {
    const directory = fresh();
    const long = (fill: number): Uint8Array => new Uint8Array(100_000).fill(fill);
    let journal = await FileJournal.open(directory, { compactFromBytes: 600_000 });
    const first = journal.promise("long/1", 1n, long(1));
    assert.equal(journal.isPromised("long/1"), false, "not before it is on disk");
    assert.equal(journal.promised("long/1"), undefined);
    await assert.rejects(journal.promise("long/1", 1n, long(2)), PromiseConflict);
    await first;
    for (let slot = 2; slot <= 20; slot++) {
      const made = [journal.promise(`long/${slot}`, BigInt(slot), long(slot)), journal.trim(BigInt(slot - 4))];
      made.push(journal.promise(`short/${slot}`, BigInt(slot), bytes(`${slot}`)));
      await Promise.all(made);
      for (let kept = Math.max(1, slot - 4); kept <= slot; kept++) {
        assert.ok(journal.isPromised(`long/${kept}`));
        assert.deepEqual(journal.promised(`long/${kept}`), long(kept));
      }
      assert.equal(journal.isPromised(`long/${slot - 5}`), false);
    }
    assert.ok((await stat(join(directory, "journal"))).size < 1_500_000, "it was compacted");
    for (let restart = 0; restart < 2; restart++) {
      await journal.close();
      journal = await FileJournal.open(directory);
      for (let kept = 16; kept <= 20; kept++) {
        assert.deepEqual(journal.promised(`long/${kept}`), long(kept));
        assert.deepEqual(journal.promised(`short/${kept}`), bytes(`${kept}`));
        await journal.promise(`long/${kept}`, BigInt(kept), long(kept));
        await assert.rejects(journal.promise(`long/${kept}`, BigInt(kept), long(kept + 1)), PromiseConflict);
      }
    }
    // The same key again after it was forgotten, while the file is being replaced.
    await journal.trim(21n);
    await Promise.all([journal.trim(22n), journal.promise("long/20", 25n, long(99))]);
    assert.deepEqual(journal.promised("long/20"), long(99));
    await journal.close();
  });

  test("a long promise that the disk has damaged is not said again", async () => {
    const directory = fresh();
    const journal = await FileJournal.open(directory);
    await journal.promise("long", 1n, new Uint8Array(100_000).fill(7));
    const path = join(directory, "journal");
    const file = await open(path, "r+");
    await file.write(new Uint8Array([8]), 0, 1, (await file.stat()).size - 10);
    await file.close();
    assert.ok(journal.isPromised("long"));
    assert.throws(() => journal.promised("long"), CorruptFile);
    await journal.close();
  });

  test("incarnations strictly grow, over restarts and what the log knows", async () => {
    const directory = fresh();
    let journal = await FileJournal.open(directory);
    assert.deepEqual(await Promise.all([journal.nextIncarnation(0n), journal.nextIncarnation(0n)]), [1n, 2n]);
    assert.equal(await journal.nextIncarnation(10n), 10n);
    journal = await reopen(journal, directory);
    assert.equal(await journal.nextIncarnation(5n), 11n);
    assert.equal(await journal.nextIncarnation(12n), 12n);
    await journal.close();
  });

  test("never promises twice differently: not in a row, not at once, not after a restart", async () => {
    const directory = fresh();
    let journal = await FileJournal.open(directory);
    await journal.promise("a", 1n, bytes("yes"));
    await journal.promise("a", 1n, bytes("yes"));
    await assert.rejects(journal.promise("a", 1n, bytes("no")), PromiseConflict);
    await assert.rejects(journal.promise("a", 1n, bytes("")), PromiseConflict);
    const both = await Promise.allSettled([journal.promise("b", 1n, bytes("x")), journal.promise("b", 1n, bytes("y"))]);
    assert.deepEqual(
      both.map(({ status }) => status),
      ["fulfilled", "rejected"],
    );
    journal = await reopen(journal, directory);
    await assert.rejects(journal.promise("a", 1n, bytes("no")), PromiseConflict);
    await journal.promise("a", 1n, bytes("yes"));
    await journal.promise("c", 1n, bytes("no"));
    await journal.close();
  });

  test("a promise is one when it is on disk, for whoever made it and whoever makes it again", async () => {
    const directory = fresh();
    const journal = await FileJournal.open(directory);
    const first = journal.promise("a", 1n, bytes("yes"));
    let firstDone = false;
    void first.then(() => {
      firstDone = true;
    });
    assert.equal(journal.promised("a"), undefined, "not yet on disk");
    await journal.promise("a", 1n, bytes("yes"));
    assert.ok(firstDone, "the second must not overtake the first");
    assert.deepEqual(journal.promised("a"), bytes("yes"));
    await journal.close();
  });

  test("the promised bytes are the caller's no longer", async () => {
    const journal = await FileJournal.open(fresh());
    const value = bytes("yes");
    const written = journal.promise("a", 1n, value);
    value.fill(0);
    await written;
    assert.deepEqual(journal.promised("a"), bytes("yes"));
    await journal.close();
  });

  test("trimming forgets promises of older slots only, for good", async () => {
    const directory = fresh();
    let journal = await FileJournal.open(directory);
    for (const slot of [1n, 2n, 3n]) await journal.promise(`vote/${slot}`, slot, bytes(`${slot}`));
    await journal.put("kept", bytes("kept"));
    await journal.trim(3n);
    for (let restart = 0; restart < 2; restart++) {
      assert.equal(journal.promised("vote/2"), undefined);
      assert.deepEqual(journal.promised("vote/3"), bytes("3"));
      assert.deepEqual(journal.get("kept"), bytes("kept"));
      journal = await reopen(journal, directory);
    }
    await journal.trim(2n);
    assert.deepEqual(journal.promised("vote/3"), bytes("3"));
    await journal.close();
  });

  test("compaction keeps all that lives, and what is said meanwhile", async () => {
    const directory = fresh();
    const journal = await FileJournal.open(directory, { compactFromBytes: 10_000 });
    await journal.nextIncarnation(7n);
    await journal.promise("old", 1n, new Uint8Array(5000));
    await journal.promise("new", 9n, bytes("new"));
    for (let index = 0; index < 10; index++) await journal.put("value", new Uint8Array(2000).fill(index));
    await journal.entry(id(3), new Uint8Array(3000));
    const before = (await stat(join(directory, "journal"))).size;
    const meanwhile = [journal.promise("during", 9n, bytes("during")), journal.put("late", bytes("late"))];
    await Promise.all([journal.trim(5n), ...meanwhile, journal.entry(id(4), bytes("late entry"))]);
    assert.ok((await stat(join(directory, "journal"))).size < before / 2);
    await journal.promise("after", 9n, bytes("after"));
    const again = await reopen(journal, directory);
    for (const key of ["new", "during", "after"]) assert.deepEqual(again.promised(key), bytes(key));
    assert.equal(again.promised("old"), undefined);
    assert.deepEqual(again.get("value"), new Uint8Array(2000).fill(9));
    assert.deepEqual(again.get("late"), bytes("late"));
    assert.ok(again.wrote(id(3)) && again.wrote(id(4)));
    assert.deepEqual(again.newestEntry(), bytes("late entry"));
    assert.equal(await again.nextIncarnation(0n), 8n);
    await again.close();
  });

  test("any history reopens to what was acknowledged", async () => {
    const key = fc.constantFrom("a", "b", "c");
    const action = fc.oneof(
      fc.record({ type: fc.constant("promise" as const), key, slot: fc.bigInt(0n, 5n), value: fc.nat(3) }),
      fc.record({ type: fc.constant("put" as const), key, value: fc.nat(255) }),
      fc.record({ type: fc.constant("trim" as const), slot: fc.bigInt(0n, 6n) }),
      fc.record({ type: fc.constant("restart" as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 25 }), async (actions) => {
        const directory = fresh();
        let journal = await FileJournal.open(directory, { compactFromBytes: 200 });
        const promises = new Map<string, { slot: bigint; value: number }>();
        const values = new Map<string, number>();
        let below = 0n;
        for (const each of actions) {
          if (each.type === "restart") {
            await journal.close();
            journal = await FileJournal.open(directory, { compactFromBytes: 200 });
          } else if (each.type === "put") {
            await journal.put(each.key, new Uint8Array([each.value]));
            values.set(each.key, each.value);
          } else if (each.type === "trim") {
            await journal.trim(each.slot);
            if (each.slot > below) {
              below = each.slot;
              for (const [name, { slot }] of promises) if (slot < below) promises.delete(name);
            }
          } else {
            const known = promises.get(each.key);
            const made = journal.promise(each.key, each.slot, new Uint8Array([each.value]));
            if (known !== undefined && known.value !== each.value) await assert.rejects(made, PromiseConflict);
            else {
              await made;
              if (known === undefined) promises.set(each.key, { slot: each.slot, value: each.value });
            }
          }
        }
        const check = (opened: FileJournal): void => {
          for (const name of ["a", "b", "c"]) {
            assert.deepEqual(opened.promised(name)?.[0], promises.get(name)?.value);
            assert.deepEqual(opened.get(name)?.[0], values.get(name));
          }
        };
        check(journal);
        journal = await reopen(journal, directory);
        check(journal);
        await journal.close();
      }),
      { numRuns: 20 },
    );
  });
});

describe("a journal after a crash", () => {
  let root: string;
  let folders = 0;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "lattice-journal-"));
  });
  after(() => rm(root, { recursive: true, force: true }));

  async function written(): Promise<{ directory: string; path: string }> {
    const directory = join(root, `member-${folders++}`);
    const journal = await FileJournal.open(directory);
    await journal.nextIncarnation(3n);
    await journal.promise("a", 1n, bytes("a"));
    await journal.promise("b", 1n, bytes("b"));
    await journal.close();
    return { directory, path: join(directory, "journal") };
  }

  test("with a torn tail: the tail is cut off, the rest is there", async () => {
    const { directory, path } = await written();
    await appendFile(path, Buffer.from([0, 0, 0, 40, 1, 2, 3]));
    const journal = await FileJournal.open(directory);
    assert.deepEqual(journal.promised("b"), bytes("b"));
    await journal.close();
  });

  test("with damage in the middle: refused, and left for whoever looks into it", async () => {
    const { directory, path } = await written();
    const whole = await readFile(path);
    whole[20] = (whole[20] ?? 0) ^ 1;
    await writeFile(path, whole);
    await assert.rejects(FileJournal.open(directory), CorruptFile);
    assert.deepEqual(await readFile(path), whole);
    whole[20] = (whole[20] ?? 0) ^ 1;
    await writeFile(path, whole);
    const journal = await FileJournal.open(directory);
    assert.deepEqual(journal.promised("b"), bytes("b"));
    await journal.close();
  });

  test("while it was being replaced: before the rename the old one counts", async () => {
    const { directory, path } = await written();
    // Half a new file, and the link by which it was being taken over.
    await writeFile(`${path}.new`, (await readFile(path)).subarray(0, 30));
    await link(path, `${path}.taken`);
    const journal = await FileJournal.open(directory);
    assert.deepEqual(journal.promised("a"), bytes("a"));
    assert.equal(await journal.nextIncarnation(0n), 4n);
    await journal.close();
    assert.deepEqual(await readdir(directory), ["journal"]);
  });

  test("after the rename, with the old file's link still there: the new one counts", async () => {
    const { directory, path } = await written();
    await copyFile(path, `${path}.taken`);
    const journal = await FileJournal.open(directory);
    await journal.promise("c", 1n, bytes("c"));
    await journal.close();
    const again = await FileJournal.open(directory);
    assert.deepEqual(again.promised("c"), bytes("c"));
    await again.close();
    assert.deepEqual(await readdir(directory), ["journal"]);
  });

  test("a folder without a journal begins one", async () => {
    const journal = await FileJournal.open(join(root, "new", "folder"));
    assert.equal(await journal.nextIncarnation(0n), 1n);
    await journal.close();
  });
});

describe("a journal has one owner", () => {
  let root: string;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "lattice-journal-"));
  });
  after(() => rm(root, { recursive: true, force: true }));

  test("who opens it takes it over: the other acknowledges nothing more, and knows why", async () => {
    const directory = join(root, "doubled");
    const older = await FileJournal.open(directory);
    await older.promise("a", 1n, bytes("a"));
    const newer = await FileJournal.open(directory);
    assert.deepEqual(newer.promised("a"), bytes("a"));
    await assert.rejects(older.promise("b", 1n, bytes("older")), FileTaken);
    await assert.rejects(older.put("x", bytes("x")), FileTaken);
    await newer.promise("b", 1n, bytes("newer"));
    await older.close();
    await newer.close();
    const again = await FileJournal.open(directory);
    assert.deepEqual(again.promised("b"), bytes("newer"));
    await again.close();
  });

  test("who has written nothing meanwhile acknowledges nothing either while the newer one's link is the last", async () => {
    const directory = join(root, "idle");
    const path = join(directory, "journal");
    const older = await FileJournal.open(directory);
    await older.promise("a", 1n, bytes("a"));
    // A newer one was stopped when it had put its own file in the place of this one.
    await link(path, `${path}.newer.taken`);
    await copyFile(path, `${path}.newer.new`);
    await rename(`${path}.newer.new`, path);
    await assert.rejects(older.promise("b", 1n, bytes("older")), FileTaken);
    await older.close();
  });

  test("what the older one acknowledged while the newer one opened, the newer one knows", async () => {
    for (let round = 0; round < 10; round++) {
      const directory = join(root, `race-${round}`);
      const older = await FileJournal.open(directory);
      const acknowledged: string[] = [];
      let lost = false;
      const writing = (async () => {
        for (let index = 0; !lost; index++) {
          await older.promise(`p${index}`, 1n, bytes("x")).then(
            () => acknowledged.push(`p${index}`),
            () => {
              lost = true;
            },
          );
        }
      })();
      while (acknowledged.length < round) await new Promise((resolve) => setImmediate(resolve));
      const newer = await FileJournal.open(directory);
      await writing;
      for (const key of acknowledged) assert.deepEqual(newer.promised(key), bytes("x"), key);
      await older.close();
      await newer.close();
    }
  });

  test("of two that open it at once one goes on, and knows what either has acknowledged", async () => {
    for (let turn = 0; turn < 10; turn++) {
      const directory = join(root, `at-once-${turn}`);
      const before = await FileJournal.open(directory);
      for (let slot = 1n; slot <= 20n; slot++) await before.promise(`before/${slot}`, slot, bytes("before"));
      await before.close();
      const opened = await Promise.allSettled([0, 1].map(() => FileJournal.open(directory)));
      const acknowledged: string[] = [];
      for (const [index, each] of opened.entries()) {
        if (each.status === "rejected") {
          assert.ok(each.reason instanceof FileTaken, `${each.reason}`);
          continue;
        }
        await each.value.promise(`after/${index}`, 30n, bytes("after")).then(
          () => acknowledged.push(`after/${index}`),
          (error: unknown) => assert.ok(error instanceof FileTaken, `${error}`),
        );
      }
      assert.equal(acknowledged.length, 1, "exactly one speaks");
      for (const each of opened) if (each.status === "fulfilled") await each.value.close();
      const next = await FileJournal.open(directory);
      for (const key of acknowledged) assert.ok(next.isPromised(key));
      for (let slot = 1n; slot <= 20n; slot++) assert.ok(next.isPromised(`before/${slot}`));
      await next.close();
      assert.deepEqual(await readdir(directory), ["journal"]);
    }
  });

  test("an owner that was taken over does not replace the file when it compacts", async () => {
    const directory = join(root, "compacting");
    const older = await FileJournal.open(directory, { compactFromBytes: 1 });
    const newer = await FileJournal.open(directory);
    await newer.promise("a", 9n, bytes("newer"));
    await assert.rejects(older.trim(5n));
    await older.close();
    await newer.close();
    const again = await FileJournal.open(directory);
    assert.deepEqual(again.promised("a"), bytes("newer"));
    await again.close();
  });

  test("a copied folder is a journal of its own, and does not know what was written since", async () => {
    const directory = join(root, "original");
    const journal = await FileJournal.open(directory);
    await journal.entry(id(1), bytes("before"));
    const backup = join(root, "backup");
    await cp(directory, backup, { recursive: true });
    await journal.entry(id(2), bytes("after"));
    const restored = await FileJournal.open(backup);
    assert.ok(restored.wrote(id(1)));
    assert.ok(!restored.wrote(id(2)));
    await journal.entry(id(3), bytes("still mine"));
    await restored.close();
    await journal.close();
  });
});

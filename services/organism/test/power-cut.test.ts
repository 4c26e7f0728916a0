/**
 * What was acknowledged survives a power cut. A kill proves nothing (the page cache survives it), so the files lie on
 * a loop-mounted image which is copied while they are written to: the copy holds only what had reached "the disk".
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, open, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { FileBodyStore } from "../src/node/file-body-store.ts";
import { FileJournal } from "../src/node/file-journal.ts";

const run = promisify(execFile);
const IMAGE_BYTES = 64 * 1024 * 1024;

async function whyNot(): Promise<string | false> {
  if (process.platform !== "linux") return "loop devices are Linux's";
  if (process.getuid?.() !== 0) return "mounting an image needs root";
  try {
    await run("mkfs.ext4", ["-V"]);
    await run("losetup", ["--find"]);
    await stat("/dev/loop-control");
    return false;
  } catch {
    return "no mkfs.ext4, losetup or free loop device here";
  }
}

/** Mounts an image, and unmounts it whatever happens. */
async function mounted(image: string, at: string, work: (directory: string) => Promise<void>): Promise<void> {
  await mkdir(at, { recursive: true });
  await run("mount", ["-o", "loop,commit=300", image, at]);
  try {
    await work(at);
  } finally {
    await run("umount", [at]).catch(() => run("umount", ["--lazy", at]));
  }
}

test("everything acknowledged is there after a power cut", { skip: await whyNot() }, async (context) => {
  const directory = await mkdtemp(join(tmpdir(), "lattice-power-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  const image = join(directory, "disk");
  const copy = join(directory, "copy");
  const file = await open(image, "w");
  await file.truncate(IMAGE_BYTES);
  await file.close();
  await run("mkfs.ext4", ["-q", "-F", image]);
  try {
    await mounted(image, join(directory, "before"), async () => undefined);
  } catch (error) {
    context.skip(`mounting is not possible here: ${error instanceof Error ? error.message.split("\n")[0] : "error"}`);
    return;
  }

  const promised: string[] = [];
  const landed: number[] = [];
  let body: Uint8Array | undefined;
  await mounted(image, join(directory, "running"), async (disk) => {
    const journal = await FileJournal.open(join(disk, "member"));
    const log = await EmbeddedLog.open(join(disk, "log"));
    const bodies = await FileBodyStore.open(disk);
    let writing = true;
    const promise = async (lane: number): Promise<void> => {
      for (let index = 0; writing; index++) {
        const key = `${lane}/${index}`;
        await journal.promise(key, 1n, new TextEncoder().encode(key));
        promised.push(key);
      }
    };
    const append = async (author: number): Promise<void> => {
      for (let index = 0; writing; index++) {
        await log.append(author, new Uint8Array([author, index & 0xff, index >> 8]));
        landed.push((author << 16) | index);
      }
    };
    const writers = [promise(0), promise(1), promise(2), append(0), append(1)];
    body = await bodies.put(3n, new Uint8Array(100_000).fill(7));
    await writeFile(join(disk, "unsynced"), new Uint8Array(100_000).fill(9));
    while (promised.length < 60 || landed.length < 40) await new Promise((resolve) => setImmediate(resolve));
    const [promisedBefore, landedBefore] = [promised.length, landed.length];
    await run("cp", ["--sparse=always", image, copy]);
    writing = false;
    await Promise.all(writers);
    context.diagnostic(`copied after ${promisedBefore} promises and ${landedBefore} messages, while more were written`);
    promised.length = promisedBefore;
    landed.length = landedBefore;
    await journal.close();
    await log.close();
  });

  await mounted(copy, join(directory, "after"), async (disk) => {
    const journal = await FileJournal.open(join(disk, "member"));
    const missing = promised.filter((key) => journal.promised(key) === undefined);
    assert.deepEqual(missing, []);
    await journal.close();

    const log = await EmbeddedLog.open(join(disk, "log"));
    const found = new Set<number>();
    const stop = new AbortController();
    const last = log.lastPosition;
    await log.consume(
      1n,
      ({ position, raw: [author = 0, low = 0, high = 0] }) => {
        found.add((author << 16) | (high << 8) | low);
        if (position === last) stop.abort();
      },
      stop.signal,
    );
    assert.deepEqual(
      landed.filter((each) => !found.has(each)),
      [],
    );
    await log.close();

    const bodies = await FileBodyStore.open(disk);
    assert.equal((await bodies.get(body ?? new Uint8Array()))?.length, 100_000);
    const unsynced = await stat(join(disk, "unsynced")).catch(() => undefined);
    context.diagnostic(`a file that nobody synced has ${unsynced?.size ?? "no entry and 0"} bytes there`);
  });
});

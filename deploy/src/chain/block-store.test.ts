/** What a full disk refuses leaves nothing behind that a restart would stumble over. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BlockStore, type StoreRecord } from "./block-store.ts";

test("a decision that the disk takes in part is none; what is decided after it is found at the next start", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "lattice-blocks-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const path = join(directory, "blocks");
  const script = `
    import { BlockStore } from ${JSON.stringify(import.meta.resolve("./block-store.ts"))};
    const store = await BlockStore.open(process.argv[1], () => undefined);
    const kept = [];
    const append = async (slot, bytes) => {
      const record = { type: "slot", slot: String(slot), acknowledgement: "0x" + "ab".repeat(bytes), signature: "0x" };
      try {
        const position = await store.append(record);
        kept.push(slot);
        if ((await store.read(position)).slot !== record.slot) throw new Error("another record was read");
      } catch (error) {
        if (error.code !== "EFBIG") throw error;
      }
    };
    // Three of them fit, and a short one behind them.
    for (let slot = 1; slot <= 4; slot++) await append(slot, Number(process.argv[2]));
    await append(5, 10);
    await Promise.all([append(6, 10), append(7, 11)]);
    console.log(JSON.stringify(kept));
  `;
  // No file may become longer than so much; shells count in different blocks.
  const limit = Number(
    execFileSync("sh", ["-c", "ulimit -f 16; head -c 100000 /dev/zero > limit; wc -c < limit"], {
      cwd: directory,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }),
  );
  const shell = ["-c", 'ulimit -f 16 && exec "$0" --input-type=module -e "$1" "$2" "$3"', process.execPath];
  const said = execFileSync("sh", [...shell, script, path, String(Math.floor(limit / 7))], { encoding: "utf8" });
  assert.deepEqual(JSON.parse(said), [1, 2, 3, 5, 6, 7]);
  const found: StoreRecord[] = [];
  const store = await BlockStore.open(path, (record) => found.push(record));
  await store.close();
  assert.deepEqual(
    found.map((record) => record.type === "slot" && record.slot),
    ["1", "2", "3", "5", "6", "7"],
  );
});

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { FileTaken } from "@lattice/organism/node/append-file.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { tellingOfLoss } from "./journal-loss.ts";

test("a gateway whose journal another process has taken over hears of it once, with the first thing that is lost", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "lattice-gateway-journal-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const lost: Error[] = [];
  const journal = tellingOfLoss(
    await FileJournal.open(directory),
    (error) => error instanceof Error && lost.push(error),
  );
  await journal.put("submission/0", new Uint8Array([1]));
  assert.equal(lost.length, 0);
  const other = await FileJournal.open(directory);
  for (let turn = 0; turn < 2; turn++) {
    await assert.rejects(journal.put("submission/1", new Uint8Array([2])), FileTaken);
    assert.equal(lost.length, 1);
  }
  assert.ok(lost[0] instanceof FileTaken);
  assert.deepEqual(other.get("submission/0"), new Uint8Array([1]));
  await journal.close();
  await other.close();
});

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { PromiseConflict, PromiseWithheld } from "../ports.ts";
import { abstainingJournal } from "./abstaining-journal.ts";
import { FileJournal } from "./file-journal.ts";

const bytes = (value: number): Uint8Array => new Uint8Array(32).fill(value);

test("slots in flight when the journal was lost get no new promise; what is known may be said again", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "abstaining-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = await FileJournal.open(directory);
  await file.promise("ship/4", 4n, bytes(4));
  let below = 10n;
  const journal = abstainingJournal(file, (slot) => slot < below);
  await assert.rejects(journal.promise("ship/9", 9n, bytes(9)), PromiseWithheld);
  assert.equal(journal.promised("ship/9"), undefined);
  await journal.promise("ship/10", 10n, bytes(10));
  assert.deepEqual(journal.promised("ship/10"), bytes(10));
  await journal.promise("ship/4", 4n, bytes(4));
  await assert.rejects(journal.promise("ship/4", 4n, bytes(5)), PromiseConflict);
  below = 0n;
  await journal.promise("ship/9", 9n, bytes(9));
  await journal.close();
});

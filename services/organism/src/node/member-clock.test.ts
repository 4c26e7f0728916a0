import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KitProblem } from "./kit.ts";
import { memberClock } from "./member-clock.ts";

test("a clock is wrong by what the file says, and right without one", async (context) => {
  const folder = await mkdtemp(join(tmpdir(), "lattice-clock-"));
  context.after(() => rm(folder, { recursive: true }));
  const file = join(folder, "clock");
  const off = (): number => memberClock(file, { throwAway: true }).nowMs() - Date.now();
  assert.ok(Math.abs(off()) < 1000, "no file");
  for (const [text, expected] of [
    ["3600000", 3_600_000],
    ["-5000\n", -5000],
    ["0", 0],
    ["soon", 0],
    ["1e9", 0],
  ] as const) {
    await writeFile(file, text);
    assert.ok(Math.abs(off() - expected) < 1000, text);
  }
  await writeFile(file, "=1700000000000");
  assert.equal(memberClock(file, { throwAway: true }).nowMs(), 1_700_000_000_000);
});

test("a lattice that is to last has no wrong clocks", () => {
  assert.throws(() => memberClock("/nonexistent", { throwAway: false }), KitProblem);
  assert.ok(Math.abs(memberClock(undefined, { throwAway: false }).nowMs() - Date.now()) < 1000);
});

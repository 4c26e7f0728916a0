/** The whole lattice, end to end: three slots on each log, judged by the separate program. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { runSlots } from "@lattice/deploy/local/demo.ts";
import type { Mode } from "@lattice/deploy/local/lattice.ts";
import { chooseMode } from "@lattice/deploy/local/session.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";

const SLOTS = 3;
const directory = mkdtempSync(join(tmpdir(), "lattice-e2e-"));
after(() => rmSync(directory, { recursive: true, force: true }));

/** What three slots on a crowded machine may lack; `npm run demo` and the scenarios insist on it. */
const TAKES_LONGER = ["claim_paid", "blind_bundle_landed", "seen_bundle_landed"];

/** The machine may run other things meanwhile: a slot may be late and skipped, but nothing may be wrong. */
async function threeSlots(mode: Mode, say: (line: string) => void): Promise<void> {
  const { report } = await runSlots({
    slots: SLOTS,
    slotMs: 4000,
    mode,
    directory: join(directory, mode),
    say,
    faultsAllowed: true,
    waitForClaim: false,
  });
  const broken = report.violations.filter((line) => !TAKES_LONGER.some((name) => line.startsWith(name)));
  assert.deepEqual(broken, []);
  assert.equal(report.mode, mode);
  assert.equal(report.slots.length, SLOTS);
  for (const { outcomes, trace_id: trace } of report.slots) {
    assert.deepEqual(Object.keys(outcomes), [...ORGANISMS]);
    assert.match(trace, /^[0-9a-f]{32}$/);
  }
  assert.ok(report.chain.head > 0);
  assert.ok((report.observed["transactions_landed"] ?? 0) > 0);
  assert.ok((report.startup_ms ?? 0) > 0);
}

describe("a slot, end to end", () => {
  it("on the embedded log, all members in one process", (t) => threeSlots("embedded", (line) => t.diagnostic(line)));

  it("on JetStream, every member a process", async (t) => {
    const mode = await chooseMode(false, (line) => t.diagnostic(line));
    if (mode === "embedded") return t.skip("no nats-server can be had on this machine");
    await threeSlots(mode, (line) => t.diagnostic(line));
  });
});

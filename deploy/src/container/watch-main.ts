/**
 * Watches the lattice from inside its network, with nothing but the public kit: every certificate is verified, every
 * slot that all six organisms decided is a line. Exit codes: 0 seen what was asked for or stopped, 1 a contradiction
 * or not in time, 2 settings, 5 the kit is not as it must be.
 */
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readConfig, readEndpoints, readRosters } from "@lattice/organism/node/kit.ts";
import { expectedProblem } from "../cli/expected.ts";
import { Collector } from "../local/collector.ts";
import { SlotTable } from "../local/table.ts";
import { WATCH_SETTINGS } from "./container-settings.ts";

const parsed = WATCH_SETTINGS.safeParse(process.env);
if (!parsed.success) {
  for (const issue of parsed.error.issues) process.stderr.write(`watch: ${issue.path.join(".")}: ${issue.message}\n`);
  process.exit(EXIT.usage);
}
const settings = parsed.data;
await initCrypto();
const wanted = settings.WATCH_SLOTS;
/** Without a number it goes on for ever, and keeps no more than what may still be decided. */
const KEEP_SLOTS = 1024;
const REACH_BACK = 64n;

function collectorOf(): Collector {
  const config = readConfig(settings.LATTICE_CONFIG_FILE);
  const rosters = readRosters(settings.LATTICE_ROSTERS_FILE, config);
  readEndpoints(settings.LATTICE_ENDPOINTS_FILE);
  const now = slotAt(config, Date.now());
  return new Collector({
    config,
    rosters,
    endpoints: () => readEndpoints(settings.LATTICE_ENDPOINTS_FILE),
    ...(wanted > 0 ? {} : { keepSlots: KEEP_SLOTS, fromSlot: now > REACH_BACK ? now - REACH_BACK : 1n }),
  });
}

let collector: Collector;
try {
  collector = collectorOf();
} catch (error) {
  const expected = expectedProblem(error);
  if (expected === undefined) throw error;
  process.stderr.write(`watch: ${expected.line}\n`);
  process.exit(expected.code);
}
const stopped = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stopped.abort());

collector.start();
const table = new SlotTable({ collector, stream: process.stdout });
table.start();
const decided = new Set<bigint>();
let taken = 0;
collector.onOutcome(({ certified: { outcome } }) => {
  if (decided.has(outcome.slot) || !collector.decided(outcome.slot)) return;
  decided.add(outcome.slot);
  if (collector.complete(outcome.slot)) taken += 1;
});
// Without a number only a contradiction ends it, or Ctrl-C.
const enough = (): boolean => collector.conflicts.length > 0 || (wanted > 0 && decided.size >= wanted);
const LOOK_MS = 3_600_000;
let seen = false;
do {
  seen = await collector.until(enough, wanted > 0 ? settings.WATCH_DEADLINE_S * 1000 : LOOK_MS, stopped.signal);
} while (wanted === 0 && !seen && !stopped.signal.aborted);
table.stop();

process.stdout.write(`${decided.size} slots decided by all six, ${taken} with their block taken\n`);
for (const { organism, certified } of collector.conflicts) {
  process.stdout.write(`contradiction: ${organism} certified slot ${certified.outcome.slot} twice\n`);
}
process.exit(collector.conflicts.length === 0 && (seen || wanted === 0) ? EXIT.ok : EXIT.failed);

/**
 * Watches the lattice from inside its network, with nothing but the public kit: every certificate is verified, every
 * slot that all six organisms decided is a line. Exit codes: 0 seen what was asked for or stopped, 1 a contradiction
 * or not in time, 2 settings.
 */
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readConfig, readEndpoints, readRosters } from "@lattice/organism/node/kit.ts";
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
const config = readConfig(settings.LATTICE_CONFIG_FILE);
const collector = new Collector({
  config,
  rosters: readRosters(settings.LATTICE_ROSTERS_FILE, config),
  endpoints: () => readEndpoints(settings.LATTICE_ENDPOINTS_FILE),
});
const stopped = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stopped.abort());

collector.start();
const table = new SlotTable({ collector, stream: process.stdout });
table.start();
const decided = (): bigint[] => collector.slots().filter((slot) => collector.decided(slot));
const wanted = settings.WATCH_SLOTS;
// Without a number only a contradiction ends it; a day is as good as for ever.
const enough = (): boolean => collector.conflicts.length > 0 || (wanted > 0 && decided().length >= wanted);
const seen = await collector.until(enough, (wanted > 0 ? settings.WATCH_DEADLINE_S : 86_400) * 1000, stopped.signal);
table.stop();

const all = decided();
const taken = all.filter((slot) => collector.complete(slot)).length;
process.stdout.write(`${all.length} slots decided by all six, ${taken} with their block taken\n`);
for (const { organism, certified } of collector.conflicts) {
  process.stdout.write(`contradiction: ${organism} certified slot ${certified.outcome.slot} twice\n`);
}
process.exit(collector.conflicts.length === 0 && (seen || wanted === 0) ? EXIT.ok : EXIT.failed);

/**
 * Loads what the processes of a lattice load, and ends: `compile-cache.ts` says why. The entry points themselves are
 * loaded too: without a single setting each of them refuses to start, and here that refusal does not end the process.
 */
import { pathToFileURL } from "node:url";
import "@lattice/organism/crypto/opening-worker.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { createMeters } from "@lattice/organism/observe/meters-otel.ts";
import {
  AGGREGATOR_SCRIPT,
  EMBEDDED_SCRIPT,
  GATEWAY_SCRIPT,
  memberScript,
  SEQUENCER_SCRIPT,
  STEWARD_SCRIPT,
} from "./members.ts";

// Loads the SDK, which is imported only when somebody will scrape.
const meters = await createMeters({ labels: { lattice: "", chain_id: "", organism: "", role: "", member: "" } });
await meters.close();

const exit = process.exit.bind(process);
process.exit = () => {
  throw new Error("this entry point would end here");
};
for (const script of [
  ...ORGANISMS.map(memberScript),
  AGGREGATOR_SCRIPT,
  GATEWAY_SCRIPT,
  SEQUENCER_SCRIPT,
  EMBEDDED_SCRIPT,
  STEWARD_SCRIPT,
])
  await import(pathToFileURL(script).href).catch(() => undefined);
exit(0);

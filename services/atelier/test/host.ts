/** As much of a member's host as building and judging need. */
import { nodeTimers } from "@lattice/organism/node/node-timers.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { createNoMeters } from "@lattice/organism/observe/meters.ts";
import type { AtelierHost } from "../src/node/feed.ts";
import { random, type TestLattice } from "./lattice.ts";

const absent = (): never => {
  throw new Error("not part of this test");
};

export function testHost({ config, roster, secrets }: TestLattice, self: number): AtelierHost {
  const own = secrets[self];
  if (own === undefined) throw new Error(`no member ${self}`);
  return {
    config,
    organism: "atelier",
    committee: roster.committee,
    self,
    roster,
    rosterAt: () => roster,
    sharesAt: () => own,
    rosters: { zipnet: roster, unseal: roster, offer: roster, atelier: roster, relay: roster, tally: roster },
    settings: { ATELIER_CHAIN_RPC: "", ATELIER_GENESIS_FILE: "", ATELIER_SEQUENCER_URL: "" },
    secrets: own,
    clock: { nowMs: () => config.genesisMs },
    timers: nodeTimers,
    random,
    get journal() {
      return absent();
    },
    log: createLogger("silent", {}),
    meters: createNoMeters(),
    bodies: { put: async () => absent(), get: async () => absent() },
    directory: "",
    state: () => ({ slots: new Map() }),
    caughtUp: () => true,
    submit: async () => absent(),
    outcome: () => undefined,
    certified: () => undefined,
    watch: absent,
    observed: () => undefined,
    fetchBody: async () => absent(),
    wake: () => undefined,
  };
}

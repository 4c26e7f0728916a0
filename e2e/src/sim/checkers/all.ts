/** Every invariant that concerns this level, as one list. */
import type { Clients } from "../clients.ts";
import type { Checker } from "../observer.ts";
import type { World } from "../world.ts";
import { auctionReplay } from "./auction.ts";
import { certificates } from "./certificates.ts";
import { frauds } from "./frauds.ts";
import { snapshotsGoOn } from "./goes-on.ts";
import { laneOrder } from "./lanes.ts";
import { ledgers } from "./ledgers.ts";
import { liedTo } from "./lied-to.ts";
import { missingLiveness } from "./liveness.ts";
import { oneOutcome } from "./one-outcome.ts";
import { oneWord } from "./one-word.ts";
import { refunds } from "./refunds.ts";
import { nothingRemains } from "./remains.ts";
import { sameHistory } from "./same-history.ts";
import { sameState, snapshotsOnce } from "./same-state.ts";
import { sealedUntilClose } from "./sealed-until-close.ts";

/** What holds whatever brokers do. The others judge a committee by its one log. */
export const OF_ANY_LOG: readonly string[] = [
  "one certificate per stage and slot",
  "a certificate has a quorum",
  "a certificate verifies",
  "one word per promise",
  "no honest member is taken for a fraud",
  "whoever is shown another log stops",
];

export interface Checkers {
  readonly all: readonly Checker[];
  /** Who is judged; before the first event. */
  knows(clients: Clients, world: World): void;
  judgeLiveness(world: World, slots: number, mode: "liveness" | "calm"): void;
}

export function makeCheckers(): Checkers {
  let known: { readonly clients: Clients; readonly world: World } | undefined;
  const parties = (): { readonly clients: Clients; readonly world: World } => {
    if (known === undefined) throw new Error("checkers judge before they know whom");
    return known;
  };
  const clients = (): Clients => parties().clients;
  const world = (): World => parties().world;
  const snapshotOf = snapshotsOnce();
  return {
    all: [
      sameHistory(),
      laneOrder(),
      frauds(world),
      ...sameState(snapshotOf),
      ...snapshotsGoOn(world, snapshotOf),
      nothingRemains(world),
      oneOutcome(),
      ...certificates(world),
      ...sealedUntilClose(),
      ...oneWord(world),
      ...ledgers(clients),
      auctionReplay(clients, world),
      ...refunds(world),
      liedTo(),
    ],
    knows(given, of) {
      known = { clients: given, world: of };
    },
    judgeLiveness(of, slots, mode) {
      const missing = missingLiveness(of, slots, mode);
      if (missing !== undefined) of.fail("it comes back", missing);
    },
  };
}

/**
 * One `Network` for many lattices, and the typed verbs of each organism: the surface for integrators who write
 * TypeScript. Ids stay inside: a handle is made from a config, and every outcome that comes out has been verified
 * under it. Nobody there is `ConnectTimeout`; somebody else there is `ORGANISM_MISMATCH`.
 */
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { EraBook } from "@lattice/organism/node/era-book.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import type { Rosters } from "@lattice/organism/node/kit.ts";
import { type Endpoints, OutcomeFollower } from "@lattice/organism/node/outcome-follower.ts";
import { lastingRosters, type RosterView } from "@lattice/organism/node/roster-book.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import type { Clock, Random } from "@lattice/organism/ports.ts";
import { type Client, connectAny } from "@lattice/organism/rpc/client.ts";
import { LiveQueue } from "@lattice/organism/rpc/live-queue.ts";
import { AtelierService } from "@lattice/proto/lattice/atelier/v1/atelier_service_pb.ts";
import { TallyService } from "@lattice/proto/lattice/tally/v1/tally_service_pb.ts";
import { RoundFeed } from "@lattice/zipnet/client/round-feed.ts";
import { type SubmitOptions, type Submitter, submit } from "@lattice/zipnet/client/submit.ts";
import { Bidder } from "./bids.ts";

/** Where one lattice is found. Hints and certified facts; nothing here is secret. */
export interface Found {
  /** The kit's. */
  readonly rosters: Rosters;
  /** Those of later epochs too, for processes that outlive one: a `RosterWatch`. The kit's when left out. */
  readonly rosterOf?: RosterView;
  /** The kit's; what is learned of later ones goes there. Those that the config pins when left out. */
  readonly eras?: EraBook;
  readonly endpoints: () => Endpoints & { readonly aggregator: readonly string[] };
}

/** What every handle needs of the process it runs in. `find` says where a lattice is. */
export interface Network {
  readonly find: (config: LatticeConfig) => Found;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** Outcomes a reader may lag behind before its stream ends. */
const BUFFER = 4096;

function erasOf(
  config: LatticeConfig,
  endpoints: Found["endpoints"],
  log: Logger,
  eras: EraBook | undefined,
): EraWatch {
  const addresses = (organism: Organism): readonly string[] => endpoints()[organism];
  return new EraWatch({ config, addresses, log, ...(eras === undefined ? {} : { eras }) });
}

/** Certified outcomes of one organism from `fromSlot` on, each verified, as they come. Ends when `signal` aborts. */
async function* outcomesOf(
  network: Network,
  config: LatticeConfig,
  organism: Organism,
  stage: string,
  fromSlot: bigint,
  signal: AbortSignal,
): AsyncGenerator<CertifiedOutcome> {
  const { rosters, endpoints, eras: book } = network.find(config);
  const eras = erasOf(config, endpoints, network.log, book);
  const queue = new LiveQueue<CertifiedOutcome>(BUFFER, signal, organism);
  const seen = new Set<bigint>();
  const follower = new OutcomeFollower({
    config,
    rosters,
    endpoints,
    log: network.log,
    offset: network.random(1)[0] ?? 0,
    fromSlot: () => fromSlot,
    known: (_organism, outcome) => seen.has(outcome.slot),
    eras: eras.of,
    onUnverified: (of) => void eras.ask(of),
    onOutcome: (_organism, certified) => {
      seen.add(certified.outcome.slot);
      queue.push(certified);
    },
  });
  follower.follow([{ organism, stage }]);
  try {
    yield* queue;
  } finally {
    await follower.close();
  }
}

/** zipnet: send anonymously. */
export const zipnet = {
  /** One client identity that answers every round and carries messages. Call `stop()` on both when done. */
  submit(
    network: Network,
    config: LatticeConfig,
    options: SubmitOptions,
  ): { readonly submitter: Submitter; readonly feed: RoundFeed } {
    const { endpoints, eras: book } = network.find(config);
    const eras = erasOf(config, endpoints, network.log, book);
    const feed = new RoundFeed({
      config,
      eras,
      servers: () => endpoints().zipnet,
      log: network.log,
      first: network.random(1)[0] ?? 0,
    });
    feed.start();
    const { clock, random, log } = network;
    const submitter = submit(
      {
        servers: () => endpoints().zipnet,
        aggregators: () => endpoints().aggregator,
        feed,
        eras: eras.of,
        clock,
        random,
        log,
      },
      config,
      options,
    );
    return { submitter, feed };
  },
  broadcasts: (network: Network, config: LatticeConfig, fromSlot: bigint, signal: AbortSignal) =>
    outcomesOf(network, config, "zipnet", "broadcast", fromSlot, signal),
};

/** unseal: what was said. */
export const unseal = {
  rounds: (network: Network, config: LatticeConfig, fromSlot: bigint, signal: AbortSignal) =>
    outcomesOf(network, config, "unseal", "unsealed", fromSlot, signal),
};

/** offer: bid, and see who won. */
export const offer = {
  /** A searcher's hand: reserves payment ids, seals and submits bids. */
  bid(
    network: Network,
    config: LatticeConfig,
    searcher: { readonly key: Uint8Array; readonly tickets: (searcher: Uint8Array) => readonly Uint8Array[] },
  ): Bidder {
    const { rosters, rosterOf, endpoints } = network.find(config);
    return new Bidder({
      config,
      rosters: rosterOf ?? lastingRosters(rosters),
      endpoints,
      clock: network.clock,
      searcherKey: searcher.key,
      tickets: searcher.tickets,
    });
  },
  outcomes: (network: Network, config: LatticeConfig, fromSlot: bigint, signal: AbortSignal) =>
    outcomesOf(network, config, "offer", "auction", fromSlot, signal),
};

/** atelier: candidate blocks. */
export const atelier = {
  read(network: Network, config: LatticeConfig): Client<typeof AtelierService> {
    return connectAny(AtelierService, network.find(config).endpoints().atelier, {
      committee: committeeId(config, "atelier"),
    });
  },
  candidates: (network: Network, config: LatticeConfig, fromSlot: bigint, signal: AbortSignal) =>
    outcomesOf(network, config, "atelier", "candidate", fromSlot, signal),
};

/** relay: what was taken. */
export const relay = {
  watch: (network: Network, config: LatticeConfig, fromSlot: bigint, signal: AbortSignal) =>
    outcomesOf(network, config, "relay", "accepted", fromSlot, signal),
};

/** tally: who is owed what. */
export const tally = {
  read(network: Network, config: LatticeConfig): Client<typeof TallyService> {
    return connectAny(TallyService, network.find(config).endpoints().tally, {
      committee: committeeId(config, "tally"),
    });
  },
  attributions: (network: Network, config: LatticeConfig, fromSlot: bigint, signal: AbortSignal) =>
    outcomesOf(network, config, "tally", "attribution", fromSlot, signal),
  attestations(network: Network, config: LatticeConfig, fromBatch: bigint, signal: AbortSignal) {
    return tally.read(network, config).watchAttestations({ fromBatch }, { signal });
  },
};

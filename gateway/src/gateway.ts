/** The gateway, running: follows the lattice, keeps its zipnet clients answering, and serves its users on one port. */
import { randomBytes } from "node:crypto";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { fromHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { type LatticeConfig, slotAt, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import type { EraBook } from "@lattice/organism/node/era-book.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import type { EndpointsFile, Rosters } from "@lattice/organism/node/kit.ts";
import { OutcomeFollower } from "@lattice/organism/node/outcome-follower.ts";
import { RosterWatch } from "@lattice/organism/node/roster-watch.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import type { Meters } from "@lattice/organism/observe/meters.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import type { Clock } from "@lattice/organism/ports.ts";
import { RoundFeed } from "@lattice/zipnet/client/round-feed.ts";
import { type Network, type Submitter, submit } from "@lattice/zipnet/client/submit.ts";
import { messagesOf } from "@lattice/zipnet/client/zipnet-client.ts";
import { Bidder } from "./bids.ts";
import { callMeter } from "./call-meter.ts";
import { ChainHead } from "./chain-head.ts";
import { ChainReads, isForwarded } from "./chain-reads.ts";
import type { GatewaySettings } from "./config.ts";
import { gatewayFault } from "./faults.ts";
import { httpDoor } from "./http-door.ts";
import { tellingOfLoss } from "./journal-loss.ts";
import { type Caller, JsonRpc } from "./json-rpc.ts";
import { OnePort } from "./one-port.ts";
import { problemFields } from "./problem.ts";
import { Refunds } from "./refunds.ts";
import { latticeMethods } from "./rpc-methods.ts";
import { gatewayRoutes } from "./service.ts";
import { SlotBook } from "./slot-book.ts";
import { disclosureOf, SubmissionBook } from "./submissions.ts";
import { readSecretFile, ticketMaker } from "./tickets.ts";

/** The largest message over Connect and gRPC: a transaction or a bundle, with room. */
const MESSAGE_BYTES_MAX = 1 << 20;
/** The chain counts as answering this long after it last did. */
const CHAIN_FRESH_MS = 10_000;

export interface GatewayOptions {
  readonly settings: GatewaySettings;
  readonly config: LatticeConfig;
  readonly rosters: Rosters;
  /** The eras that the kit tells of; those that the config pins when left out. */
  readonly eras?: EraBook;
  readonly endpoints: () => EndpointsFile;
  readonly clock: Clock;
  readonly log: Logger;
  readonly meters: Meters;
  /** It can take nothing over any more, and must end: what it has taken is on disk. */
  readonly onFatal?: (reason: "JOURNAL_LOST") => void;
}

export interface RunningGateway {
  readonly port: number;
  /** True once every zipnet client is registered, and while the chain answers. */
  ready(): boolean;
  /** Sets the gauges to what is true now. */
  measure(): void;
  stop(): Promise<void>;
}

/** @throws KitProblem, CorruptFile, Fault ADDRESS_IN_USE or ADDRESS_REFUSED */
export async function startGateway(options: GatewayOptions): Promise<RunningGateway> {
  const { settings, config, rosters, endpoints, clock, log, meters } = options;
  const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));
  const tickets = ticketMaker(settings, config, clock);
  const searcherKey =
    settings.GATEWAY_SEARCHER_KEY_FILE === undefined
      ? undefined
      : readSecretFile(settings.GATEWAY_SEARCHER_KEY_FILE, "searcher key", "secret");
  const stopping = new AbortController();
  const journal = tellingOfLoss(await FileJournal.open(settings.GATEWAY_DATA_DIR), (error) => {
    if (stopping.signal.aborted) return;
    log.error("the journal cannot be written any more", problemFields(error));
    options.onFatal?.("JOURNAL_LOST");
  });
  const chain = new ChainReads(settings.GATEWAY_CHAIN_RPC);
  // Sealing keys are those of the slot's epoch; signers of tally stay what the settlement contract knows.
  const eras = new EraWatch({
    config,
    addresses: (organism) => endpoints()[organism],
    log,
    ...(options.eras === undefined ? {} : { eras: options.eras }),
  });
  const watched = new RosterWatch({
    config,
    rosters,
    eras: eras.book,
    organisms: ["unseal", "offer"],
    endpoints,
    clock,
    log,
    meters,
    evidenceDirectory: settings.GATEWAY_DATA_DIR,
  });
  const submissions = new SubmissionBook({
    config,
    rosters: watched,
    journal,
    chain,
    random,
    log,
    pendingMax: settings.GATEWAY_MAX_PENDING,
  });
  const head = new ChainHead({
    block: (which) => chain.block(which),
    onBlock: (block) => submissions.landed(block),
    onDropped: (block) => submissions.dropped(block),
  });
  const slots = new SlotBook({ config, clock, log });
  const bidder =
    searcherKey === undefined
      ? undefined
      : new Bidder({
          config,
          rosters: watched,
          endpoints,
          clock,
          searcherKey,
          tickets: (searcher) => tickets("offer", searcher),
        });
  const refunds = new Refunds({ config, rosters, endpoints });

  const biddingOrigins = settings.GATEWAY_BIDDING_ORIGINS.split(",").map((origin) => origin.trim());
  const checkBidder = ({ origin }: Caller): void => {
    if (origin !== undefined && !biddingOrigins.includes(origin)) throw gatewayFault("ORIGIN_REFUSED");
  };
  /** A block number is a guess at a slot: one block a slot, counted from the head's. */
  const slotOfNumber = (blockNumber: bigint): bigint => {
    const newest = head.head;
    if (newest === undefined) throw gatewayFault("CHAIN_UNREACHABLE");
    if (blockNumber <= newest.number) throw gatewayFault("BAD_REQUEST", `block ${blockNumber} exists already`);
    const headSlot = slots.slotOfBlock(fromHex(newest.hash)) ?? slotAt(config, clock.nowMs());
    return headSlot + (blockNumber - newest.number);
  };

  let chainAnsweredAtMs = Number.NEGATIVE_INFINITY;
  const pollChain = async (): Promise<void> => {
    await head.poll();
    chainAnsweredAtMs = performance.now();
  };

  const disclosure = disclosureOf(settings.GATEWAY_DISCLOSURE);
  const shared = { config, submissions, bidder, disclosure, checkBidder, log, meters };
  const jsonRpc = new JsonRpc(
    latticeMethods({ ...shared, clock, chain, slotOfNumber, catchUp: pollChain }),
    (method, params) => chain.forward(method, params),
    log,
    callMeter(meters, isForwarded),
  );
  const connect = connectNodeAdapter({
    readMaxBytes: MESSAGE_BYTES_MAX,
    // A misspelt field is a mistake to be told about, not one to be passed over.
    jsonOptions: { ignoreUnknownFields: false },
    routes: (router) =>
      gatewayRoutes(router, {
        ...shared,
        slots,
        stopping: stopping.signal,
        refunds: (recipient) => refunds.of(recipient),
      }),
  });

  const clients: Submitter[] = [];
  const ready = (): boolean =>
    clients.length === settings.GATEWAY_CLIENTS &&
    clients.every((client) => client.ready) &&
    performance.now() - chainAnsweredAtMs < CHAIN_FRESH_MS;

  // The port first: a gateway that cannot be reached should not register clients.
  const port = new OnePort(httpDoor({ jsonRpc, connect, ready }));
  let bound: number;
  try {
    bound = await port.listen(settings.GATEWAY_LISTEN);
  } catch (error) {
    watched.close();
    refunds.close();
    bidder?.close();
    await journal.close();
    throw error;
  }

  const follower = new OutcomeFollower({
    config,
    rosters,
    endpoints,
    log,
    offset: random(1)[0] ?? 0,
    fromSlot: () => slots.oldest,
    known: (organism, outcome) => slots.knows(organism, outcome),
    eras: eras.of,
    onUnverified: (organism) => void eras.ask(organism),
    onOutcome: (organism, certified) => {
      slots.note(organism, certified);
      meters.count("lattice_gateway_outcomes_total", 1, { of: organism });
      const { stage, slot, commitment, kind } = certified.outcome;
      if (organism !== "unseal" || stage !== "unsealed") return;
      submissions.unsealed(slot, kind, kind === "skipped" ? undefined : tryDecode(UNSEALED, commitment));
    },
  });
  const feed = new RoundFeed({ config, servers: () => endpoints().zipnet, eras, clock, log, first: random(1)[0] ?? 0 });
  const network: Network = {
    servers: () => endpoints().zipnet,
    aggregators: () => endpoints().aggregator,
    feed,
    eras: eras.of,
    clock,
    random,
    log,
  };
  for (let index = 0; index < settings.GATEWAY_CLIENTS; index++) {
    const name = `zipnet-client/${index}`;
    const state = journal.get(name);
    clients.push(
      submit(network, config, {
        ...(state === undefined ? {} : { state }),
        store: (bytes) => journal.put(name, bytes),
        tickets: async (envelopeKey) => tickets("zipnet", envelopeKey),
        next: (slot) => submissions.next(slot),
        settled: (result) => submissions.settled(result),
      }),
    );
  }
  feed.listen({
    broadcast: (certified, body) => {
      const messages = messagesOf(certified, body);
      if (messages === undefined) return;
      submissions.broadcast(
        certified.outcome.slot,
        messages.map(({ messageId }) => messageId),
      );
    },
  });
  follower.followAll(ORGANISMS);
  feed.start();

  const polling = every(pollIntervalMs(config), stopping.signal, pollChain, (error) =>
    log.debug("the chain's head could not be read", problemFields(error)),
  );
  const untilMidSlotMs = (): number => {
    const now = clock.nowMs();
    const midMs = slotStartMs(config, slotAt(config, now) + 1n) + config.slotMs / 2 - now;
    return Math.min(Math.max(midMs, 200), 2 * config.slotMs);
  };
  const reconciling = every(
    untilMidSlotMs,
    stopping.signal,
    () => submissions.reconcile(slotAt(config, clock.nowMs()), pollChain),
    (error) => log.debug("the chain could not be asked about submissions", problemFields(error)),
  );

  return {
    port: bound,
    ready,
    measure() {
      for (const [status, count] of Object.entries(submissions.counts())) {
        meters.gauge("lattice_gateway_submissions", count, { status });
      }
      meters.gauge("lattice_gateway_clients_ready", clients.filter((client) => client.ready).length);
      if (head.head !== undefined) meters.gauge("lattice_gateway_chain_head", Number(head.head.number));
    },
    async stop() {
      stopping.abort();
      await port.close();
      await Promise.all(clients.map((client) => client.stop()));
      await Promise.all([feed.stop(), follower.close(), polling, reconciling]);
      watched.close();
      refunds.close();
      bidder?.close();
      await journal.close();
    },
  };
}

/** Often enough that a wallet sees its receipt soon, at most once a second. */
function pollIntervalMs({ slotMs }: LatticeConfig): () => number {
  return () => Math.min(Math.max(slotMs / 8, 50), 1000);
}

/** Does `work` again and again until `signal` aborts; what fails is reported and tried again at the next turn. */
async function every(
  pauseMs: () => number,
  signal: AbortSignal,
  work: () => Promise<void>,
  failed: (error: unknown) => void,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await work();
    } catch (error) {
      failed(error);
    }
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, pauseMs());
      signal.addEventListener("abort", done);
      if (signal.aborted) done();
    });
  }
}

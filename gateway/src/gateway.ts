/** The gateway, running: follows the lattice, keeps its zipnet clients answering, and serves its users on one port. */
import { randomBytes } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { fromHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { signTicket } from "@lattice/organism/committee/ticket.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { committeeId, type LatticeConfig, slotAt, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { type EndpointsFile, KitProblem, type Rosters } from "@lattice/organism/node/kit.ts";
import { OutcomeFollower } from "@lattice/organism/node/outcome-follower.ts";
import { errorFields, type Logger } from "@lattice/organism/observe/logger.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import type { Clock } from "@lattice/organism/ports.ts";
import { connectAny } from "@lattice/organism/rpc/client.ts";
import { TallyService } from "@lattice/proto/lattice/tally/v1/tally_service_pb.ts";
import { RoundFeed } from "@lattice/zipnet/client/round-feed.ts";
import { type Network, type Submitter, submit } from "@lattice/zipnet/client/submit.ts";
import { z } from "zod";
import { Bidder } from "./bids.ts";
import { ChainReads } from "./chain-reads.ts";
import type { GatewaySettings } from "./config.ts";
import { JsonRpc } from "./json-rpc.ts";
import { OnePort } from "./one-port.ts";
import { latticeMethods } from "./rpc-methods.ts";
import { gatewayRoutes } from "./service.ts";
import { SlotBook } from "./slot-book.ts";
import { disclosureOf, SubmissionBook } from "./submissions.ts";

/** The largest JSON-RPC body. */
const BODY_BYTES_MAX = 4 << 20;
/** How long the gateway's own tickets admit. */
const TICKET_SLOTS = 1_000_000n;

export interface GatewayOptions {
  readonly settings: GatewaySettings;
  readonly config: LatticeConfig;
  readonly rosters: Rosters;
  readonly endpoints: () => EndpointsFile;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface RunningGateway {
  readonly port: number;
  /** True once every zipnet client is registered. */
  ready(): boolean;
  stop(): Promise<void>;
}

function readSecretFile(path: string, what: string, field: "seed" | "secret"): Uint8Array {
  try {
    if ((statSync(path).mode & 0o077) !== 0)
      throw new KitProblem(`${what}: ${path} is open to others; mode 400 expected`);
    const parsed = z
      .object({ [field]: z.string().regex(/^[0-9a-f]{64}$/) })
      .parse(JSON.parse(readFileSync(path, "utf8")));
    return fromHex(String(parsed[field]));
  } catch (error) {
    if (error instanceof KitProblem) throw error;
    throw new KitProblem(`${what}: ${path} is missing or does not hold a 32-byte ${field}`);
  }
}

type TicketMaker = (organism: Organism, subject: Uint8Array) => readonly Uint8Array[];

/** Tickets from a file that an operator handed out, or, in a throw-away lattice, made with the issuer's key. */
function ticketMaker(settings: GatewaySettings, config: LatticeConfig, clock: Clock): TicketMaker {
  const { GATEWAY_ISSUER_FILE: issuerFile, GATEWAY_TICKETS_FILE: ticketsFile } = settings;
  if (issuerFile !== undefined) {
    if (!config.throwAway)
      throw new KitProblem("GATEWAY_ISSUER_FILE: only throw-away lattices let a gateway write its own tickets");
    const issuer = generateSigningKey(readSecretFile(issuerFile, "ticket issuer", "seed"));
    return (organism, subject) =>
      config[organism].acl
        .filter(({ kind }) => kind === "jwt")
        .map(() =>
          signTicket(issuer, {
            audience: committeeId(config, organism),
            subject,
            expSlot: slotAt(config, clock.nowMs()) + TICKET_SLOTS,
          }),
        );
  }
  if (ticketsFile !== undefined) {
    const lines = readFileSync(ticketsFile, "utf8")
      .split("\n")
      .filter((line) => line.trim() !== "");
    return () => lines.map((line) => new TextEncoder().encode(line.trim()));
  }
  return () => [];
}

/** @throws KitProblem, PortInUse, CorruptFile */
export async function startGateway(options: GatewayOptions): Promise<RunningGateway> {
  const { settings, config, rosters, endpoints, clock, log } = options;
  const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));
  const tickets = ticketMaker(settings, config, clock);
  const journal = await FileJournal.open(settings.GATEWAY_DATA_DIR);
  const chain = new ChainReads(settings.GATEWAY_CHAIN_RPC);
  const submissions = new SubmissionBook({
    config,
    rosters,
    journal,
    chain,
    random,
    log,
    pendingMax: settings.GATEWAY_MAX_PENDING,
  });

  const slots = new SlotBook(clock);
  const follower = new OutcomeFollower({
    config,
    rosters,
    endpoints,
    log,
    offset: random(1)[0] ?? 0,
    fromSlot: () => slots.oldest,
    known: (organism, outcome) => slots.knows(organism, outcome),
    onOutcome: (organism, certified) => {
      slots.note(organism, certified);
      const { stage, commitment, kind } = certified.outcome;
      if (organism === "unseal" && stage === "unsealed" && kind === "result") {
        const unsealed = tryDecode(UNSEALED, commitment);
        if (unsealed !== undefined) submissions.unsealed(unsealed);
      }
    },
  });
  follower.followAll(ORGANISMS);

  const feed = new RoundFeed({ config, servers: () => endpoints().zipnet, log, first: random(1)[0] ?? 0 });
  feed.start();
  const network: Network = {
    servers: () => endpoints().zipnet,
    aggregators: () => endpoints().aggregator,
    feed,
    clock,
    random,
    log,
  };
  const clients: Submitter[] = [];
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

  const searcherKey =
    settings.GATEWAY_SEARCHER_KEY_FILE === undefined
      ? undefined
      : readSecretFile(settings.GATEWAY_SEARCHER_KEY_FILE, "searcher key", "secret");
  const bidder =
    searcherKey === undefined
      ? undefined
      : new Bidder({
          config,
          rosters,
          endpoints,
          clock,
          searcherKey,
          tickets: (searcher) => tickets("offer", searcher),
        });

  const disclosure = disclosureOf(settings.GATEWAY_DISCLOSURE);
  const nextBlock = async (): Promise<bigint> => BigInt(String(await chain.call("eth_blockNumber", []))) + 1n;
  const methods = latticeMethods({ config, clock, submissions, bidder, disclosure, nextBlock });
  const jsonRpc = new JsonRpc(methods, (method, params) => chain.forward(method, params), log);
  const tally = connectAny(TallyService, endpoints().tally, { committee: committeeId(config, "tally") });
  const connect = connectNodeAdapter({
    routes: (router) =>
      gatewayRoutes(router, {
        config,
        submissions,
        bidder,
        slots,
        disclosure,
        log,
        refunds: async (recipient) => {
          const { lifetimeTotalWei, proof, batch } = await tally.getClaim({ recipient });
          return { lifetimeWei: lifetimeTotalWei, proof, batch };
        },
      }),
  });

  const port = new OnePort((request, response) => {
    allowBrowsers(request, response);
    if (request.method === "OPTIONS") {
      response.writeHead(204);
      response.end();
    } else if (request.url === "/healthz") {
      response.writeHead(200, { "content-type": "text/plain" });
      response.end("ok\n");
    } else if (request.method === "POST" && (request.url === "/" || request.url === "")) {
      answerJsonRpc(jsonRpc, request, response).catch(() => response.destroy());
    } else connect(request, response);
  });
  const [host = "127.0.0.1", listen = "0"] = settings.GATEWAY_LISTEN.split(":");
  const bound = await port.listen(host, Number(listen));

  let stopped = false;
  const reconcile = async (): Promise<void> => {
    while (!stopped) {
      const now = clock.nowMs();
      const slot = slotAt(config, now);
      const untilMs = slotStartMs(config, slot + 1n) + config.slotMs / 2 - now;
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, Math.min(Math.max(untilMs, 200), 2 * config.slotMs));
        timer.unref();
      });
      if (stopped) return;
      try {
        await submissions.reconcile(slotAt(config, clock.nowMs()));
      } catch (error) {
        log.debug("the chain could not be asked about submissions", errorFields(error));
      }
    }
  };
  void reconcile();

  return {
    port: bound,
    ready: () => clients.every((client) => client.ready),
    async stop() {
      stopped = true;
      await port.close();
      await Promise.all(clients.map((client) => client.stop()));
      await feed.stop();
      await follower.close();
      tally.close();
      bidder?.close();
      await journal.close();
    },
  };
}

/** Browsers may call from anywhere: the gateway holds no cookies. Its operator decides who reaches the port. */
function allowBrowsers(request: IncomingMessage, response: ServerResponse): void {
  if (request.headers.origin === undefined) return;
  response.setHeader("access-control-allow-origin", "*");
  response.setHeader("access-control-allow-methods", "POST, GET, OPTIONS");
  response.setHeader(
    "access-control-allow-headers",
    "content-type, connect-protocol-version, connect-timeout-ms, x-grpc-web, x-user-agent, grpc-timeout, x-flashbots-signature",
  );
  response.setHeader("access-control-expose-headers", "grpc-status, grpc-message, grpc-status-details-bin");
}

async function answerJsonRpc(jsonRpc: JsonRpc, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > BODY_BYTES_MAX) {
      response.writeHead(413, { "content-type": "text/plain" });
      response.end(`at most ${BODY_BYTES_MAX} bytes\n`);
      return;
    }
    parts.push(part);
  }
  const answer = await jsonRpc.answer(Buffer.concat(parts).toString("utf8"));
  response.writeHead(answer === undefined ? 204 : 200, { "content-type": "application/json" });
  response.end(answer);
}

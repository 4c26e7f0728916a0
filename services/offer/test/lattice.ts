/**
 * Three real offer members on an embedded log, with a clock that a test moves, an upstream committee that certifies
 * what the test says, and a JSON-RPC endpoint that answers for the settlement contract.
 */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { encode, toHex } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import { committeeId, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { EmbeddedLog } from "@lattice/organism/log/embedded-log.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { Member } from "@lattice/organism/node/member.ts";
import type { Fields } from "@lattice/organism/observe/logger.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { type Client, connectService } from "@lattice/organism/rpc/client.ts";
import { LiveQueue } from "@lattice/organism/rpc/live-queue.ts";
import { type RunningServer, startServer } from "@lattice/organism/rpc/server.ts";
import { defineSome } from "@lattice/organism/testing/some-methods.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { OfferService } from "@lattice/proto/lattice/offer/v1/offer_service_pb.ts";
import { SETTINGS, type Settings } from "../src/config.ts";
import type { Command, OfferDuty, State } from "../src/core/types.ts";
import { definition } from "../src/definition.ts";
import { random, type TestCommittee } from "./fixture.ts";

export type OfferMember = Member<State, Command, OfferDuty, Settings>;

const NO_METERS = { count: () => undefined, gauge: () => undefined, record: () => undefined };

export class TestClock {
  #offsetMs: number;
  constructor(startMs: number) {
    this.#offsetMs = startMs - performance.now();
  }
  nowMs = (): number => Math.floor(this.#offsetMs + performance.now());
  /** Never back. */
  moveTo(ms: number): void {
    this.#offsetMs += Math.max(0, ms - this.nowMs());
  }
}

/** `escrowOf(address)` and `charged(bytes32)` over JSON-RPC, as an execution client answers them. */
export class ChainEndpoint {
  readonly escrow = new Map<string, bigint>();
  readonly charged = new Set<string>();
  down = false;
  #server: Server | undefined;

  async start(): Promise<string> {
    this.#server = createServer((request, response) => {
      if (this.down) {
        response.destroy();
        return;
      }
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const calls = JSON.parse(Buffer.concat(chunks).toString("utf8")) as RpcCall[];
        response.end(
          JSON.stringify(calls.map((call) => ({ jsonrpc: "2.0", id: call.id, result: this.#answer(call) }))),
        );
      });
    });
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }

  #answer({ method, params }: RpcCall): string {
    if (method === "eth_blockNumber") return "0x64";
    const data = params[0]?.data ?? "";
    const argument = data.slice(10);
    if (data.startsWith(selector("escrowOf(address)"))) return word(this.escrow.get(argument.slice(24)) ?? 0n);
    return word(this.charged.has(argument) ? 1n : 0n);
  }
}

interface RpcCall {
  readonly id: number;
  readonly method: string;
  readonly params: readonly { readonly data: string }[];
}

const selector = (signature: string): string =>
  `0x${toHex(keccak256(new TextEncoder().encode(signature))).slice(0, 8)}`;
const word = (value: bigint): string => `0x${value.toString(16).padStart(64, "0")}`;

/** One organism upstream: certifies with the group's own secret what a test tells it to. */
export class Upstream {
  readonly #committee: TestCommittee;
  readonly #organism: Organism;
  readonly #said: CertifiedOutcome[] = [];
  readonly #readers = new Set<LiveQueue<CertifiedOutcome>>();
  #server: RunningServer | undefined;

  constructor(committee: TestCommittee, organism: Organism) {
    this.#committee = committee;
    this.#organism = organism;
  }

  async start(): Promise<string> {
    const { config } = this.#committee;
    const said = this.#said;
    const readers = this.#readers;
    const service = defineSome(CommitteeService, {
      async *watchOutcomes(_, call) {
        const queue = new LiveQueue<CertifiedOutcome>(1024, call.signal);
        for (const outcome of said) queue.push(outcome);
        readers.add(queue);
        for await (const outcome of queue) yield { event: { case: "outcome", value: toWireOutcome(outcome) } };
      },
    });
    this.#server = await startServer({
      address: "127.0.0.1:0",
      services: [service],
      committee: committeeId(config, this.#organism),
      domain: this.#organism,
      log: SILENT,
      meters: NO_METERS,
    });
    return `127.0.0.1:${this.#server.port}`;
  }

  say(stage: string, slot: bigint, kind: Outcome["kind"], commitment: Uint8Array): void {
    const { config, certificateSecret } = this.#committee;
    const committee = committeeId(config, this.#organism);
    const outcome: Outcome = {
      version: 1,
      committee,
      generation: 0n,
      epoch: 0n,
      slot,
      stage,
      kind,
      commitment,
      bodyHash: undefined,
    };
    const certified = { outcome, signature: blsSign(certificateSecret, outcomeDigest(outcome)), signers: [0, 1] };
    this.#said.push(certified);
    for (const reader of this.#readers) reader.push(certified);
  }

  stop(): void {
    this.#server?.close();
  }
}

/** Keeps what members log, so that a test can look for what must not be there. */
export class Lines {
  readonly all: string[] = [];
  readonly logger = {
    debug: (message: string, fields?: Fields) => this.#add(message, fields),
    info: (message: string, fields?: Fields) => this.#add(message, fields),
    warn: (message: string, fields?: Fields) => this.#add(message, fields),
    error: (message: string, fields?: Fields) => this.#add(message, fields),
  };
  #add(message: string, fields: Fields = {}): void {
    this.all.push(
      `${message} ${Object.entries(fields)
        .map(([key, value]) => `${key}=${String(value)}`)
        .join(" ")}`,
    );
  }
}

const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

/** When a test gives up. */
const PATIENCE_MS = 120_000;

export class OfferLattice {
  readonly committee: TestCommittee;
  readonly clock: TestClock;
  readonly chain = new ChainEndpoint();
  readonly unseal: Upstream;
  readonly tally: Upstream;
  readonly lines = new Lines();
  readonly members: OfferMember[] = [];
  log: EmbeddedLog | undefined;
  readonly #directory: string;
  readonly #servers: RunningServer[] = [];
  readonly #clients: Client<typeof OfferService>[] = [];
  #chainUrl = "";
  #addresses = { unseal: "", tally: "" };

  constructor(committee: TestCommittee, directory: string) {
    this.committee = committee;
    this.#directory = directory;
    this.clock = new TestClock(committee.config.genesisMs + 100);
    this.unseal = new Upstream(committee, "unseal");
    this.tally = new Upstream(committee, "tally");
  }

  async start(): Promise<void> {
    this.log = await EmbeddedLog.open(join(this.#directory, "log"));
    this.#chainUrl = await this.chain.start();
    this.#addresses = { unseal: await this.unseal.start(), tally: await this.tally.start() };
    for (const index of [0, 1, 2]) await this.startMember(index, false);
  }

  async startMember(index: number, journalIsOld: boolean): Promise<OfferMember> {
    const { committee, log } = this;
    const secrets = committee.secrets[index];
    if (secrets === undefined || log === undefined) throw new Error(`no member ${index}`);
    const directory = join(this.#directory, `member-${index}`);
    const { unseal, tally } = this.#addresses;
    const none = { zipnet: [], offer: [], atelier: [], relay: [] };
    const member = await Member.start<State, Command, OfferDuty, Settings>({
      definition,
      settings: SETTINGS.parse({ OFFER_CHAIN_RPC: this.#chainUrl }),
      config: committee.config,
      self: index,
      rosters: committee.rosters,
      certifiedRoster: committee.certifiedRoster,
      secrets,
      endpoints: () => ({ ...none, unseal: [unseal], tally: [tally] }),
      log: log.member(index),
      journal: await FileJournal.open(directory),
      journalIsOld,
      directory,
      clock: this.clock,
      random,
      logger: this.lines.logger,
      meters: NO_METERS,
      tracer: { span: () => undefined, root: () => undefined, close: async () => undefined },
      onFatal: (reason, detail) => {
        throw new Error(`${reason}: ${detail}`);
      },
    });
    this.members[index] = member;
    return member;
  }

  /** A gRPC client of one member's OfferService. */
  async client(index: number): Promise<Client<typeof OfferService>> {
    const member = this.member(index);
    const committee = committeeId(this.committee.config, "offer");
    const server = await startServer({
      address: "127.0.0.1:0",
      services: member.services,
      committee,
      domain: "offer",
      log: SILENT,
      meters: NO_METERS,
    });
    const client = connectService(OfferService, `127.0.0.1:${server.port}`, { committee });
    this.#servers.push(server);
    this.#clients.push(client);
    return client;
  }

  member(index: number): OfferMember {
    const member = this.members[index];
    if (member === undefined) throw new Error(`no member ${index}`);
    return member;
  }

  /** The certified outcome of a stage as a member has it; waits for it. */
  async outcome(stage: string, slot: bigint, index = 0): Promise<CertifiedOutcome> {
    const { host } = this.member(index);
    for await (const each of host.watch(stage, slot, AbortSignal.timeout(PATIENCE_MS))) {
      if (each.outcome.slot === slot) return each;
    }
    throw new Error(`no ${stage} of slot ${slot}`);
  }

  /** Waits until a member's state satisfies `condition`. */
  async until(condition: (state: State) => boolean, index = 0): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    while (!condition(this.member(index).host.state())) {
      if (Date.now() > deadline) throw new Error("the state did not come about in time");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** UnsealedRound of the slot, frozen over `blind`, with these messages undisclosed. */
  unsealRound(slot: bigint, blind: Outcome | undefined, messageIds: readonly Uint8Array[]): void {
    const nothing = { hash: undefined, to: undefined, selector: undefined, rawTransaction: undefined };
    const commitment = encode(UNSEALED, {
      version: 1,
      broadcast: new Uint8Array(32),
      blind: blind === undefined ? undefined : outcomeDigest(blind),
      messages: messageIds.map((messageId) => ({ messageId, contentHash: new Uint8Array(32), disclosed: nothing })),
      failures: [],
    });
    this.unseal.say("unsealed", slot, messageIds.length === 0 ? "empty" : "result", commitment);
  }

  get slot(): bigint {
    return slotAt(this.committee.config, this.clock.nowMs());
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    for (const server of this.#servers) server.close();
    await Promise.all(this.members.map((member) => member.stop(100)));
    this.unseal.stop();
    this.tally.stop();
    await this.chain.stop();
    await this.log?.close();
  }
}

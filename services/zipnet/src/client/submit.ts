/**
 * `submit(network, config, options)`: one client identity that stays registered, answers every round and carries a
 * message when there is one (architecture.md §3, typed constructors). Talking and cover look alike in time as well:
 * every answer leaves at the same distance from its header.
 */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { Fault } from "@lattice/organism/fault.ts";
import { type LatticeConfig, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import type { KnownEras } from "@lattice/organism/node/era-book.ts";
import { errorFields, type Logger } from "@lattice/organism/observe/logger.ts";
import type { Clock, Random } from "@lattice/organism/ports.ts";
import { retryable } from "@lattice/organism/rpc/errors.ts";
import { type AggregatorClient, connectAggregator, connectServers, type ServerClient } from "../node/clients.ts";
import { fromWireServerKey, toWireRegistration } from "../node/wire.ts";
import { pause } from "./pause.ts";
import type { RoundFeed } from "./round-feed.ts";
import { type Answer, type OutgoingMessage, type Settled, ZipnetClient } from "./zipnet-client.ts";

/** Where zipnet answers. Addresses are hints: nothing is trusted because of where it came from. */
export interface Network {
  readonly servers: () => readonly string[];
  readonly aggregators: () => readonly string[];
  readonly feed: RoundFeed;
  /** Which certificate keys speak for which slots; the config's for all when left out. */
  readonly eras?: KnownEras;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

export interface SubmitOptions {
  /** State that `store` was last given, when there is any. */
  readonly state?: Uint8Array;
  /** Makes the client's secret state durable. */
  readonly store: (state: Uint8Array) => Promise<void>;
  /** Tickets for this Ed25519 key, one per admission rule of the config. */
  readonly tickets: (envelopeKey: Uint8Array) => Promise<readonly Uint8Array[]>;
  /**
   * What to say in the round of `slot`, sealed for it; undefined for cover. Asked only when the client may talk. It
   * has a quarter of the round's time, then cover goes out.
   */
  readonly next: (slot: bigint) => Promise<OutgoingMessage | undefined>;
  /**
   * What became of an answer. Every message that `next` gave comes back here once, also when it was not ready in time
   * (`lost`), as long as this process lives. `lost` messages are the caller's to seal again.
   */
  readonly settled?: (result: Settled) => void;
}

const RETRY_MS = 300;
/** A registration is renewed this many slots before it ends. */
const RENEW_SLOTS = 64n;
/** Every answer leaves this long after its header was seen, at most. */
const HOLD_MS = 300;

export class Submitter {
  readonly #network: Network;
  readonly #config: LatticeConfig;
  readonly #options: SubmitOptions;
  readonly #stop = new AbortController();
  readonly #aggregators = new Map<string, AggregatorClient>();
  #servers: { readonly addresses: string; readonly client: ServerClient } | undefined;
  #client: ZipnetClient | undefined;
  #registering: Promise<void> | undefined;
  #unlisten: () => void = () => undefined;
  #aggregator: number;
  #working: Promise<unknown> = Promise.resolve();

  constructor(network: Network, config: LatticeConfig, options: SubmitOptions) {
    this.#network = network;
    this.#config = config;
    this.#options = options;
    this.#aggregator = network.random(1)[0] ?? 0;
    if (options.state !== undefined) this.#client = ZipnetClient.restore(this.#clientOptions, options.state);
  }

  get #clientOptions() {
    const { random, eras } = this.#network;
    return { config: this.#config, random, store: this.#options.store, ...(eras === undefined ? {} : { eras }) };
  }

  /** True once the client is registered. */
  get ready(): boolean {
    return this.#client?.expiresSlot !== undefined;
  }

  start(): void {
    this.#unlisten = this.#network.feed.listen({
      header: (certified) => this.#run("a round was not answered", () => this.#answer(certified)),
      broadcast: (certified, body) => this.#run("a broadcast was not read", () => this.#settle(certified, body)),
    });
    this.#ensureRegistered();
  }

  #run(what: string, work: () => Promise<void>): void {
    const run = work().catch((error: unknown) => {
      if (!this.#stop.signal.aborted) this.#network.log.debug(what, errorFields(error));
    });
    this.#working = Promise.all([this.#working, run]);
  }

  /** Registers, or renews, in the background; one attempt at a time. */
  #ensureRegistered(): void {
    const { clock } = this.#network;
    const ends = this.#client?.expiresSlot;
    if (ends !== undefined && ends > slotAt(this.#config, clock.nowMs()) + RENEW_SLOTS) return;
    this.#registering ??= this.#registerAgain();
  }

  #registerAgain(): Promise<void> {
    return this.#register().finally(() => {
      this.#registering = undefined;
    });
  }

  async #register(): Promise<void> {
    const { log } = this.#network;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const servers = this.#connection();
        this.#client ??= await this.#newClient(servers);
        const client = this.#client;
        const tickets = await this.#options.tickets(client.envelopeKey);
        const answer = await servers.register(toWireRegistration(client.registration(tickets)), { signal });
        if (!equalBytes(answer.clientId, client.id)) throw new Error("the server registered somebody else");
        const { fromRho, afterSlot, expiresSlot } = answer;
        await client.registered({ fromRho, afterSlot, expiresSlot });
        return;
      } catch (error) {
        if (signal.aborted) return;
        log.debug("not registered yet", errorFields(error));
        // Keys that the committee will not take are of no further use.
        if (error instanceof Fault && !retryable(error) && KEYS_SPENT.has(error.reason)) this.#client = undefined;
        await pause(RETRY_MS, signal);
      }
    }
  }

  #connection(): ServerClient {
    const { servers, random } = this.#network;
    const addresses = servers();
    const listed = addresses.join();
    // A server may move: its address is a hint for now.
    if (this.#servers?.addresses !== listed) {
      this.#servers?.client.close();
      this.#servers = { addresses: listed, client: connectServers(this.#config, addresses, random(1)[0] ?? 0) };
    }
    return this.#servers.client;
  }

  async #newClient(servers: ServerClient): Promise<ZipnetClient> {
    const answer = await servers.getServers({}, { signal: this.#stop.signal });
    return ZipnetClient.create(this.#clientOptions, answer.servers.map(fromWireServerKey));
  }

  async #answer(certified: CertifiedOutcome): Promise<void> {
    const { clock } = this.#network;
    this.#ensureRegistered();
    const client = this.#client;
    if (client === undefined) return;
    // No round for want of clients: perhaps because servers have new keys and everybody must agree again.
    if (certified.outcome.kind !== "result") return this.#checkServers(client);
    const seenMs = clock.nowMs();
    let rho: bigint;
    let closeMs: number;
    try {
      const { header } = client.read(certified, seenMs);
      rho = header.rho;
      closeMs = Number(header.closeMs);
    } catch (error) {
      if (error instanceof Fault && error.reason === "HEADER_SERIAL") this.#startAfresh();
      throw error;
    }
    const holdMs = Math.min(HOLD_MS, (closeMs - seenMs) / 4);
    const held = pause(holdMs, this.#stop.signal);
    const { slot } = certified.outcome;
    const asked = client.mayTalk(rho) ? this.#options.next(slot) : Promise.resolve(undefined);
    const message = await Promise.race([asked, held.then(() => undefined)]);
    await held;
    const giveBack = (unsent: OutgoingMessage | undefined): void => {
      if (unsent !== undefined) this.#options.settled?.({ slot, rho, messageId: unsent.messageId, fate: "lost" });
    };
    if (message === undefined) asked.then(giveBack, () => undefined);
    let answer: Answer;
    try {
      answer = await client.answer(certified, message, clock.nowMs());
    } catch (error) {
      giveBack(message);
      throw error;
    }
    if (answer.messageId === undefined) giveBack(message);
    await this.#send(answer.envelope, closeMs);
  }

  /** A server has a new key: the old relation is worth nothing any more. */
  #startAfresh(): void {
    this.#client = undefined;
    this.#ensureRegistered();
  }

  async #checkServers(client: ZipnetClient): Promise<void> {
    const answer = await this.#connection().getServers({}, { signal: this.#stop.signal });
    if (this.#client !== client) return;
    if (client.outdatedBy(answer.servers.map(fromWireServerKey))) this.#startAfresh();
  }

  async #send(envelope: Uint8Array, closeMs: number): Promise<void> {
    const { aggregators, clock } = this.#network;
    const { signal } = this.#stop;
    const addresses = aggregators();
    const address = addresses[this.#aggregator % Math.max(addresses.length, 1)];
    if (address === undefined) return;
    let client = this.#aggregators.get(address);
    if (client === undefined) {
      client = connectAggregator(this.#config, address);
      this.#aggregators.set(address, client);
    }
    while (!signal.aborted && clock.nowMs() < closeMs) {
      try {
        await client.submit({ envelope }, { signal, deadlineMs: Math.max(1, closeMs - clock.nowMs()) });
        return;
      } catch (error) {
        // The same bytes to the same aggregator: two sums that both hold them would cancel out.
        if (!(error instanceof Fault)) throw error;
        // The committee does not count us any more: say again who we are, and learn why not.
        if (error.reason === "NOT_IN_ROSTER") this.#registering ??= this.#registerAgain();
        if (!retryable(error) && error.reason !== "NO_ROUND") throw error;
        await pause(RETRY_MS / 3, signal);
      }
    }
  }

  async #settle(certified: CertifiedOutcome, body: Uint8Array | undefined): Promise<void> {
    const result = await this.#client?.settle(certified, body);
    if (result === undefined) return;
    // Left out: another aggregator next time.
    if (result.fate === "lost") this.#aggregator += 1 + ((this.#network.random(1)[0] ?? 0) & 1);
    this.#options.settled?.(result);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#unlisten();
    await this.#registering;
    await this.#working;
    for (const client of this.#aggregators.values()) client.close();
    this.#servers?.client.close();
  }
}

const KEYS_SPENT: ReadonlySet<string> = new Set([
  "SERVER_KEY_STALE",
  "CLIENT_STRUCK",
  "ALREADY_REGISTERED",
  "BAD_KEY",
  "BAD_SIGNATURE",
]);

/** A running client of this lattice. Call `stop()` when done. */
export function submit(network: Network, config: LatticeConfig, options: SubmitOptions): Submitter {
  const submitter = new Submitter(network, config, options);
  submitter.start();
  return submitter;
}

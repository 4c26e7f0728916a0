/**
 * Follows committees from outside: subscribes to f + 1 members of each, moves on when one fails or falls silent, and
 * verifies every certificate at the door (log.md §8). Used by members for their upstream and by the gateway for all.
 */
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { type CertifiedOutcome, checkOutcome, type Outcome } from "../committee/outcome.ts";
import type { Roster } from "../committee/roster.ts";
import { rosterQuorum } from "../committee/roster.ts";
import { committeeId, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Upstream } from "../machine.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import { pause, type Timers } from "../ports.ts";
import { type Client, connectService } from "../rpc/client.ts";
import { fromWireOutcome } from "./committee-wire.ts";
import type { KnownEras } from "./era-book.ts";
import { nodeTimers } from "./node-timers.ts";

/** Where members of each organism answer, by member index. Hints: nothing is trusted because of its address. */
export type Endpoints = { readonly [O in Organism]: readonly string[] };

/** A connection to one member's CommitteeService. */
export type CommitteeClient = Client<typeof CommitteeService>;

/** How a member of `committee` is reached at an address. */
export type ConnectCommittee = (address: string, committee: Uint8Array) => CommitteeClient;

export const connectOverGrpc: ConnectCommittee = (address, committee) =>
  connectService(CommitteeService, address, { committee });

export interface FollowerOptions {
  readonly config: LatticeConfig;
  readonly rosters: { readonly [O in Organism]: Roster };
  readonly endpoints: () => Endpoints;
  readonly log: Logger;
  /** With which member to begin: different followers spread over different members. */
  readonly offset: number;
  /** The oldest slot still wanted. */
  readonly fromSlot: () => bigint;
  /** True for what need not be verified and reported again. */
  readonly known: (organism: Organism, outcome: Outcome) => boolean;
  readonly onOutcome: (organism: Organism, certified: CertifiedOutcome) => void;
  /** Which certificate keys speak for which slots; the config's for all when left out. */
  readonly eras?: KnownEras | undefined;
  /** Something came that does not verify under them: somebody lies, or an era has begun that is not known here. */
  readonly onUnverified?: (organism: Organism) => void;
  /** gRPC when left out. */
  readonly connect?: ConnectCommittee;
  /** Node's own when left out. */
  readonly timers?: Timers;
  /** Between 0 and 1: spreads reconnections. */
  readonly jitter?: () => number;
}

const RECONNECT_MS = 250;
/** Outcomes in one stream that do not verify before another member is asked: each costs a pairing, and some lines of log. */
const REFUSED_MAX = 64;
/** Outcomes kept that did not verify; whoever lies can fill this up, and then what it pushed out comes with the next stream. */
const UNVERIFIED_MAX = 256;

export class OutcomeFollower {
  readonly #options: FollowerOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>[] = [];
  readonly #clients = new Map<string, CommitteeClient>();
  /** Outcomes that do not verify under the eras known when they came, and how many those were: an era may just have begun. */
  readonly #unverified = new Map<
    string,
    { readonly organism: Organism; readonly certified: CertifiedOutcome; readonly eras: number }
  >();

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  /** Follows every stage of these organisms. */
  followAll(organisms: readonly Organism[]): void {
    for (const organism of organisms) this.#follow(organism, undefined);
  }

  /** Follows the stages named. */
  follow(upstream: readonly Upstream[]): void {
    const stages = new Map<Organism, string[]>();
    for (const { organism, stage } of upstream) stages.set(organism, [...(stages.get(organism) ?? []), stage]);
    for (const [organism, wanted] of stages) this.#follow(organism, wanted);
  }

  #follow(organism: Organism, stages: readonly string[] | undefined): void {
    const roster = this.#options.rosters[organism];
    const streams = rosterQuorum(this.#options.config, organism, roster).faults + 1;
    for (let offset = 0; offset < streams; offset++) this.#running.push(this.#run(organism, stages, offset));
  }

  /** The connection to one member of one organism; kept. */
  client(organism: Organism, address: string): CommitteeClient {
    const key = `${organism} ${address}`;
    let client = this.#clients.get(key);
    if (client === undefined) {
      const { config, connect = connectOverGrpc } = this.#options;
      client = connect(address, committeeId(config, organism));
      this.#clients.set(key, client);
    }
    return client;
  }

  /** One subscription: sticks to a member until it fails or falls silent, then moves on to the next. */
  async #run(organism: Organism, stages: readonly string[] | undefined, offset: number): Promise<void> {
    const { config, offset: own, log, timers = nodeTimers, jitter = Math.random } = this.#options;
    const silenceMs = Math.max(3 * config.slotMs, 6000);
    for (let turn = own + offset; !this.#stop.signal.aborted; turn++) {
      const address = this.#address(organism, turn);
      if (address !== undefined) {
        const silence = new AbortController();
        const listen = (): (() => void) => timers.after(silenceMs, () => silence.abort());
        let heard = listen();
        try {
          const signal = AbortSignal.any([this.#stop.signal, silence.signal]);
          const stream = this.client(organism, address).watchOutcomes(
            { stage: "", fromSlot: this.#options.fromSlot() },
            { signal },
          );
          let refused = 0;
          for await (const { event } of stream) {
            heard();
            heard = listen();
            this.lookAgain(organism);
            if (event.case !== "outcome") continue;
            const certified = fromWireOutcome(event.value);
            if (certified === undefined || stages?.includes(certified.outcome.stage) === false) continue;
            if (!this.#take(organism, certified)) refused += 1;
            if (refused >= REFUSED_MAX) break;
          }
        } catch (error) {
          if (!this.#stop.signal.aborted)
            log.debug("upstream stream ended", { upstream: organism, ...errorFields(error) });
        } finally {
          heard();
        }
      }
      await pause(timers, RECONNECT_MS * (0.5 + jitter()), this.#stop.signal);
    }
  }

  /** Addresses are hints from a file that people edit: one that cannot be read now is looked at again, like a silent member. */
  #address(organism: Organism, turn: number): string | undefined {
    const { endpoints, log } = this.#options;
    try {
      const addresses = endpoints()[organism];
      return addresses[turn % Math.max(addresses.length, 1)];
    } catch (error) {
      log.warn("the endpoints cannot be read", { upstream: organism, ...errorFields(error) });
      return undefined;
    }
  }

  /** @returns false for what does not verify */
  #take(organism: Organism, certified: CertifiedOutcome): boolean {
    const { config, known, log, onOutcome, onUnverified, fromSlot, eras } = this.#options;
    if (certified.outcome.slot < fromSlot() || known(organism, certified.outcome)) return true;
    const refusal = checkOutcome(config, organism, certified, eras?.(organism));
    if (refusal !== undefined) {
      if (refusal.reason === "BAD_CERTIFICATE" && eras !== undefined) {
        this.#keepUnverified(organism, certified, eras(organism).length);
        onUnverified?.(organism);
      }
      log.warn("an upstream member sent an outcome that does not verify", {
        upstream: organism,
        reason: refusal.reason,
      });
      return false;
    }
    onOutcome(organism, certified);
    return true;
  }

  #keepUnverified(organism: Organism, certified: CertifiedOutcome, eras: number): void {
    const { stage, slot } = certified.outcome;
    this.#unverified.set(`${organism}/${stage}/${slot}`, { organism, certified, eras });
    const [oldest] = this.#unverified.keys();
    if (this.#unverified.size > UNVERIFIED_MAX && oldest !== undefined) this.#unverified.delete(oldest);
  }

  /** Another era of that committee is known by now: what did not verify before may do so. */
  lookAgain(organism: Organism): void {
    const { eras } = this.#options;
    if (eras === undefined || this.#unverified.size === 0) return;
    const known = eras(organism).length;
    for (const [key, held] of this.#unverified) {
      if (held.organism !== organism || held.eras >= known) continue;
      this.#unverified.delete(key);
      this.#take(organism, held.certified);
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#running);
    for (const client of this.#clients.values()) client.close();
  }
}

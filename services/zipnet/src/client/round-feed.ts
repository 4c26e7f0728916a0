/** Certified headers and broadcasts from whichever server answers, each verified once, in slot order, for any number of readers. */

import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, checkOutcome } from "@lattice/organism/committee/outcome.ts";
import { committeeId, type LatticeConfig, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { fromWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import type { EraSource } from "@lattice/organism/node/era-watch.ts";
import { errorFields, type Logger } from "@lattice/organism/observe/logger.ts";
import type { Clock } from "@lattice/organism/ports.ts";
import type { CertifiedOutcome as WireOutcome } from "@lattice/proto/lattice/committee/v1/outcome_pb.ts";
import { connectServer, type ServerClient } from "../node/clients.ts";
import { pause } from "./pause.ts";

export interface RoundFeedOptions {
  readonly config: LatticeConfig;
  /** `host:port` of the servers, by index. */
  readonly servers: () => readonly string[];
  /** This machine's clock when left out. */
  readonly clock?: Clock;
  readonly log: Logger;
  /** Which certificate keys speak for which slots; the config's for all when left out. */
  readonly eras?: EraSource;
  /** With which server to begin; different readers spread over different servers. */
  readonly first?: number;
}

export interface RoundListener {
  readonly header?: (certified: CertifiedOutcome) => void;
  /** @param body canonical body, when there is one and the server holds it */
  readonly broadcast?: (certified: CertifiedOutcome, body: Uint8Array | undefined) => void;
}

const RECONNECT_MS = 250;
/** Broadcasts that may have been missed while away are read again this far back. */
const LOOK_BACK_SLOTS = 8n;

export class RoundFeed {
  readonly #options: RoundFeedOptions;
  readonly #committee: Uint8Array;
  readonly #listeners = new Set<RoundListener>();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>[] = [];
  /** The newest slot seen of each stream; begins where a reader that was away may have missed something. */
  #headerSlot: bigint;
  #broadcastSlot: bigint;
  #latest: CertifiedOutcome | undefined;

  constructor(options: RoundFeedOptions) {
    this.#options = options;
    this.#committee = committeeId(options.config, "zipnet");
    const current = slotAt(options.config, options.clock?.nowMs() ?? Date.now());
    this.#headerSlot = current > 0n ? current - 1n : 0n;
    this.#broadcastSlot = current > LOOK_BACK_SLOTS ? current - LOOK_BACK_SLOTS : 0n;
  }

  /** The newest header seen. */
  get latest(): CertifiedOutcome | undefined {
    return this.#latest;
  }

  /** @returns takes the listener away again */
  listen(listener: RoundListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  start(): void {
    this.#running.push(this.#keep((client, signal) => this.#rounds(client, signal)));
    this.#running.push(this.#keep((client, signal) => this.#broadcasts(client, signal)));
  }

  /** Follows one server until it fails or falls silent, then the next. */
  async #keep(follow: (client: ServerClient, signal: AbortSignal) => Promise<void>): Promise<void> {
    const { config, servers, first = 0, log } = this.#options;
    const { signal } = this.#stop;
    for (let turn = first; !signal.aborted; turn++) {
      const addresses = servers();
      const address = addresses[turn % Math.max(addresses.length, 1)];
      if (address !== undefined) {
        const client = connectServer(config, address);
        try {
          await follow(client, signal);
        } catch (error) {
          if (!signal.aborted) log.debug("a stream of rounds ended", errorFields(error));
        } finally {
          client.close();
        }
      }
      await pause(RECONNECT_MS, signal);
    }
  }

  get #idleMs(): number {
    return Math.max(3 * this.#options.config.slotMs, 6000);
  }

  async #verified(wire: WireOutcome, stage: string): Promise<CertifiedOutcome | undefined> {
    const certified = fromWireOutcome(wire);
    if (certified === undefined || certified.outcome.stage !== stage) return undefined;
    if (!equalBytes(certified.outcome.committee, this.#committee)) return undefined;
    const { config, eras } = this.#options;
    const stands = () => checkOutcome(config, "zipnet", certified, eras?.of("zipnet")) === undefined;
    if (stands()) return certified;
    // An era may have begun.
    await eras?.ask("zipnet");
    if (stands()) return certified;
    this.#options.log.warn("a server sent an outcome that does not verify", { stage });
    return undefined;
  }

  async #rounds(client: ServerClient, signal: AbortSignal): Promise<void> {
    const fromSlot = this.#headerSlot + 1n;
    for await (const { event } of client.watchRounds({ fromSlot }, { signal, idleMs: this.#idleMs })) {
      if (event.case !== "header") continue;
      const certified = await this.#verified(event.value, "header");
      if (certified === undefined || certified.outcome.slot <= this.#headerSlot) continue;
      this.#headerSlot = certified.outcome.slot;
      this.#latest = certified;
      for (const listener of this.#listeners) listener.header?.(certified);
    }
  }

  async #broadcasts(client: ServerClient, signal: AbortSignal): Promise<void> {
    const fromSlot = this.#broadcastSlot + 1n;
    for await (const { event } of client.watchBroadcasts({ fromSlot }, { signal, idleMs: this.#idleMs })) {
      if (event.case !== "broadcast" || event.value.outcome === undefined) continue;
      const certified = await this.#verified(event.value.outcome, "broadcast");
      if (certified === undefined || certified.outcome.slot <= this.#broadcastSlot) continue;
      this.#broadcastSlot = certified.outcome.slot;
      const body = event.value.body.length === 0 ? undefined : event.value.body;
      for (const listener of this.#listeners) listener.broadcast?.(certified, body);
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#running);
  }
}

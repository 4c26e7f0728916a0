/**
 * Keeps a reader's rosters up to date from outside: gateways and other clients need the sealing key of each slot, and
 * an epoch brings another. What members answer is judged by roster-book.ts.
 */

import type { Eras } from "../committee/eras.ts";
import type { Roster } from "../committee/roster.ts";
import { committeeId, type LatticeConfig, slotAt } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import type { Clock, Timers } from "../ports.ts";
import type { EraBook } from "./era-book.ts";
import { nodeTimers } from "./node-timers.ts";
import { type CommitteeClient, type ConnectCommittee, connectOverGrpc, type Endpoints } from "./outcome-follower.ts";
import { RosterBook, type RosterView } from "./roster-book.ts";

export interface RosterWatchOptions {
  readonly config: LatticeConfig;
  /** The kit's. */
  readonly rosters: { readonly [O in Organism]: Roster };
  /** Whose rosters are followed. */
  readonly organisms: readonly Organism[];
  readonly endpoints: () => Endpoints;
  readonly clock: Clock;
  readonly log: Logger;
  readonly meters?: Pick<Meters, "count">;
  /** The kit's; those that the config pins when left out. */
  readonly eras?: EraBook;
  /** Where two certified rosters of one epoch are kept. */
  readonly evidenceDirectory?: string;
  /** gRPC when left out. */
  readonly connect?: ConnectCommittee;
  /** Node's own when left out. */
  readonly timers?: Timers;
}

/** Rosters are announced at least eight slots ahead; asked every two, four turns of f + 1 members have passed by then. */
const ASK_EVERY_SLOTS = 2;
const ASK_EVERY_MS_MAX = 10_000;

export class RosterWatch implements RosterView {
  readonly #options: RosterWatchOptions;
  readonly #book: RosterBook;
  readonly #clients = new Map<string, CommitteeClient>();
  readonly #stopAsking: () => void;
  #turn = 0;
  #asking: Promise<void> | undefined;

  constructor(options: RosterWatchOptions) {
    this.#options = options;
    this.#book = new RosterBook(options);
    const everyMs = Math.min(ASK_EVERY_SLOTS * options.config.slotMs, ASK_EVERY_MS_MAX);
    this.#stopAsking = (options.timers ?? nodeTimers).every(everyMs, () => void this.ask());
    void this.ask();
  }

  at(organism: Organism, slot: bigint): Roster {
    return this.#book.at(organism, slot);
  }

  readonly eras = (organism: Organism): Eras => this.#book.eras(organism);

  /** Asks f + 1 members of each committee, others each time. Never throws. */
  ask(): Promise<void> {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #ask(): Promise<void> {
    const { config, organisms, endpoints, clock, log, connect = connectOverGrpc } = this.#options;
    const before = this.#epochs();
    await this.#book.ask(organisms, this.#turn++, endpoints, (organism, address) => {
      const key = `${organism} ${address}`;
      const client = this.#clients.get(key) ?? connect(address, committeeId(config, organism));
      this.#clients.set(key, client);
      return client;
    });
    for (const [organism, epoch] of this.#epochs()) {
      if (epoch === before.get(organism)) continue;
      log.info("a roster is known", { organism, epoch, now_slot: slotAt(config, clock.nowMs()) });
    }
  }

  /** The newest epoch known of each committee, to come or not. */
  #epochs(): Map<Organism, bigint> {
    return new Map(this.#options.organisms.map((organism) => [organism, this.#book.newest(organism).epoch]));
  }

  close(): void {
    this.#stopAsking();
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }
}

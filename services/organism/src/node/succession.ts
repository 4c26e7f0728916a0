/**
 * What follows the roster in force: certified rosters of later epochs, eras, and shares that a resharing has left. A
 * member keeps and serves what this committee's log and its own folder tell of them, asks the other committees for
 * theirs, and erases the shares that are over.
 */
import { toHex } from "../codec/codec.ts";
import type { CommitteeCommand } from "../committee/commands.ts";
import type { Applied, Committee } from "../committee/committee.ts";
import { newestEra } from "../committee/eras.ts";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import { committeeId, type LatticeConfig } from "../identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import type { Duty } from "../machine.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import type { Timers } from "../ports.ts";
import type { EpochKeys } from "./epoch-keys.ts";
import type { EraBook } from "./era-book.ts";
import { type CommitteeClient, type ConnectCommittee, connectOverGrpc, type Endpoints } from "./outcome-follower.ts";
import type { RosterBook } from "./roster-book.ts";

/** How often a member looks for shares of a new epoch, and asks the other committees for their rosters. */
const KEYS_EVERY_MS = 1000;
const ROSTERS_EVERY_MS = 30_000;
/**
 * When something comes from them that does not verify: this often, so many times that each of seven members is the first to
 * be asked once. f + 1 have to tell alike, and those asked first may be down, or corrupt.
 */
const UNVERIFIED_ASK_MS = 1000;
const UNVERIFIED_ASKS = 7;

export interface SuccessionOptions {
  readonly organism: Organism;
  readonly self: number;
  readonly committee: Pick<Committee<unknown, unknown, Duty>, "rosters" | "eraLinks">;
  readonly keys: EpochKeys;
  readonly book: RosterBook;
  readonly eras: EraBook;
  /** Keeps a certified roster on disk. */
  readonly keep: (certified: CertifiedOutcome) => Promise<void>;
  /** How members of other committees are reached. */
  readonly endpoints: () => Endpoints;
  readonly client: (organism: Organism, address: string) => CommitteeClient;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly meters: Meters;
}

export class Succession {
  readonly #options: SuccessionOptions;
  /** This committee's rosters with their certificates, by activation slot. */
  readonly #certified = new Map<bigint, CertifiedOutcome>();
  /** Epochs whose shares the metric tells of. */
  readonly #gauged = new Set<bigint>();
  #turn = 0;
  #askedMs = Number.NEGATIVE_INFINITY;
  #asksWanted = 0;
  #lookedMs = 0;

  constructor(options: SuccessionOptions) {
    this.#options = options;
  }

  /** This committee's rosters as they are served, by activation slot. */
  get rosters(): CertifiedOutcome[] {
    return [...this.#certified.values()].sort((a, b) => (a.outcome.slot < b.outcome.slot ? -1 : 1));
  }

  roster(activationSlot: bigint): CertifiedOutcome | undefined {
    return this.#certified.get(activationSlot);
  }

  /** A roster of this committee, certified: from the kit, from disk or from the log. */
  learn(certified: CertifiedOutcome): void {
    const { book, organism } = this.#options;
    this.#certified.set(certified.outcome.slot, certified);
    book.learn(organism, certified);
  }

  /** The log brings the roster of an epoch to come. */
  announced(certified: CertifiedOutcome): void {
    const { logger, keys, keep } = this.#options;
    const { epoch, slot } = certified.outcome;
    logger.info("a roster follows", { epoch, from_slot: slot, own_share: keys.of(epoch) !== undefined });
    this.learn(certified);
    keep(certified).catch((error: unknown) => {
      logger.error("a roster cannot be kept", errorFields(error));
    });
  }

  /** What the state tells of eras, of this committee and upstream. */
  takeEras(): void {
    const { committee } = this.#options;
    for (const organism of ORGANISMS) {
      for (const link of committee.eraLinks(organism)) this.#takeEra(organism, link);
    }
  }

  #takeEra(organism: Organism, link: CertifiedOutcome): void {
    const { eras, logger, meters } = this.#options;
    const problem = eras.learn(organism, link);
    if (problem !== undefined) {
      logger.error("this log tells of another era than this member knew", { of: organism, problem });
      meters.count("lattice_roster_conflicts_total", 1, { of: organism });
    }
    // Served from then on: whoever comes later needs the whole chain.
    if (organism === this.#options.organism) this.learn(link);
    meters.gauge("lattice_era", newestEra(eras.of(organism)).number, { of: organism });
  }

  eraBegins({ organism, era, link }: NonNullable<Applied["era"]>): void {
    const { logger } = this.#options;
    logger.info("an era follows", { of: organism, era: era.number, from_slot: era.fromSlot, key: toHex(era.key) });
    this.#takeEra(organism, link);
  }

  /** Certified under a key that is, or was, in force: a ceremony that came too late, or somebody has that key. */
  noteOtherEra({ position, author, refusal }: Applied): void {
    const { organism, logger, meters } = this.#options;
    logger.error("a member brought what does not fit the eras known", { position, author, problem: refusal?.detail });
    meters.count("lattice_roster_conflicts_total", 1, { of: organism });
  }

  /** Something came from another committee that does not verify under the eras known: it is asked soon. */
  want(): void {
    this.#asksWanted = UNVERIFIED_ASKS;
  }

  /**
   * Looks for shares that a resharing has left, asks others for their rosters, erases what is over.
   * @param say puts the roster that came with new shares into the log, once for each key
   */
  look(say: (key: string, command: CommitteeCommand) => void): void {
    const { committee, keys, timers, logger } = this.#options;
    const now = timers.elapsedMs();
    if (now - this.#lookedMs >= KEYS_EVERY_MS) {
      this.#lookedMs = now;
      keys.refresh().catch((error: unknown) => logger.warn("shares cannot be read", errorFields(error)));
      this.#gaugeShares();
      const [oldest] = committee.rosters;
      if (oldest !== undefined) {
        keys.erase(oldest.epoch).catch((error: unknown) => {
          logger.warn("shares of an epoch that is over cannot be erased", errorFields(error));
        });
      }
    }
    this.#ask(now);
    const next = keys.roster((committee.rosters.at(-1)?.epoch ?? 0n) + 1n);
    if (next !== undefined) say(`roster/${next.outcome.epoch}`, { type: "roster", certified: next });
  }

  /** Asks the other committees for their rosters: now and then, and one after the other when they are wanted. */
  #ask(now: number): void {
    const { organism, self, book, endpoints, client } = this.#options;
    if (now - this.#askedMs < (this.#asksWanted > 0 ? UNVERIFIED_ASK_MS : ROSTERS_EVERY_MS)) return;
    this.#askedMs = now;
    this.#asksWanted = Math.max(0, this.#asksWanted - 1);
    const others = ORGANISMS.filter((each) => each !== organism);
    void book.ask(others, this.#turn++ + self, endpoints, client);
  }

  /** 1 for each epoch whose shares are held; 0 for one to come or in force without, and for one that is over. */
  #gaugeShares(): void {
    const { committee, keys, meters } = this.#options;
    for (const { epoch } of committee.rosters) this.#gauged.add(epoch);
    const oldest = committee.rosters[0]?.epoch ?? 0n;
    for (const epoch of this.#gauged) {
      const held = keys.of(epoch) !== undefined;
      meters.gauge("lattice_dkg_has_share", held ? 1 : 0, { epoch: epoch.toString() });
      if (epoch < oldest && !held) this.#gauged.delete(epoch);
    }
  }
}

/** Asks the other members of this committee for their rosters, so often that f + 1 of them have told of each era. */
export async function askOwnRosters({
  organism,
  config,
  book,
  endpoints,
  connect = connectOverGrpc,
  logger,
}: {
  readonly organism: Organism;
  readonly config: LatticeConfig;
  readonly book: RosterBook;
  readonly endpoints: () => Endpoints;
  readonly connect: ConnectCommittee | undefined;
  readonly logger: Logger;
}): Promise<void> {
  const clients: CommitteeClient[] = [];
  const client = (of: Organism, address: string): CommitteeClient => {
    const made = connect(address, committeeId(config, of));
    clients.push(made);
    return made;
  };
  try {
    const turns = endpoints()[organism].length;
    let known: number;
    // What follows an era can be judged once that one stands.
    do {
      known = book.eras(organism).length;
      for (let turn = 0; turn < turns; turn++) await book.ask([organism], turn, endpoints, client);
    } while (book.eras(organism).length > known);
  } catch (error) {
    logger.warn("the other members cannot be asked for their eras", errorFields(error));
  } finally {
    for (const each of clients) each.close();
  }
}

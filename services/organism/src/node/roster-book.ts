/**
 * The rosters of all six committees as this process knows them: the kit's, and those that followed. Rosters are
 * certified under keys that the lattice config pins. A certificate alone is not enough: a ceremony that came too late
 * leaves a certified roster that no log has taken up, and a stolen key would certify anybody's. So f + 1 members must tell of
 * the same one; where two different ones of an epoch are heard of, a quorum must, and both are kept as evidence.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { encode, equalBytes, toHex } from "../codec/codec.ts";
import { rosterAt } from "../committee/epochs.ts";
import { type Eras, erasBefore } from "../committee/eras.ts";
import { CERTIFIED, type CertifiedOutcome, outcomeDigest } from "../committee/outcome.ts";
import { checkRoster, ROSTER, type Roster, rosterQuorum } from "../committee/roster.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import { BAD_ROSTERS_MAX, rostersTold } from "./committee-wire.ts";
import { EraBook } from "./era-book.ts";
import type { CommitteeClient, Endpoints } from "./outcome-follower.ts";

/** Rosters of one committee that are kept; the newest. */
const KEPT = 16;
const ASK_DEADLINE_MS = 3000;

export interface RosterBookOptions {
  readonly config: LatticeConfig;
  /** The kit's. */
  readonly rosters: { readonly [O in Organism]: Roster };
  readonly log: Logger;
  readonly meters?: Pick<Meters, "count">;
  /** The eras known already; what is learned of others goes there. Those that the config pins when left out. */
  readonly eras?: EraBook;
  /** Where two certified rosters of one epoch are kept; nowhere but in the log when left out. */
  readonly evidenceDirectory?: string;
}

/** A certified roster, and who has told of it. */
interface Candidate {
  readonly certified: CertifiedOutcome;
  readonly roster: Roster;
  readonly tellers: Set<string>;
  /** This process has it from its own committee's log. */
  own: boolean;
}
/** Different certified rosters of one epoch that are looked at. */
const CANDIDATES_MAX = 8;

/** Digest of the roster that is known to have begun an era with that epoch. */
function eraBegun(eras: Eras, epoch: bigint): string | undefined {
  const link = eras.find((era) => era.link !== undefined && era.epoch === epoch)?.link;
  return link === undefined ? undefined : toHex(link);
}

/** Which roster a slot belongs to. */
export interface RosterView {
  at(organism: Organism, slot: bigint): Roster;
  /** The eras known of a committee; the pinned one only when left out. */
  readonly eras?: (organism: Organism) => Eras;
}

/** One roster for all slots. */
export function lastingRosters(rosters: { readonly [O in Organism]: Roster }): RosterView {
  return { at: (organism) => rosters[organism] };
}

export class RosterBook implements RosterView {
  readonly #options: RosterBookOptions;
  readonly #known: Record<Organism, Roster[]>;
  readonly #eras: EraBook;
  /** By epoch and digest. */
  readonly #heard: Record<Organism, Map<bigint, Map<string, Candidate>>>;

  constructor(options: RosterBookOptions) {
    this.#options = options;
    this.#eras = options.eras ?? new EraBook(options.config);
    const each = <T>(make: (organism: Organism) => T) =>
      Object.fromEntries(ORGANISMS.map((organism) => [organism, make(organism)])) as Record<Organism, T>;
    this.#known = each((organism) => [options.rosters[organism]]);
    this.#heard = each(() => new Map());
  }

  /** The roster of an organism for a slot, as far as it is known here. */
  at(organism: Organism, slot: bigint): Roster {
    return rosterAt(this.#known[organism], slot);
  }

  readonly eras = (organism: Organism): Eras => this.#eras.of(organism);

  /** The newest roster known here; its slots may be to come. */
  newest(organism: Organism): Roster {
    const newest = this.#known[organism].at(-1);
    if (newest === undefined) throw new RangeError("a committee has a roster");
    return newest;
  }

  /** From this process's own log: it stands. */
  learn(organism: Organism, certified: CertifiedOutcome): void {
    this.#hear(organism, certified, undefined);
  }

  /** From a member of that committee, whom nobody has to believe alone. @returns false for what does not stand */
  hear(organism: Organism, certified: CertifiedOutcome, teller: string): boolean {
    return this.#hear(organism, certified, teller);
  }

  #hear(organism: Organism, certified: CertifiedOutcome, teller: string | undefined): boolean {
    const { config, rosters, log } = this.#options;
    const { epoch } = certified.outcome;
    const first = rosters[organism];
    const known = this.#known[organism];
    const forgotten = known[0] !== undefined && epoch < known[0].epoch;
    if (epoch < first.epoch || forgotten) return true;
    const heard = this.#heard[organism].get(epoch) ?? new Map<string, Candidate>();
    const digest = toHex(outcomeDigest(certified.outcome));
    const candidate = heard.get(digest);
    if (candidate === undefined) {
      const eras = this.#eras.of(organism);
      // By what came before it: two beginnings of one era are two rosters of one epoch, and both are kept.
      const checked = checkRoster(config, organism, certified, erasBefore(eras, epoch));
      if ("problem" in checked) {
        log.warn("a roster that does not stand was passed over", { organism, problem: checked.problem });
        return false;
      }
      if (heard.size >= CANDIDATES_MAX) return true;
      const { roster } = checked;
      const kits = epoch === first.epoch && equalBytes(encode(ROSTER, roster), encode(ROSTER, first));
      const tellers = new Set(teller === undefined ? [] : [teller]);
      heard.set(digest, { certified, roster, tellers, own: teller === undefined || kits });
      this.#heard[organism].set(epoch, heard);
      const begun = eraBegun(eras, epoch);
      const otherEra = begun !== undefined && begun !== digest;
      const different = heard.size > 1 || (epoch === first.epoch && !kits) || otherEra;
      if (different) this.#accuse(organism, epoch, heard);
    } else if (teller === undefined) candidate.own = true;
    else candidate.tellers.add(teller);
    this.#judge(organism);
    return true;
  }

  /** Which rosters stand, oldest first, each beginning after the one before. */
  #judge(organism: Organism): void {
    const first = this.#options.rosters[organism];
    const standing = [first];
    for (const [epoch, heard] of [...this.#heard[organism]].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const before = standing.at(-1) ?? first;
      if (epoch <= before.epoch) continue;
      const { faults, quorum } = rosterQuorum(this.#options.config, organism, before);
      const needed = heard.size > 1 ? quorum : faults + 1;
      const begun = eraBegun(this.#eras.of(organism), epoch);
      const candidates = [...heard].flatMap(([digest, each]) => (begun === undefined || begun === digest ? each : []));
      const stands = candidates.find(({ own }) => own) ?? candidates.find(({ tellers }) => tellers.size >= needed);
      if (stands === undefined || stands.roster.activationSlot <= before.activationSlot) continue;
      // What is known of eras stays: a roster that says otherwise stands for nobody.
      if (this.#eras.learn(organism, stands.certified) === undefined) standing.push(stands.roster);
    }
    this.#known[organism] = standing.slice(-KEPT);
    const [oldest] = this.#known[organism];
    for (const epoch of this.#heard[organism].keys()) {
      if (oldest !== undefined && epoch < oldest.epoch) this.#heard[organism].delete(epoch);
    }
  }

  /** Two certified rosters of one epoch: a ceremony was repeated and somebody shows the one that came too late, or the key is not safe. */
  #accuse(organism: Organism, epoch: bigint, heard: ReadonlyMap<string, Candidate>): void {
    const { log, meters, evidenceDirectory } = this.#options;
    const rosters = [...heard.keys()].map((digest) => digest.slice(0, 16)).join();
    const told = [...heard.values()].map(({ tellers }) => [...tellers].join("+") || "own").join();
    log.error("two certified rosters of one epoch: only the one that a quorum tells of is used", {
      organism,
      epoch,
      rosters,
      told,
    });
    meters?.count("lattice_roster_conflicts_total", 1, { of: organism });
    if (evidenceDirectory === undefined) return;
    for (const [digest, { certified }] of heard) {
      const path = join(evidenceDirectory, `roster-${organism}-${epoch}-${digest.slice(0, 16)}.hex`);
      writeFile(path, `${toHex(encode(CERTIFIED, certified))}\n`).catch((error: unknown) => {
        log.error("a certified roster was not kept as evidence", errorFields(error));
      });
    }
  }

  /** Asks f + 1 members of each of `organisms`, two at least, for their rosters; `turn` picks the first of them. */
  async ask(
    organisms: readonly Organism[],
    turn: number,
    endpoints: () => Endpoints,
    client: (organism: Organism, address: string) => CommitteeClient,
  ): Promise<void> {
    await Promise.all(
      organisms.map(async (organism) => {
        const addresses = this.#asked(organism, turn, endpoints);
        await Promise.all(addresses.map((address) => this.#askOne(organism, address, client)));
      }),
    );
  }

  #asked(organism: Organism, turn: number, endpoints: () => Endpoints): string[] {
    try {
      const addresses = endpoints()[organism];
      const { faults } = rosterQuorum(this.#options.config, organism, this.newest(organism));
      const count = Math.min(Math.max(2, faults + 1), addresses.length);
      const from = turn % Math.max(addresses.length, 1);
      return [...new Set([...addresses.slice(from), ...addresses].slice(0, count))];
    } catch (error) {
      this.#options.log.debug("the endpoints cannot be read", { organism, ...errorFields(error) });
      return [];
    }
  }

  async #askOne(
    organism: Organism,
    address: string,
    client: (organism: Organism, address: string) => CommitteeClient,
  ): Promise<void> {
    try {
      const { rosters } = await client(organism, address).getRosters({}, { deadlineMs: ASK_DEADLINE_MS });
      let bad = 0;
      for (const certified of rostersTold(rosters)) {
        if (!this.hear(organism, certified, address)) bad += 1;
        if (bad >= BAD_ROSTERS_MAX) return;
      }
    } catch (error) {
      this.#options.log.debug("no rosters from a member", { organism, ...errorFields(error) });
    }
  }
}

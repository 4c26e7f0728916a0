/**
 * Eras for whoever reads from outside: asks members for their links when something does not verify under the keys known,
 * and takes what f + 1 of them tell alike (docs/protocol/eras.md).
 */
import { toHex } from "../codec/codec.ts";
import { newestEra } from "../committee/eras.ts";
import { type CertifiedOutcome, outcomeDigest } from "../committee/outcome.ts";
import { checkRoster, rosterQuorum } from "../committee/roster.ts";
import { committeeId, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import { BAD_ROSTERS_MAX, rostersTold } from "./committee-wire.ts";
import { EraBook, type KnownEras } from "./era-book.ts";
import { type CommitteeClient, type ConnectCommittee, connectOverGrpc } from "./outcome-follower.ts";

const ASK_DEADLINE_MS = 3000;
/** Whoever sends what does not verify cannot make a reader ask more often. */
const ASK_EVERY_MS = 1000;

/** Keys by era, and a way to learn of more. */
export interface EraSource {
  readonly of: KnownEras;
  /** Learns what there is to learn; never throws. */
  readonly ask: (organism: Organism) => Promise<void>;
}

export interface EraWatchOptions {
  readonly config: LatticeConfig;
  /** Where members of a committee answer; one that cannot be read has none. */
  readonly addresses: (organism: Organism) => readonly string[];
  /** The kit's; those that the config pins when left out. */
  readonly eras?: EraBook;
  readonly log?: Pick<Logger, "warn" | "info" | "debug">;
  /** gRPC when left out. */
  readonly connect?: ConnectCommittee;
}

/** Takes every link that enough tellers agree on. @param told by teller, the rosters that it serves */
export function takeTold(
  { config, eras }: { readonly config: LatticeConfig; readonly eras: EraBook },
  organism: Organism,
  told: ReadonlyMap<string, readonly CertifiedOutcome[]>,
): void {
  for (;;) {
    const before = newestEra(eras.of(organism)).number;
    const tellers = new Map<string, { readonly link: CertifiedOutcome; readonly needed: number; count: number }>();
    for (const rosters of told.values()) {
      const named = new Set<string>();
      let bad = 0;
      for (const link of rosters) {
        if (bad >= BAD_ROSTERS_MAX) break;
        const digest = toHex(outcomeDigest(link.outcome));
        if (named.has(digest)) continue;
        named.add(digest);
        const known = tellers.get(digest);
        if (known !== undefined) {
          known.count += 1;
          continue;
        }
        const checked = checkRoster(config, organism, link, eras.of(organism));
        if ("problem" in checked) bad += 1;
        if ("problem" in checked || checked.begins === undefined) continue;
        const needed = rosterQuorum(config, organism, checked.roster).faults + 1;
        tellers.set(digest, { link, needed, count: 1 });
      }
    }
    const standing = [...tellers.values()].filter(({ count, needed }) => count >= needed);
    const [most] = standing.sort((a, b) => b.count - a.count);
    if (most !== undefined) eras.learn(organism, most.link);
    if (newestEra(eras.of(organism)).number === before) return;
  }
}

export class EraWatch implements EraSource {
  readonly book: EraBook;
  readonly #options: EraWatchOptions;
  readonly #asking = new Map<Organism, Promise<void>>();
  readonly #askedMs = new Map<Organism, number>();
  readonly #answered = new Map<Organism, number>();

  constructor(options: EraWatchOptions) {
    this.#options = options;
    this.book = options.eras ?? new EraBook(options.config);
  }

  /** How many members of a committee answered when they were asked last. */
  answered(organism: Organism): number {
    return this.#answered.get(organism) ?? 0;
  }

  readonly of: KnownEras = (organism) => this.book.of(organism);

  readonly ask = (organism: Organism): Promise<void> => {
    const running = this.#asking.get(organism);
    if (running !== undefined) return running;
    if (performance.now() - (this.#askedMs.get(organism) ?? Number.NEGATIVE_INFINITY) < ASK_EVERY_MS) {
      return Promise.resolve();
    }
    const asking = this.#ask(organism).finally(() => {
      this.#asking.delete(organism);
      this.#askedMs.set(organism, performance.now());
    });
    this.#asking.set(organism, asking);
    return asking;
  };

  async #ask(organism: Organism): Promise<void> {
    const { config, addresses, connect = connectOverGrpc, log } = this.#options;
    try {
      const told = new Map<string, CertifiedOutcome[]>();
      const asked = [...new Set(addresses(organism))];
      await Promise.all(
        asked.map(async (address) => {
          let client: CommitteeClient | undefined;
          try {
            client = connect(address, committeeId(config, organism));
            const { rosters } = await client.getRosters({}, { deadlineMs: ASK_DEADLINE_MS });
            told.set(address, rostersTold(rosters));
          } catch (error) {
            log?.debug("no rosters from a member", { of: organism, ...errorFields(error) });
          } finally {
            client?.close();
          }
        }),
      );
      this.#answered.set(organism, told.size);
      takeTold({ config, eras: this.book }, organism, told);
    } catch (error) {
      log?.warn("members cannot be asked for their eras", { of: organism, ...errorFields(error) });
    }
  }
}

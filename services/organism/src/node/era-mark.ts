/**
 * The newest era that this member's own log was seen to stand in: kept in the journal. After a restart the state is that of
 * the newest snapshot, which may lie before the border; whoever has collected shares of the key before it could then show
 * this member another state, or a generation that nobody began (docs/protocol/eras.md).
 */
import { count, decode, encode } from "../codec/codec.ts";
import { type Eras, eraNumberOf, eraOfEpoch, newestEra } from "../committee/eras.ts";
import type { Roster } from "../committee/roster.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Journal } from "../ports.ts";
import type { KnownEras } from "./era-book.ts";

/** Its name in the journal. */
const STOOD_IN = "era";

/** Where a committee's own log stands: the committee itself. */
export interface Standing {
  readonly organism: Organism;
  /** That of the lowest undecided slot. */
  readonly roster: Pick<Roster, "era">;
  eras(): Eras;
  keyIsOver(epoch: bigint): boolean;
}

export class EraMark {
  readonly #committee: Standing;
  readonly #journal: Pick<Journal, "get" | "put">;
  readonly #eras: KnownEras;
  #stoodIn: number;

  constructor(committee: Standing, journal: Pick<Journal, "get" | "put">, eras: KnownEras) {
    this.#committee = committee;
    this.#journal = journal;
    this.#eras = eras;
    const kept = journal.get(STOOD_IN);
    this.#stoodIn = kept === undefined ? 0 : decode(count, kept);
  }

  /** Looks where the log stands now. Resolves once it is kept; undefined when there is nothing new. */
  note(): Promise<void> | undefined {
    const committee = this.#committee;
    if (newestEra(committee.eras()).number <= this.#stoodIn) return undefined;
    const stands = eraNumberOf(committee.roster);
    if (stands <= this.#stoodIn) return undefined;
    const before = this.#stoodIn;
    this.#stoodIn = stands;
    return this.#journal.put(STOOD_IN, encode(count, stands)).catch((error: unknown) => {
      this.#stoodIn = before;
      throw error;
    });
  }

  /**
   * True for an epoch whose certificate key was over where this log stood, be it before a restart: what it certifies of
   * later positions, or of a later generation, is not looked at.
   */
  readonly isOver = (epoch: bigint): boolean =>
    this.#committee.keyIsOver(epoch) || eraOfEpoch(this.#eras(this.#committee.organism), epoch).number < this.#stoodIn;
}

/**
 * A member whose journal does not know its own newest entries (a lost journal, an old backup, a second process with its
 * key) may have promised what it has forgotten: it makes no promise for slots that were in flight (log.md §3). Those that
 * stand in the log out of their order count as well: they were refused, and said all the same.
 */
import { decode, encode, struct, u64 } from "../codec/codec.ts";
import type { Applied } from "../committee/committee.ts";
import { LANES } from "../committee/entry.ts";
import type { AuthorState } from "../committee/state.ts";
import { type LatticeConfig, slotAt } from "../identity/lattice-config.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Clock, MemberJournal } from "../ports.ts";

/** Name in the journal of the slot below which no promise is made. */
const ABSTAIN_BELOW = "abstain-below";
/** Name in the journal of the place in the log up to which that slot accounts for everything unknown. */
const ABSTAIN_READ = "abstain-read";
const PLACE = struct({ generation: u64, position: u64 });

interface AbstentionOptions {
  readonly config: LatticeConfig;
  readonly self: number;
  readonly journal: MemberJournal;
  /** False when the journal was just created. */
  readonly journalIsOld: boolean;
  /** How far the log has been applied, and what it says of an author. */
  readonly committee: {
    readonly generation: bigint;
    readonly position: bigint;
    author(index: number): AuthorState | undefined;
  };
  readonly clock: Clock;
  readonly logger: Logger;
}

export class Abstention {
  readonly #options: AbstentionOptions;
  #below = 0n;
  #accounted = { generation: 0n, position: 0n };
  /** Caught up: what is read from now on counts at once. */
  #watching = false;
  /** Before that, something of this member was read that its journal does not know. */
  #unknownRead = false;

  constructor(options: AbstentionOptions) {
    this.#options = options;
    const { journal } = options;
    const [below, accounted] = [journal.get(ABSTAIN_BELOW), journal.get(ABSTAIN_READ)];
    if (below !== undefined) this.#below = decode(u64, below);
    if (accounted !== undefined) this.#accounted = decode(PLACE, accounted);
  }

  /** No promise for slots below this one. */
  get below(): bigint {
    return this.#below;
  }

  /**
   * At the end of the log, before anything is said in it.
   * @param spoken this process has written in an earlier generation: its journal knows everything since its start
   */
  async begin(spoken: boolean): Promise<void> {
    const { journal, journalIsOld, committee, self } = this.#options;
    this.#watching = true;
    const author = committee.author(self);
    if (author === undefined || author.incarnation === 0n) return;
    const unknown =
      this.#unknownRead || LANES.some((lane) => author[lane].sequence > 0n && !journal.wrote(author[lane].previous));
    const knows = journalIsOld || spoken;
    if (knows && !unknown) return;
    await this.#fromNow(committee.position);
  }

  /** The promises of another process with this member's key, up to this member's Join, are unknown to this journal too. */
  applied({ author, entry, position }: Applied): void {
    const { journal, committee, logger, self } = this.#options;
    if (author !== self || entry === undefined || journal.wrote(entry)) return;
    const accounted = this.#accounted;
    if (committee.generation < accounted.generation) return;
    if (committee.generation === accounted.generation && position <= accounted.position) return;
    if (!this.#watching) {
      this.#unknownRead = true;
      return;
    }
    this.#fromNow(position).catch((error: unknown) => {
      logger.error("that this member abstains cannot be kept", errorFields(error));
    });
  }

  /** At once; the promise is for its being kept. */
  async #fromNow(position: bigint): Promise<void> {
    const { journal, committee, clock, config, logger } = this.#options;
    const below = slotAt(config, clock.nowMs()) + BigInt(config.pipelineDepth) + 1n;
    const place = { generation: committee.generation, position };
    this.#accounted = place;
    if (below > this.#below) {
      this.#below = below;
      logger.warn("the journal does not know this member's newest entries: it abstains", { below_slot: below });
      await journal.put(ABSTAIN_BELOW, encode(u64, below));
    }
    // Only now: a crash in between makes it abstain once more.
    await journal.put(ABSTAIN_READ, encode(PLACE, place));
  }
}

/**
 * A member whose journal does not know its own newest entries (a lost journal, an old backup, a second process with its
 * key) may have promised what it has forgotten: it makes no promise for slots that were in flight (log.md §3).
 */
import { decode, encode, u64 } from "../codec/codec.ts";
import type { Applied } from "../committee/committee.ts";
import { LANES } from "../committee/entry.ts";
import type { AuthorState } from "../committee/state.ts";
import { type LatticeConfig, slotAt } from "../identity/lattice-config.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Clock, MemberJournal } from "../ports.ts";

/** Name in the journal of the slot below which no promise is made. */
const ABSTAIN_BELOW = "abstain-below";

interface AbstentionOptions {
  readonly config: LatticeConfig;
  readonly self: number;
  readonly journal: MemberJournal;
  /** False when the journal was just created. */
  readonly journalIsOld: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class Abstention {
  readonly #options: AbstentionOptions;
  #below = 0n;
  /** Caught up: whether the journal knows this member's entries in the log has been looked at, and is from now on. */
  #watching = false;

  constructor(options: AbstentionOptions) {
    this.#options = options;
  }

  /** No promise for slots below this one. */
  get below(): bigint {
    return this.#below;
  }

  /**
   * At the end of the log, before anything is said in it.
   * @param author this member, as the log knows it
   * @param spoken this process has written in an earlier generation: its journal knows everything since its start
   */
  async begin(author: AuthorState | undefined, spoken: boolean): Promise<void> {
    const { journal, journalIsOld } = this.#options;
    const kept = journal.get(ABSTAIN_BELOW);
    if (kept !== undefined) this.#below = decode(u64, kept);
    this.#watching = true;
    if (author === undefined || author.incarnation === 0n) return;
    const unknown = LANES.some((lane) => author[lane].sequence > 0n && !journal.wrote(author[lane].previous));
    const knows = journalIsOld || spoken;
    if (knows && !unknown) return;
    await this.#fromNow();
  }

  /** The promises of another process with this member's key, up to this member's Join, are unknown to this journal too. */
  landed({ author, entry, landed }: Applied): void {
    const { journal, logger, self } = this.#options;
    if (!this.#watching || author !== self || entry === undefined || !landed || journal.wrote(entry)) return;
    this.#fromNow().catch((error: unknown) => {
      logger.error("that this member abstains cannot be kept", errorFields(error));
    });
  }

  /** At once; the promise is for its being kept. */
  async #fromNow(): Promise<void> {
    const { journal, clock, config, logger } = this.#options;
    const below = slotAt(config, clock.nowMs()) + BigInt(config.pipelineDepth) + 1n;
    if (below <= this.#below) return;
    this.#below = below;
    logger.warn("the journal does not know this member's newest entries: it abstains", { below_slot: below });
    await journal.put(ABSTAIN_BELOW, encode(u64, below));
  }
}

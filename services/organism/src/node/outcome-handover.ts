/**
 * Certified outcomes on their way into the archive outside, beside what the member does. Each goes there at once. When one is
 * not taken, the archive is left alone for a while, and then all that this member holds from there on is compared with what
 * lies there: however long it was away, what it lacks and a member still holds comes to lie there. The same once at each
 * start: the process before may have ended in between, or have known no archive.
 */
import type { CertifiedOutcome } from "../committee/outcome.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import { pause, type Timers } from "../ports.ts";
import { type Archive, folderOf, outcomeName } from "./archive.ts";
import type { HeldOutcome, OutcomeArchive } from "./outcome-archive.ts";

/** Between two looks at an archive that does not take everything; the last one again and again. */
const AGAIN_MS = [1000, 5000, 15_000, 60_000];
/** On their way at once when much is missing. So many refusals in a row, and the rest is not tried. */
const AT_ONCE = 8;

export interface OutcomeHandoverOptions {
  readonly outside: Pick<Archive, "putOutcome" | "outcomeNames">;
  /** What this member holds: it has everything that is handed over. */
  readonly own: Pick<OutcomeArchive, "held" | "get">;
  readonly stages: readonly string[];
  readonly timers: Timers;
  readonly logger: Logger;
  readonly meters: Meters;
}

interface Refused {
  readonly slot: bigint;
  readonly error: unknown;
}

interface Tries {
  lowest: Refused | undefined;
  inARow: number;
}

export class OutcomeHandover {
  readonly #options: OutcomeHandoverOptions;
  readonly #stop = new AbortController();
  /** Anything from this slot on may be missing outside; undefined: nothing is. */
  #from: bigint | undefined;
  #looking: Promise<void> | undefined;
  readonly #going = new Set<Promise<void>>();
  /** It has been told that the archive does not take everything. */
  #told = false;

  constructor(options: OutcomeHandoverOptions) {
    this.#options = options;
  }

  /** Looks for what the archive lacks of all that is held. */
  begin(): void {
    const [oldest] = this.#held(0n);
    if (oldest !== undefined) this.#lookFrom(oldest.slot);
  }

  /** Never waits, never throws. */
  hand(certified: CertifiedOutcome): void {
    const { slot } = certified.outcome;
    if (this.#stop.signal.aborted) return;
    if (this.#looking !== undefined) {
      // It is found among what is held, when it is its turn.
      this.#lookFrom(slot);
      return;
    }
    const going = this.#options.outside
      .putOutcome(certified)
      .catch((error: unknown) => {
        this.#refused({ slot, error });
        this.#lookFrom(slot);
      })
      .finally(() => this.#going.delete(going));
    this.#going.add(going);
  }

  #lookFrom(slot: bigint): void {
    if (this.#stop.signal.aborted) return;
    if (this.#from === undefined || slot < this.#from) this.#from = slot;
    this.#looking ??= this.#look();
  }

  async #look(): Promise<void> {
    const { timers } = this.#options;
    const { signal } = this.#stop;
    let failed = 0;
    for (let from = this.#from; from !== undefined && !signal.aborted; from = this.#from) {
      this.#from = undefined;
      const refused = await this.#fill(from);
      if (signal.aborted) break;
      if (refused === undefined) continue;
      this.#lookFrom(refused.slot);
      this.#refused(refused);
      await pause(timers, AGAIN_MS[Math.min(failed++, AGAIN_MS.length - 1)] ?? 0, signal);
    }
    this.#looking = undefined;
    if (!signal.aborted) this.#complete();
  }

  /** Brings what is missing outside, the oldest first. @returns the lowest slot that is missing still, and why; undefined when all is there */
  async #fill(from: bigint): Promise<Refused | undefined> {
    const { outside } = this.#options;
    const held = this.#held(0n);
    this.#noteGone(from, held[0]);
    const folders = Map.groupBy(
      held.filter(({ slot }) => slot >= from),
      ({ slot }) => folderOf(slot),
    );
    const tries: Tries = { lowest: undefined, inARow: 0 };
    for (const inFolder of folders.values()) {
      const [first] = inFolder;
      if (first === undefined || this.#stop.signal.aborted || tries.inARow >= AT_ONCE) break;
      try {
        const there = await outside.outcomeNames(first.slot);
        const missing = inFolder.filter(({ stage, slot }) => !there.has(outcomeName(stage, slot)));
        const left = missing.values();
        await Promise.all(Array.from({ length: AT_ONCE }, () => this.#putSome(left, tries)));
      } catch (error) {
        tries.lowest ??= { slot: first.slot, error };
        break;
      }
    }
    return tries.lowest;
  }

  async #putSome(missing: Iterable<HeldOutcome>, tries: Tries): Promise<void> {
    const { outside, own } = this.#options;
    for (const { stage, slot } of missing) {
      if (this.#stop.signal.aborted || tries.inARow >= AT_ONCE) return;
      try {
        const certified = await own.get(stage, slot);
        if (certified !== undefined) await outside.putOutcome(certified);
        tries.inARow = 0;
      } catch (error) {
        tries.inARow += 1;
        if (tries.lowest === undefined || slot < tries.lowest.slot) tries.lowest = { slot, error };
      }
    }
  }

  #held(fromSlot: bigint): HeldOutcome[] {
    return this.#options.own.held(this.#options.stages, fromSlot);
  }

  /** What was let go of before the archive is known to have had it can only come from another member. */
  #noteGone(from: bigint, oldest: HeldOutcome | undefined): void {
    if (oldest === undefined || oldest.slot <= from) return;
    const { logger, meters } = this.#options;
    logger.error("outcomes are held no longer that the archive may not have", {
      from_slot: from,
      to_slot: oldest.slot - 1n,
    });
    meters.count("lattice_archive_gone_slots_total", Number(oldest.slot - from));
  }

  #refused({ slot, error }: Refused): void {
    if (this.#stop.signal.aborted) return;
    const { logger, meters } = this.#options;
    const newest = this.#held(slot).at(-1)?.slot ?? slot;
    meters.gauge("lattice_archive_behind_slots", Number(newest - slot) + 1);
    if (this.#told) return;
    this.#told = true;
    logger.error("the archive does not take outcomes; it is tried again", { from_slot: slot, ...errorFields(error) });
  }

  #complete(): void {
    const { logger, meters } = this.#options;
    meters.gauge("lattice_archive_behind_slots", 0);
    if (!this.#told) return;
    this.#told = false;
    logger.info("the archive has all outcomes again");
  }

  /** Begins nothing more. Resolves when nothing is on its way. */
  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.all([this.#looking, ...this.#going]);
  }
}

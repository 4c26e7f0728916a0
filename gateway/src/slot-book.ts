/** What this gateway knows of recent slots: verified outcomes of all six organisms, kept in memory, watchable. */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome, Outcome } from "@lattice/organism/committee/outcome.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Clock } from "@lattice/organism/ports.ts";

/** Slots kept. */
const SLOTS_KEPT = 512n;
const WATCH_BUFFER_MAX = 1024;

/** Every decision of a slot, in pipeline order. */
export const ALL_STAGES: readonly { readonly organism: Organism; readonly stage: string }[] = [
  { organism: "zipnet", stage: "header" },
  { organism: "zipnet", stage: "broadcast" },
  { organism: "offer", stage: "blind" },
  { organism: "unseal", stage: "unsealed" },
  { organism: "offer", stage: "auction" },
  { organism: "atelier", stage: "candidate" },
  { organism: "relay", stage: "accepted" },
  { organism: "tally", stage: "attribution" },
];

export interface KnownOutcome {
  readonly organism: Organism;
  readonly certified: CertifiedOutcome;
  readonly verifiedAtMs: number;
}

export class SlotBook {
  readonly #slots = new Map<bigint, Map<string, KnownOutcome>>();
  readonly #listeners = new Set<(known: KnownOutcome) => void>();
  readonly #clock: Clock;
  #newest = 0n;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The oldest slot still of interest. */
  get oldest(): bigint {
    return this.#newest > SLOTS_KEPT ? this.#newest - SLOTS_KEPT : 1n;
  }

  knows(organism: Organism, outcome: Outcome): boolean {
    const known = this.get(organism, outcome.stage, outcome.slot)?.certified.outcome;
    return known !== undefined && equalBytes(known.commitment, outcome.commitment) && known.kind === outcome.kind;
  }

  /** Takes a verified outcome. */
  note(organism: Organism, certified: CertifiedOutcome): void {
    const { slot, stage } = certified.outcome;
    const stages = this.#slots.get(slot) ?? new Map<string, KnownOutcome>();
    const key = `${organism}/${stage}`;
    if (stages.has(key)) return;
    const known: KnownOutcome = { organism, certified, verifiedAtMs: this.#clock.nowMs() };
    stages.set(key, known);
    this.#slots.set(slot, stages);
    if (slot > this.#newest) {
      this.#newest = slot;
      for (const old of this.#slots.keys()) if (old < this.oldest) this.#slots.delete(old);
    }
    for (const listener of this.#listeners) listener(known);
  }

  get(organism: Organism, stage: string, slot: bigint): KnownOutcome | undefined {
    return this.#slots.get(slot)?.get(`${organism}/${stage}`);
  }

  /** A slot's outcomes in pipeline order. */
  slot(slot: bigint): KnownOutcome[] {
    const stages = this.#slots.get(slot);
    if (stages === undefined) return [];
    return ALL_STAGES.flatMap(({ organism, stage }) => {
      const known = stages.get(`${organism}/${stage}`);
      return known === undefined ? [] : [known];
    });
  }

  onOutcome(listener: (known: KnownOutcome) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What is held from `fromSlot` on (0: nothing), then live. Ends when `signal` aborts or the reader is too slow. */
  async *watch(fromSlot: bigint, signal: AbortSignal): AsyncGenerator<KnownOutcome> {
    const queue: KnownOutcome[] = [];
    let wake: () => void = () => undefined;
    if (fromSlot > 0n) {
      for (const slot of [...this.#slots.keys()].sort((a, b) => (a < b ? -1 : 1)))
        if (slot >= fromSlot) queue.push(...this.slot(slot));
    }
    const stop = this.onOutcome((known) => {
      if (known.certified.outcome.slot >= fromSlot) queue.push(known);
      wake();
    });
    const abort = (): void => wake();
    signal.addEventListener("abort", abort);
    try {
      while (!signal.aborted && queue.length <= WATCH_BUFFER_MAX * ALL_STAGES.length) {
        const next = queue.shift();
        if (next !== undefined) yield next;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (signal.aborted || queue.length > 0) resolve();
          });
        }
      }
    } finally {
      stop();
      signal.removeEventListener("abort", abort);
    }
  }
}

/**
 * What the server keeps in memory for callers that take their time: requests that have not come whole, answers and
 * streams that are not taken. Each may be kept for so long; and where all together are too much, those go first that
 * have been kept longest, since whoever reads is through in a moment.
 */

export interface HeldLimits {
  /** Of all together. */
  readonly bytes: number;
  /** How long each may be kept, ms; absent where something else ends it. */
  readonly forMs?: number;
}

/** What is kept for one caller. */
export interface Held {
  /** @param bytes below 0 for what has been taken */
  add(bytes: number): void;
  /** Nothing is kept any more. */
  release(): void;
}

interface Holder {
  bytes: number;
  readonly sinceMs: number;
  readonly drop: () => void;
}

export class HeldBytes {
  readonly #limits: HeldLimits;
  /** The one that is kept longest comes first. */
  readonly #holders = new Set<Holder>();
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(limits: HeldLimits) {
    this.#limits = limits;
  }

  /** Of all together. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @param drop ends the call, so that what is kept for it goes; called at most once, and not after `release` */
  hold(drop: () => void): Held {
    const holder: Holder = { bytes: 0, sinceMs: performance.now(), drop };
    this.#holders.add(holder);
    this.#watch();
    return {
      add: (bytes) => {
        if (!this.#holders.has(holder)) return;
        holder.bytes += bytes;
        this.#bytes += bytes;
        if (bytes > 0) this.#relieve();
      },
      release: () => this.#release(holder),
    };
  }

  #release(holder: Holder): boolean {
    if (!this.#holders.delete(holder)) return false;
    this.#bytes -= holder.bytes;
    return true;
  }

  #relieve(): void {
    for (const holder of this.#holders) {
      if (this.#bytes <= this.#limits.bytes) return;
      // One that keeps nothing yet would free nothing.
      if (holder.bytes > 0 && this.#release(holder)) holder.drop();
    }
  }

  /** One timer for all: they are kept for the same time, so the first to come is the first to go. */
  #watch(): void {
    const { forMs } = this.#limits;
    const [oldest] = this.#holders;
    if (forMs === undefined || oldest === undefined || this.#timer !== undefined) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        const until = performance.now() - forMs;
        for (const holder of this.#holders) {
          if (holder.sinceMs > until) break;
          if (this.#release(holder)) holder.drop();
        }
        this.#watch();
      },
      Math.max(1, Math.ceil(oldest.sinceMs + forMs - performance.now())),
    );
    this.#timer.unref();
  }
}

/** Time that stands still until a test moves it. */
import type { Timers } from "../ports.ts";

interface Due {
  atMs: number;
  readonly everyMs: number | undefined;
  readonly work: () => void;
}

/** Resolves once everything has gone on that waits for nothing but its turn. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export class ManualTimers implements Timers {
  #nowMs = 0;
  readonly #due = new Set<Due>();

  elapsedMs(): number {
    return this.#nowMs;
  }

  after(ms: number, work: () => void): () => void {
    return this.#add({ atMs: this.#nowMs + ms, everyMs: undefined, work });
  }

  every(ms: number, work: () => void): () => void {
    return this.#add({ atMs: this.#nowMs + ms, everyMs: ms, work });
  }

  soon(work: () => void): void {
    setImmediate(work);
  }

  #add(due: Due): () => void {
    this.#due.add(due);
    return () => void this.#due.delete(due);
  }

  /** How many wait for time to pass. */
  get waiting(): number {
    return this.#due.size;
  }

  /** Moves time on; what comes due runs in its order, each once everything before it has gone as far as it can. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settled();
    for (;;) {
      const [next] = [...this.#due].filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#nowMs = next.atMs;
      if (next.everyMs === undefined) this.#due.delete(next);
      else next.atMs += next.everyMs;
      next.work();
      await settled();
    }
    this.#nowMs = untilMs;
  }
}

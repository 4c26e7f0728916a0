/** Between something that happens now and a stream that is read later: a bounded queue of events. */
import { COMMON_FAULTS, Fault } from "../fault.ts";

/**
 * Events pushed by one side and iterated, once, by the other. A reader that lets more than `limit` events pile up
 * loses them all and gets SLOW_CONSUMER: it resumes from what it has seen. Iteration ends when `signal` aborts.
 */
export class LiveQueue<T> implements AsyncIterable<T> {
  readonly #limit: number;
  readonly #domain: string;
  readonly #signal: AbortSignal;
  #items: T[] = [];
  #ended = false;
  #failure: unknown;
  #wake: (() => void) | undefined;

  /** @param domain of the fault, e.g. "zipnet" */
  constructor(limit: number, signal: AbortSignal, domain = "rpc") {
    this.#limit = limit;
    this.#domain = domain;
    this.#signal = signal;
  }

  /** False once nobody will read it: the queue has ended, failed or overflowed. */
  push(item: T): boolean {
    if (this.#ended || this.#signal.aborted) return false;
    if (this.#items.length >= this.#limit) {
      const detail = `more than ${this.#limit} events are waiting to be read`;
      const metadata = { limit: String(this.#limit) };
      const entry = COMMON_FAULTS.SLOW_CONSUMER;
      this.fail(new Fault(`${this.#domain}.lattice`, "SLOW_CONSUMER", entry, detail, metadata));
      return false;
    }
    this.#items.push(item);
    this.#wake?.();
    return true;
  }

  /** The reader gets what is queued, and then the end. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** The reader gets `error` next; what is queued is dropped. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = error;
    this.#items = [];
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    const onAbort = (): void => this.#wake?.();
    this.#signal.addEventListener("abort", onAbort);
    try {
      while (!this.#signal.aborted) {
        const batch = this.#items;
        this.#items = [];
        for (const item of batch) {
          yield item;
          if (this.#signal.aborted) return;
        }
        if (this.#failure !== undefined) throw this.#failure;
        if (this.#items.length > 0) continue;
        if (this.#ended) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    } finally {
      this.#ended = true;
      this.#items = [];
      this.#signal.removeEventListener("abort", onAbort);
    }
  }
}

/**
 * Time that passes only when everything that is due has been done. Between two events all promise jobs run to their
 * end, synchronously, so nothing ever waits for Node's event loop and a seed repeats byte for byte.
 */
import { setFlagsFromString } from "node:v8";
import type { Timers } from "@lattice/organism/ports.ts";

// V8 empties its queue of promise jobs only when asked; Node asks after each macrotask, a simulation after each event.
setFlagsFromString("--allow-natives-syntax");
const drainJobs = new Function("%PerformMicrotaskCheckpoint()") as () => void;
setFlagsFromString("--no-allow-natives-syntax");

interface Event {
  readonly atMs: number;
  readonly order: number;
  work: (() => void) | undefined;
}

export class VirtualTime {
  #heap: Event[] = [];
  #order = 0;
  #nowMs = 0;
  /** Events that have run. */
  events = 0;

  /** ms since the simulation began. */
  get nowMs(): number {
    return this.#nowMs;
  }

  after(ms: number, work: () => void): () => void {
    const event: Event = { atMs: this.#nowMs + Math.max(0, ms), order: this.#order++, work };
    this.#push(event);
    return () => {
      event.work = undefined;
    };
  }

  /** Runs what is due until `untilMs`, or until `stop` says so. */
  run(untilMs: number, stop: () => boolean): Promise<void> {
    // Jobs do not run inside a job, so the whole simulation is one turn of the event loop.
    return new Promise((resolve, reject) => {
      setImmediate(() => {
        try {
          this.#runNow(untilMs, stop);
          resolve();
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  #runNow(untilMs: number, stop: () => boolean): void {
    drainJobs();
    for (;;) {
      const [next] = this.#heap;
      if (next === undefined || next.atMs > untilMs || stop()) break;
      this.#pop();
      const { work } = next;
      if (work === undefined) continue;
      this.#nowMs = next.atMs;
      this.events += 1;
      work();
      drainJobs();
    }
    if (!stop()) this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  #before(a: Event, b: Event): boolean {
    return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || !this.#before(event, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      const left = heap[child];
      if (left === undefined) break;
      const right = heap[child + 1];
      let smaller = left;
      if (right !== undefined && this.#before(right, left)) {
        smaller = right;
        child += 1;
      }
      if (!this.#before(smaller, last)) break;
      heap[at] = smaller;
      at = child;
    }
    heap[at] = last;
  }
}

/** One run of one program: when it is killed, none of its timers fires and nothing it waits for ever comes. */
export class SimProcess {
  readonly name: string;
  readonly #time: VirtualTime;
  #alive = true;
  readonly #ends = new Set<() => void>();
  /** How far its clock is off, ms. */
  skewMs: number;

  constructor(name: string, time: VirtualTime, skewMs: number) {
    this.name = name;
    this.#time = time;
    this.skewMs = skewMs;
  }

  get alive(): boolean {
    return this.#alive;
  }

  kill(): void {
    this.#alive = false;
    for (const end of this.#ends) end();
    this.#ends.clear();
  }

  /**
   * Calls `stopped` when the signal is aborted; a dead process' signal is let go of, since Node keeps combined signals
   * that somebody listens to for ever, and with them the whole run. @returns what ends listening
   */
  onAbort(signal: AbortSignal, stopped: () => void): () => void {
    const end = (): void => {
      signal.removeEventListener("abort", stopped);
      this.#ends.delete(end);
    };
    signal.addEventListener("abort", stopped);
    this.#ends.add(end);
    return end;
  }

  /** Runs `work` after `ms` unless the process is dead by then. */
  after(ms: number, work: () => void): () => void {
    return this.#time.after(ms, () => {
      if (this.#alive) work();
    });
  }

  /** A promise that nobody ever sees resolve once the process is dead. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve);
    });
  }

  get timers(): Timers {
    return {
      elapsedMs: () => this.#time.nowMs,
      after: (ms, work) => this.after(ms, work),
      soon: (work) => {
        this.after(0, work);
      },
      every: (ms, work) => {
        let cancel: () => void = () => undefined;
        const again = (): void => {
          cancel = this.after(ms, () => {
            again();
            work();
          });
        };
        again();
        return () => cancel();
      },
    };
  }
}

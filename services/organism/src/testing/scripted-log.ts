/** A log to read that does what a test says: shows an end, hands messages on, and breaks. */
import type { Log, LogMessage } from "../ports.ts";

export class ScriptedLog implements Pick<Log, "lastPosition" | "consume"> {
  /** What it says that it ends with, or what asking meets. */
  last: bigint | Error = 0n;
  /** How often it was asked for that. */
  asked = 0;
  /** How many read it now. */
  readers = 0;
  /** What whoever reads from here on meets at once. */
  broken: Error | undefined;
  readonly #messages = new Map<bigint, Uint8Array>();
  #reading: {
    readonly from: bigint;
    readonly deliver: (message: LogMessage) => void;
    readonly fail: (error: Error) => void;
  }[] = [];

  async lastPosition(): Promise<bigint> {
    this.asked++;
    if (this.last instanceof Error) throw this.last;
    return this.last;
  }

  async consume(from: bigint, deliver: (message: LogMessage) => void, signal: AbortSignal): Promise<void> {
    if (this.broken !== undefined) throw this.broken;
    this.readers++;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#reading.push({ from, deliver, fail: reject });
        signal.addEventListener("abort", () => resolve());
        for (const [position, raw] of this.#messages) if (position >= from) deliver({ position, raw });
        if (signal.aborted) resolve();
      });
    } finally {
      this.readers--;
      this.#reading = this.#reading.filter((each) => each.deliver !== deliver);
    }
  }

  /** Holds a message from now on, and hands it to whoever reads. */
  put(position: bigint, raw = new Uint8Array([Number(position)])): void {
    this.#messages.set(position, raw);
    if (!(this.last instanceof Error) && this.last < position) this.last = position;
    for (const { from, deliver } of [...this.#reading]) if (position >= from) deliver({ position, raw });
  }

  /** Everybody's reading ends with this. */
  break(error: Error): void {
    for (const { fail } of [...this.#reading]) fail(error);
  }
}

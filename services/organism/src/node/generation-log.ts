/** One log to its readers and writers, whichever generation it is in. */
import type { Lane } from "../committee/entry.ts";
import type { AppendFate, Log, LogUsage } from "../ports.ts";

export class GenerationLog implements Log {
  #log: Log;
  #generation: bigint;
  #closed = false;
  readonly #restored: (() => void)[] = [];
  readonly usage?: () => Promise<LogUsage>;

  constructor(log: Log, generation = 0n) {
    this.#log = log;
    this.#generation = generation;
    this.#listen();
    if (log.usage !== undefined) this.usage = () => this.#log.usage?.() ?? Promise.reject(new Error("not known"));
  }

  #listen(): void {
    const log = this.#log;
    log.restored?.(() => {
      if (this.#log === log) for (const listener of this.#restored) listener();
    });
  }

  /** Whose entries are in it: behind the state's, until the log of a generation that has begun is there. */
  get generation(): bigint {
    return this.#generation;
  }

  /** From here on everything goes to `log`, of this generation; the one before is closed. */
  async use(log: Log, generation: bigint): Promise<void> {
    const before = this.#log;
    this.#log = log;
    this.#generation = generation;
    this.#listen();
    await before.close();
    if (this.#closed) await log.close();
  }

  restored(listener: () => void): void {
    this.#restored.push(listener);
  }
  lastPosition(atLeast?: bigint): Promise<bigint> {
    return this.#log.lastPosition(atLeast);
  }
  async present(): Promise<boolean> {
    return (await this.#log.present?.()) ?? true;
  }
  firstPosition(): Promise<bigint> {
    return this.#log.firstPosition();
  }
  append(lane: Lane, raw: Uint8Array, id: string): Promise<AppendFate> {
    return this.#log.append(lane, raw, id);
  }
  consume(...reading: Parameters<Log["consume"]>): Promise<void> {
    return this.#log.consume(...reading);
  }
  async close(): Promise<void> {
    this.#closed = true;
    await this.#log.close();
  }
}

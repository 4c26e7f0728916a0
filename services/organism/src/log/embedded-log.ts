/**
 * A committee log inside one process: one file, one order, several members. Same contract as JetStream's
 * (`conformance.ts`), for lattices without a broker. Members still exchange bytes only.
 */

import type { Lane } from "../committee/entry.ts";
import { AppendFile } from "../node/append-file.ts";
import { type AppendFate, HistoryGone, type Log, type LogMessage, LogRefusal } from "../ports.ts";

/** The largest message, as JetStream's `max_msg_size`. */
export const MESSAGE_BYTES_MAX = 1024 * 1024;
const RECENT_MESSAGES = 512;

export interface EmbeddedLogOptions {
  /** Bytes one author may hold in the log; beyond it its appends are refused. */
  readonly quotaBytes?: number;
}

/** The log itself; `member(index)` is one member's handle on it. */
export class EmbeddedLog {
  readonly #file: AppendFile;
  readonly #quotaBytes: number;
  readonly #index: { readonly offset: number; readonly length: number }[];
  readonly #recent = new Map<number, Uint8Array>();
  readonly #used = new Map<number, number>();
  readonly #readers = new Set<() => void>();
  #landed: Promise<unknown> = Promise.resolve();

  private constructor(file: AppendFile, index: { offset: number; length: number }[], quotaBytes: number) {
    this.#file = file;
    this.#index = index;
    this.#quotaBytes = quotaBytes;
  }

  /** Opens or creates the log file at `path`. */
  static async open(path: string, options: EmbeddedLogOptions = {}): Promise<EmbeddedLog> {
    const index: { offset: number; length: number }[] = [];
    const file = await AppendFile.open(path, (payload, offset) => index.push({ offset, length: payload.length }));
    return new EmbeddedLog(file, index, options.quotaBytes ?? Number.POSITIVE_INFINITY);
  }

  async close(): Promise<void> {
    await this.#landed;
    await this.#file.close();
  }

  get lastPosition(): bigint {
    return BigInt(this.#index.length);
  }

  async append(author: number, raw: Uint8Array): Promise<AppendFate> {
    if (raw.length > MESSAGE_BYTES_MAX) {
      throw new LogRefusal("ENTRY_TOO_LARGE", `${raw.length} bytes, at most ${MESSAGE_BYTES_MAX}`);
    }
    const used = (this.#used.get(author) ?? 0) + raw.length;
    if (used > this.#quotaBytes) throw new LogRefusal("LOG_FULL", `member ${author}'s quota is used up`);
    this.#used.set(author, used);
    const copy = raw.slice();
    const stored = this.#file.append(copy).then((offset) => {
      this.#index.push({ offset, length: copy.length });
      const position = this.#index.length;
      this.#recent.set(position, copy);
      this.#recent.delete(position - RECENT_MESSAGES);
      for (const wake of this.#readers) wake();
    });
    this.#landed = stored.catch(() => undefined);
    await stored;
    return "stored";
  }

  async consume(from: bigint, deliver: (message: LogMessage) => void, signal: AbortSignal): Promise<void> {
    if (from < 1n) throw new HistoryGone(1n);
    let next = Number(from);
    let wake: () => void = () => undefined;
    const reader = () => wake();
    this.#readers.add(reader);
    signal.addEventListener("abort", reader);
    try {
      while (!signal.aborted) {
        const entry = this.#index[next - 1];
        if (entry === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (signal.aborted || this.#index.length >= next) resolve();
          });
          continue;
        }
        const raw = this.#recent.get(next) ?? (await this.#file.read(entry.offset, entry.length));
        if (signal.aborted) return;
        deliver({ position: BigInt(next), raw: raw.slice() });
        next += 1;
      }
    } finally {
      this.#readers.delete(reader);
      signal.removeEventListener("abort", reader);
    }
  }

  member(author: number): Log {
    return {
      lastPosition: async () => this.lastPosition,
      firstPosition: async () => 1n,
      append: (_lane: Lane, raw) => this.append(author, raw),
      consume: (from, deliver, signal) => this.consume(from, deliver, signal),
      close: async () => undefined,
    };
  }
}

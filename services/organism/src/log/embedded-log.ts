/**
 * A committee log inside one process: one file, one order, several members. Same contract as JetStream's
 * (`conformance.ts`), for lattices without a broker. Members still exchange bytes only.
 *
 * Messages lie in files `<path>`, `<path>.<position of its first message>` …; trimming removes whole files.
 */

import { readdir, rm } from "node:fs/promises";
import { basename, dirname } from "node:path";
import type { Lane } from "../committee/entry.ts";
import { AppendFile } from "../node/append-file.ts";
import {
  type AppendFate,
  HistoryGone,
  type Log,
  LogLost,
  type LogMessage,
  LogRefusal,
  type LogUsage,
} from "../ports.ts";

/** The largest message, as JetStream's `max_msg_size`. */
export const MESSAGE_BYTES_MAX = 1024 * 1024;
const RECENT_MESSAGES = 512;

/** Messages in one file. */
const SEGMENT_MESSAGES = 4096;

export interface EmbeddedLogOptions {
  /** Bytes one author may hold in the log; beyond it its appends are refused. */
  readonly quotaBytes?: number;
  /** Bytes that all may hold: what `usage` tells. */
  readonly bytesMax?: number;
  readonly segmentMessages?: number;
}

interface Segment {
  readonly file: AppendFile;
  /** Position of its first message. */
  readonly from: number;
  /** The disk has not taken a message: it takes none behind it. */
  broken: boolean;
}

interface Place {
  readonly segment: Segment;
  readonly offset: number;
  readonly length: number;
  /** Undefined for messages of an earlier process. */
  readonly author?: number;
}

/** The log itself; `member(index)` is one member's handle on it. */
export class EmbeddedLog {
  readonly #path: string;
  readonly #options: EmbeddedLogOptions;
  readonly #segments: Segment[];
  /** By position. */
  readonly #places: Map<number, Place>;
  #first: number;
  #last: number;
  #bytes = 0;
  readonly #recent = new Map<number, Uint8Array>();
  readonly #used = new Map<number, number>();
  readonly #readers = new Set<() => void>();
  #landed: Promise<unknown> = Promise.resolve();
  #appending: Promise<unknown> = Promise.resolve();
  /** Messages handed to the newest file, whether or not they are on disk. */
  #inNewest: number;

  private constructor(
    path: string,
    options: EmbeddedLogOptions,
    segments: Segment[],
    places: Map<number, Place>,
    last: number,
  ) {
    this.#path = path;
    this.#options = options;
    this.#segments = segments;
    this.#places = places;
    this.#first = segments[0]?.from ?? 1;
    this.#last = last;
    this.#inNewest = last + 1 - (segments.at(-1)?.from ?? 1);
    for (const { length } of places.values()) this.#bytes += length;
  }

  /** Opens or creates the log at `path`. */
  static async open(path: string, options: EmbeddedLogOptions = {}): Promise<EmbeddedLog> {
    const names = await readdir(dirname(path)).catch(() => []);
    const starts = names.flatMap((name) => {
      const rest = name.startsWith(basename(path)) ? name.slice(basename(path).length) : undefined;
      const number = rest === undefined ? null : /^(?:\.(\d+))?$/.exec(rest);
      return number === null ? [] : [Number(number[1] ?? 1)];
    });
    const segments: Segment[] = [];
    const places = new Map<number, Place>();
    let last = 0;
    for (const from of starts.length === 0 ? [1] : starts.sort((a, b) => a - b)) {
      const found: { readonly offset: number; readonly length: number }[] = [];
      const file = await AppendFile.open(segmentPath(path, from), (payload, offset) =>
        found.push({ offset, length: payload.length }),
      );
      const segment = { file, from, broken: false };
      segments.push(segment);
      // What stands behind in the file before was refused to its author, and another has the position.
      for (let at = from; at <= last; at++) places.delete(at);
      for (const [index, at] of found.entries()) places.set(from + index, { segment, ...at });
      last = from + found.length - 1;
    }
    return new EmbeddedLog(path, options, segments, places, last);
  }

  async close(): Promise<void> {
    await this.#appending;
    await this.#landed;
    for (const { file } of this.#segments) await file.close();
  }

  get lastPosition(): bigint {
    return BigInt(this.#last);
  }
  get firstPosition(): bigint {
    return BigInt(this.#first);
  }

  get usage(): LogUsage {
    return { bytes: this.#bytes, bytesMax: this.#options.bytesMax, firstPosition: this.firstPosition };
  }

  async append(author: number, raw: Uint8Array): Promise<AppendFate> {
    if (raw.length > MESSAGE_BYTES_MAX) {
      throw new LogRefusal("ENTRY_TOO_LARGE", `${raw.length} bytes, at most ${MESSAGE_BYTES_MAX}`);
    }
    const used = (this.#used.get(author) ?? 0) + raw.length;
    if (used > (this.#options.quotaBytes ?? Number.POSITIVE_INFINITY)) {
      throw new LogRefusal("LOG_FULL", `member ${author}'s quota is used up`);
    }
    this.#used.set(author, used);
    try {
      await this.#write(author, raw.slice());
    } catch (error) {
      this.#used.set(author, (this.#used.get(author) ?? 0) - raw.length);
      throw error;
    }
    return "stored";
  }

  async #write(author: number, copy: Uint8Array): Promise<void> {
    const begun = this.#appending
      .then(() => this.#newest())
      .then((segment) => {
        this.#inNewest += 1;
        const landed = segment.file.append(copy).then((offset) => {
          const position = ++this.#last;
          this.#places.set(position, { segment, offset, length: copy.length, author });
          this.#bytes += copy.length;
          this.#recent.set(position, copy);
          this.#recent.delete(position - RECENT_MESSAGES);
          for (const wake of this.#readers) wake();
        });
        this.#landed = landed.catch(() => {
          segment.broken = true;
        });
        // Not the promise itself: the next one may begin before this one is on disk.
        return { landed };
      });
    this.#appending = begun.catch(() => undefined);
    await (await begun).landed;
  }

  /** Where the next message goes. A new file begins once everything before it has its position. */
  async #newest(): Promise<Segment> {
    const newest = this.#segments.at(-1);
    const full = this.#inNewest >= (this.#options.segmentMessages ?? SEGMENT_MESSAGES);
    if (newest !== undefined && !newest.broken && !full) return newest;
    await this.#landed;
    const from = this.#last + 1;
    if (newest?.from === from) {
      // Nothing in it has a position, and the next file has its name.
      await newest.file.close();
      await rm(segmentPath(this.#path, from), { force: true });
      this.#segments.pop();
    }
    const file = await AppendFile.open(segmentPath(this.#path, from), () => undefined);
    const segment = { file, from, broken: false };
    this.#segments.push(segment);
    this.#inNewest = 0;
    return segment;
  }

  /** Forgets everything below a position. */
  async trim(below: bigint): Promise<void> {
    const until = Math.min(Number(below), this.#last + 1);
    for (; this.#first < until; this.#first++) {
      const place = this.#places.get(this.#first);
      this.#places.delete(this.#first);
      this.#recent.delete(this.#first);
      if (place === undefined) continue;
      this.#bytes -= place.length;
      if (place.author !== undefined) {
        this.#used.set(place.author, (this.#used.get(place.author) ?? 0) - place.length);
      }
    }
    for (let [oldest, next] = this.#segments; oldest !== undefined && next !== undefined; ) {
      if (next.from > this.#first) return;
      this.#segments.shift();
      await oldest.file.close();
      await rm(segmentPath(this.#path, oldest.from), { force: true });
      [oldest, next] = this.#segments;
    }
  }

  async #read(position: number, { segment, offset, length }: Place): Promise<Uint8Array> {
    try {
      return await segment.file.read(offset, length);
    } catch (error) {
      // Trimmed while it was being read.
      if (position < this.#first) throw new HistoryGone(this.firstPosition);
      throw error;
    }
  }

  async consume(from: bigint, deliver: (message: LogMessage) => void, signal: AbortSignal): Promise<void> {
    let next = Number(from);
    if (next > this.#last + 1) {
      throw new LogLost(`the log ends at position ${this.#last}, position ${next} was to come`, true);
    }
    let wake: () => void = () => undefined;
    const reader = () => wake();
    this.#readers.add(reader);
    signal.addEventListener("abort", reader);
    try {
      while (!signal.aborted) {
        if (next < this.#first) throw new HistoryGone(this.firstPosition);
        const entry = this.#places.get(next);
        if (entry === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (signal.aborted || this.#last >= next) resolve();
          });
          continue;
        }
        const raw = this.#recent.get(next) ?? (await this.#read(next, entry));
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
      firstPosition: async () => this.firstPosition,
      usage: async () => this.usage,
      append: (_lane: Lane, raw) => this.append(author, raw),
      consume: (from, deliver, signal) => this.consume(from, deliver, signal),
      close: async () => undefined,
    };
  }
}

function segmentPath(path: string, from: number): string {
  return from === 1 ? path : `${path}.${from}`;
}

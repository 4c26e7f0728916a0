/**
 * One committee's broker: orders, stores and delivers, and does with time and acknowledgements what the Log contract
 * allows (log.md §9): delays, unknown fates, late landings, copies at any distance, entries of several authors in any
 * order, refusals. When told to, it lies: shows members different logs, forgets its end, keeps messages back, says old ones
 * again. It does not forge: that is for the committee's own tests.
 */
import type { Lane } from "@lattice/organism/committee/entry.ts";
import {
  type AppendFate,
  HistoryGone,
  type Log,
  LogLost,
  type LogMessage,
  LogRefusal,
} from "@lattice/organism/ports.ts";
import type { SeededRandom } from "./random.ts";
import type { SimProcess, VirtualTime } from "./virtual-time.ts";

/** What the nemesis turns on and off. Probabilities per append. */
export interface BrokerWeather {
  lostAck: number;
  lostAppend: number;
  late: number;
  copy: number;
  reorder: number;
  /** ms on top of every delivery. */
  slowMs: number;
}

export const FAIR: Readonly<BrokerWeather> = {
  lostAck: 0,
  lostAppend: 0,
  late: 0,
  copy: 0,
  reorder: 0,
  slowMs: 0,
};

const MESSAGE_BYTES_MAX = 1024 * 1024;
const ANSWER_PATIENCE_MS = 1200;
const LATE_MOST_MS = 40_000;

/** One history; a fork shares what lay before it. */
export interface Branch {
  readonly id: number;
  readonly messages: Uint8Array[];
}

interface Consumer {
  readonly process: SimProcess;
  readonly author: number;
  next: number;
  pumping: boolean;
  ended: boolean;
  readonly deliver: (message: LogMessage) => void;
  readonly fail: (error: LogLost | HistoryGone) => void;
}

export class SimBroker {
  readonly trunk: Branch = { id: 0, messages: [] };
  readonly full = new Set<number>();
  /** Members that are delivered nothing beyond this position. */
  readonly #held = new Map<number, number>();
  readonly #shown = new Map<number, Branch>();
  /** Processes that are shown something else than their member's other one. */
  readonly #shownTo = new Map<SimProcess, Branch>();
  #branches = 1;
  /** False before its stream is made, and once it is deleted. */
  #present: boolean;
  /** The oldest message that is still held. */
  #first = 1;
  up = true;
  weather: BrokerWeather = { ...FAIR };
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  readonly #consumers = new Set<Consumer>();
  readonly #known = new Set<string>();
  readonly #linkBusyUntil = new Map<SimProcess, number>();
  /** True while a member cannot reach the broker. */
  readonly #cut: (author: number) => boolean;
  readonly #onStored: (position: number, raw: Uint8Array, branch: Branch) => void;

  constructor(options: {
    readonly time: VirtualTime;
    readonly random: SeededRandom;
    readonly cut: (author: number) => boolean;
    readonly onStored: (position: number, raw: Uint8Array, branch: Branch) => void;
    /** A stream that somebody has to make first. */
    readonly absent?: boolean;
  }) {
    this.#time = options.time;
    this.#random = options.random;
    this.#cut = options.cut;
    this.#onStored = options.onStored;
    this.#present = options.absent !== true;
  }

  get present(): boolean {
    return this.#present;
  }

  #reachable(author: number): boolean {
    return this.up && !this.#cut(author);
  }

  /** Makes the stream. */
  make(): void {
    this.#present = true;
  }

  /** Deletes the stream, with all that it holds. */
  delete(): void {
    this.#present = false;
    this.#known.clear();
    this.#shown.clear();
    this.#shownTo.clear();
    this.trunk.messages.length = 0;
    for (const consumer of this.#consumers) this.#lose(consumer, "the stream is gone");
  }

  /** Shows everybody the trunk again. Readers of something else find out when they connect anew, or some day. */
  join(): void {
    const others = [...this.#consumers].filter(({ author, process }) => this.branchOf(author, process) !== this.trunk);
    this.#shown.clear();
    this.#shownTo.clear();
    for (const consumer of others) {
      if (consumer.next > this.trunk.messages.length + 1 || this.#random.chance(0.5)) {
        this.#lose(consumer, `the log holds another message at position ${consumer.next - 1} than it delivered before`);
      }
    }
    this.wake();
  }

  /** Lets go of everything before this position. */
  trimTo(first: number): void {
    this.#first = Math.max(this.#first, first);
  }

  #hop(): number {
    return this.#random.between(0.4, 4);
  }

  #store(branch: Branch, raw: Uint8Array): void {
    if (!this.#present) return;
    branch.messages.push(raw);
    this.#onStored(branch.messages.length, raw, branch);
    this.wake();
  }

  /** The history that a member is shown, and that its appends go to. */
  branchOf(author: number, process?: SimProcess): Branch {
    return (process === undefined ? undefined : this.#shownTo.get(process)) ?? this.#shown.get(author) ?? this.trunk;
  }

  /** From here on these members are shown a history of their own, the same so far. */
  fork(authors: readonly number[]): Branch {
    const branch: Branch = { id: this.#branches, messages: [...this.trunk.messages] };
    this.#branches += 1;
    for (const author of authors) this.#shown.set(author, branch);
    this.wake();
    return branch;
  }

  show(process: SimProcess, branch: Branch): void {
    this.#shownTo.set(process, branch);
  }

  /** Forgets the newest messages, and what it knew of their ids. Readers beyond its end are told that it lost them. */
  rollBack(count: number): void {
    const { messages } = this.trunk;
    messages.length = Math.max(0, messages.length - count);
    this.#known.clear();
    const end = messages.length;
    for (const consumer of this.#consumers) {
      if (this.branchOf(consumer.author, consumer.process) !== this.trunk || consumer.next <= end + 1) continue;
      this.#lose(consumer, `the log ends at position ${end}, position ${consumer.next} was to come`);
    }
  }

  #lose(consumer: Consumer, why: string): void {
    consumer.ended = true;
    this.#consumers.delete(consumer);
    const lost = new LogLost(why, true);
    consumer.process.after(this.#random.between(1, 400), () => consumer.fail(lost));
  }

  /** Delivers nothing more to this member, which may go on appending. @returns what ends it */
  withhold(author: number): () => void {
    this.#held.set(author, this.branchOf(author).messages.length);
    return () => {
      this.#held.delete(author);
      this.wake();
    };
  }

  /** Says something again that it has said long ago. */
  replay(): void {
    const { messages } = this.trunk;
    const raw = messages[this.#random.below(Math.max(1, messages.length))];
    if (this.up && raw !== undefined) this.#store(this.trunk, raw);
  }

  /** Looks again who can be served: call it after anything was healed. */
  wake(): void {
    for (const consumer of this.#consumers) this.#pump(consumer);
  }

  #pump(consumer: Consumer): void {
    const { messages } = this.branchOf(consumer.author, consumer.process);
    const end = Math.min(messages.length, this.#held.get(consumer.author) ?? messages.length);
    if (consumer.pumping || consumer.ended || consumer.next > end) return;
    if (!this.#reachable(consumer.author)) return;
    consumer.pumping = true;
    const behind = messages.length - consumer.next;
    const delay = behind > 8 ? 0.05 : this.#hop() + this.weather.slowMs * this.#random.fraction();
    consumer.process.after(delay, () => {
      consumer.pumping = false;
      if (consumer.ended) return;
      // What it is shown may have become another history meanwhile.
      const raw = this.branchOf(consumer.author, consumer.process).messages[consumer.next - 1];
      if (raw !== undefined && this.#reachable(consumer.author)) {
        const position = BigInt(consumer.next);
        consumer.next += 1;
        // The same bytes for all, so that they are read once (shared-reading/).
        consumer.deliver({ position, raw });
      }
      this.#pump(consumer);
    });
  }

  #append(process: SimProcess, author: number, raw: Uint8Array, id: string): Promise<AppendFate> {
    const { weather } = this;
    const random = this.#random;
    return new Promise((resolve, reject) => {
      const unknown = (): void => {
        process.after(ANSWER_PATIENCE_MS * random.between(0.5, 1.5), () => resolve("unknown"));
      };
      const now = this.#time.nowMs;
      const hop = this.#hop();
      const due = now + hop;
      // One connection keeps its order, unless a reconnection shuffles it.
      const busy = this.#linkBusyUntil.get(process) ?? 0;
      const arrival = random.chance(weather.reorder) ? due + random.between(0, 80) : Math.max(due, busy);
      this.#linkBusyUntil.set(process, Math.max(busy, arrival));
      const copy = raw.slice();
      const branch = (): Branch => this.branchOf(author, process);
      // What is on the wire arrives whether or not its sender lives.
      this.#time.after(arrival - now, () => {
        if (!this.#reachable(author) || !this.#present || random.chance(weather.lostAppend)) return unknown();
        if (raw.length > MESSAGE_BYTES_MAX) {
          process.after(this.#hop(), () => reject(new LogRefusal("ENTRY_TOO_LARGE", `${raw.length} bytes`)));
          return;
        }
        if (this.full.has(author)) {
          process.after(this.#hop(), () => reject(new LogRefusal("LOG_FULL", `member ${author}'s quota is used up`)));
          return;
        }
        if (random.chance(weather.late)) {
          this.#time.after(random.between(200, random.chance(0.1) ? LATE_MOST_MS : 6000), () => {
            if (this.up) this.#store(branch(), copy);
          });
          return unknown();
        }
        // De-duplication inside a window is the broker's own; copies come past it.
        const known = `${branch().id}/${id}`;
        if (!this.#known.has(known)) {
          this.#known.add(known);
          this.#store(branch(), copy);
        }
        if (random.chance(weather.copy)) {
          this.#time.after(random.between(1, 9000), () => {
            if (this.up) this.#store(branch(), copy);
          });
        }
        if (random.chance(weather.lostAck)) return unknown();
        process.after(this.#hop(), () => resolve("stored"));
      });
    });
  }

  async #whenReachable(process: SimProcess, author: number): Promise<void> {
    await process.pause(this.#hop());
    while (!this.#reachable(author)) await process.pause(100);
    if (!this.#present) throw new LogLost("the stream is gone", true);
  }

  /** One member's handle; dies with its process. */
  handle(process: SimProcess, author: number, onDelivered: (message: LogMessage) => void): Log {
    return {
      lastPosition: async () => {
        await this.#whenReachable(process, author);
        return BigInt(this.branchOf(author, process).messages.length);
      },
      firstPosition: async () => {
        if (!this.#present) throw new LogLost("the stream is gone", true);
        return BigInt(this.#first);
      },
      present: async () => {
        await process.pause(this.#hop());
        return this.#present && this.#reachable(author);
      },
      append: (_lane: Lane, raw, id) => this.#append(process, author, raw, id),
      consume: (from, deliver, signal) =>
        new Promise((resolve, reject) => {
          const consumer: Consumer = {
            process,
            author,
            next: Number(from),
            pumping: false,
            ended: false,
            deliver: (message) => {
              deliver(message);
              onDelivered(message);
            },
            fail: reject,
          };
          const end = this.branchOf(author, process).messages.length;
          if (!this.#present) {
            reject(new LogLost("the stream is gone", true));
            return;
          }
          if (consumer.next < this.#first && consumer.next <= end) {
            reject(new HistoryGone(BigInt(this.#first)));
            return;
          }
          if (consumer.next > end + 1) {
            reject(new LogLost(`the log ends at position ${end}, position ${consumer.next} was to come`, true));
            return;
          }
          this.#consumers.add(consumer);
          process.onAbort(signal, () => {
            consumer.ended = true;
            this.#consumers.delete(consumer);
            resolve();
          });
          this.#pump(consumer);
        }),
      close: async () => undefined,
    };
  }

  /** Lets go of a dead process. */
  drop(process: SimProcess): void {
    for (const consumer of this.#consumers) {
      if (consumer.process !== process) continue;
      consumer.ended = true;
      this.#consumers.delete(consumer);
    }
    this.#linkBusyUntil.delete(process);
  }
}

/**
 * One committee's broker: orders, stores and delivers, and does with time and acknowledgements what the Log contract
 * allows (log.md §9): delays, unknown fates, late landings, copies at any distance, entries of several authors in any
 * order, refusals. It does not forge: that is for the committee's own tests.
 */
import type { Lane } from "@lattice/organism/committee/entry.ts";
import { type AppendFate, type Log, type LogMessage, LogRefusal } from "@lattice/organism/ports.ts";
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

interface Consumer {
  readonly process: SimProcess;
  readonly author: number;
  next: number;
  pumping: boolean;
  ended: boolean;
  readonly deliver: (message: LogMessage) => void;
}

export class SimBroker {
  readonly messages: Uint8Array[] = [];
  readonly full = new Set<number>();
  up = true;
  weather: BrokerWeather = { ...FAIR };
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  readonly #consumers = new Set<Consumer>();
  readonly #known = new Set<string>();
  readonly #linkBusyUntil = new Map<SimProcess, number>();
  /** True while a member cannot reach the broker. */
  readonly #cut: (author: number) => boolean;
  readonly #onStored: (position: number, raw: Uint8Array) => void;

  constructor(options: {
    readonly time: VirtualTime;
    readonly random: SeededRandom;
    readonly cut: (author: number) => boolean;
    readonly onStored: (position: number, raw: Uint8Array) => void;
  }) {
    this.#time = options.time;
    this.#random = options.random;
    this.#cut = options.cut;
    this.#onStored = options.onStored;
  }

  #reachable(author: number): boolean {
    return this.up && !this.#cut(author);
  }

  #hop(): number {
    return this.#random.between(0.4, 4);
  }

  #store(raw: Uint8Array): void {
    this.messages.push(raw);
    this.#onStored(this.messages.length, raw);
    this.wake();
  }

  /** Looks again who can be served: call it after anything was healed. */
  wake(): void {
    for (const consumer of this.#consumers) this.#pump(consumer);
  }

  #pump(consumer: Consumer): void {
    if (consumer.pumping || consumer.ended || consumer.next > this.messages.length) return;
    if (!this.#reachable(consumer.author)) return;
    consumer.pumping = true;
    const behind = this.messages.length - consumer.next;
    const delay = behind > 8 ? 0.05 : this.#hop() + this.weather.slowMs * this.#random.fraction();
    consumer.process.after(delay, () => {
      consumer.pumping = false;
      if (consumer.ended) return;
      const raw = this.messages[consumer.next - 1];
      if (raw !== undefined && this.#reachable(consumer.author)) {
        const position = BigInt(consumer.next);
        consumer.next += 1;
        consumer.deliver({ position, raw: raw.slice() });
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
      // What is on the wire arrives whether or not its sender lives.
      this.#time.after(arrival - now, () => {
        if (!this.#reachable(author) || random.chance(weather.lostAppend)) return unknown();
        if (raw.length > MESSAGE_BYTES_MAX) {
          process.after(this.#hop(), () => reject(new LogRefusal("ENTRY_TOO_LARGE", `${raw.length} bytes`)));
          return;
        }
        if (this.full.has(author)) {
          process.after(this.#hop(), () => reject(new LogRefusal("LOG_FULL", `member ${author}'s quota is used up`)));
          return;
        }
        if (random.chance(weather.late)) {
          this.#time.after(random.between(200, 6000), () => {
            if (this.up) this.#store(copy);
          });
          return unknown();
        }
        // De-duplication inside a window is the broker's own; copies come past it.
        if (!this.#known.has(id)) {
          this.#known.add(id);
          this.#store(copy);
        }
        if (random.chance(weather.copy)) {
          this.#time.after(random.between(1, 9000), () => {
            if (this.up) this.#store(copy);
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
  }

  /** One member's handle; dies with its process. */
  handle(process: SimProcess, author: number, onDelivered: (message: LogMessage) => void): Log {
    return {
      lastPosition: async () => {
        await this.#whenReachable(process, author);
        return BigInt(this.messages.length);
      },
      firstPosition: async () => 1n,
      append: (_lane: Lane, raw, id) => this.#append(process, author, raw, id),
      consume: (from, deliver, signal) =>
        new Promise((resolve) => {
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
          };
          this.#consumers.add(consumer);
          signal.addEventListener("abort", () => {
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

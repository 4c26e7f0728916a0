/** Threads that run seeds, made as they are needed. */
import { Worker } from "node:worker_threads";
import { LIVENESS_SLOTS_MIN } from "./checkers/liveness.ts";
import type { SeedOptions, SeedResult } from "./run-seed.ts";
import type { WorkerSetup } from "./seed-worker.ts";

type Message = { readonly result: SeedResult } | { readonly line: string };

/** What a run makes lives for some events and is let go of together: with V8's own 48 MB a fifth more processor time goes into a seed. */
const YOUNG_MB = 192;

export class SeedThread {
  readonly #worker: Worker;

  constructor(setup: WorkerSetup) {
    this.#worker = new Worker(new URL("./seed-worker.ts", import.meta.url), {
      workerData: setup,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
    });
  }

  run(options: SeedOptions, tell: (line: string) => void = () => undefined): Promise<SeedResult> {
    return new Promise((resolve, reject) => {
      const worker = this.#worker;
      const done = (then: () => void): void => {
        worker.off("message", onMessage);
        worker.off("error", onError);
        then();
      };
      const onMessage = (message: Message): void => {
        if ("line" in message) tell(message.line);
        else done(() => resolve(message.result));
      };
      const onError = (error: unknown): void => done(() => reject(error));
      worker.on("message", onMessage);
      worker.on("error", onError);
      worker.postMessage(options);
    });
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** Which seeds of a hundred run on real cryptography: one in twenty. */
export const REAL_EVERY = 20;

/** Of a hundred, ten have brokers that lie. */
const LYING = 7;
/** Room for a lie, and to be found out. */
const LYING_SLOTS_MIN = 14;

/** Slots of a seed of one committee, unless it is one that has to come back. */
export const LOG_SLOTS = 12;
/** On real cryptography. */
const LOG_REAL_SLOTS = 5;

export interface Plan {
  readonly options: SeedOptions;
  readonly crypto: "fast" | "real";
  /** One committee instead of six. */
  readonly log?: boolean;
}

/** What a seed of one committee means: shorter, and as many of them as one likes. */
export function logPlanOf(seed: number, slots = LOG_SLOTS): Plan {
  return seed % REAL_EVERY === 0
    ? {
        crypto: "real",
        options: { seed, slots: Math.min(slots, LOG_REAL_SLOTS), mode: "log", members: 3 },
        log: true,
      }
    : { crypto: "fast", options: { seed, slots, mode: "log" }, log: true };
}

/** What a seed means when nothing else is said: the same wherever it is run. */
export function planOf(seed: number, slots: number): Plan {
  const real = seed % REAL_EVERY === 0;
  if (seed % 10 === LYING) {
    // n = 3f + 1 and one more: committees with a corrupt member in which sides may be of any size.
    const members = 4 + (Math.floor(seed / 10) % 2);
    return { crypto: "fast", options: { seed, slots: Math.max(slots, LYING_SLOTS_MIN), mode: "lying", members } };
  }
  const mode = seed % 3 === 0 ? "liveness" : "safety";
  // Real pairings take three hundred times as long: such a seed is short and its committees are small.
  return real
    ? { crypto: "real", options: { seed, slots: Math.min(slots, 4), mode: "safety", members: 3 } }
    : {
        crypto: "fast",
        options: { seed, slots: mode === "liveness" ? Math.max(slots, LIVENESS_SLOTS_MIN) : slots, mode },
      };
}

/** Runs these seeds on `jobs` threads; tells each result as it comes. */
export async function runSeeds(
  seeds: readonly number[],
  plan: (seed: number) => Plan,
  jobs: number,
  each: (result: SeedResult) => void,
): Promise<void> {
  const waiting = [...seeds];
  await Promise.all(
    Array.from({ length: Math.min(jobs, seeds.length) }, async () => {
      const threads = new Map<string, SeedThread>();
      for (let seed = waiting.shift(); seed !== undefined; seed = waiting.shift()) {
        const { crypto, options, log = false } = plan(seed);
        const kind = `${crypto} ${log}`;
        const thread = threads.get(kind) ?? new SeedThread({ crypto, log });
        threads.set(kind, thread);
        each(await thread.run(options));
      }
      for (const thread of threads.values()) await thread.close();
    }),
  );
}

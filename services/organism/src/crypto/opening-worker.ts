/** One thread of the opening pool: takes chunks of tasks, gives their results in order. It holds no secret keys. */
import { parentPort, workerData } from "node:worker_threads";
import { initCrypto } from "./engine.ts";
import { openIbe, openWithSigma } from "./ibe.ts";
import type { OpeningResult, OpeningTask } from "./opening-pool.ts";

/** Marks a thread as one of the pool's; this module may be loaded in others too. */
export const OPENING_ROLE = "lattice/opening";

/** What the pool sends. */
export interface OpeningChunk {
  readonly chunk: number;
  readonly tasks: readonly OpeningTask[];
}
/** What a worker answers; `error` is a bug of the caller, never the fault of a ciphertext. */
export interface OpenedChunk {
  readonly chunk: number;
  readonly results?: readonly OpeningResult[];
  readonly error?: string;
}

/** Opens one task on this thread. */
export function openTask(task: OpeningTask): OpeningResult {
  if (!("sigma" in task)) return openIbe(task);
  const opened = openWithSigma(task);
  return "content" in opened ? { content: opened.content, sigma: task.sigma } : opened;
}

const port = parentPort;
if (port !== null && workerData === OPENING_ROLE) {
  // The engine loads while there is nothing to open yet.
  void initCrypto();
  port.on("message", async ({ chunk, tasks }: OpeningChunk) => {
    try {
      await initCrypto();
      port.postMessage({ chunk, results: tasks.map(openTask) } satisfies OpenedChunk);
    } catch (error) {
      port.postMessage({ chunk, error: error instanceof Error ? error.message : String(error) } satisfies OpenedChunk);
    }
  });
}

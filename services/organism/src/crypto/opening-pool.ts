/**
 * Opens many sealed messages on worker threads, so that a slot's thousand pairings never hold up the event loop.
 *
 * Workers start when the first batch comes (each adds about 40 MB) and never keep the process alive while idle.
 * The queue has a bound in tasks; a batch that does not fit is refused whole. A worker that dies is replaced and its
 * chunk tried once more; results are in the order of the batch whatever finished first.
 */
import { setImmediate as turnOfTheLoop } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { initCrypto } from "./engine.ts";
import type { IbeAddress, IbeOpened } from "./ibe.ts";
import { OPENING_ROLE, type OpenedChunk, type OpeningChunk, openTask } from "./opening-worker.ts";

/** Open with the identity's key (96 bytes, verified by the caller). */
export interface KeyTask {
  readonly identityKey: Uint8Array;
  readonly aad: Uint8Array;
  readonly sealed: Uint8Array;
}
/** Check a published σ by sealing again (2.5 times cheaper). */
export interface SigmaTask extends IbeAddress {
  readonly sigma: Uint8Array;
  readonly aad: Uint8Array;
  readonly sealed: Uint8Array;
}
export type OpeningTask = KeyTask | SigmaTask;
export type OpeningResult = IbeOpened;

export interface OpeningPool {
  /** One result per task, in order. @throws PoolRefusal (as rejection) when full or closed; Error on a caller's bug */
  open(batch: readonly OpeningTask[]): Promise<OpeningResult[]>;
  /** Tasks waiting or running. */
  readonly pending: number;
  /** Starts the threads now, so that the first batch does not wait for them to load. */
  warm(): void;
  /** Ends the workers; what is still waiting is rejected. */
  close(): Promise<void>;
}

export class PoolRefusal extends Error {
  override readonly name = "PoolRefusal";
  readonly reason: "POOL_FULL" | "POOL_CLOSED";
  constructor(reason: PoolRefusal["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

export interface OpeningPoolOptions {
  /** Threads; 0 opens on the event loop, one task a turn (small lattices, tests). */
  readonly workers: number;
  /** Most tasks waiting or running at once. Default 16,384. */
  readonly queueMax?: number;
}

/** Tasks that go to a worker at once: large enough to hide the messages, small enough to balance (about 20 ms). */
const CHUNK_TASKS = 8;
const TRIES = 2;

interface Batch {
  readonly results: OpeningResult[];
  missing: number;
  readonly resolve: (results: OpeningResult[]) => void;
  readonly reject: (error: Error) => void;
  failed: boolean;
}
interface Job {
  readonly chunk: number;
  readonly batch: Batch;
  readonly at: number;
  readonly tasks: readonly OpeningTask[];
  tries: number;
}
interface Thread {
  readonly worker: Worker;
  job: Job | undefined;
}

export function createOpeningPool(options: OpeningPoolOptions): OpeningPool {
  const queueMax = options.queueMax ?? 16_384;
  return options.workers === 0 ? new InlinePool(queueMax) : new WorkerPool(options.workers, queueMax);
}

class InlinePool implements OpeningPool {
  readonly #queueMax: number;
  #closed = false;
  pending = 0;

  constructor(queueMax: number) {
    this.#queueMax = queueMax;
  }

  async open(batch: readonly OpeningTask[]): Promise<OpeningResult[]> {
    admit(this.#closed, this.pending + batch.length, this.#queueMax);
    this.pending += batch.length;
    let left = batch.length;
    try {
      await initCrypto();
      const results: OpeningResult[] = [];
      for (const task of batch) {
        await turnOfTheLoop();
        if (this.#closed) throw new PoolRefusal("POOL_CLOSED", "the opening pool was closed");
        results.push(openTask(task));
        this.pending--;
        left--;
      }
      return results;
    } finally {
      this.pending -= left;
    }
  }

  warm(): void {
    void initCrypto();
  }

  async close(): Promise<void> {
    this.#closed = true;
  }
}

class WorkerPool implements OpeningPool {
  readonly #size: number;
  readonly #queueMax: number;
  readonly #threads = new Set<Thread>();
  readonly #queue: Job[] = [];
  #chunks = 0;
  #closed = false;
  pending = 0;

  constructor(size: number, queueMax: number) {
    this.#size = size;
    this.#queueMax = queueMax;
  }

  async open(tasks: readonly OpeningTask[]): Promise<OpeningResult[]> {
    admit(this.#closed, this.pending + tasks.length, this.#queueMax);
    if (tasks.length === 0) return [];
    this.pending += tasks.length;
    return await new Promise((resolve, reject) => {
      const batch: Batch = { results: new Array(tasks.length), missing: tasks.length, resolve, reject, failed: false };
      for (let at = 0; at < tasks.length; at += CHUNK_TASKS) {
        const part = tasks.slice(at, at + CHUNK_TASKS).map(compact);
        this.#queue.push({ chunk: this.#chunks++, batch, at, tasks: part, tries: 0 });
      }
      this.#dispatch();
    });
  }

  warm(): void {
    if (!this.#closed) while (this.#start() !== undefined);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const closed = new PoolRefusal("POOL_CLOSED", "the opening pool was closed");
    for (const job of this.#queue.splice(0)) this.#fail(job, closed);
    const threads = [...this.#threads];
    this.#threads.clear();
    for (const thread of threads) if (thread.job !== undefined) this.#fail(thread.job, closed);
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const thread = [...this.#threads].find(({ job }) => job === undefined) ?? this.#start();
      if (thread === undefined) return;
      const job = this.#queue.shift();
      if (job === undefined) return;
      if (job.batch.failed) {
        this.pending -= job.tasks.length;
        continue;
      }
      thread.job = job;
      job.tries++;
      thread.worker.ref();
      thread.worker.postMessage({ chunk: job.chunk, tasks: job.tasks } satisfies OpeningChunk);
    }
  }

  #start(): Thread | undefined {
    if (this.#threads.size >= this.#size) return undefined;
    const worker = new Worker(new URL("./opening-worker.ts", import.meta.url), {
      name: "opening",
      workerData: OPENING_ROLE,
    });
    worker.unref();
    const thread: Thread = { worker, job: undefined };
    this.#threads.add(thread);
    worker.on("message", (answer: OpenedChunk) => this.#answered(thread, answer));
    let cause: Error | undefined;
    worker.on("error", (error) => {
      cause = error instanceof Error ? error : new Error(String(error));
    });
    worker.on("exit", () => this.#died(thread, cause));
    return thread;
  }

  #answered(thread: Thread, { chunk, results, error }: OpenedChunk): void {
    const job = thread.job;
    if (job === undefined || job.chunk !== chunk) return;
    thread.job = undefined;
    thread.worker.unref();
    if (results === undefined) {
      this.#fail(job, new Error(error));
    } else {
      this.pending -= job.tasks.length;
      const { batch } = job;
      for (const [offset, result] of results.entries()) batch.results[job.at + offset] = result;
      batch.missing -= results.length;
      if (batch.missing === 0 && !batch.failed) batch.resolve(batch.results);
    }
    this.#dispatch();
  }

  #died(thread: Thread, cause: Error | undefined): void {
    if (!this.#threads.delete(thread) || this.#closed) return;
    const { job } = thread;
    if (job !== undefined) {
      if (job.tries < TRIES) this.#queue.unshift(job);
      else this.#fail(job, new Error("an opening worker died twice over one chunk", { cause }));
    }
    this.#dispatch();
  }

  #fail(job: Job, error: Error): void {
    this.pending -= job.tasks.length;
    if (job.batch.failed) return;
    job.batch.failed = true;
    job.batch.reject(error);
  }
}

function admit(closed: boolean, wanted: number, queueMax: number): void {
  if (closed) throw new PoolRefusal("POOL_CLOSED", "the opening pool was closed");
  if (wanted > queueMax) throw new PoolRefusal("POOL_FULL", `the opening pool holds at most ${queueMax} tasks`);
}

/** A view of a larger buffer would take the whole buffer along to the worker. */
function tight(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
}

function compact(task: OpeningTask): OpeningTask {
  const aad = tight(task.aad);
  const sealed = tight(task.sealed);
  if (!("sigma" in task)) return { identityKey: tight(task.identityKey), aad, sealed };
  const { suite, sealingKey, identity, sigma } = task;
  return { suite, sealingKey: tight(sealingKey), identity: tight(identity), sigma: tight(sigma), aad, sealed };
}

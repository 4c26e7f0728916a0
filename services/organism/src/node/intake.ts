/**
 * Between the log and `apply`: reads messages as they come, and has the signatures of a burst verified by other threads
 * while the event loop goes on. Hands on every message, once, in its order.
 *
 * A message that comes alone is handed on at once: waiting for another thread would only delay it. Without `verify`
 * (tests, the simulator) every message is.
 */
import { CodecError } from "../codec/codec.ts";
import { ENTRY_TAG, type ReadEntry, readEntry } from "../committee/entry.ts";
import type { LogMessage, Timers } from "../ports.ts";

/** Verifies a tagged signature on another thread. Whatever goes wrong there says nothing about the signature. */
export type VerifyElsewhere = (
  publicKey: Uint8Array,
  tag: string,
  bytes: Uint8Array,
  signature: Uint8Array,
) => Promise<boolean>;

export interface IntakeOptions {
  /** `read` is missing for what is no entry. */
  readonly deliver: (message: LogMessage, read: ReadEntry | undefined) => void;
  /** The key under which this very process has made an entry's signature, if it has. */
  readonly signedBy: (entry: ReadEntry) => Uint8Array | undefined;
  /** The key of an author's current incarnation: what its next entry will be judged by, as far as is known now. */
  readonly keyOf: (author: number) => Uint8Array | undefined;
  readonly timers: Pick<Timers, "soon">;
  readonly verify?: VerifyElsewhere | undefined;
}

/** Fewer wait no shorter beside the event loop than in it. */
const BURST_MIN = 4;
/** Verified at a time: what comes first need not wait for all that follows. */
const BATCH_MAX = 64;
/** Held while others verify. A log that is faster is slowed down by being worked off at once. */
const HELD_MESSAGES_MAX = 512;
const HELD_BYTES_MAX = 16 * 1024 * 1024;

interface Held {
  readonly message: LogMessage;
  read: ReadEntry | undefined;
}

export class Intake {
  readonly #options: IntakeOptions;
  /** What is being verified, in order. */
  #batch: Held[] = [];
  /** What waits for that. */
  #queue: LogMessage[] = [];
  #bytes = 0;
  /** A turn of the event loop, or a batch, will look at the queue. */
  #coming = false;
  #idle: () => void = () => undefined;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  take(message: LogMessage): void {
    const { verify, timers } = this.#options;
    if (verify === undefined) {
      this.#handOn(message);
      return;
    }
    if (!this.#coming) {
      // What comes in the same turn waits for the next one, and so makes a burst.
      this.#coming = true;
      timers.soon(() => this.#look(verify));
      this.#handOn(message);
      return;
    }
    this.#queue.push(message);
    this.#bytes += message.raw.length;
    if (this.#queue.length >= HELD_MESSAGES_MAX || this.#bytes >= HELD_BYTES_MAX) this.#handOnAll();
  }

  /** Resolves once everything that was taken has been handed on. */
  drained(): Promise<void> {
    if (!this.#coming) return Promise.resolve();
    return new Promise((resolve) => {
      const before = this.#idle;
      this.#idle = () => {
        before();
        resolve();
      };
    });
  }

  #look(verify: VerifyElsewhere): void {
    const { timers } = this.#options;
    if (this.#queue.length === 0) {
      this.#coming = false;
      const idle = this.#idle;
      this.#idle = () => undefined;
      idle();
      return;
    }
    if (this.#queue.length < BURST_MIN) {
      this.#handOnAll();
      timers.soon(() => this.#look(verify));
      return;
    }
    const batch: Held[] = this.#queue
      .splice(0, BATCH_MAX)
      .map((message) => ({ message, read: this.#read(message.raw) }));
    for (const { message } of batch) this.#bytes -= message.raw.length;
    this.#batch = batch;
    void Promise.all(batch.map((held) => this.#verify(held, verify))).then(() => {
      // Unless it has been handed on meanwhile.
      if (this.#batch === batch) this.#handOnBatch();
      this.#look(verify);
    });
  }

  async #verify(held: Held, verify: VerifyElsewhere): Promise<void> {
    const { read } = held;
    if (read === undefined || read.verifiedBy !== undefined) return;
    const key = this.#options.keyOf(read.body.author);
    if (key === undefined) return;
    // What does not verify here, or cannot be looked at, is judged by `apply`: its key may be another by then.
    const verifies = await verify(key, ENTRY_TAG, read.bodyBytes, read.signature).catch(() => false);
    if (verifies) held.read = { ...read, verifiedBy: key };
  }

  #read(raw: Uint8Array): ReadEntry | undefined {
    try {
      const read = readEntry(raw);
      const own = this.#options.signedBy(read);
      return own === undefined ? read : { ...read, verifiedBy: own };
    } catch (error) {
      if (error instanceof CodecError) return undefined;
      throw error;
    }
  }

  #handOn(message: LogMessage): void {
    this.#options.deliver(message, this.#read(message.raw));
  }

  #handOnBatch(): void {
    const batch = this.#batch;
    this.#batch = [];
    for (const { message, read } of batch) this.#options.deliver(message, read);
  }

  #handOnAll(): void {
    this.#handOnBatch();
    const queue = this.#queue;
    this.#queue = [];
    this.#bytes = 0;
    for (const message of queue) this.#handOn(message);
  }
}

/** Everything the outside world can do to a member, as interfaces: production, tests and simulation differ only here. */
import type { Lane } from "./committee/entry.ts";

/** Wall clock. `nowMs` is Unix time in ms; it may step. */
export interface Clock {
  nowMs(): number;
}

/** Timers and elapsed time. Production: Node's own (`node/node-timers.ts`). */
export interface Timers {
  /** ms since some moment of this process; never goes back, whatever the wall clock does. */
  elapsedMs(): number;
  /** Runs `work` once after `ms`. @returns what cancels it */
  after(ms: number, work: () => void): () => void;
  /** Runs `work` every `ms`. @returns what ends it */
  every(ms: number, work: () => void): () => void;
  /** Runs `work` after what is due now. */
  soon(work: () => void): void;
}

/** Resolves after `ms`, or as soon as `signal` aborts. */
export function pause(timers: Timers, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const cancel = timers.after(ms, done);
    function done(): void {
      cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    }
    signal?.addEventListener("abort", done);
    if (signal?.aborted === true) done();
  });
}

/** Runs `work`, which does not reject, every `ms`, but not while it still runs. @returns what ends it */
export function everyWhenDone(timers: Timers, ms: number, work: () => Promise<void>): () => void {
  let running = false;
  return timers.every(ms, () => {
    if (running) return;
    running = true;
    void work().finally(() => {
      running = false;
    });
  });
}

/** Cryptographic randomness: `count` fresh bytes. */
export type Random = (count: number) => Uint8Array;

/** One message of the log, in order, exactly once per position. */
export interface LogMessage {
  /** 1, 2, 3 … within the log's generation. */
  readonly position: bigint;
  /** Its readers' own: they may keep it, and nobody changes it. */
  readonly raw: Uint8Array;
}

/** What became of an append. `unknown` means: consume and see. */
export type AppendFate = "stored" | "unknown";

/** Raised by a log that will not take this message: full, too large, not permitted. Never retried blindly. */
export class LogRefusal extends Error {
  override readonly name = "LogRefusal";
  readonly reason: "LOG_FULL" | "ENTRY_TOO_LARGE" | "NOT_PERMITTED";
  constructor(reason: LogRefusal["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

/** How full a log is. */
export interface LogUsage {
  readonly bytes: number;
  /** Undefined: no limit. */
  readonly bytesMax: number | undefined;
  /** Of what this member's own fullest lane may hold, the part that it holds, 0 to 1; absent where lanes have no limit. */
  readonly ownShare?: number;
  readonly firstPosition: bigint;
}

/**
 * A totally ordered, durable log of opaque messages, shared by one committee. It orders and stores; it is trusted
 * with nothing else (log.md §9). De-duplication is not part of the contract: the same message may land many times.
 */
export interface Log {
  /**
   * The position of the newest message, 0 when there is none. A store that may lag behind itself is asked again for a
   * while until it shows `atLeast`; less than that is then the truth.
   */
  lastPosition(atLeast?: bigint): Promise<bigint>;
  /** Calls `listener` whenever the store answers again after a silence; absent where there is none. */
  restored?(listener: () => void): void;
  /** The position of the oldest message still held; lastPosition + 1 when nothing is held. */
  firstPosition(): Promise<bigint>;
  /** False while whoever runs the broker has not made it yet; absent where it is there as soon as it is opened. */
  present?(): Promise<boolean>;
  /** Absent where nobody can know. */
  usage?(): Promise<LogUsage>;
  /** Publishes one message under this member's subject. @throws LogRefusal */
  append(lane: Lane, raw: Uint8Array, id: string): Promise<AppendFate>;
  /**
   * Delivers every message from `from` on, in order, without holes, until `signal` aborts; survives the broker's
   * restarts by itself. Resolves when aborted.
   * @param how what a reading `beside` the member's own meets, from any position that somebody names, says nothing of
   * whether the member may write
   * @throws HistoryGone when `from` lies before the oldest message held; LogLost when it cannot be read any more
   */
  consume(
    from: bigint,
    deliver: (message: LogMessage) => void,
    signal: AbortSignal,
    how?: { readonly beside: boolean },
  ): Promise<void>;
  close(): Promise<void>;
}

/** The log no longer holds what was asked for: load a snapshot. */
export class HistoryGone extends Error {
  override readonly name = "HistoryGone";
  readonly firstPosition: bigint;
  constructor(firstPosition: bigint) {
    super(`the log starts at position ${firstPosition}`);
    this.firstPosition = firstPosition;
  }
}

/** The log has lost what it once delivered, or does not admit this member any more: nothing that comes can be trusted. */
export class LogLost extends Error {
  override readonly name = "LogLost";
  /** True when its store shows that it lost what was read: the generation may be over. False: this member is shut out. */
  readonly history: boolean;
  constructor(message: string, history = false) {
    super(message);
    this.history = history;
  }
}

/** A second, different promise under one key: this member must not say it. */
export class PromiseConflict extends Error {
  override readonly name = "PromiseConflict";
  constructor(key: string) {
    super(`a different promise is journaled under ${key}`);
  }
}

/** This member may have promised something else that it has forgotten: it makes no promise for this slot. */
export class PromiseWithheld extends Error {
  override readonly name = "PromiseWithheld";
  constructor(key: string) {
    super(`the journal may have lost what was promised under ${key}`);
  }
}

/** A member's own durable memory (log.md §3). Every method resolves after the bytes are on disk. */
export interface Journal {
  /** Strictly grows over the life of the journal; one per process start. */
  nextIncarnation(atLeast: bigint): Promise<bigint>;
  /**
   * Journals what must never be said twice differently. Identical bytes again are fine.
   * @throws PromiseConflict; in an organism's node half also PromiseWithheld
   */
  promise(key: string, slot: bigint, bytes: Uint8Array): Promise<void>;
  /** The promised bytes, when there are any. */
  promised(key: string): Uint8Array | undefined;
  /** Journals a signed entry before it is published. */
  entry(id: Uint8Array, raw: Uint8Array): Promise<void>;
  /** Named private state that must survive (ratchets, counters); replaces the earlier value atomically. */
  put(name: string, bytes: Uint8Array): Promise<void>;
  get(name: string): Uint8Array | undefined;
  /** Forgets promises of slots below `slot`. */
  trim(slot: bigint): Promise<void>;
  close(): Promise<void>;
}

/** Records kept in order, read back by offset. `node/append-file.ts` is the one on disk. */
export interface RecordFile {
  /** Resolves to the record's offset once it is durable. */
  append(payload: Uint8Array): Promise<number>;
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** The journal of a committee member: it also knows which entries it has journaled. */
export interface MemberJournal extends Journal {
  /**
   * True when an entry with this id was journaled here (recent ones only). A member whose newest entry in the log is
   * not in its journal has an old copy of it, and may have promised what it no longer knows.
   */
  wrote(id: Uint8Array): boolean;
  /** Whether `promised` has something under this key, without fetching it. */
  isPromised(key: string): boolean;
  /** The entry that was journaled last, as it was signed: how far the log had been read by then stands in it. */
  newestEntry(): Uint8Array | undefined;
}

/**
 * Says things in a member's name: signs, journals, publishes, and resends until its own eyes see the entry land
 * (log.md §3). Entries of a lane are numbered and chained, so there is one order and no second version of anything:
 * of unknown fate means resending the identical bytes, oldest first.
 */
import { encode, toHex } from "../codec/codec.ts";
import { encodeCommand } from "../committee/commands.ts";
import type { Applied } from "../committee/committee.ts";
import { commandDigest } from "../committee/committee.ts";
import {
  CHUNK_BYTES,
  ENTRY_BODY,
  ENTRY_TAG,
  encodeEntry,
  entryHash,
  type Lane,
  ZERO_HASH,
} from "../committee/entry.ts";
import { generateSigningKey, type SigningKey, signTagged } from "../crypto/ed25519.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import { type Refusal, refuse } from "../machine.ts";
import { type Clock, type Journal, type Log, LogRefusal } from "../ports.ts";

/** Entries in flight per lane; more wait for their turn. */
const IN_FLIGHT_MAX = 256;
const RESEND_AFTER_MS = 1500;
const RESEND_PAUSE_MAX_MS = 10_000;

/** What the author sees of the log when it signs. */
export interface LogView {
  readonly position: bigint;
  readonly head: Uint8Array;
}

interface Pending {
  readonly hash: Uint8Array;
  readonly raw: Uint8Array;
  readonly done: (refusal: Refusal | undefined) => void;
  readonly fail: (error: unknown) => void;
  attempt: number;
  sentAtMs: number;
}

interface LaneState {
  sequence: bigint;
  previous: Uint8Array;
  readonly pending: Pending[];
  /** Keeps journaling and publishing in lane order. */
  turn: Promise<void>;
}

export interface AppenderOptions {
  readonly organism: string;
  readonly committee: Uint8Array;
  readonly generation: bigint;
  readonly epoch: bigint;
  readonly author: number;
  readonly incarnation: bigint;
  readonly memberKey: Uint8Array;
  readonly incarnationSeed: Uint8Array;
  readonly log: Log;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly view: () => LogView;
  /** Called when the log refuses this member's entries, and when it takes them again. */
  readonly onPressure?: (refused: LogRefusal | undefined) => void;
}

export class Appender {
  readonly #options: AppenderOptions;
  readonly #memberKey: SigningKey;
  readonly #incarnationKey: SigningKey;
  readonly #lanes: Record<Lane, LaneState>;
  readonly #timer: NodeJS.Timeout;
  #closed = false;

  constructor(options: AppenderOptions) {
    this.#options = options;
    this.#memberKey = generateSigningKey(options.memberKey);
    this.#incarnationKey = generateSigningKey(options.incarnationSeed);
    const lane = (): LaneState => ({ sequence: 0n, previous: ZERO_HASH, pending: [], turn: Promise.resolve() });
    this.#lanes = { ctl: lane(), bulk: lane() };
    this.#timer = setInterval(() => this.#resendOverdue(), 250);
    this.#timer.unref();
  }

  get incarnation(): bigint {
    return this.#options.incarnation;
  }

  get inFlight(): number {
    return this.#lanes.ctl.pending.length + this.#lanes.bulk.pending.length;
  }

  /** Announces this incarnation. Resolves when it has been applied. */
  join(): Promise<Refusal | undefined> {
    const { incarnation } = this.#options;
    return this.#enqueue(
      "ctl",
      encodeCommand({ type: "join", incarnation, key: this.#incarnationKey.publicKey }),
      true,
    );
  }

  /** Puts a command into the log; a large one goes as chunks. Resolves to its refusal once applied. @throws Fault */
  async append(lane: Lane, command: Uint8Array): Promise<Refusal | undefined> {
    if (command.length <= CHUNK_BYTES) return this.#enqueue(lane, command, false);
    const digest = commandDigest(command);
    const count = Math.ceil(command.length / CHUNK_BYTES);
    const parts = Array.from({ length: count }, (_, index) =>
      encodeCommand({
        type: "chunk",
        digest,
        index,
        count,
        part: command.slice(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
      }),
    );
    const refusals = await Promise.all(parts.map((part) => this.#enqueue(lane, part, false)));
    return refusals.find((refusal) => refusal !== undefined);
  }

  #enqueue(laneName: Lane, command: Uint8Array, asMember: boolean): Promise<Refusal | undefined> {
    const lane = this.#lanes[laneName];
    const fault = faultsOf(this.#options.organism, COMMON_FAULTS);
    if (this.#closed) return Promise.reject(fault("NOT_READY", "the member is draining"));
    if (lane.pending.length >= IN_FLIGHT_MAX) {
      return Promise.reject(fault("LOG_REFUSED", `${IN_FLIGHT_MAX} entries are in flight already`));
    }
    const { committee, generation, epoch, author, incarnation, clock, view } = this.#options;
    const seen = view();
    const sequence = lane.sequence + 1n;
    const body = encode(ENTRY_BODY, {
      version: 1,
      committee,
      generation,
      epoch,
      author,
      incarnation,
      lane: laneName,
      sequence,
      previous: lane.previous,
      seenPosition: seen.position,
      seenHead: seen.head,
      clockMs: BigInt(clock.nowMs()),
      command,
    });
    const signature = signTagged(asMember ? this.#memberKey : this.#incarnationKey, ENTRY_TAG, body);
    const raw = encodeEntry(body, signature);
    const hash = entryHash(body);
    lane.sequence = sequence;
    lane.previous = hash;
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => {
        reject(error instanceof LogRefusal ? fault("LOG_REFUSED", error.message) : error);
      };
      const pending: Pending = { hash, raw, done: resolve, fail, attempt: 0, sentAtMs: clock.nowMs() };
      lane.pending.push(pending);
      lane.turn = lane.turn
        .then(() => this.#options.journal.entry(hash, raw))
        .then(() => this.#publish(laneName, pending), fail);
    });
  }

  /**
   * Hands the bytes to the log. A PubAck is a hint only, so the next entry does not wait for it; order holds on one
   * connection. A refused entry stays pending all the same: its number is taken, so nothing else may stand there.
   */
  #publish(lane: Lane, pending: Pending): void {
    const id = `${toHex(pending.hash)}.${pending.attempt}`;
    pending.attempt += 1;
    pending.sentAtMs = this.#options.clock.nowMs();
    this.#options.log.append(lane, pending.raw, id).then(
      () => this.#options.onPressure?.(undefined),
      (error: unknown) => {
        pending.fail(error);
        if (error instanceof LogRefusal) this.#options.onPressure?.(error);
      },
    );
  }

  /** Goes back to the first entry not yet consumed and resends from there. */
  #resendOverdue(): void {
    for (const laneName of ["ctl", "bulk"] as const) {
      const lane = this.#lanes[laneName];
      const oldest = lane.pending[0];
      if (oldest === undefined || oldest.attempt === 0) continue;
      const pauseMs = Math.min(RESEND_AFTER_MS * 2 ** (oldest.attempt - 1), RESEND_PAUSE_MAX_MS);
      if (this.#options.clock.nowMs() - oldest.sentAtMs < pauseMs) continue;
      for (const pending of lane.pending) if (pending.attempt > 0) this.#publish(laneName, pending);
    }
  }

  /** Tells the appender what became of a log message; call it for every one. */
  consumed(applied: Applied): void {
    if (applied.author !== this.#options.author || applied.entry === undefined) return;
    const key = toHex(applied.entry);
    for (const lane of [this.#lanes.ctl, this.#lanes.bulk]) {
      const oldest = lane.pending[0];
      if (oldest === undefined || toHex(oldest.hash) !== key) continue;
      // Out of order: a copy that came too early or too late. The one in its place is still to come.
      if (applied.refusal?.reason === "OUT_OF_ORDER") return;
      lane.pending.shift();
      oldest.done(applied.refusal);
      return;
    }
  }

  /** Gives up what has not landed: its callers learn that its fate is unknown. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    for (const lane of [this.#lanes.ctl, this.#lanes.bulk]) {
      for (const pending of lane.pending.splice(0))
        pending.done(refuse("NOT_READY", "the member stopped before the entry landed"));
    }
  }
}

/**
 * Says things in a member's name: signs, journals, publishes, and resends until its own eyes see the entry land
 * (log.md §3). Entries of a lane are numbered and chained, so there is one order and no second version of anything:
 * of unknown fate means resending the identical bytes, oldest first.
 *
 * An entry that can never land (signed over a view that has become too old, or too large for the log) has used up its
 * number, so its lane cannot go on. Then the member joins anew: once the new Join has been applied, what has not
 * landed until there never will, and is signed again under the new incarnation.
 */
import { encode, equalBytes, toHex } from "../codec/codec.ts";
import { commandDigest } from "../committee/chunks.ts";
import { encodeCommand } from "../committee/commands.ts";
import type { Applied } from "../committee/committee.ts";
import {
  CHUNK_BYTES,
  CHUNKS_MAX,
  ENTRY_BODY,
  ENTRY_TAG,
  encodeEntry,
  entryHash,
  LANES,
  type Lane,
  type ReadEntry,
  ZERO_HASH,
} from "../committee/entry.ts";
import { ED25519_SIGNATURE_BYTES, generateSigningKey, type SigningKey, signTagged } from "../crypto/ed25519.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import { type Refusal, refuse } from "../machine.ts";
import { type Clock, type Journal, type Log, LogRefusal, type Random, type Timers } from "../ports.ts";
import { nodeTimers } from "./node-timers.ts";

/** Entries in flight per lane; more wait for their turn. */
export const IN_FLIGHT_MAX = 256;
const RESEND_AFTER_MS = 1500;
const RESEND_PAUSE_MAX_MS = 10_000;
/** What was said only just before the log came back may be on its way. */
const RESTORED_AFTER_MS = 100;
/** What becomes of a Join on its way when its log is lost. */
const ENDED = refuse("VIEW_TOO_OLD", "the log's generation ended");
/** Incarnations tried in a row, when another process takes the numbers. */
const JOINS_MAX = 8;

/** What the author sees of the log when it signs. */
export interface LogView {
  readonly position: bigint;
  readonly head: Uint8Array;
}

interface Signed {
  readonly hash: Uint8Array;
  readonly raw: Uint8Array;
}

interface Pending {
  readonly command: Uint8Array;
  readonly done: (refusal: Refusal | undefined) => void;
  readonly fail: (error: unknown) => void;
  /** Absent until the member has joined. */
  signed: Signed | undefined;
  /** Times it was handed to the log. */
  attempt: number;
  /** Of these, how many before the log last came back: the pauses between resends begin anew then. */
  attemptsBefore?: number;
  sentAtMs: number;
  /** When the log first said that it has it. */
  storedAtMs: number | undefined;
}

/** A Join on its way, and the key that it admits. */
interface Joining {
  readonly pending: Pending;
  readonly key: SigningKey;
}

interface LaneState {
  readonly name: Lane;
  sequence: bigint;
  previous: Uint8Array;
  pending: Pending[];
  /** Why the log takes nothing from this lane now. */
  refused: LogRefusal | undefined;
  /** On their way to the disk, in lane order: none is published before those in front of it. */
  readonly unwritten: Unwritten[];
}

interface Unwritten {
  readonly pending: Pending;
  readonly signed: Signed;
  /** On disk. */
  journaled: boolean;
}

export interface AppenderOptions {
  readonly organism: string;
  readonly committee: Uint8Array;
  readonly generation: () => bigint;
  /** The epoch that this member speaks under now. */
  readonly epoch: () => bigint;
  readonly author: number;
  readonly memberKey: Uint8Array;
  readonly random: Random;
  readonly log: Log;
  readonly journal: Journal;
  readonly clock: Clock;
  /** Node's own when left out. */
  readonly timers?: Timers;
  readonly view: () => LogView;
  /** The highest incarnation of this member that has been applied; 0 for none. */
  readonly joined: () => bigint;
  /** Called when the log refuses this member's entries, and when it takes them again. */
  readonly onPressure?: (refused: LogRefusal | undefined) => void;
  /** Called when nothing can be said any more: the journal is lost, or the log does not admit this member. */
  readonly onLost?: (reason: "JOURNAL_LOST" | "JOIN_REFUSED", detail: string) => void;
  readonly resendAfterMs?: number;
}

export class Appender {
  readonly #options: AppenderOptions;
  readonly #memberKey: SigningKey;
  readonly #lanes: Record<Lane, LaneState>;
  readonly #timers: Timers;
  readonly #stopTimer: () => void;
  readonly #resendAfterMs: number;
  readonly #fault: ReturnType<typeof faultsOf<keyof typeof COMMON_FAULTS>>;
  #incarnation = 0n;
  /** The key of the incarnation that has joined; none while another is joining. */
  #key: SigningKey | undefined;
  #admitted = false;
  #joining: Joining | undefined;
  /** How often it has begun to join: of two that are under way the later one counts. */
  #joins = 0;
  #lost = false;
  #suspended = false;
  #closed = false;

  constructor(options: AppenderOptions) {
    this.#options = options;
    this.#memberKey = generateSigningKey(options.memberKey);
    this.#resendAfterMs = options.resendAfterMs ?? RESEND_AFTER_MS;
    this.#fault = faultsOf(options.organism, COMMON_FAULTS);
    const lane = (name: Lane): LaneState => ({
      name,
      sequence: 0n,
      previous: ZERO_HASH,
      pending: [],
      refused: undefined,
      unwritten: [],
    });
    this.#lanes = { ctl: lane("ctl"), bulk: lane("bulk") };
    this.#timers = options.timers ?? nodeTimers;
    const everyMs = Math.max(1, Math.floor(this.#resendAfterMs / 6));
    options.log.restored?.(() => this.#resendNow());
    this.#stopTimer = this.#timers.every(everyMs, () => this.#resendOverdue());
  }

  /** The incarnation it speaks as, or is about to; 0 before the first join. */
  get incarnation(): bigint {
    return this.#incarnation;
  }

  get inFlight(): number {
    const { ctl, bulk } = this.#lanes;
    return ctl.pending.length + bulk.pending.length + (this.#joining === undefined ? 0 : 1);
  }

  /** For how long the log has had an entry that it does not show its author, ms; 0 when there is none. */
  get withheldMs(): number {
    const { ctl, bulk } = this.#lanes;
    const now = this.#timers.elapsedMs();
    const stored = [this.#joining?.pending, ctl.pending[0], bulk.pending[0]].map((each) => each?.storedAtMs ?? now);
    return now - Math.min(...stored);
  }

  /**
   * Announces a new incarnation. Resolves when it has been applied, or to the refusal when it cannot be.
   * @throws Fault LOG_REFUSED when this member may not write to the log
   */
  async join(): Promise<Refusal | undefined> {
    this.#key = undefined;
    this.#joins += 1;
    const over = this.#untilOver();
    for (let attempt = 1; ; attempt++) {
      const refusal = await this.#joinOnce(over);
      // Another process with the same key may have taken the number meanwhile: the later one speaks.
      const again = refusal?.reason === "NOT_AUTHOR" || refusal?.reason === "VIEW_TOO_OLD";
      if (!again || attempt === JOINS_MAX || over()) return refusal;
    }
  }

  /** @returns whether a Join of now has come to nothing: its log is lost, and perhaps the next one is joined already */
  #untilOver(): () => boolean {
    const joins = this.#joins;
    return () => this.#suspended || this.#joins !== joins;
  }

  async #joinOnce(over: () => boolean): Promise<Refusal | undefined> {
    const { journal, random, joined } = this.#options;
    const incarnation = await journal.nextIncarnation(joined() + 1n);
    if (this.#closed) throw this.#fault("NOT_READY", "the member is draining");
    if (over()) return ENDED;
    this.#incarnation = incarnation;
    const key = generateSigningKey(random(32));
    const command = encodeCommand({ type: "join", incarnation, key: key.publicKey });
    return new Promise((done, fail) => {
      const pending: Pending = {
        command,
        done,
        fail,
        signed: undefined,
        attempt: 0,
        sentAtMs: 0,
        storedAtMs: undefined,
      };
      this.#joining = { pending, key };
      this.#send(this.#lanes.ctl, pending, this.#sign(this.#memberKey, "ctl", 1n, ZERO_HASH, command));
    });
  }

  /** Whether a Join of this process has landed: from then on no other process speaks for the member unnoticed. */
  get admitted(): boolean {
    return this.#admitted;
  }

  /** What has not landed when the Join is applied never will: it is said again under the new incarnation. */
  #joined(key: SigningKey, join: Signed): void {
    const { ctl, bulk } = this.#lanes;
    this.#key = key;
    this.#admitted = true;
    this.#joining = undefined;
    ctl.sequence = 1n;
    ctl.previous = join.hash;
    bulk.sequence = 0n;
    bulk.previous = ZERO_HASH;
    for (const lane of [ctl, bulk]) for (const pending of lane.pending) this.#say(lane, pending, key);
  }

  /** The log is lost: nothing is handed to it any more. What has not landed waits for the next generation. */
  suspend(): void {
    this.#suspended = true;
    this.#key = undefined;
    // Its number was of this log: in the next, which may never have heard of it, its older processes may stand with higher ones.
    this.#incarnation = 0n;
    this.#joining?.pending.done(ENDED);
    this.#joining = undefined;
  }

  /** The next generation has begun: joins there, and says again what has not landed. */
  async resume(): Promise<Refusal | undefined> {
    this.#suspended = false;
    for (const name of LANES) this.#lanes[name].refused = undefined;
    return this.join();
  }

  /** Nobody can know any more what became of what was on its way: its callers learn so. */
  forget(): void {
    const unknown = this.#fault("FATE_UNKNOWN", "the log was lost before the entry came back");
    for (const name of LANES) for (const pending of this.#lanes[name].pending.splice(0)) pending.fail(unknown);
  }

  #rejoin(): void {
    if (this.#key === undefined) return;
    this.join().then(
      (refusal) => {
        // One that ended with its log is made up for in the next.
        if (refusal !== undefined && refusal !== ENDED)
          this.#lose("JOIN_REFUSED", `${refusal.reason}: ${refusal.detail}`);
      },
      (error: unknown) => {
        if (!this.#closed) this.#lose("JOURNAL_LOST", describe(error));
      },
    );
  }

  #lose(reason: "JOURNAL_LOST" | "JOIN_REFUSED", detail: string): void {
    if (this.#lost) return;
    this.#lost = true;
    this.#options.onLost?.(reason, detail);
  }

  /**
   * Puts a command into the log; a large one goes as chunks, which travel in the bulk lane. Resolves to its refusal
   * once applied.
   * @throws Fault LOG_REFUSED, TOO_LARGE, NOT_READY, FATE_UNKNOWN
   */
  async append(laneName: Lane, command: Uint8Array): Promise<Refusal | undefined> {
    if (command.length <= CHUNK_BYTES) return this.#enqueue(this.#lanes[laneName], [command]);
    const digest = commandDigest(command);
    const count = Math.ceil(command.length / CHUNK_BYTES);
    if (count > CHUNKS_MAX) throw this.#fault("TOO_LARGE", `${command.length} bytes`);
    const parts = Array.from({ length: count }, (_, index) => {
      const part = command.slice(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES);
      return encodeCommand({ type: "chunk", digest, index, count, part });
    });
    return this.#enqueue(this.#lanes.bulk, parts);
  }

  async #enqueue(lane: LaneState, commands: readonly Uint8Array[]): Promise<Refusal | undefined> {
    if (this.#closed) throw this.#fault("NOT_READY", "the member is draining");
    // Before a number is taken: what is refused here has certainly not been said.
    if (lane.refused !== undefined) throw this.#fault("LOG_REFUSED", lane.refused.message);
    if (lane.pending.length + commands.length > IN_FLIGHT_MAX) {
      throw this.#fault("LOG_REFUSED", `${lane.pending.length} entries are in flight already`);
    }
    const refusals = await Promise.all(
      commands.map(
        (command) =>
          new Promise<Refusal | undefined>((done, fail) => {
            const pending: Pending = {
              command,
              done,
              fail,
              signed: undefined,
              attempt: 0,
              sentAtMs: 0,
              storedAtMs: undefined,
            };
            lane.pending.push(pending);
            if (this.#key !== undefined) this.#say(lane, pending, this.#key);
          }),
      ),
    );
    return refusals.find((refusal) => refusal !== undefined);
  }

  /** Takes the next number of the lane for it. */
  #say(lane: LaneState, pending: Pending, key: SigningKey): void {
    const signed = this.#sign(key, lane.name, lane.sequence + 1n, lane.previous, pending.command);
    lane.sequence += 1n;
    lane.previous = signed.hash;
    pending.attempt = 0;
    this.#send(lane, pending, signed);
  }

  #sign(key: SigningKey, lane: Lane, sequence: bigint, previous: Uint8Array, command: Uint8Array): Signed {
    const { committee, epoch, author, clock, view } = this.#options;
    const seen = view();
    const body = encode(ENTRY_BODY, {
      version: 1,
      committee,
      generation: this.#options.generation(),
      epoch: epoch(),
      author,
      incarnation: this.#incarnation,
      lane,
      sequence,
      previous,
      seenPosition: seen.position,
      seenHead: seen.head,
      clockMs: BigInt(Math.max(0, Math.floor(clock.nowMs()))),
      command,
    });
    return { hash: entryHash(body), raw: encodeEntry(body, signTagged(key, ENTRY_TAG, body)) };
  }

  /** Journals it and then, in the lane's order, publishes it. Many share one sync of the journal. */
  #send(lane: LaneState, pending: Pending, signed: Signed): void {
    pending.signed = signed;
    pending.storedAtMs = undefined;
    const own: Unwritten = { pending, signed, journaled: false };
    lane.unwritten.push(own);
    this.#options.journal.entry(signed.hash, signed.raw).then(
      () => {
        own.journaled = true;
        this.#publishWritten(lane);
      },
      (error: unknown) => {
        lane.unwritten.splice(lane.unwritten.indexOf(own), 1);
        pending.fail(error);
        if (!this.#closed) this.#lose("JOURNAL_LOST", describe(error));
        this.#publishWritten(lane);
      },
    );
  }

  /**
   * What one sync has made durable is handed over in one go, without a promise between one entry and the next: so the
   * connection carries it in one write, and the broker takes it up together.
   */
  #publishWritten(lane: LaneState): void {
    const { unwritten } = lane;
    const waiting = unwritten.findIndex(({ journaled }) => !journaled);
    for (const { pending, signed } of unwritten.splice(0, waiting < 0 ? unwritten.length : waiting)) {
      this.#publish(lane, pending, signed);
    }
  }

  /**
   * Hands the bytes to the log. A PubAck is a hint only, so the next entry does not wait for it; order holds on one
   * connection. A refused entry stays pending: its number is taken, so nothing else may stand there.
   */
  #publish(lane: LaneState, pending: Pending, signed: Signed): void {
    if (this.#closed || this.#suspended || pending.signed !== signed) return;
    const id = `${toHex(signed.hash)}.${pending.attempt}`;
    pending.attempt += 1;
    pending.sentAtMs = this.#timers.elapsedMs();
    this.#options.log.append(lane.name, signed.raw, id).then(
      (fate) => {
        if (fate !== "stored") return;
        if (pending.signed === signed) pending.storedAtMs ??= this.#timers.elapsedMs();
        this.#relieved(lane, pending);
      },
      (error: unknown) => this.#refused(lane, pending, error),
    );
  }

  #refused(lane: LaneState, pending: Pending, error: unknown): void {
    // A log that throws anything else leaves the fate open, like one that does not answer.
    if (!(error instanceof LogRefusal)) return;
    if (error.reason === "ENTRY_TOO_LARGE" && pending !== this.#joining?.pending) {
      const at = lane.pending.indexOf(pending);
      if (at < 0) return;
      lane.pending.splice(at, 1);
      pending.fail(this.#fault("TOO_LARGE", error.message));
      this.#rejoin();
      return;
    }
    lane.refused = error;
    this.#options.onPressure?.(error);
    // Nothing has been said yet by this process; whoever runs it should hear at once that its credential is wrong.
    if (error.reason !== "LOG_FULL" && pending === this.#joining?.pending) {
      pending.fail(this.#fault("LOG_REFUSED", error.message));
    }
  }

  /** The log takes this lane's entries again: one went first, the others follow. */
  #relieved(lane: LaneState, first: Pending): void {
    if (lane.refused === undefined) return;
    lane.refused = undefined;
    this.#options.onPressure?.(undefined);
    if (this.#joining !== undefined) return;
    for (const pending of lane.pending) if (pending !== first) this.#again(lane, pending);
  }

  #again(lane: LaneState, pending: Pending): void {
    if (pending.signed !== undefined && pending.attempt > 0) this.#publish(lane, pending, pending.signed);
  }

  /** The log answers again after a silence: whatever went into it is said again at once, not after a long pause. */
  #resendNow(): void {
    for (const pending of [this.#joining?.pending, ...LANES.flatMap((name) => this.#lanes[name].pending)]) {
      if (pending !== undefined) pending.attemptsBefore = pending.attempt;
    }
    this.#resend((oldest) => this.#timers.elapsedMs() - oldest.sentAtMs > RESTORED_AFTER_MS);
  }

  #resendOverdue(): void {
    this.#resend((oldest) => {
      const resent = oldest.attempt - 1 - (oldest.attemptsBefore ?? 0);
      const pauseMs = Math.min(this.#resendAfterMs * 2 ** Math.max(0, resent), RESEND_PAUSE_MAX_MS);
      return this.#timers.elapsedMs() - oldest.sentAtMs >= pauseMs;
    });
  }

  /** Goes back to the first entry not yet consumed and resends from there; only that one while the log refuses. */
  #resend(due: (oldest: Pending) => boolean): void {
    if (this.#suspended) return;
    for (const name of LANES) {
      const lane = this.#lanes[name];
      const join = name === "ctl" ? this.#joining?.pending : undefined;
      const oldest = join ?? lane.pending[0];
      if (oldest === undefined || oldest.attempt === 0 || (join === undefined && this.#key === undefined)) continue;
      if (!due(oldest)) continue;
      const alone = join !== undefined || lane.refused !== undefined;
      for (const pending of alone ? [oldest] : lane.pending) this.#again(lane, pending);
    }
  }

  /** The key of the incarnation that has joined, when this process has made this very signature with it. */
  signedBy({ body, hash, signature }: ReadEntry): Uint8Array | undefined {
    const { pending, sequence } = this.#lanes[body.lane];
    // Numbers of what is pending follow one another, up to the newest.
    const signed = pending.at(Number(body.sequence - sequence) - 1)?.signed;
    if (signed === undefined || body.sequence > sequence || !equalBytes(signed.hash, hash)) return undefined;
    const own = signed.raw.subarray(-ED25519_SIGNATURE_BYTES);
    return equalBytes(own, signature) ? this.#key?.publicKey : undefined;
  }

  /** Tells the appender what became of a log message; call it for every one, in order. */
  consumed(applied: Applied): void {
    const { entry } = applied;
    if (applied.author !== this.#options.author || entry === undefined) return;
    const isThis = (pending: Pending | undefined): pending is Pending & { readonly signed: Signed } =>
      pending?.signed !== undefined && equalBytes(pending.signed.hash, entry);
    const joining = this.#joining;
    if (joining !== undefined && isThis(joining.pending)) {
      const { pending, key } = joining;
      // The next attempt makes a Join of its own; a late copy of this one meets nobody.
      if (applied.landed) this.#joined(key, pending.signed);
      else this.#joining = undefined;
      pending.done(applied.refusal);
      return;
    }
    for (const name of LANES) {
      const lane = this.#lanes[name];
      const oldest = lane.pending[0];
      if (!isThis(oldest)) continue;
      if (applied.landed) {
        lane.pending.shift();
        oldest.done(applied.refusal);
      } else if (applied.refusal?.reason === "VIEW_TOO_OLD") {
        this.#rejoin();
      } else if (applied.refusal?.reason === "FORKED_HEAD") {
        lane.pending.shift();
        oldest.done(applied.refusal);
        this.#rejoin();
      }
      // Else out of order: a copy that came too early or too late. The one in its place is still to come.
      return;
    }
  }

  /** Gives up what has not landed: its callers learn that its fate is unknown. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopTimer();
    const unknown = this.#fault("FATE_UNKNOWN", "the member stopped before the entry came back");
    this.#joining?.pending.fail(unknown);
    this.#joining = undefined;
    for (const name of LANES) for (const pending of this.#lanes[name].pending.splice(0)) pending.fail(unknown);
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

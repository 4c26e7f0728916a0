/**
 * A committee log on NATS JetStream. In the runtime, only this folder knows NATS.
 *
 * Positions are stream sequences; anything but `last + 1` is a hole and is never handed on. In a cluster a server may
 * answer before it has caught up, so a log that ends too early, or a stream that is not there, is asked about again
 * before it is believed.
 */
import { setTimeout as pause } from "node:timers/promises";
import { type JetStreamClient, type JetStreamManager, jetstream } from "@nats-io/jetstream";
import type { Lane } from "../committee/entry.ts";
import { type AppendFate, HistoryGone, type Log, LogLost, type LogMessage, type LogUsage } from "../ports.ts";
import { checkServer, UnfitServer, unverifiedSync } from "./fit-server.ts";
import { describe, isPassing, isStreamMissing, refusalOf } from "./nats-answers.ts";
import { LastingConnection, type NatsAccess } from "./nats-connection.ts";
import { readSession } from "./read-session.ts";
import { StreamQuestions } from "./stream-questions.ts";

const PUBLISH_TIMEOUT_MS = 3000;
/** An append that takes longer than this may have gone to a leader that is no more. */
const PUBLISH_SLOW_MS = 600;
/** So does a question that takes longer than this: whoever should have answered it was not there. */
const ANSWER_SLOW_MS = 1000;
const REQUEST_TIMEOUT_MS = 5000;
const RESTART_PAUSE_MS = 100;
/** What is not said because the log is not recognised yet has this fate after so long. */
const REFUSED_PAUSE_MS = 250;
const VERIFY_AGAIN_MS = 10_000;

export interface JetStreamOptions extends NatsAccess {
  /** The committee's stream. */
  readonly stream: string;
  /** Subjects are `<subject>.<member>.{ctl,bulk}`. */
  readonly subject: string;
  readonly member: number;
  /** The servers' monitoring endpoints, e.g. `http://127.0.0.1:8222`: where `sync_always` of each is verified. */
  readonly monitorUrls?: readonly string[];
  /** One line: what is waited for, and when that is over. */
  readonly onEvent?: (event: string) => void;
}

/** Name and subjects of a later generation's stream, from those of the first. */
export function generationStream(
  { stream, subject }: Pick<JetStreamOptions, "stream" | "subject">,
  generation: bigint,
): Pick<JetStreamOptions, "stream" | "subject"> {
  if (generation === 0n) return { stream, subject };
  return { stream: `${stream}-G${generation}`, subject: `${subject}.g${generation}` };
}

export class JetStreamLog implements Log {
  readonly #options: JetStreamOptions;
  readonly #connection: LastingConnection;
  readonly #client: JetStreamClient;
  readonly #questions: StreamQuestions;
  readonly #restored = new Set<() => void>();
  #verifying: NodeJS.Timeout | undefined;
  #returning: Promise<void> | undefined;
  /** An append was acknowledged since the last one that was not. */
  #taking = true;
  /** Why this log cannot be used any more. */
  #unfit: string | undefined;
  /** The connection is down. */
  #away = false;
  /** Readers that wait for the log: what it is when it comes back is not known yet. */
  readonly #waiting = new Set<AbortSignal>();
  readonly #readers = new Set<AbortSignal>();
  /** Ends each session that is running. */
  readonly #sessions = new Set<(why: string) => void>();

  private constructor(options: JetStreamOptions, connection: LastingConnection, manager: JetStreamManager) {
    const { stream, servers } = options;
    this.#options = options;
    this.#connection = connection;
    this.#client = jetstream(connection.nats, { timeout: REQUEST_TIMEOUT_MS });
    this.#questions = new StreamQuestions(connection, manager, stream, servers.length);
  }

  /**
   * Connects and verifies the servers: version, `sync_interval: always`, payload size, the stream.
   * @throws UnfitServer
   */
  static async open(options: JetStreamOptions): Promise<JetStreamLog> {
    const name = `lattice ${options.stream} ${options.member}`;
    const connection = await LastingConnection.open(options, name, (event) => options.onEvent?.(event));
    try {
      checkServer(connection.nats.info);
      const monitors = options.monitorUrls ?? [];
      const unverified = await unverifiedSync(monitors);
      if (monitors.length > 0 && unverified.length === monitors.length) {
        throw new UnfitServer("NATS_UNREACHABLE", `nats-server's monitoring endpoint does not answer: ${monitors[0]}`);
      }
      const manager = await connection.manager();
      const log = new JetStreamLog(options, connection, manager);
      if (unverified.length > 0) log.#verifyLater(unverified);
      void log.#watchConnection();
      return log;
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** A server that was away while this member started is looked at when it is back. */
  #verifyLater(monitors: readonly string[]): void {
    this.#say(`not verified yet, because not answering: ${monitors.join(", ")}`);
    const again = async (): Promise<void> => {
      try {
        const left = await unverifiedSync(monitors);
        if (left.length > 0 && !this.#connection.closing) this.#verifyLater(left);
      } catch (error) {
        this.#unfit = describe(error);
        // Not `close`: that is for whoever has this log. Its readers are told why it has ended.
        await this.#connection.nats.close();
      }
    };
    this.#verifying = setTimeout(() => void again(), VERIFY_AGAIN_MS);
    this.#verifying.unref();
  }

  async #watchConnection(): Promise<void> {
    let lostAt: number | undefined;
    for await (const status of this.#connection.nats.status()) {
      if (this.#connection.closing) return;
      if (status.type === "disconnect") {
        lostAt ??= performance.now();
        this.#away = true;
        for (const reader of this.#readers) this.#waiting.add(reader);
        for (const lose of this.#sessions) lose("the connection was lost");
        this.#say(`connection to nats-server ${status.server} lost; waiting for ${this.#options.servers.join(" or ")}`);
      } else if (status.type === "reconnect") {
        this.#away = false;
        this.#say(`connected to nats-server ${status.server} again${after(lostAt)}`);
        lostAt = undefined;
      }
    }
  }

  #say(event: string): void {
    if (!this.#connection.closing) this.#options.onEvent?.(event);
  }

  restored(listener: () => void): void {
    this.#restored.add(listener);
  }

  lastPosition(atLeast = 0n): Promise<bigint> {
    return this.#questions.lastPosition(atLeast);
  }

  firstPosition(): Promise<bigint> {
    return this.#questions.firstPosition();
  }

  usage(): Promise<LogUsage> {
    return this.#questions.usage(`${this.#options.subject}.${this.#options.member}.*`);
  }

  present(): Promise<boolean> {
    return this.#questions.present();
  }

  async append(lane: Lane, raw: Uint8Array, id: string): Promise<AppendFate> {
    // Whoever has lost sight of the log must not write into whatever answers first: it may be an older one.
    if (this.#away || this.#waiting.size > 0) {
      this.#tellReturn();
      await pause(REFUSED_PAUSE_MS);
      return "unknown";
    }
    const subject = `${this.#options.subject}.${this.#options.member}.${lane}`;
    const slow = setTimeout(() => this.#tellReturn(true), PUBLISH_SLOW_MS);
    try {
      await this.#client.publish(subject, raw, { msgID: id, timeout: PUBLISH_TIMEOUT_MS, retries: 0 });
      this.#taking = true;
      return "stored";
    } catch (error) {
      const refusal = refusalOf(error);
      if (refusal !== undefined) throw refusal;
      if (error instanceof Error && /timeout/i.test(error.name)) void this.#connection.leaveIfDead();
      this.#tellReturn();
      return "unknown";
    } finally {
      clearTimeout(slow);
    }
  }

  #tellReturn(suspected = false): void {
    this.#returning ??= this.#return(suspected).finally(() => {
      this.#returning = undefined;
    });
  }

  /**
   * Whoever writes is told when the stream has a leader again, or another one. Consumption cannot tell: its consumer may
   * live on another server and go on saying that all is well.
   * @param suspected nothing has failed yet: an append is only slow, as it is while a leader is elected
   */
  async #return(suspected: boolean): Promise<void> {
    // Appends that fail one after another while the stream answers are too much for it: nothing is said twice at once.
    let away = this.#away || (this.#taking && !suspected);
    if (!suspected) this.#taking = false;
    const { leader } = this.#questions;
    while (!this.#connection.over) {
      const askedAt = performance.now();
      try {
        await this.#questions.ask();
        const moved = leader !== undefined && this.#questions.leader !== leader;
        away ||= performance.now() - askedAt > ANSWER_SLOW_MS || moved;
        break;
      } catch (error) {
        if (!isPassing(error)) return;
        away = true;
        await pause(RESTART_PAUSE_MS);
      }
    }
    // A reader that waits tells it itself, once it has recognised the log.
    if (!away || this.#connection.closing || this.#away || this.#waiting.size > 0) return;
    for (const listener of this.#restored) listener();
  }

  /** @throws HistoryGone; LogLost when the stream has been cut or replaced, or the server admits this member no more */
  async consume(
    from: bigint,
    deliver: (message: LogMessage) => void,
    signal: AbortSignal,
    { beside } = { beside: false },
  ): Promise<void> {
    if (from < 1n) throw new HistoryGone(1n);
    let next = from;
    /** The newest message handed on: what the log must still hold when it is read anew. */
    let newest: LogMessage | undefined;
    /** Since when the log has ended too early, or has not been there. */
    let behindAt: number | undefined;
    let brokenAt: number | undefined;
    let waitingFor: string | undefined;
    const resumed = (): void => {
      if (brokenAt === undefined || beside) return;
      this.#waiting.delete(signal);
      this.#say(`log consumption resumed at position ${next}${after(brokenAt)}`);
      brokenAt = undefined;
      waitingFor = undefined;
      for (const listener of this.#restored) listener();
    };
    if (!beside) this.#readers.add(signal);
    while (!signal.aborted) {
      try {
        const { first_seq: first, last_seq: last } = await this.#questions.ask();
        if (BigInt(first) > next && next <= BigInt(last)) throw new HistoryGone(BigInt(first));
        // A leader that has just been elected may lag; a stream that stays behind its own reader has lost history.
        if (BigInt(last) + 1n < next) {
          const problem = `the log ends at position ${last}, position ${next}`;
          behindAt ??= performance.now();
          if (performance.now() - behindAt > this.#questions.behindPatienceMs)
            throw new LogLost(`${problem} was to come`, true);
          throw new Error(`${problem} is to come`);
        }
        behindAt = undefined;
        await readSession({
          connection: this.#connection,
          client: this.#client,
          stream: this.#options.stream,
          from: next,
          newest: newest !== undefined && newest.position >= BigInt(first) ? newest : undefined,
          deliver: (message) => {
            deliver(message);
            newest = message;
            next = message.position + 1n;
          },
          resumed,
          signal,
          running: this.#sessions,
        });
      } catch (error) {
        if (error instanceof HistoryGone) {
          this.#readers.delete(signal);
          this.#waiting.delete(signal);
          throw error;
        }
        if (!beside) this.#waiting.add(signal);
        if (error instanceof LogLost) throw error;
        if (signal.aborted || this.#connection.closing) break;
        if (this.#connection.nats.isClosed()) {
          const why = await this.#connection.nats.closed();
          const detail = why instanceof Error ? `: ${describe(why)}` : "";
          throw new LogLost(this.#unfit ?? `nats-server has ended this member's connection for good${detail}`);
        }
        if (isStreamMissing(error)) {
          behindAt ??= performance.now();
          if (performance.now() - behindAt > this.#questions.behindPatienceMs)
            throw new LogLost("the stream is gone", true);
        }
        brokenAt ??= performance.now();
        const reason = describe(error);
        if (reason !== waitingFor && !beside) this.#say(`waiting for the log at position ${next}: ${reason}`);
        waitingFor = reason;
      }
      if (!signal.aborted) await pause(RESTART_PAUSE_MS * (0.5 + Math.random()));
    }
    // Not for a log that was lost: nothing more is written there.
    this.#readers.delete(signal);
    this.#waiting.delete(signal);
  }

  async close(): Promise<void> {
    clearTimeout(this.#verifying);
    await this.#connection.close();
  }
}

/** ` after 1.2 s`, for a line that says what is over. */
function after(since: number | undefined): string {
  return since === undefined ? "" : ` after ${((performance.now() - since) / 1000).toFixed(1)} s`;
}

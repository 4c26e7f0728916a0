/**
 * A committee log on NATS JetStream. The only file that knows NATS.
 *
 * The library's ordered consumer can stay silent for half a minute after a leader change, so consumption has its own
 * watchdog: silence or a closed iterator make a new consumer at the next position. Positions are stream
 * sequences; anything but `last + 1` is a hole and is never handed on.
 *
 * In a cluster a server may answer before it has caught up, so a log that ends too early, or a stream that is not
 * there, is asked about again before it is believed. A request to a server that has just died is never answered, so
 * requests are repeated beside the ones still waiting; and a server that keeps its connection but says nothing is
 * left for another one.
 */
import {
  type Consumer,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
} from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { equalBytes } from "../codec/codec.ts";
import type { Lane } from "../committee/entry.ts";
import {
  type AppendFate,
  HistoryGone,
  type Log,
  LogLost,
  type LogMessage,
  LogRefusal,
  type LogUsage,
} from "../ports.ts";

/** The oldest server that keeps a stream through process crashes (nats-server#6888). */
export const SERVER_VERSION_MIN = "2.10.23";

const PUBLISH_TIMEOUT_MS = 3000;
/** An append that takes longer than this may have gone to a leader that is no more. */
const PUBLISH_SLOW_MS = 600;
/** So does a question that takes longer than this: whoever should have answered it was not there. */
const ANSWER_SLOW_MS = 1000;
const REQUEST_TIMEOUT_MS = 5000;
const RESTART_PAUSE_MS = 100;
const HEARTBEAT_MS = 500;
const PULL_EXPIRES_MS = 5000;
const CONNECT_PATIENCE_MS = 30_000;
/** One attempt to connect: a stopped server accepts and then says nothing. */
const DIAL_TIMEOUT_MS = 3000;
const PING_INTERVAL_MS = 5000;
/** A request is repeated after this long, and given up after that. */
const ASK_AGAIN_MS = [250];
/** What is not said because the log is not recognised yet has this fate after so long. */
const REFUSED_PAUSE_MS = 250;
const ASK_PATIENCE_MS = 4000;
/**
 * Pauses before a consumer is asked for again, the last one from then on. Those that are left behind count against the
 * account until the server drops them, so there are few; the first are short, for a cluster that is just electing.
 */
const CREATE_AGAIN_MS = [250, 250, 500, 1000];
const INFO_PATIENCE_MS = 30_000;
/** How long a connection may take to show that there is somebody at the other end. A needless change of server costs a moment. */
const ALIVE_PATIENCE_MS = 1000;
/** The watchdog counts ticks rather than time: a process that was itself stopped has not been left alone. */
const WATCH_TICK_MS = 250;
const SILENT_TICKS = 6;
/** Two heartbeats may have been missed: whether anybody is there is looked at while the consumer still has its chance. */
const PROBE_TICKS = 4;
/** Nobody answered the pull: the consumer's server is not there yet, or no more. */
const UNANSWERED_TICKS = 2;
/** How long a stream may end before what has been read of it, or be absent: servers that have just started lag. */
const BEHIND_PATIENCE_MS = 3000;
const BEHIND_PATIENCE_CLUSTER_MS = 12_000;
/** Between attempts to connect: doubles, with jitter, so that members do not come back in step. */
const RECONNECT_PAUSE_MIN_MS = 50;
const RECONNECT_PAUSE_MAX_MS = 800;
const VERIFY_AGAIN_MS = 10_000;

export interface JetStreamOptions {
  /** `nats://host:port`, one or more. */
  readonly servers: readonly string[];
  readonly user: string;
  readonly password: string;
  /** The committee's stream. */
  readonly stream: string;
  /** Subjects are `<subject>.<member>.{ctl,bulk}`. */
  readonly subject: string;
  readonly member: number;
  /** Own inbox prefix, so that members cannot read each other's replies. */
  readonly inboxPrefix: string;
  /** The servers' monitoring endpoints, e.g. `http://127.0.0.1:8222`: where `sync_always` of each is verified. */
  readonly monitorUrls?: readonly string[];
  /** One line: what is waited for, and when that is over. */
  readonly onEvent?: (event: string) => void;
  /** How long `open` waits for a server that does not answer. */
  readonly patienceMs?: number;
}

/** Name and subjects of a later generation's stream, from those of the first. */
export function generationStream(
  { stream, subject }: Pick<JetStreamOptions, "stream" | "subject">,
  generation: bigint,
): Pick<JetStreamOptions, "stream" | "subject"> {
  if (generation === 0n) return { stream, subject };
  return { stream: `${stream}-G${generation}`, subject: `${subject}.g${generation}` };
}

/** The broker cannot be used as it is. One readable line; never retried. */
export class UnfitServer extends Error {
  override readonly name = "UnfitServer";
  readonly reason:
    | "NATS_TOO_OLD"
    | "NATS_LAZY_SYNC"
    | "NATS_UNREACHABLE"
    | "NATS_PAYLOAD_TOO_SMALL"
    | "NATS_AUTHORIZATION";
  constructor(reason: UnfitServer["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

/** The smallest `max_payload` a member accepts: a chunk and its envelope fit four times. */
export const PAYLOAD_BYTES_MIN = 2 * 1024 * 1024;

export class JetStreamLog implements Log {
  readonly #options: JetStreamOptions;
  readonly #connection: NatsConnection;
  readonly #client: JetStreamClient;
  readonly #manager: JetStreamManager;
  readonly #restored = new Set<() => void>();
  readonly #behindPatienceMs: number;
  #verifying: NodeJS.Timeout | undefined;
  #closing = false;
  #leaving: Promise<void> | undefined;
  #returning: Promise<void> | undefined;
  /** An append was acknowledged since the last one that was not. */
  #taking = true;
  /** The server that leads the stream, when last asked. */
  #leader: string | undefined;
  readonly #shun: Shunned;
  /** Why this log cannot be used any more. */
  #unfit: string | undefined;
  /** The connection is down. */
  #away = false;
  /** Readers that wait for the log: what it is when it comes back is not known yet. */
  readonly #waiting = new Set<AbortSignal>();
  readonly #readers = new Set<AbortSignal>();
  /** Ends each consumer that is running. */
  readonly #consumers = new Set<(why: string) => void>();

  private constructor(options: JetStreamOptions, connection: NatsConnection, manager: JetStreamManager, shun: Shunned) {
    this.#options = options;
    this.#shun = shun;
    this.#connection = connection;
    this.#client = jetstream(connection, { timeout: REQUEST_TIMEOUT_MS });
    this.#manager = manager;
    this.#behindPatienceMs = options.servers.length > 1 ? BEHIND_PATIENCE_CLUSTER_MS : BEHIND_PATIENCE_MS;
  }

  /**
   * Connects and verifies the servers: version, `sync_interval: always`, payload size, the stream.
   * @throws UnfitServer
   */
  static async open(options: JetStreamOptions): Promise<JetStreamLog> {
    const shun: Shunned = { server: undefined };
    const connection = await connectPatiently(options, shun);
    try {
      const version = connection.info?.version ?? "0";
      if (olderThan(version, SERVER_VERSION_MIN)) {
        throw new UnfitServer(
          "NATS_TOO_OLD",
          `nats-server ${version} is too old; ${SERVER_VERSION_MIN} or newer is needed`,
        );
      }
      const payload = connection.info?.max_payload ?? 0;
      if (payload < PAYLOAD_BYTES_MIN) {
        throw new UnfitServer(
          "NATS_PAYLOAD_TOO_SMALL",
          `max_payload is ${payload}; at least ${PAYLOAD_BYTES_MIN} is needed`,
        );
      }
      const monitors = options.monitorUrls ?? [];
      const unverified = await verifySync(monitors);
      if (monitors.length > 0 && unverified.length === monitors.length) {
        throw new UnfitServer("NATS_UNREACHABLE", `nats-server's monitoring endpoint does not answer: ${monitors[0]}`);
      }
      const manager = await managerPatiently(connection);
      const log = new JetStreamLog(options, connection, manager, shun);
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
        const left = await verifySync(monitors);
        if (left.length > 0 && !this.#closing) this.#verifyLater(left);
      } catch (error) {
        this.#unfit = describe(error);
        await this.#connection.close();
      }
    };
    this.#verifying = setTimeout(() => void again(), VERIFY_AGAIN_MS);
    this.#verifying.unref();
  }

  async #watchConnection(): Promise<void> {
    let lostAt: number | undefined;
    for await (const status of this.#connection.status()) {
      if (this.#closing) return;
      if (status.type === "disconnect") {
        lostAt ??= performance.now();
        this.#away = true;
        for (const reader of this.#readers) this.#waiting.add(reader);
        for (const lose of this.#consumers) lose("the connection was lost");
        this.#say(`connection to nats-server ${status.server} lost; waiting for ${this.#options.servers.join(" or ")}`);
      } else if (status.type === "reconnect") {
        this.#away = false;
        this.#say(`connected to nats-server ${status.server} again${after(lostAt)}`);
        lostAt = undefined;
      }
    }
  }

  #say(event: string): void {
    if (!this.#closing) this.#options.onEvent?.(event);
  }

  restored(listener: () => void): void {
    this.#restored.add(listener);
  }

  async lastPosition(atLeast = 0n): Promise<bigint> {
    const until = performance.now() + this.#behindPatienceMs;
    for (;;) {
      const last = BigInt((await this.#state()).last_seq);
      if (last >= atLeast || performance.now() > until) return last;
      await pause(RESTART_PAUSE_MS);
    }
  }

  async firstPosition(): Promise<bigint> {
    const { first_seq: first, last_seq: last, messages } = await this.#state();
    return BigInt(messages === 0 ? last + 1 : first);
  }

  async usage(): Promise<LogUsage> {
    const { stream, subject, member } = this.#options;
    const own = { subjects_filter: `${subject}.${member}.*` };
    const { state, config, cluster } = await this.#manager.streams.info(stream, own);
    this.#leader ??= cluster?.leader;
    const fullest = Math.max(0, ...Object.values(state.subjects ?? {}));
    return {
      ...(config.max_msgs_per_subject > 0 ? { ownShare: fullest / config.max_msgs_per_subject } : {}),
      bytes: state.bytes,
      bytesMax: config.max_bytes > 0 ? config.max_bytes : undefined,
      firstPosition: BigInt(state.messages === 0 ? state.last_seq + 1 : state.first_seq),
    };
  }

  async present(): Promise<boolean> {
    try {
      await this.#manager.streams.info(this.#options.stream);
      return true;
    } catch (error) {
      if (codeOf(error) === STREAM_NOT_FOUND || isPassing(error)) return false;
      throw error;
    }
  }

  /** Waits out restarts of the servers. @throws LogLost when the stream stays away; whatever else does not pass */
  async #state(): Promise<StreamState> {
    const begun = performance.now();
    const until = begun + INFO_PATIENCE_MS;
    for (;;) {
      try {
        return await this.#ask();
      } catch (error) {
        // A server that has just started may not know it yet.
        if (codeOf(error) === STREAM_NOT_FOUND) {
          if (performance.now() > begun + this.#behindPatienceMs) throw new LogLost("the stream is gone", true);
          await pause(RESTART_PAUSE_MS);
          continue;
        }
        if (performance.now() > until || this.#connection.isClosed() || !isPassing(error)) throw error;
        await pause(RESTART_PAUSE_MS);
      }
    }
  }

  async #ask(): Promise<StreamState> {
    const ask = async (): Promise<StreamState> => {
      const { state, cluster } = await this.#manager.streams.info(this.#options.stream);
      this.#leader = cluster?.leader;
      return state;
    };
    try {
      return await firstAnswer(ask, ASK_AGAIN_MS, ASK_PATIENCE_MS);
    } catch (error) {
      if (isPassing(error)) await this.#leaveIfDead();
      throw error;
    }
  }

  /** A stopped server, or a cut cable, keeps its connection open and says nothing: another server is tried. */
  #leaveIfDead(): Promise<void> {
    this.#leaving ??= this.#leave().finally(() => {
      this.#leaving = undefined;
    });
    return this.#leaving;
  }

  async #leave(): Promise<void> {
    if (this.#connection.isClosed()) return;
    const alive = await Promise.race([
      this.#connection.flush().then(
        () => true,
        () => true,
      ),
      patience(ALIVE_PATIENCE_MS).then(() => false),
    ]);
    if (alive || this.#closing || this.#connection.isClosed()) return;
    const silent = this.#connection.getServer();
    this.#say(`nats-server ${silent} is silent; trying another`);
    this.#shun.server = silent;
    await this.#connection.reconnect().catch(() => undefined);
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
      if (error instanceof Error && /timeout/i.test(error.name)) void this.#leaveIfDead();
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
    const leader = this.#leader;
    while (!this.#closing && !this.#connection.isClosed()) {
      const askedAt = performance.now();
      try {
        await this.#ask();
        away ||= performance.now() - askedAt > ANSWER_SLOW_MS || (leader !== undefined && this.#leader !== leader);
        break;
      } catch (error) {
        if (!isPassing(error)) return;
        away = true;
        await pause(RESTART_PAUSE_MS);
      }
    }
    // A reader that waits tells it itself, once it has recognised the log.
    if (!away || this.#closing || this.#away || this.#waiting.size > 0) return;
    for (const listener of this.#restored) listener();
  }

  /** @throws HistoryGone; LogLost when the stream has been cut or replaced, or the server admits this member no more */
  async consume(from: bigint, deliver: (message: LogMessage) => void, signal: AbortSignal): Promise<void> {
    if (from < 1n) throw new HistoryGone(1n);
    let next = from;
    /** The newest message handed on: what the log must still hold when it is read anew. */
    let newest: LogMessage | undefined;
    /** Since when the log has ended too early, or has not been there. */
    let behindAt: number | undefined;
    let brokenAt: number | undefined;
    let waitingFor: string | undefined;
    const resumed = (): void => {
      if (brokenAt === undefined) return;
      this.#waiting.delete(signal);
      this.#say(`log consumption resumed at position ${next}${after(brokenAt)}`);
      brokenAt = undefined;
      waitingFor = undefined;
      for (const listener of this.#restored) listener();
    };
    this.#readers.add(signal);
    while (!signal.aborted) {
      try {
        const { first_seq: first, last_seq: last } = await this.#ask();
        if (BigInt(first) > next && next <= BigInt(last)) throw new HistoryGone(BigInt(first));
        // A leader that has just been elected may lag; a stream that stays behind its own reader has lost history.
        if (BigInt(last) + 1n < next) {
          const problem = `the log ends at position ${last}, position ${next}`;
          behindAt ??= performance.now();
          if (performance.now() - behindAt > this.#behindPatienceMs) throw new LogLost(`${problem} was to come`, true);
          throw new Error(`${problem} is to come`);
        }
        behindAt = undefined;
        await this.#session(
          next,
          newest !== undefined && newest.position >= BigInt(first) ? newest : undefined,
          (message) => {
            deliver(message);
            newest = message;
            next = message.position + 1n;
          },
          signal,
          resumed,
        );
      } catch (error) {
        if (error instanceof HistoryGone) {
          this.#readers.delete(signal);
          this.#waiting.delete(signal);
          throw error;
        }
        this.#waiting.add(signal);
        if (error instanceof LogLost) throw error;
        if (signal.aborted || this.#closing) break;
        if (this.#connection.isClosed()) {
          throw new LogLost(this.#unfit ?? "nats-server has ended this member's connection for good");
        }
        if (codeOf(error) === STREAM_NOT_FOUND) {
          behindAt ??= performance.now();
          if (performance.now() - behindAt > this.#behindPatienceMs) throw new LogLost("the stream is gone", true);
        }
        brokenAt ??= performance.now();
        const reason = describe(error);
        if (reason !== waitingFor) this.#say(`waiting for the log at position ${next}: ${reason}`);
        waitingFor = reason;
      }
      if (!signal.aborted) await pause(RESTART_PAUSE_MS * (0.5 + Math.random()));
    }
    // Not for a log that was lost: nothing more is written there.
    this.#readers.delete(signal);
    this.#waiting.delete(signal);
  }

  /**
   * One consumer's life: ends when aborted; throws on silence, on a hole, and when the consumer is gone.
   * @param newest the message before `from`, read again first: an older store may have grown past it meanwhile
   * @throws LogLost when the log holds something else in its place
   */
  async #session(
    from: bigint,
    newest: LogMessage | undefined,
    deliver: (message: LogMessage) => void,
    signal: AbortSignal,
    resumed: () => void,
  ): Promise<void> {
    const create = (): Promise<Consumer> =>
      this.#client.consumers.get(this.#options.stream, {
        opt_start_seq: Number(newest?.position ?? from),
        inactive_threshold: PULL_EXPIRES_MS,
      });
    const consumer = await firstAnswer(create, CREATE_AGAIN_MS, ASK_PATIENCE_MS);
    if (signal.aborted) {
      consumer.delete().catch(() => undefined);
      return;
    }
    const messages = await consumer.consume({
      idle_heartbeat: HEARTBEAT_MS,
      expires: PULL_EXPIRES_MS,
      max_messages: 256,
    });
    const stop = (): void => messages.stop();
    signal.addEventListener("abort", stop, { once: true });
    let lost: string | undefined;
    let ticks = 0;
    let ticksMax = SILENT_TICKS;
    let known = newest === undefined;
    const heard = (): void => {
      ticks = 0;
      ticksMax = SILENT_TICKS;
      if (known) resumed();
    };
    const lose = (why: string): void => {
      lost ??= why;
      messages.stop();
    };
    this.#consumers.add(lose);
    const watchdog = setInterval(() => {
      ticks += 1;
      if (ticks === PROBE_TICKS) void this.#leaveIfDead();
      if (ticks >= ticksMax) lose("nats-server is silent");
    }, WATCH_TICK_MS);
    const notices = (async () => {
      for await (const { type } of messages.status()) {
        if (type === "heartbeat") heard();
        else if (type === "no_responders") ticksMax = UNANSWERED_TICKS;
        else if (LOST_CONSUMER.has(type)) lose("the consumer is gone");
      }
    })();
    let next = from;
    try {
      if (signal.aborted) return;
      for await (const message of messages) {
        const position = BigInt(message.seq);
        if (position === newest?.position && !equalBytes(message.data, newest.raw)) {
          throw new LogLost(`the log holds another message at position ${position} than it delivered before`, true);
        }
        known = true;
        heard();
        if (position < next) continue;
        if (position > next) throw new Error(`hole: position ${next} expected, ${position} came`);
        if (signal.aborted) return;
        deliver({ position, raw: new Uint8Array(message.data) });
        next = position + 1n;
      }
    } finally {
      clearInterval(watchdog);
      this.#consumers.delete(lose);
      signal.removeEventListener("abort", stop);
      messages.stop();
      // Not waited for: of one that was stopped before its first pull the library's notices never end.
      notices.catch(() => undefined);
      if (!this.#closing && !this.#connection.isClosed()) consumer.delete().catch(() => undefined);
    }
    if (signal.aborted) return;
    if (lost === "nats-server is silent") await this.#leaveIfDead();
    throw new Error(lost ?? "the consumer ended");
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#verifying);
    await this.#connection.close();
  }
}

type StreamState = { readonly first_seq: number; readonly last_seq: number; readonly messages: number };

/** What the library says of a consumer that must be made anew. */
const LOST_CONSUMER: ReadonlySet<string> = new Set([
  "consumer_not_found",
  "consumer_deleted",
  "stream_not_found",
  "ordered_consumer_recreated",
]);

/**
 * Asks, and asks again beside what is still waiting: the first answer counts. @throws what does not pass at once, what
 * passes after `patienceMs`
 */
function firstAnswer<T>(ask: () => Promise<T>, againMs: readonly number[], patienceMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    let last: unknown;
    let asked = 0;
    let again: NodeJS.Timeout | undefined;
    const finish = (settle: () => void): void => {
      clearTimeout(again);
      clearTimeout(end);
      settle();
    };
    const once = (): void => {
      again = setTimeout(once, againMs[Math.min(asked, againMs.length - 1)]);
      asked += 1;
      ask().then(
        (answer) => finish(() => resolve(answer)),
        (error: unknown) => {
          last = error;
          if (!isPassing(error)) finish(() => reject(error));
        },
      );
    };
    const end = setTimeout(() => finish(() => reject(last ?? new Error(NO_ANSWER))), patienceMs);
    once();
  });
}

const NO_ANSWER = "timeout: JetStream does not answer";

/** ` after 1.2 s`, for a line that says what is over. */
function after(since: number | undefined): string {
  return since === undefined ? "" : ` after ${((performance.now() - since) / 1000).toFixed(1)} s`;
}

/** The server that has just been left, for the next attempt to pass over. */
interface Shunned {
  server: string | undefined;
}

async function connectPatiently(options: JetStreamOptions, shun: Shunned): Promise<NatsConnection> {
  let last: unknown;
  const until = performance.now() + (options.patienceMs ?? CONNECT_PATIENCE_MS);
  do {
    try {
      return await connect({
        servers: [...options.servers],
        user: options.user,
        pass: options.password,
        inboxPrefix: options.inboxPrefix,
        name: `lattice ${options.stream} ${options.member}`,
        maxReconnectAttempts: -1,
        reconnectDelayHandler: reconnectPause(options.servers.length),
        reconnectToServer(pool) {
          const { server } = shun;
          shun.server = undefined;
          return pool.find(({ listen }) => listen !== server) ?? null;
        },
        timeout: DIAL_TIMEOUT_MS,
        pingInterval: PING_INTERVAL_MS,
        maxPingOut: 2,
        // A member goes where its operator has told it to go, and nowhere else.
        ignoreClusterUpdates: true,
        // A stack trace for each message, in case that its answer fails, costs more than sending it.
        noAsyncTraces: true,
      });
    } catch (error) {
      last = error;
      if (error instanceof Error && error.name === "AuthorizationError") {
        throw new UnfitServer("NATS_AUTHORIZATION", "nats-server refuses this member's credential");
      }
      await pause(200);
    }
  } while (performance.now() < until);
  throw new UnfitServer("NATS_UNREACHABLE", `no nats-server at ${options.servers.join(", ")}: ${describe(last)}`);
}

/** Until a meta leader exists, JetStream answers with time-outs or "not enabled": both pass. */
async function managerPatiently(connection: NatsConnection): Promise<JetStreamManager> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await jetstreamManager(connection, { timeout: 5000 });
    } catch (error) {
      if (attempt >= 60) throw new UnfitServer("NATS_UNREACHABLE", `JetStream does not answer: ${describe(error)}`);
      await pause(250);
    }
  }
}

/** The endpoints that do not answer, or whose JetStream is not up: a full disk puts it out. @throws UnfitServer when one answers that it is lazy */
async function verifySync(monitorUrls: readonly string[]): Promise<string[]> {
  const silent = await Promise.all(
    monitorUrls.map(async (url) => {
      let answer: { jetstream?: { config?: { sync_always?: boolean } } };
      try {
        const response = await fetch(new URL("/varz", url), { signal: AbortSignal.timeout(5000) });
        answer = (await response.json()) as typeof answer;
      } catch {
        return [url];
      }
      const config = answer.jetstream?.config;
      if (config?.sync_always === true) return [];
      if (config === undefined) return [url];
      throw new UnfitServer(
        "NATS_LAZY_SYNC",
        `nats-server (${url}) acknowledges before it syncs; set jetstream.sync_interval: always`,
      );
    }),
  );
  return silent.flat();
}

/** Pauses between attempts: short while there are servers left to try, then doubling; always with jitter. */
function reconnectPause(servers: number): () => number {
  let attempt = 0;
  let lastAt = 0;
  return () => {
    const now = performance.now();
    // The library asks only while it is disconnected, so a long quiet means that it has been connected meanwhile.
    attempt = now - lastAt > 4 * (RECONNECT_PAUSE_MAX_MS + DIAL_TIMEOUT_MS) ? 0 : attempt + 1;
    lastAt = now;
    const full = Math.min(RECONNECT_PAUSE_MIN_MS * 2 ** Math.floor(attempt / servers), RECONNECT_PAUSE_MAX_MS);
    return Math.round(full * (0.5 + Math.random() / 2));
  };
}

/** JetStream's error codes for "this message will not be taken". */
const FULL_CODES = new Set([10_002, 10_023, 10_047, 10_077, 10_122]);
const TOO_LARGE_CODES = new Set([10_054]);
const STREAM_NOT_FOUND = 10_059;

function codeOf(error: unknown): number | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "number" ? error.code : undefined;
}

function refusalOf(error: unknown): LogRefusal | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = codeOf(error);
  if (code !== undefined && FULL_CODES.has(code)) return new LogRefusal("LOG_FULL", error.message);
  if (code !== undefined && TOO_LARGE_CODES.has(code)) return new LogRefusal("ENTRY_TOO_LARGE", error.message);
  if (/max(imum)?[ _]payload/i.test(error.message)) return new LogRefusal("ENTRY_TOO_LARGE", error.message);
  if (/permissions violation/i.test(`${error.message} ${String(error.cause ?? "")}`)) {
    return new LogRefusal("NOT_PERMITTED", "this credential may not publish there");
  }
  return undefined;
}

function isPassing(error: unknown): boolean {
  return (
    error instanceof Error &&
    /timeout|not enabled|no responders|disconnect|temporarily unavailable|no leader/i.test(
      `${error.name} ${error.message}`,
    )
  );
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.message.split("\n", 1)[0] ?? error.name) : String(error);
}

/** In steps: of a process that was itself stopped only one of them is over at once, so whatever has come meanwhile is read. */
async function patience(ms: number): Promise<void> {
  for (let waited = 0; waited < ms; waited += WATCH_TICK_MS) await pause(WATCH_TICK_MS);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Dotted version comparison; anything that is not a number counts as 0. */
export function olderThan(version: string, minimum: string): boolean {
  const parts = (text: string): number[] =>
    text
      .split(/[.-]/)
      .slice(0, 3)
      .map((part) => Number.parseInt(part, 10) || 0);
  const [a, b] = [parts(version), parts(minimum)];
  for (let index = 0; index < 3; index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

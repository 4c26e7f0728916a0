/**
 * A committee log on NATS JetStream. The only file that knows NATS.
 *
 * The library's ordered consumer can stay silent for half a minute after a leader change, so consumption has its own
 * watchdog: missed heartbeats or a closed iterator make a new consumer at the next position. Positions are stream
 * sequences; anything but `last + 1` is a hole and is never handed on.
 */
import { type JetStreamClient, type JetStreamManager, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import type { Lane } from "../committee/entry.ts";
import { type AppendFate, HistoryGone, type Log, LogLost, type LogMessage, LogRefusal } from "../ports.ts";

/** The oldest server that keeps a stream through process crashes (nats-server#6888). */
export const SERVER_VERSION_MIN = "2.10.23";

const PUBLISH_TIMEOUT_MS = 3000;
const RESTART_PAUSE_MS = 100;
const HEARTBEAT_MS = 1000;
const PULL_EXPIRES_MS = 5000;
const CONNECT_PATIENCE_MS = 30_000;
const INFO_ATTEMPTS = 100;
/** How often in a row a stream may end before what has been read of it. */
const BEHIND_MAX = 20;

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
  /** The server's monitoring endpoint, e.g. `http://127.0.0.1:8222`: where `sync_always` is verified. */
  readonly monitorUrl?: string;
  readonly onEvent?: (event: string) => void;
  /** How long `open` waits for a server that does not answer. */
  readonly patienceMs?: number;
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
  #closing = false;

  private constructor(options: JetStreamOptions, connection: NatsConnection, manager: JetStreamManager) {
    this.#options = options;
    this.#connection = connection;
    this.#client = jetstream(connection, { timeout: PUBLISH_TIMEOUT_MS });
    this.#manager = manager;
  }

  /**
   * Connects and verifies the server: version, `sync_interval: always`, payload size, the stream.
   * @throws UnfitServer
   */
  static async open(options: JetStreamOptions): Promise<JetStreamLog> {
    const connection = await connectPatiently(options);
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
      if (options.monitorUrl !== undefined) await verifySync(options.monitorUrl);
      const manager = await managerPatiently(connection);
      return new JetStreamLog(options, connection, manager);
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  async lastPosition(): Promise<bigint> {
    return BigInt((await this.#info()).last_seq);
  }

  async firstPosition(): Promise<bigint> {
    const { first_seq: first, last_seq: last, messages } = await this.#info();
    return BigInt(messages === 0 ? last + 1 : first);
  }

  /** Waits out restarts of the server. @throws whatever does not pass */
  async #info(): Promise<{ first_seq: number; last_seq: number; messages: number }> {
    for (let attempt = 0; ; attempt++) {
      try {
        return (await this.#manager.streams.info(this.#options.stream)).state;
      } catch (error) {
        if (attempt >= INFO_ATTEMPTS || this.#connection.isClosed() || !isPassing(error)) throw error;
        await pause(RESTART_PAUSE_MS);
      }
    }
  }

  async append(lane: Lane, raw: Uint8Array, id: string): Promise<AppendFate> {
    const subject = `${this.#options.subject}.${this.#options.member}.${lane}`;
    try {
      await this.#client.publish(subject, raw, { msgID: id, timeout: PUBLISH_TIMEOUT_MS, retries: 0 });
      return "stored";
    } catch (error) {
      const refusal = refusalOf(error);
      if (refusal !== undefined) throw refusal;
      return "unknown";
    }
  }

  /** @throws HistoryGone; LogLost when the stream has been cut or replaced, or the server admits this member no more */
  async consume(from: bigint, deliver: (message: LogMessage) => void, signal: AbortSignal): Promise<void> {
    if (from < 1n) throw new HistoryGone(1n);
    let next = from;
    let behind = 0;
    while (!signal.aborted) {
      try {
        const { first_seq: first, last_seq: last } = await this.#info();
        if (BigInt(first) > next && next <= BigInt(last)) throw new HistoryGone(BigInt(first));
        // A leader that has just been elected may lag; a stream that stays behind its own reader has lost history.
        behind = BigInt(last) + 1n < next ? behind + 1 : 0;
        if (behind > BEHIND_MAX) throw new LogLost(`the log ends at position ${last}, position ${next} was to come`);
        if (behind > 0) throw new Error(`the log ends at position ${last}, position ${next} is to come`);
        await this.#session(
          next,
          (message) => {
            deliver(message);
            next = message.position + 1n;
          },
          signal,
        );
      } catch (error) {
        if (error instanceof HistoryGone || error instanceof LogLost) throw error;
        if (signal.aborted || this.#closing) return;
        if (this.#connection.isClosed()) throw new LogLost("nats-server has ended this member's connection for good");
        if (codeOf(error) === STREAM_NOT_FOUND && ++behind > BEHIND_MAX) throw new LogLost("the stream is gone");
        this.#options.onEvent?.(`log consumer restarts: ${describe(error)}`);
      }
      if (!signal.aborted) await pause(RESTART_PAUSE_MS * (0.5 + Math.random()));
    }
  }

  /** One consumer's life: ends on silence, on a hole, on close, or when aborted. */
  async #session(from: bigint, deliver: (message: LogMessage) => void, signal: AbortSignal): Promise<void> {
    const consumer = await this.#client.consumers.get(this.#options.stream, {
      opt_start_seq: Number(from),
      inactive_threshold: PULL_EXPIRES_MS,
    });
    const messages = await consumer.consume({
      idle_heartbeat: HEARTBEAT_MS,
      expires: PULL_EXPIRES_MS,
      max_messages: 256,
    });
    const stop = (): void => messages.stop();
    signal.addEventListener("abort", stop, { once: true });
    let silent = false;
    const watchdog = (async () => {
      for await (const status of messages.status()) {
        const lost = [
          "heartbeats_missed",
          "consumer_not_found",
          "consumer_deleted",
          "stream_not_found",
          "ordered_consumer_recreated",
        ];
        if (lost.includes(status.type)) {
          silent = true;
          messages.stop();
          return;
        }
      }
    })();
    let next = from;
    try {
      if (signal.aborted) return;
      for await (const message of messages) {
        const position = BigInt(message.seq);
        if (position < next) continue;
        if (position > next) throw new Error(`hole: position ${next} expected, ${position} came`);
        if (signal.aborted) return;
        deliver({ position, raw: new Uint8Array(message.data) });
        next = position + 1n;
      }
      if (silent) this.#options.onEvent?.("log consumer was silent; a new one is made");
    } finally {
      signal.removeEventListener("abort", stop);
      messages.stop();
      await watchdog.catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    this.#closing = true;
    await this.#connection.close();
  }
}

async function connectPatiently(options: JetStreamOptions): Promise<NatsConnection> {
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
        reconnectTimeWait: 100,
        reconnectJitter: 100,
        timeout: 5000,
        pingInterval: 10_000,
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

async function verifySync(monitorUrl: string): Promise<void> {
  let answer: { jetstream?: { config?: { sync_always?: boolean } } };
  try {
    const response = await fetch(new URL("/varz", monitorUrl), { signal: AbortSignal.timeout(5000) });
    answer = (await response.json()) as typeof answer;
  } catch (error) {
    throw new UnfitServer("NATS_UNREACHABLE", `nats-server's monitoring endpoint does not answer: ${describe(error)}`);
  }
  if (answer.jetstream?.config?.sync_always !== true) {
    throw new UnfitServer(
      "NATS_LAZY_SYNC",
      "nats-server acknowledges before it syncs; set jetstream.sync_interval: always",
    );
  }
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
    error instanceof Error && /timeout|not enabled|no responders|disconnect/i.test(`${error.name} ${error.message}`)
  );
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.message.split("\n", 1)[0] ?? error.name) : String(error);
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

/**
 * One consumer's life. The library's ordered consumer can stay silent for half a minute after a leader change, so it has
 * a watchdog of its own: silence or a closed iterator end it, and whoever reads makes another at the next position.
 */
import type { Consumer, JetStreamClient } from "@nats-io/jetstream";
import { equalBytes } from "../codec/codec.ts";
import { LogLost, type LogMessage } from "../ports.ts";
import { firstAnswer } from "./nats-answers.ts";
import type { LastingConnection } from "./nats-connection.ts";
import { ASK_PATIENCE_MS } from "./stream-questions.ts";

const HEARTBEAT_MS = 500;
const PULL_EXPIRES_MS = 5000;
/**
 * Pauses before a consumer is asked for again, the last one from then on. Those that are left behind count against the
 * account until the server drops them, so there are few; the first are short, for a cluster that is just electing.
 */
const CREATE_AGAIN_MS = [250, 250, 500, 1000];
/** The watchdog counts ticks rather than time: a process that was itself stopped has not been left alone. */
const WATCH_TICK_MS = 250;
const SILENT_TICKS = 6;
/** Two heartbeats may have been missed: whether anybody is there is looked at while the consumer still has its chance. */
const PROBE_TICKS = 4;
/** Nobody answered the pull: the consumer's server is not there yet, or no more. */
const UNANSWERED_TICKS = 2;
const SILENT = "nats-server is silent";

/** What the library says of a consumer that must be made anew. */
const LOST_CONSUMER: ReadonlySet<string> = new Set([
  "consumer_not_found",
  "consumer_deleted",
  "stream_not_found",
  "ordered_consumer_recreated",
]);

export interface ReadSession {
  readonly connection: LastingConnection;
  readonly client: JetStreamClient;
  readonly stream: string;
  readonly from: bigint;
  /** The message before `from`, read again first: an older store may have grown past it meanwhile. */
  readonly newest: LogMessage | undefined;
  readonly deliver: (message: LogMessage) => void;
  /** The log has been recognised and somebody is there; told again and again. */
  readonly resumed: () => void;
  readonly signal: AbortSignal;
  /** Where what ends the session from outside is kept while there is a consumer. */
  readonly running: Set<(why: string) => void>;
}

/**
 * Ends when aborted; throws on silence, on a hole, and when the consumer is gone.
 * @throws LogLost when the log holds something else than `newest` in its place
 */
export async function readSession(session: ReadSession): Promise<void> {
  const { connection, client, stream, from, newest, deliver, resumed, signal, running } = session;
  const create = (): Promise<Consumer> =>
    client.consumers.get(stream, {
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
  running.add(lose);
  const watchdog = setInterval(() => {
    ticks += 1;
    if (ticks === PROBE_TICKS) void connection.leaveIfDead();
    if (ticks >= ticksMax) lose(SILENT);
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
    running.delete(lose);
    signal.removeEventListener("abort", stop);
    messages.stop();
    // Not waited for: of one that was stopped before its first pull the library's notices never end.
    notices.catch(() => undefined);
    if (!connection.over) consumer.delete().catch(() => undefined);
  }
  if (signal.aborted) return;
  if (lost === SILENT) await connection.leaveIfDead();
  throw new Error(lost ?? "the consumer ended");
}

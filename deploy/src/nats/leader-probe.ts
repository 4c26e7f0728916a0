/**
 * When a broker could be used: asks every nats-server, all the time and past the members, for the stream, which only its
 * leader answers, and for the account, which only the cluster's leader answers (without one nobody can make a
 * consumer). The end of the longest silence is the broker's own recovery.
 */

import { generationStream } from "@lattice/organism/log/jetstream-log.ts";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import type { LogCredentials } from "./nats-config.ts";

const EVERY_MS = 50;
const ANSWER_MS = 400;
const RECONNECT_MS = 50;
/** Shorter silences are a machine that is busy. */
const SILENCE_MIN_MS = 1000;

/** What one answer told. */
export interface LeaderSign {
  /** Elapsed ms. */
  readonly atMs: number;
  /** Of the log that was asked for. */
  readonly generation: bigint;
  /** Of its stream, then. */
  readonly lastPosition: bigint;
}

/** The answer that ended the longest silence since `fromMs`; undefined when no silence was an outage. */
export function endOfSilence(signs: readonly LeaderSign[], fromMs: number): LeaderSign | undefined {
  let [longest, end]: [number, LeaderSign | undefined] = [SILENCE_MIN_MS, undefined];
  let before = fromMs;
  for (const sign of signs) {
    if (sign.atMs < fromMs) continue;
    if (sign.atMs - before >= longest) [longest, end] = [sign.atMs - before, sign];
    before = sign.atMs;
  }
  return end;
}

export class LeaderProbe {
  /** In order of time. */
  readonly signs: LeaderSign[] = [];
  readonly #connections: NatsConnection[] = [];
  readonly #loops: Promise<void>[] = [];
  #over = false;

  /** @param generation the log's newest: its stream is the one that is asked for */
  static async start(
    servers: readonly string[],
    admin: LogCredentials,
    generation: () => bigint = () => 0n,
  ): Promise<LeaderProbe> {
    const probe = new LeaderProbe();
    for (const server of servers) {
      const { user, password, inboxPrefix } = admin;
      const connection = await connect({
        servers: [server],
        user,
        pass: password,
        inboxPrefix,
        maxReconnectAttempts: -1,
        reconnectTimeWait: RECONNECT_MS,
        reconnectJitter: 0,
        timeout: 1000,
        ignoreClusterUpdates: true,
      });
      probe.#connections.push(connection);
      probe.#loops.push(probe.#ask(connection, admin, generation));
    }
    return probe;
  }

  async #ask(connection: NatsConnection, admin: LogCredentials, newest: () => bigint): Promise<void> {
    while (!this.#over) {
      const generation = newest();
      const { stream } = generationStream(admin, generation);
      try {
        const ask = (what: string) => connection.request(`$JS.API.${what}`, "", { timeout: ANSWER_MS });
        const [account, answer] = await Promise.all([ask("INFO"), ask(`STREAM.INFO.${stream}`)]);
        const { error } = account.json<{ error?: unknown }>();
        const { state, cluster } = answer.json<{
          state?: { last_seq: number };
          cluster?: { leader?: string };
        }>();
        if (error === undefined && state !== undefined && (cluster?.leader ?? "") !== "")
          this.signs.push({ atMs: performance.now(), generation, lastPosition: BigInt(state.last_seq) });
      } catch {
        // No leader, or a server that is not there: nothing is known now.
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  async close(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#connections.map((connection) => connection.close()));
    await Promise.all(this.#loops);
  }
}

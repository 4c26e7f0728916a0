/**
 * What a committee's stream is asked: where it begins and ends, who leads it, how full it is. Servers that restart or lag
 * are waited for; requests are repeated beside the ones still waiting, since a server that has just died answers none.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { JetStreamManager } from "@nats-io/jetstream";
import { LogLost, type LogUsage } from "../ports.ts";
import { firstAnswer, isPassing, isStreamMissing } from "./nats-answers.ts";
import type { LastingConnection } from "./nats-connection.ts";

const AGAIN_MS = 100;
/** A request is repeated after this long, and given up after that. */
const ASK_AGAIN_MS = [250];
export const ASK_PATIENCE_MS = 4000;
const STATE_PATIENCE_MS = 30_000;
/** How long a stream may end before what has been read of it, or be absent: servers that have just started lag. */
const BEHIND_PATIENCE_MS = 3000;
const BEHIND_PATIENCE_CLUSTER_MS = 12_000;

export interface StreamState {
  readonly first_seq: number;
  readonly last_seq: number;
  readonly messages: number;
}

export class StreamQuestions {
  readonly #connection: LastingConnection;
  readonly #manager: JetStreamManager;
  readonly #stream: string;
  readonly behindPatienceMs: number;
  #leader: string | undefined;

  /** @param servers how many there are: members of a cluster lag longer */
  constructor(connection: LastingConnection, manager: JetStreamManager, stream: string, servers: number) {
    this.#connection = connection;
    this.#manager = manager;
    this.#stream = stream;
    this.behindPatienceMs = servers > 1 ? BEHIND_PATIENCE_CLUSTER_MS : BEHIND_PATIENCE_MS;
  }

  /** The server that leads the stream, when last asked. */
  get leader(): string | undefined {
    return this.#leader;
  }

  /** Asks once, of whoever answers first. @throws what the servers say, or that they say nothing */
  async ask(): Promise<StreamState> {
    const ask = async (): Promise<StreamState> => {
      const { state, cluster } = await this.#manager.streams.info(this.#stream);
      this.#leader = cluster?.leader;
      return state;
    };
    try {
      return await firstAnswer(ask, ASK_AGAIN_MS, ASK_PATIENCE_MS);
    } catch (error) {
      if (isPassing(error)) await this.#connection.leaveIfDead();
      throw error;
    }
  }

  /** Waits out restarts of the servers. @throws LogLost when the stream stays away; whatever else does not pass */
  async #state(): Promise<StreamState> {
    const begun = performance.now();
    const until = begun + STATE_PATIENCE_MS;
    for (;;) {
      try {
        return await this.ask();
      } catch (error) {
        // A server that has just started may not know it yet.
        if (isStreamMissing(error)) {
          if (performance.now() > begun + this.behindPatienceMs) throw new LogLost("the stream is gone", true);
          await pause(AGAIN_MS);
          continue;
        }
        if (performance.now() > until || this.#connection.nats.isClosed() || !isPassing(error)) throw error;
        await pause(AGAIN_MS);
      }
    }
  }

  async lastPosition(atLeast: bigint): Promise<bigint> {
    const until = performance.now() + this.behindPatienceMs;
    for (;;) {
      const last = BigInt((await this.#state()).last_seq);
      if (last >= atLeast || performance.now() > until) return last;
      await pause(AGAIN_MS);
    }
  }

  async firstPosition(): Promise<bigint> {
    return firstOf(await this.#state());
  }

  /** @param subjects of the member that asks */
  async usage(subjects: string): Promise<LogUsage> {
    const { state, config, cluster } = await this.#manager.streams.info(this.#stream, { subjects_filter: subjects });
    this.#leader ??= cluster?.leader;
    const fullest = Math.max(0, ...Object.values(state.subjects ?? {}));
    return {
      ...(config.max_msgs_per_subject > 0 ? { ownShare: fullest / config.max_msgs_per_subject } : {}),
      bytes: state.bytes,
      bytesMax: config.max_bytes > 0 ? config.max_bytes : undefined,
      firstPosition: firstOf(state),
    };
  }

  async present(): Promise<boolean> {
    try {
      await this.#manager.streams.info(this.#stream);
      return true;
    } catch (error) {
      if (isStreamMissing(error) || isPassing(error)) return false;
      throw error;
    }
  }
}

function firstOf({ first_seq: first, last_seq: last, messages }: StreamState): bigint {
  return BigInt(messages === 0 ? last + 1 : first);
}

/**
 * A member's connection to its NATS servers: made patiently, kept for as long as the process lives, and moved to another
 * server when the one at the other end keeps it and says nothing.
 */
import { setTimeout as pause } from "node:timers/promises";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { UnfitServer } from "./fit-server.ts";
import { describe } from "./nats-answers.ts";

const CONNECT_PATIENCE_MS = 30_000;
/** One attempt to connect: a stopped server accepts and then says nothing. */
const DIAL_TIMEOUT_MS = 3000;
const PING_INTERVAL_MS = 5000;
/** Between attempts to connect: doubles, with jitter, so that members do not come back in step. */
const RECONNECT_PAUSE_MIN_MS = 50;
const RECONNECT_PAUSE_MAX_MS = 800;
/** Between questions to a JetStream that is not there yet. */
const JETSTREAM_PAUSE_MS = 333;
/** How long a connection may take to show that there is somebody at the other end. A needless change of server costs a moment. */
const ALIVE_PATIENCE_MS = 1000;
/** A process that was itself stopped has not waited: time is counted in steps of this. */
const STEP_MS = 250;

export interface NatsAccess {
  /** `nats://host:port`, one or more. */
  readonly servers: readonly string[];
  readonly user: string;
  readonly password: string;
  /** Own inbox prefix, so that members cannot read each other's replies. */
  readonly inboxPrefix: string;
  /** How long a server that does not answer is waited for. */
  readonly patienceMs?: number;
}

/** The server that has just been left, for the next attempt to pass over. */
interface Shunned {
  server: string | undefined;
}

export class LastingConnection {
  readonly nats: NatsConnection;
  readonly #shun: Shunned;
  readonly #say: (event: string) => void;
  #leaving: Promise<void> | undefined;
  #closing = false;

  private constructor(nats: NatsConnection, shun: Shunned, say: (event: string) => void) {
    this.nats = nats;
    this.#shun = shun;
    this.#say = say;
  }

  /**
   * @param name what the servers' operators see
   * @param say told in one line of a change of server
   * @throws UnfitServer when none answers, or this member is not admitted
   */
  static async open(access: NatsAccess, name: string, say: (event: string) => void): Promise<LastingConnection> {
    const shun: Shunned = { server: undefined };
    return new LastingConnection(await connectPatiently(access, name, shun, say), shun, say);
  }

  /** `close` has been called. */
  get closing(): boolean {
    return this.#closing;
  }
  /** It is no more, and does not come back. */
  get over(): boolean {
    return this.#closing || this.nats.isClosed();
  }

  /** Until a meta leader exists, JetStream answers with time-outs or "not enabled": both pass. @throws UnfitServer */
  async manager(): Promise<JetStreamManager> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await jetstreamManager(this.nats, { timeout: 5000 });
      } catch (error) {
        if (attempt >= 60) throw new UnfitServer("NATS_UNREACHABLE", `JetStream does not answer: ${describe(error)}`);
        await pause(jittered(JETSTREAM_PAUSE_MS));
      }
    }
  }

  /** A stopped server, or a cut cable, keeps its connection open and says nothing: another server is tried. */
  leaveIfDead(): Promise<void> {
    this.#leaving ??= this.#leave().finally(() => {
      this.#leaving = undefined;
    });
    return this.#leaving;
  }

  async #leave(): Promise<void> {
    if (this.nats.isClosed()) return;
    const alive = await Promise.race([
      this.nats.flush().then(
        () => true,
        () => true,
      ),
      patience(ALIVE_PATIENCE_MS).then(() => false),
    ]);
    if (alive || this.over) return;
    const silent = this.nats.getServer();
    this.#say(`nats-server ${silent} is silent; trying another`);
    this.#shun.server = silent;
    await this.nats.reconnect().catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#closing = true;
    await this.nats.close();
  }
}

async function connectPatiently(
  access: NatsAccess,
  name: string,
  shun: Shunned,
  say: (event: string) => void,
): Promise<NatsConnection> {
  const { servers, user, password, inboxPrefix } = access;
  let last: unknown;
  // Each attempt goes through all of them.
  const nextPauseMs = reconnectPause(1);
  const until = performance.now() + (access.patienceMs ?? CONNECT_PATIENCE_MS);
  do {
    try {
      return await connect({
        servers: [...servers],
        user,
        pass: password,
        inboxPrefix,
        name,
        maxReconnectAttempts: -1,
        reconnectDelayHandler: reconnectPause(servers.length),
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
      if (error instanceof Error && error.name === "AuthorizationError") {
        throw new UnfitServer("NATS_AUTHORIZATION", "nats-server refuses this member's credential");
      }
      if (last === undefined) say(`no nats-server answers yet; waiting for ${servers.join(" or ")}`);
      last = error;
      await pause(nextPauseMs());
    }
  } while (performance.now() < until);
  throw new UnfitServer("NATS_UNREACHABLE", `no nats-server at ${servers.join(", ")}: ${describe(last)}`);
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
    return jittered(full);
  };
}

/** Half of it to all of it. */
function jittered(ms: number): number {
  return Math.round(ms * (0.5 + Math.random() / 2));
}

/** In steps: of a process that was itself stopped only one of them is over at once, so whatever has come meanwhile is read. */
async function patience(ms: number): Promise<void> {
  for (let waited = 0; waited < ms; waited += STEP_MS) await pause(STEP_MS);
}

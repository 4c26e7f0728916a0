/**
 * The broker as a lattice needs it: one nats-server, or a cluster of three whose streams have a replica on each. Servers
 * are started, killed and started again one by one; what they hold is theirs alone.
 */
import { join } from "node:path";
import { JetStreamApiError, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { ProgramFailure } from "../chain/child-process.ts";
import type { LogCredentials, NatsDeal } from "./nats-config.ts";
import { createCommitteeStream, type NatsServer, type StreamQuotas, startNatsServer } from "./nats-process.ts";

/** One server's ports on loopback. */
export interface NatsPorts {
  readonly client: number;
  readonly monitor: number;
  /** For the other servers; unused by a server that stands alone. */
  readonly route: number;
}

export interface NatsClusterOptions {
  readonly binary: string;
  /** Holds configuration, log and store of the server, or a folder of these for each of several. */
  readonly directory: string;
  readonly deal: NatsDeal;
  /** One or three. */
  readonly ports: readonly NatsPorts[];
  readonly accountBytes?: number;
  /** Where server `index` keeps its streams; default below its folder. */
  readonly storeDir?: (index: number) => string;
}

const LOOPBACK = "127.0.0.1";
/** Until a leader of the cluster is elected and has found its peers. */
const SETTLE_DEADLINE_MS = 20_000;
const SETTLE_PAUSE_MS = 200;
/** JetStream's codes for "not now": no leader, no peers yet. */
const PASSING_CODES: ReadonlySet<number> = new Set([10_005, 10_008, 10_009, 10_023, 10_074, 10_028]);
const BAD_REQUEST = 10_003;

export class NatsCluster {
  readonly #options: NatsClusterOptions;
  readonly #servers: NatsServer[] = [];

  private constructor(options: NatsClusterOptions) {
    this.#options = options;
  }

  /** Starts every server and waits until all are ready. @throws ProgramFailure; nothing is left running then */
  static async start(options: NatsClusterOptions): Promise<NatsCluster> {
    const { length } = options.ports;
    if (length !== 1 && length !== 3) throw new RangeError(`a cluster has one server or three, not ${length}`);
    const cluster = new NatsCluster(options);
    try {
      await cluster.startAll();
      return cluster;
    } catch (error) {
      await cluster.kill();
      throw error;
    }
  }

  /** As they stand in the ports' order. */
  get servers(): readonly NatsServer[] {
    return this.#servers;
  }
  get size(): number {
    return this.#options.ports.length;
  }
  get urls(): string[] {
    return this.#options.ports.map(({ client }) => `nats://${LOOPBACK}:${client}`);
  }
  get monitorUrls(): string[] {
    return this.#options.ports.map(({ monitor }) => `http://${LOOPBACK}:${monitor}`);
  }

  /** Where the other servers reach server `index`. */
  routeAddress(index: number): string {
    return `${LOOPBACK}:${this.#options.ports[index]?.route ?? 0}`;
  }

  /** Where a server keeps its configuration, its log and, unless told otherwise, its store. */
  directory(index: number): string {
    return this.size === 1 ? this.#options.directory : join(this.#options.directory, serverName(index));
  }

  storeDir(index: number): string {
    return this.#options.storeDir?.(index) ?? join(this.directory(index), "store");
  }

  /** Starts those that are down, together: none is ready before most are. @throws ProgramFailure */
  async startAll(): Promise<void> {
    const down = this.#options.ports.flatMap((_, index) =>
      this.#servers[index]?.program.alive === true ? [] : [this.start(index)],
    );
    const results = await Promise.allSettled(down);
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  /** Starts one that is down. Ready means caught up with the others. @throws ProgramFailure */
  async start(index: number): Promise<void> {
    const { binary, deal, ports, accountBytes } = this.#options;
    const own = ports[index];
    if (own === undefined) throw new RangeError(`no server ${index}`);
    this.#servers[index] = await startNatsServer({
      binary,
      directory: this.directory(index),
      storeDir: this.storeDir(index),
      deal,
      port: own.client,
      monitorPort: own.monitor,
      onStarted: (server) => {
        this.#servers[index] = server;
      },
      ...(accountBytes === undefined ? {} : { accountBytes }),
      ...(this.size === 1
        ? {}
        : {
            name: serverName(index),
            cluster: { port: own.route, routes: ports.map((_, at) => this.routeAddress(at)) },
          }),
    });
  }

  /** SIGKILL. */
  async killServer(index: number): Promise<void> {
    await this.#servers[index]?.program.kill();
  }

  /** SIGSTOP or SIGCONT: a server that neither answers nor goes away. */
  signal(index: number, signal: "SIGSTOP" | "SIGCONT"): void {
    const program = this.#servers[index]?.program;
    if (program?.alive === true) process.kill(program.pid, signal);
  }

  /** Makes every committee's stream that is not there, with a replica on each server and leaders spread over them. */
  async makeStreams(admins: readonly LogCredentials[], quotas: StreamQuotas): Promise<void> {
    for (const [turn, admin] of admins.entries()) {
      await settled(() => createCommitteeStream(this.urls, admin, quotas, this.size));
      if (this.size > 1) await settled(() => moveLeader(this.urls, admin, serverName(turn % this.size)));
    }
  }

  /** The server that leads a committee's stream; undefined while there is none. */
  async leaderOf(admin: LogCredentials): Promise<number | undefined> {
    if (this.size === 1) return 0;
    try {
      const leader = await leaderName(this.urls, admin);
      const index = this.#options.ports.findIndex((_, each) => serverName(each) === leader);
      return index < 0 ? undefined : index;
    } catch (error) {
      if (isPassing(error)) return undefined;
      throw error;
    }
  }

  /** SIGTERM to all. */
  async stop(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.stop()));
  }

  /** SIGKILL to all. */
  async kill(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.program.kill()));
  }
}

export function serverName(index: number): string {
  return `nats-${index + 1}`;
}

/** Repeats while the cluster has not settled. */
async function settled<T>(work: () => Promise<T>): Promise<T> {
  const until = Date.now() + SETTLE_DEADLINE_MS;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isPassing(error) || Date.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, SETTLE_PAUSE_MS));
    }
  }
}

interface StepdownAnswer {
  readonly error?: { readonly err_code: number };
}

class NotYet extends Error {
  override readonly name = "NotYet";
}

function isPassing(error: unknown): boolean {
  if (error instanceof NotYet) return true;
  if (error instanceof JetStreamApiError) return PASSING_CODES.has(error.code);
  if (error instanceof ProgramFailure || !(error instanceof Error)) return false;
  return /timeout|not enabled|no responders|refused|disconnect|closed/i.test(`${error.name} ${error.message}`);
}

async function withAdmin<T>(
  servers: readonly string[],
  { user, password, inboxPrefix }: LogCredentials,
  work: (connection: Awaited<ReturnType<typeof connect>>) => Promise<T>,
): Promise<T> {
  const connection = await connect({ servers: [...servers], user, pass: password, inboxPrefix, timeout: 3000 });
  try {
    return await work(connection);
  } finally {
    await connection.close();
  }
}

function leaderName(servers: readonly string[], admin: LogCredentials): Promise<string | undefined> {
  return withAdmin(servers, admin, async (connection) => {
    const manager = await jetstreamManager(connection, { timeout: 2000 });
    return (await manager.streams.info(admin.stream)).cluster?.leader;
  });
}

/** Hands a stream's leadership to a server by name. @throws NotYet until it leads */
async function moveLeader(servers: readonly string[], admin: LogCredentials, name: string): Promise<void> {
  const leader = await leaderName(servers, admin);
  if (leader === name) return;
  if (leader !== undefined && leader !== "") {
    await withAdmin(servers, admin, async (connection) => {
      const subject = `$JS.API.STREAM.LEADER.STEPDOWN.${admin.stream}`;
      const wish = JSON.stringify({ placement: { preferred: name } });
      const { error } = (await connection.request(subject, wish, { timeout: 3000 })).json<StepdownAnswer>();
      // Before 2.11 a leader takes no wish and goes to any other: again, until it is this one.
      if (error?.err_code === BAD_REQUEST) await connection.request(subject, "", { timeout: 3000 });
    });
  }
  throw new NotYet(`${admin.stream} is led by ${leader}`);
}

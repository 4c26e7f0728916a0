/** A nats-server on this machine: started from its configuration, ready, its committees' streams made, stopped. */
import { writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { dirname, join } from "node:path";
import { ENTRY_BYTES_MAX } from "@lattice/organism/committee/entry.ts";
import {
  DiscardPolicy,
  type JetStreamManager,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
} from "@nats-io/jetstream";
import { connect, nanos } from "@nats-io/transport-node";
import { Program, ProgramFailure, portIsFree } from "../chain/child-process.ts";
import {
  ACCOUNT_BYTES,
  type LogCredentials,
  type NatsDeal,
  natsServerConfig,
  type ServerOptions,
} from "./nats-config.ts";

export interface NatsServer {
  readonly program: Program;
  /** `nats://127.0.0.1:port`, or at the address that it listens on. */
  readonly url: string;
  /** `http://127.0.0.1:port`, or likewise. */
  readonly monitorUrl: string;
  /** SIGTERM and patience: a killed server makes its clients wait for seconds. */
  stop(): Promise<void>;
}

export interface StartOptions extends Omit<ServerOptions, "storeDir" | "name"> {
  /** Default `lattice-local`; in a cluster each has its own. */
  readonly name?: string;
  /** The program, as `findNatsServer` found it. */
  readonly binary: string;
  /** Holds configuration, log and store. */
  readonly directory: string;
  /** Default: `store` below the directory. */
  readonly storeDir?: string;
  readonly deal: NatsDeal;
  readonly readyMs?: number;
  /** Called once the process runs, before it is ready: in a cluster that may take as long as the others do. */
  readonly onStarted?: (server: NatsServer) => void;
}

/** A cluster elects its leader first, and a server that was away catches up. */
const READY_DEADLINE_MS = 40_000;
const STOP_PATIENCE_MS = 10_000;
const LOOPBACK = "127.0.0.1";
const EVERYWHERE: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);

const isOurs = (host: string): boolean =>
  EVERYWHERE.has(host) ||
  host.startsWith("127.") ||
  Object.values(networkInterfaces()).some((each) => each?.some(({ address }) => address === host));

/** @throws ProgramFailure */
export async function startNatsServer(options: StartOptions): Promise<NatsServer> {
  const { binary, directory, deal, port, monitorPort, host = LOOPBACK, name = "lattice-local" } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const each of [port, monitorPort]) {
    if (await portIsFree(each, host)) continue;
    const where = host === LOOPBACK ? "" : ` of ${host}`;
    const why = isIP(host) === 0 || isOurs(host) ? "is in use" : "cannot be had: this machine has no such address";
    throw new ProgramFailure("PORT_IN_USE", `nats-server: port ${each}${where} ${why}`, "");
  }
  const configFile = join(directory, "server.conf");
  const storeDir = options.storeDir ?? join(directory, "store");
  writeFileSync(configFile, natsServerConfig(deal, { ...options, name, storeDir }), { mode: 0o600 });
  const program = await Program.start({
    name: options.cluster === undefined ? "nats-server" : `nats-server ${name}`,
    command: binary,
    args: ["--config", configFile],
    logFile: join(dirname(configFile), "nats-server.log"),
  });
  // Everywhere is also here; any other address is only itself.
  const reached = EVERYWHERE.has(host) ? LOOPBACK : isIP(host) === 6 ? `[${host}]` : host;
  const monitorUrl = `http://${reached}:${monitorPort}`;
  const url = `nats://${reached}:${port}`;
  const server: NatsServer = { program, url, monitorUrl, stop: () => program.stop(STOP_PATIENCE_MS) };
  options.onStarted?.(server);
  await program.ready(async () => {
    try {
      const response = await fetch(new URL("/healthz", monitorUrl), { signal: AbortSignal.timeout(2000) });
      return response.ok;
    } catch {
      return false;
    }
  }, options.readyMs ?? READY_DEADLINE_MS);
  return server;
}

/** What a committee's log may hold. */
export interface StreamQuotas {
  /** Of one author's lane, in messages: a flooding author stops itself only. */
  readonly messagesPerSubject: number;
  /** Of the whole log. */
  readonly bytes: number;
  readonly messageBytes: number;
}

/** An entry at its largest, with the headers that JetStream counts into a message's size. */
export const LOG_MESSAGE_BYTES = ENTRY_BYTES_MAX + 1024;
/** What the server keeps beside a message: its own record, the subject. */
const RECORD_BYTES = 256;
const LANES_PER_AUTHOR = 2;

/**
 * The most that each author's lane may hold so that all lanes together, filled with the largest messages, still fit: JetStream
 * limits a subject by messages and not by bytes, so whoever fills its own lanes would otherwise fill everybody's log (log.md §6).
 */
export function committeeQuotas(authors: number, bytes: number): StreamQuotas {
  const largest = LOG_MESSAGE_BYTES + RECORD_BYTES;
  const messagesPerSubject = Math.floor(bytes / (LANES_PER_AUTHOR * authors * largest));
  if (messagesPerSubject < 1) throw new RangeError(`${bytes} bytes are no room for ${authors} authors`);
  return { messagesPerSubject, bytes, messageBytes: LOG_MESSAGE_BYTES };
}

/** For a broker that lives as long as one ceremony, benchmark or test: nobody in it floods. */
export const DEFAULT_QUOTAS: StreamQuotas = {
  messagesPerSubject: 1_000_000,
  bytes: ACCOUNT_BYTES,
  messageBytes: 2 * 1024 * 1024,
};

const DUPLICATE_WINDOW_MS = 120_000;
const CONNECT_DEADLINE_MS = 5000;

/** Runs `work` as a committee's administrator. */
export async function asAdmin<T>(
  servers: string | readonly string[],
  { user, password, inboxPrefix }: LogCredentials,
  work: (manager: JetStreamManager) => Promise<T>,
): Promise<T> {
  const connection = await connect({
    servers: typeof servers === "string" ? servers : [...servers],
    user,
    pass: password,
    inboxPrefix,
    timeout: CONNECT_DEADLINE_MS,
  });
  try {
    return await work(await jetstreamManager(connection, { timeout: CONNECT_DEADLINE_MS }));
  } finally {
    await connection.close();
  }
}

/** Names of the streams in a committee's account: of its log's generations. */
export async function streamNames(manager: JetStreamManager): Promise<string[]> {
  const names: string[] = [];
  for await (const name of manager.streams.names()) names.push(name);
  return names;
}

/**
 * Makes the stream of a committee's first generation, unless there is one of any generation: one that was lost is followed by
 * another of a later generation, and never made anew beside it (docs/decisions/0030).
 * @throws JetStreamApiError when the account has no room, or the name is not the credential's
 */
export function createCommitteeStream(
  servers: string | readonly string[],
  admin: LogCredentials,
  quotas: StreamQuotas = DEFAULT_QUOTAS,
  replicas = 1,
): Promise<"made" | "found"> {
  return asAdmin(servers, admin, async (manager) => {
    const names = await streamNames(manager);
    if (names.some((name) => name === admin.stream || name.startsWith(`${admin.stream}-`))) return "found";
    await addStream(manager, admin, quotas, replicas);
    return "made";
  });
}

/** As a committee's log has to be (log.md §6, §9): on file, refusing rather than forgetting, nothing deletable by one, purgeable from below. */
export async function addStream(
  manager: JetStreamManager,
  { stream, subject }: Pick<LogCredentials, "stream" | "subject">,
  quotas: StreamQuotas,
  replicas: number,
): Promise<void> {
  await manager.streams.add({
    name: stream,
    subjects: [`${subject}.*.ctl`, `${subject}.*.bulk`],
    storage: StorageType.File,
    num_replicas: replicas,
    retention: RetentionPolicy.Limits,
    discard: DiscardPolicy.New,
    discard_new_per_subject: true,
    max_msgs_per_subject: quotas.messagesPerSubject,
    max_bytes: quotas.bytes,
    max_msg_size: quotas.messageBytes,
    deny_delete: true,
    deny_purge: false,
    allow_direct: true,
    duplicate_window: nanos(DUPLICATE_WINDOW_MS),
  });
}

/**
 * A local lattice together with whoever watches it and its sample users: started, interrupted, stopped. What `npm
 * start`, the demo and the scenarios have in common.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readEndpoints } from "@lattice/organism/node/kit.ts";
import { portIsFree } from "../chain/child-process.ts";
import { NatsServerMissing } from "../nats/nats-server.ts";
import { provideNatsServer } from "./broker.ts";
import { Collector } from "./collector.ts";
import { freePorts } from "./free-ports.ts";
import { type LatticeOptions, LocalLattice, type Mode } from "./lattice.ts";
import { Layout, type Ports } from "./layout.ts";
import { TRAFFIC_SCRIPT } from "./members.ts";
import { guardOrphans } from "./orphan-guard.ts";
import { ManagedProcess } from "./processes.ts";
import { noteRunner, runnerOf } from "./runner.ts";

/** The project's folder. */
export const ROOT = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));

/** Something on this machine is not as it must be. One readable line; exit code 5. */
export class Precondition extends Error {
  override readonly name = "Precondition";
}

/** A new folder below the project's `.lattice`, which git ignores. */
export function newDirectory(kind: string, now = new Date()): string {
  const stamp = now.toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "-");
  let path = join(ROOT, ".lattice", `${kind}-${stamp}`);
  for (let turn = 2; existsSync(path); turn++) path = join(ROOT, ".lattice", `${kind}-${stamp}-${turn}`);
  return path;
}

/** A path as people read it: from the project's folder when it lies there. */
export function shownPath(path: string): string {
  const inside = relative(ROOT, path);
  return inside.startsWith("..") ? path : inside;
}

/** NATS when a usable server can be had, else the embedded log, said aloud. */
export async function chooseMode(embedded: boolean, say: (line: string) => void): Promise<Mode> {
  if (embedded) return "embedded";
  try {
    const found = await provideNatsServer(say);
    say(`log: JetStream, nats-server ${found.version} (${found.source})`);
    return "nats";
  } catch (error) {
    if (!(error instanceof NatsServerMissing)) throw error;
    say(error.message);
    say("log: embedded, all members in one process, because there is no nats-server");
    return "embedded";
  }
}

/**
 * The log of the lattice that a folder holds already; undefined when there is nothing in it.
 * @throws Precondition when it holds something else, or half a lattice
 */
function modeIn(layout: Layout): Mode | undefined {
  const { directory, dealt, ports, runner } = layout;
  if (readdirSync(directory).every((name) => name === basename(runner))) return undefined;
  if (existsSync(dealt)) return (JSON.parse(readFileSync(dealt, "utf8")) as { mode: Mode }).mode;
  const shown = shownPath(directory);
  throw new Precondition(
    existsSync(ports)
      ? `${shown} holds a lattice that was interrupted before it was dealt: remove it, or take another folder`
      : `${shown} holds other files: a lattice takes a new folder, an empty one, or its own`,
  );
}

const GUARD_PATIENCE_MS = 30_000;

/** Whoever ran the lattice before is gone, with all that it had started. @throws Precondition */
async function waitUntilDown(layout: Layout, say: (line: string) => void): Promise<void> {
  const shown = shownPath(layout.directory);
  const until = Date.now() + GUARD_PATIENCE_MS;
  for (let told = false; ; told = true) {
    const { runner, guard } = runnerOf(layout);
    if (runner !== undefined) throw new Precondition(`the lattice in ${shown} is running already: process ${runner}`);
    if (guard === undefined) return;
    if (Date.now() > until)
      throw new Precondition(`what an earlier start of ${shown} has left is still being ended: process ${guard}`);
    if (!told) say("an earlier start was killed: what it has left is being ended");
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/**
 * A lattice keeps its ports, but for those that somebody else listens on by now.
 * @throws Precondition when it may be the lattice itself
 */
async function keepPorts(layout: Layout, gatewayPort: number | undefined, say: (line: string) => void): Promise<void> {
  const ports = layout.loadPorts();
  const { nats, chainRpc, stewards } = ports;
  // Two servers on one store would damage it.
  const stores = [chainRpc, ...nats.map(({ client }) => client), ...(stewards ? [stewards.ceremonies.client] : [])];
  const taken = new Set<number>();
  const look = async (port: number): Promise<void> => {
    if (!(await portIsFree(port))) taken.add(port);
  };
  const own = numbersIn(ports);
  await Promise.all(own.map(look));
  for (const port of stores) {
    if (taken.has(port))
      throw new Precondition(
        `port ${port} of 127.0.0.1 is in use: the lattice in ${shownPath(layout.directory)} may be running already`,
      );
  }
  const others = await freePorts(taken.size, new Set(own));
  const renewed = new Map([...taken].map((port, position) => [port, others[position] ?? 0]));
  if (gatewayPort !== undefined) renewed.set(ports.gateway, gatewayPort);
  if (renewed.size === 0) return;
  for (const port of taken) {
    const who = port === ports.gateway ? "the gateway" : "this lattice";
    say(`port ${port} of 127.0.0.1 is somebody else's by now: ${who} takes ${renewed.get(port)}`);
  }
  const replaced = (_: string, value: unknown): unknown =>
    typeof value === "number" ? (renewed.get(value) ?? value) : value;
  layout.savePorts(JSON.parse(JSON.stringify(ports), replaced) as Ports);
}

function numbersIn(value: unknown): number[] {
  if (typeof value === "number") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(numbersIn) : [];
}

/**
 * The log to start on: that of the lattice found in the folder, or else as `chooseMode` has it.
 * @throws Precondition when the folder holds something else, its lattice runs already or needs another log than is asked for or can be had, or a port is taken
 */
export async function prepareDirectory(
  directory: string,
  options: { readonly embedded: boolean; readonly gatewayPort?: number },
  say: (line: string) => void,
): Promise<Mode> {
  const { embedded, gatewayPort } = options;
  const there = existsSync(directory);
  if (there && !statSync(directory).isDirectory()) throw new Precondition(`${shownPath(directory)} is no folder`);
  const layout = there ? new Layout(directory) : undefined;
  if (layout !== undefined) await waitUntilDown(layout, say);
  if (gatewayPort !== undefined && !(await portIsFree(gatewayPort)))
    throw new Precondition(`port ${gatewayPort} of 127.0.0.1 is in use: choose another with --gateway-port`);
  const found = layout === undefined ? undefined : modeIn(layout);
  const mode = await chooseMode(embedded || found === "embedded", say);
  if (layout === undefined || found === undefined) return mode;
  if (found !== mode)
    throw new Precondition(`${shownPath(directory)} holds a lattice on the ${found} log, not the ${mode} one`);
  await keepPorts(layout, gatewayPort, say);
  return mode;
}

export interface SessionOptions extends Omit<LatticeOptions, "onPrepared"> {
  /** Slots that are kept in memory; all by default. */
  readonly keepSlots?: number;
  /** Sample wallets and searchers; on by default. */
  readonly traffic?: boolean;
  /** Aborting it ends everything that was started, and `start` throws. */
  readonly signal?: AbortSignal;
}

/** `start` was interrupted; everything that had been started is gone. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

const RUNNING = new Set<Session>();
// Whatever ends this process, nothing that it started outlives it.
process.on("exit", () => {
  for (const { lattice } of RUNNING) {
    for (const { pid, running } of lattice.processes.values()) if (running && pid !== undefined) killNow(pid);
    const brokers = lattice.broker?.cluster.servers.map((server) => server.program) ?? [];
    for (const program of [lattice.chain?.program, lattice.ceremonies?.program, ...brokers])
      if (program?.alive === true) killNow(program.pid);
  }
});

function killNow(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It is gone already.
  }
}

export class Session {
  readonly lattice: LocalLattice;
  readonly collector: Collector;
  readonly #options: SessionOptions;

  private constructor(lattice: LocalLattice, options: SessionOptions) {
    this.lattice = lattice;
    this.#options = options;
    this.collector = new Collector({
      config: lattice.config,
      rosters: lattice.rosters,
      endpoints: () => readEndpoints(lattice.layout.endpoints),
      // Whoever keeps only recent slots does not ask a lattice that is started again for its whole past.
      ...(options.keepSlots === undefined
        ? {}
        : { keepSlots: options.keepSlots, fromSlot: slotAt(lattice.config, Date.now()) }),
    });
  }

  /** Starts everything; whatever goes wrong, nothing is left running. @throws StartFailure, ProgramFailure, Interrupted */
  static async start(options: SessionOptions): Promise<Session> {
    const { signal } = options;
    const aborted = (): boolean => signal?.aborted === true;
    let session: Session | undefined;
    const interrupt = (): void => {
      session?.lattice.killAll().catch(() => undefined);
    };
    signal?.addEventListener("abort", interrupt);
    try {
      if (aborted()) throw new Interrupted("interrupted");
      noteRunner(new Layout(options.directory), guardOrphans());
      await LocalLattice.start({
        ...options,
        onPrepared: (lattice) => {
          // While keys were dealt: nothing runs yet, and the folder holds a lattice that can be started.
          if (aborted()) throw new Interrupted("interrupted");
          session = new Session(lattice, options);
          RUNNING.add(session);
          session.collector.start();
        },
      });
      if (session === undefined || aborted()) throw new Interrupted("interrupted");
      if (options.traffic !== false) session.startTraffic();
      return session;
    } catch (error) {
      await session?.kill();
      throw aborted() ? new Interrupted("interrupted") : error;
    } finally {
      signal?.removeEventListener("abort", interrupt);
    }
  }

  get traffic(): ManagedProcess | undefined {
    return this.lattice.processes.get("traffic");
  }

  /** Sample wallets and searchers, in a process of their own. */
  startTraffic(): void {
    const { layout, processes } = this.lattice;
    const traffic = new ManagedProcess({
      name: "traffic",
      script: TRAFFIC_SCRIPT,
      args: [JSON.stringify({ directory: layout.directory })],
      logFile: layout.log("traffic"),
    });
    traffic.onExit = (code) =>
      this.#options.progress?.(`sample traffic ended by itself (exit code ${code ?? "none"}): ${traffic.tail(2)}`);
    processes.set("traffic", traffic);
    traffic.start();
  }

  async stopTraffic(): Promise<void> {
    await this.traffic?.stop();
  }

  /** Users first, then everybody in order. */
  async stop(): Promise<void> {
    await this.stopTraffic();
    await this.collector.close();
    await this.lattice.stop();
    RUNNING.delete(this);
  }

  /** At once. */
  async kill(): Promise<void> {
    await this.lattice.killAll();
    await this.collector.close();
    RUNNING.delete(this);
  }
}

/**
 * Ctrl-C and its kin: the first aborts `abort`, so that everything is stopped in order; the second kills.
 * @returns what takes the handlers away again
 */
export function onInterrupt(abort: AbortController, say: (line: string) => void): () => void {
  let times = 0;
  const handler = (): void => {
    times += 1;
    if (times > 1) process.exit(EXIT.interrupted);
    say("stopping (once more to kill)");
    abort.abort();
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, handler);
  return () => {
    for (const signal of signals) process.off(signal, handler);
  };
}

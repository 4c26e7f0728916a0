/**
 * A whole lattice on one machine: dealer, chain, sequencer, broker, eighteen members, aggregator, gateway; each in a
 * process of its own (or all members in one, on the embedded log). Starts, stops, kills and restarts them by id.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { latticeRoot } from "@lattice/organism/identity/unique-id.ts";
import { type Rosters, readConfig, readRosters } from "@lattice/organism/node/kit.ts";
import { settlementGenesisAccount } from "@lattice/tally/contract/genesis-account.ts";
import { foundLocally } from "../ceremony/local-ceremony.ts";
import { type ExecutionClient, startExecutionClient } from "../chain/execution-client.ts";
import { type GethGenesis, type Hex, localGenesis } from "../chain/genesis.ts";
import { writeWhole } from "../cli/whole-file.ts";
import type { NatsServer, StreamQuotas } from "../nats/nats-process.ts";
import { createAccounts, GENESIS_BALANCE_WEI, loadAccounts, type SampleAccounts, saveAccounts } from "./accounts.ts";
import { type Broker, type BrokerOptions, dealBroker, provideNatsServer, startBroker } from "./broker.ts";
import { warmCompileCache } from "./compile-cache.ts";
import { choosePorts, chooseStewardPorts, http, Layout, type Ports } from "./layout.ts";
import {
  AGGREGATOR_SCRIPT,
  aggregatorEnvironment,
  DEALER_SCRIPT,
  EMBEDDED_SCRIPT,
  type EnvironmentOptions,
  GATEWAY_SCRIPT,
  gatewayEnvironment,
  KEEPER_SCRIPT,
  keeperEnvironment,
  memberEnvironment,
  memberScript,
  SEQUENCER_SCRIPT,
  STEWARD_SCRIPT,
  sequencerEnvironment,
  TRIMMER_SCRIPT,
  trimmerEnvironment,
} from "./members.ts";
import { ManagedProcess } from "./processes.ts";
import { layOutStewards, type StewardOptions, startCeremonies, stewardEnvironment, stewardName } from "./stewards.ts";
import { Supervisor } from "./supervisor.ts";

export type Mode = "nats" | "embedded";

export interface LatticeOptions {
  /** Where everything lies; a folder that holds a lattice already is started again as it is. */
  readonly directory: string;
  readonly mode: Mode;
  readonly slotMs: number;
  readonly members?: number;
  /** Where the group keys of a new lattice come from: one process deals them, or the members make them. */
  readonly keys?: LatticeConfig["keys"];
  readonly name?: string;
  readonly gatewayPort?: number;
  /** nats-servers of a new lattice: 1 or 3; 1 by default. */
  readonly natsServers?: number;
  /** Where nats-server `index` keeps its streams; default below the lattice's folder. */
  readonly natsStoreDir?: (index: number) => string;
  /** Further logs on the broker of a new lattice. */
  readonly extraLogs?: readonly string[];
  /** Changes to what a member process is started with. */
  readonly memberSettings?: (organism: Organism, index: number) => Readonly<Record<string, string>>;
  /** Changes to what the gateway is started with. */
  readonly gatewaySettings?: Readonly<Record<string, string>>;
  /** A steward of each seat, from the time on that all members are ready; none when left out. */
  readonly stewards?: StewardOptions;
  /** What each of the six logs may hold; `localQuotas` when left out. */
  readonly logQuotas?: StreamQuotas;
  readonly logLevel?: string;
  /** Every process appends its spans here. */
  readonly traceFile?: string;
  /** Between dealing and slot 0: what it takes to start everything. */
  readonly leadMs?: number;
  /** One line per step. */
  readonly progress?: (line: string) => void;
  /** Called once the identity stands and before anything is started: whoever must be able to end it begins here. */
  readonly onPrepared?: (lattice: LocalLattice) => void;
}

/** Something did not come up. One readable line, with the end of the log of whoever failed. */
export class StartFailure extends Error {
  override readonly name = "StartFailure";
}

/** The settlement contract's address in every local chain's genesis. */
export const SETTLEMENT_ADDRESS = "5e771e";
export const SETTLEMENT_HEX = SETTLEMENT_ADDRESS.padStart(40, "0");
export const LOCAL_CHAIN_ID = 31_337n;
const GAS_LIMIT = 30_000_000n;
const READY_DEADLINE_MS = 120_000;
/** What ceremonies of eighteen processes take on a small machine, on top of a start with dealt keys. */
const CEREMONY_MS = 40_000;
export const WALLETS = 6;
export const SEARCHERS = 3;

/** Who has to answer 2xx where, and the process that would have ended otherwise. */
interface Check {
  readonly name: string;
  readonly process: string;
  readonly url: string;
}

export class LocalLattice {
  readonly layout: Layout;
  readonly ports: Ports;
  readonly mode: Mode;
  readonly config: LatticeConfig;
  readonly rosters: Rosters;
  readonly accounts: SampleAccounts;
  /** When `start` was called, Unix ms. */
  readonly startedAtMs: number;
  readonly processes = new Map<string, ManagedProcess>();
  readonly #environment: EnvironmentOptions;
  #broker: Broker | undefined;
  #chain: ExecutionClient | undefined;
  #ceremonies: NatsServer | undefined;
  readonly #supervisor: Supervisor;
  /** It is being taken down: whatever still starts is not waited for. */
  #ending = false;
  #genesis: GethGenesis;
  readonly #progress: (line: string) => void;
  readonly #options: LatticeOptions;

  private constructor(
    options: LatticeOptions,
    parts: {
      layout: Layout;
      ports: Ports;
      config: LatticeConfig;
      accounts: SampleAccounts;
      genesis: GethGenesis;
      startedAtMs: number;
    },
  ) {
    this.layout = parts.layout;
    this.ports = parts.ports;
    this.config = parts.config;
    this.accounts = parts.accounts;
    this.#genesis = parts.genesis;
    this.startedAtMs = parts.startedAtMs;
    this.mode = options.mode;
    this.rosters = readRosters(parts.layout.rosters, parts.config);
    this.#progress = options.progress ?? (() => undefined);
    this.#options = options;
    this.#supervisor = new Supervisor({ persistent: options.stewards !== undefined, say: this.#progress });
    this.#environment = {
      slotMs: parts.config.slotMs,
      layout: parts.layout,
      ports: parts.ports,
      logLevel: options.logLevel ?? "info",
      ...(options.traceFile === undefined ? {} : { traceFile: options.traceFile }),
    };
  }

  get chainRpc(): string {
    return http(this.ports.chainRpc);
  }
  get gatewayUrl(): string {
    return http(this.ports.gateway);
  }
  get sequencerAdmin(): string {
    return http(this.ports.sequencerAdmin);
  }
  get broker(): Broker | undefined {
    return this.#broker;
  }
  get chain(): ExecutionClient | undefined {
    return this.#chain;
  }
  /** The nats-server of the stewards' ceremonies. */
  get ceremonies(): NatsServer | undefined {
    return this.#ceremonies;
  }

  /** Deals (or finds) a lattice in the folder and starts everything. @throws StartFailure */
  static async start(options: LatticeOptions): Promise<LocalLattice> {
    const startedAtMs = Date.now();
    await initCrypto();
    const layout = new Layout(options.directory);
    const fresh = !existsSync(layout.config);
    const lattice = fresh
      ? await LocalLattice.#prepare(options, layout, startedAtMs)
      : LocalLattice.#reopen(options, layout, startedAtMs);
    options.onPrepared?.(lattice);
    await lattice.startAll();
    return lattice;
  }

  /** The broker, the chain and the keys: everything that stands before the identity does. */
  static async #prepare(options: LatticeOptions, layout: Layout, startedAtMs: number): Promise<LocalLattice> {
    const members = options.members ?? 3;
    const ports = await choosePorts(members, options.gatewayPort, options.natsServers ?? 1);
    layout.savePorts(ports);
    const accounts = createAccounts({ wallets: WALLETS, searchers: SEARCHERS, posters: members });
    saveAccounts(layout.path("accounts.json"), accounts);
    const ceremony = options.keys === "ceremony";
    if (ceremony && options.mode !== "nats")
      throw new StartFailure(
        "keys from a ceremony need a process a member, and so nats-server; the embedded log has one",
      );
    const leadMs = (options.leadMs ?? (options.mode === "nats" ? 32_000 : 14_000)) + (ceremony ? CEREMONY_MS : 0);
    const profile = {
      name: options.name ?? "local",
      chainId: LOCAL_CHAIN_ID,
      genesisMs: startedAtMs + leadMs,
      slotMs: options.slotMs,
      members,
    };
    if (!ceremony) options.progress?.("dealing keys (throw-away lattice: dealt, not generated among members)");
    const signers = ceremony
      ? await foundLocally({
          directory: options.directory,
          profile: { ...profile, settlement: fromHex(SETTLEMENT_HEX) },
          binary: (await provideNatsServer()).path,
          ...(options.progress === undefined ? {} : { progress: options.progress }),
        })
      : await runDealer({
          ...profile,
          directory: options.directory,
          chainId: profile.chainId.toString(),
          settlement: SETTLEMENT_HEX,
        });
    const config = readConfig(layout.config);
    const genesis = await makeGenesis(config, accounts, signers);
    mkdirSync(layout.path("chain"), { recursive: true, mode: 0o700 });
    writeFileSync(layout.path("chain", "genesis.json"), JSON.stringify(genesis));
    for (const file of [layout.path("chain", "engine.jwt"), layout.path("sequencer", "builder.jwt")]) {
      writeFileSync(file, toHex(new Uint8Array(randomBytes(32))), { mode: 0o600 });
    }
    for (const [index, poster] of accounts.posters.entries()) {
      writeFileSync(join(layout.member("tally", index), "poster.key"), poster.secret, { mode: 0o400 });
    }
    const searcher = accounts.searchers[0];
    writeFileSync(layout.path("gateway-searcher.json"), JSON.stringify({ secret: searcher?.secret }), { mode: 0o400 });
    writeWhole(layout.dealt, `${JSON.stringify({ mode: options.mode })}\n`);
    return new LocalLattice(options, { layout, ports, config, accounts, genesis, startedAtMs });
  }

  static #reopen(options: LatticeOptions, layout: Layout, startedAtMs: number): LocalLattice {
    return new LocalLattice(options, {
      layout,
      ports: layout.loadPorts(),
      config: readConfig(layout.config),
      accounts: loadAccounts(layout.path("accounts.json")),
      genesis: JSON.parse(readFileSync(layout.path("chain", "genesis.json"), "utf8")) as GethGenesis,
      startedAtMs,
    });
  }

  /** Starts whatever is not running and waits until all of it is ready. @throws StartFailure */
  async startAll(): Promise<void> {
    this.#ending = false;
    const { stewards } = this.#options;
    if (stewards !== undefined) {
      // Before its member starts, a seat has its link; before its keys in reserve are made, the credential that they share.
      dealBroker(this.#brokerOptions);
      await layOutStewards(this.layout, this.config);
    }
    const tasks: Promise<void>[] = [this.startChain()];
    const warm = warmCompileCache();
    if (this.mode === "nats") tasks.push(Promise.all([this.startBroker(), warm]).then(() => this.#startMembers()));
    else {
      await warm;
      this.#progress("members start (one process, embedded log)");
      this.#spawn("members", EMBEDDED_SCRIPT, {}, [
        JSON.stringify({ directory: this.layout.directory, logLevel: this.#environment.logLevel }),
      ]);
      this.#spawn("aggregator", AGGREGATOR_SCRIPT, aggregatorEnvironment(this.#environment));
      this.#spawn("gateway", GATEWAY_SCRIPT, {
        ...gatewayEnvironment(this.#environment),
        ...this.#options.gatewaySettings,
      });
    }
    await Promise.all(tasks);
    this.#progress("waiting until everybody is ready");
    await this.waitReady();
    if (stewards !== undefined) await this.#startStewards(stewards);
  }

  /** After the members, which slots wait for. */
  async #startStewards(options: StewardOptions): Promise<void> {
    const { layout, config } = this;
    const ports = layout.loadPorts().stewards ?? (await chooseStewardPorts(config.zipnet.policy.membersMin));
    layout.addPorts(ports);
    this.#progress("stewards start, a nats-server of their ceremonies first");
    this.#ceremonies = await startCeremonies(layout, ports, (server) => {
      this.#ceremonies = server;
    });
    if (this.#ending) throw new StartFailure("taken down before it was ready");
    const checks: Check[] = [];
    for (const organism of ORGANISMS) {
      for (const [index, port] of ports.metrics[organism].entries()) {
        const name = stewardName(organism, index);
        const settings = { ...options, slotMs: config.slotMs };
        this.#spawn(name, STEWARD_SCRIPT, stewardEnvironment(layout, ports, settings, organism, index));
        checks.push({ name, process: name, url: `${http(port)}/readyz` });
      }
    }
    await this.#ready(checks, READY_DEADLINE_MS);
  }

  async startChain(): Promise<void> {
    this.#progress("execution client and sequencer start");
    this.#chain = await startExecutionClient({
      dataDir: this.layout.path("chain", "data"),
      genesis: this.#genesis,
      jwtFile: this.layout.path("chain", "engine.jwt"),
      rpcPort: this.ports.chainRpc,
      enginePort: this.ports.chainEngine,
    });
    this.#spawn("sequencer", SEQUENCER_SCRIPT, sequencerEnvironment(this.#environment));
  }

  async startBroker(): Promise<void> {
    const count = this.ports.nats.length;
    this.#progress(count === 1 ? "nats-server starts" : `a cluster of ${count} nats-servers starts`);
    this.#broker = await startBroker(this.#brokerOptions);
    this.#progress(`nats-server ${this.#broker.version} is up`);
  }

  get #brokerOptions(): BrokerOptions {
    const { extraLogs, logQuotas, natsStoreDir } = this.#options;
    return {
      layout: this.layout,
      ports: this.ports,
      members: this.config.zipnet.policy.membersMin,
      ...(extraLogs === undefined ? {} : { extraLogs }),
      ...(logQuotas === undefined ? {} : { quotas: logQuotas }),
      ...(natsStoreDir === undefined ? {} : { storeDir: natsStoreDir }),
    };
  }

  #startMembers(): void {
    const count = this.config.zipnet.policy.membersMin;
    this.#progress(`${ORGANISMS.length * count} members start`);
    for (const organism of ORGANISMS) for (let index = 0; index < count; index++) this.startMember(organism, index);
    this.#spawn("stream-keeper", KEEPER_SCRIPT, keeperEnvironment(this.#environment));
    this.#spawn("trimmer", TRIMMER_SCRIPT, trimmerEnvironment(this.#environment));
    this.#spawn("aggregator", AGGREGATOR_SCRIPT, aggregatorEnvironment(this.#environment));
    this.#spawn("gateway", GATEWAY_SCRIPT, {
      ...gatewayEnvironment(this.#environment),
      ...this.#options.gatewaySettings,
    });
  }

  startMember(organism: Organism, index: number): void {
    this.#spawn(`${organism}-${index}`, memberScript(organism), {
      ...memberEnvironment(this.#environment, organism, index),
      ...this.#options.memberSettings?.(organism, index),
    });
  }

  #spawn(
    name: string,
    script: string,
    environment: Record<string, string>,
    args: readonly string[] = [],
  ): ManagedProcess {
    const process = new ManagedProcess({ name, script, environment, args, logFile: this.layout.log(name) });
    this.#supervisor.watch(process);
    this.processes.set(name, process);
    process.start();
    return process;
  }

  process(name: string): ManagedProcess {
    const found = this.processes.get(name);
    if (found === undefined) throw new Error(`no process ${name}`);
    return found;
  }

  /** Waits for /readyz of every member and for the gateway. @throws StartFailure naming who is not ready and why */
  async waitReady(deadlineMs = READY_DEADLINE_MS): Promise<void> {
    const checks: Check[] = [];
    for (const organism of ORGANISMS) {
      for (const [index, { metrics }] of this.ports.members[organism].entries()) {
        const name = `${organism}-${index}`;
        checks.push({ name, process: this.mode === "nats" ? name : "members", url: `${http(metrics)}/readyz` });
      }
    }
    checks.push({ name: "gateway", process: "gateway", url: `${http(this.ports.gateway)}/healthz` });
    await this.#ready(checks, deadlineMs);
  }

  async #ready(checks: readonly Check[], deadlineMs: number): Promise<void> {
    const until = Date.now() + deadlineMs;
    let ended = false;
    /** Undefined once it is ready, itself when it is late. */
    const late = async (check: Check): Promise<Check | undefined> => {
      while (!ended) {
        if (await answersOk(check.url)) return undefined;
        if (this.#ending) throw new StartFailure(`taken down before ${check.name} was ready`);
        const process = this.processes.get(check.process);
        if (process !== undefined && !process.running)
          throw new StartFailure(`${check.name} ended: ${process.tail(1)}`);
        if (Date.now() > until) return check;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      return check;
    };
    try {
      // Each for itself: on a crowded machine one that is slow to answer must not take the others' time.
      const found = await Promise.all(checks.map(late));
      const [first, ...others] = found.filter((check) => check !== undefined);
      if (first === undefined) return;
      const names = others.length === 0 ? first.name : `${first.name} and ${others.length} more`;
      throw new StartFailure(`${names}: not ready after ${deadlineMs / 1000} s; see ${this.layout.log(first.process)}`);
    } finally {
      ended = true;
    }
  }

  /** SIGTERM to everybody, in reverse pipeline order. */
  async stop(): Promise<void> {
    this.#ending = true;
    this.#supervisor.release();
    const order = ["gateway", "aggregator"];
    const members = [...this.processes.keys()].filter((name) => !order.includes(name) && name !== "sequencer");
    await Promise.all(order.map((name) => this.processes.get(name)?.stop()));
    await Promise.all(members.reverse().map((name) => this.processes.get(name)?.stop()));
    await this.processes.get("sequencer")?.stop();
    await this.#chain?.stop();
    await this.#ceremonies?.stop();
    await this.#broker?.stop();
  }

  /** SIGKILL to everything at once, broker and chain included. */
  async killAll(): Promise<void> {
    this.#ending = true;
    this.#supervisor.release();
    await Promise.all([...this.processes.values()].map((process) => process.kill()));
    await this.#chain?.program.kill();
    await this.#ceremonies?.program.kill();
    await this.#broker?.kill();
  }
}

async function answersOk(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(3000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}

/** Runs the dealer as a process of its own and waits until it is gone. @returns tally's signer addresses */
function runDealer(parameters: Record<string, unknown>): Promise<Uint8Array[]> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", DEALER_SCRIPT], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    let out = "";
    let err = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    child.once("error", reject);
    child.once("exit", (code) => {
      if (code !== 0) reject(new StartFailure(`the dealer failed: ${err.trim()}`));
      else resolve((JSON.parse(out) as { signers: string[] }).signers.map(fromHex));
    });
    child.stdin.end(JSON.stringify(parameters));
  });
}

/** Sample accounts with money, the settlement contract where the config says it is. */
export async function makeGenesis(
  config: LatticeConfig,
  accounts: SampleAccounts,
  signers: readonly Uint8Array[],
): Promise<GethGenesis> {
  const settlement = await settlementGenesisAccount({
    latticeId: latticeRoot(config.name, config.chainId),
    chainId: config.chainId,
    address: fromHex(SETTLEMENT_HEX),
    signers: [...signers],
    threshold: config.tally.content.threshold,
    withdrawalDelay: 50n,
  });
  const funded = [...accounts.wallets, ...accounts.searchers, ...accounts.posters].map(
    ({ address }): [Hex, { balanceWei: bigint }] => [`0x${address}`, { balanceWei: GENESIS_BALANCE_WEI }],
  );
  return localGenesis({
    chainId: config.chainId,
    timestampS: Math.floor(config.genesisMs / 1000) - 3600,
    gasLimit: GAS_LIMIT,
    alloc: { ...Object.fromEntries(funded), [`0x${SETTLEMENT_HEX}`]: settlement },
  });
}

/**
 * The local chain's execution client: `@ethereumjs/client` in a process of its own, unmodified, on loopback only,
 * without peers, driven over its Engine API. It keeps its blocks through kill -9; what it lost the sequencer feeds it
 * again.
 */
import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePorts } from "../local/free-ports.ts";
import { Program, ProgramFailure, portIsFree } from "./child-process.ts";
import type { GethGenesis } from "./genesis.ts";
import { CallFailure, callJsonRpc } from "./json-rpc-call.ts";

export interface ExecutionClientOptions {
  /** Kept over restarts; made when it is not there. Genesis, log and database go here. */
  readonly dataDir: string;
  readonly genesis: GethGenesis;
  /** The 32-byte Engine API secret as hex, mode 0600. */
  readonly jwtFile: string;
  /** Free ports when absent; a restart wants the same again. */
  readonly rpcPort?: number;
  readonly enginePort?: number;
  /** Where both ports listen; default 127.0.0.1. In a container 0.0.0.0, behind the container's own network. */
  readonly host?: string;
  readonly readyDeadlineMs?: number;
}

export interface ExecutionClient {
  readonly program: Program;
  /** `http://127.0.0.1:port`: eth, net, web3, debug. */
  readonly rpcUrl: string;
  /** `http://127.0.0.1:port`: engine, JWT. */
  readonly engineUrl: string;
  readonly rpcPort: number;
  readonly enginePort: number;
  /** SIGTERM, then SIGKILL. */
  stop(): Promise<void>;
}

const READY_DEADLINE_MS = 60_000;

/** Writes genesis, starts the client, waits until it answers. @throws ProgramFailure */
export async function startExecutionClient(options: ExecutionClientOptions): Promise<ExecutionClient> {
  await mkdir(options.dataDir, { recursive: true });
  const genesisFile = join(options.dataDir, "genesis.json");
  await writeFile(genesisFile, JSON.stringify(options.genesis));
  const free = await freePorts(2);
  const rpcPort = options.rpcPort ?? free[0] ?? 0;
  const enginePort = options.enginePort ?? free[1] ?? 0;
  for (const port of [rpcPort, enginePort]) {
    // Somebody else's answers would look like readiness.
    if (!(await portIsFree(port)))
      throw new ProgramFailure("PORT_IN_USE", `execution client: port ${port} is in use`, "");
  }
  return launch(options, genesisFile, rpcPort, enginePort);
}

async function launch(
  options: ExecutionClientOptions,
  genesisFile: string,
  rpcPort: number,
  enginePort: number,
): Promise<ExecutionClient> {
  const host = options.host ?? "127.0.0.1";
  const program = await Program.start({
    name: "execution client",
    command: process.execPath,
    args: [
      "--import",
      import.meta.resolve("./client-modules.ts"),
      clientScript(),
      ...flags({
        gethGenesis: genesisFile,
        dataDir: options.dataDir,
        rpc: true,
        rpcAddr: host,
        rpcPort,
        rpcEngine: true,
        rpcEngineAddr: host,
        rpcEnginePort: enginePort,
        jwtSecret: options.jwtFile,
        sync: "none",
        // No peers, no discovery: with maxPeers 0 nothing but the two RPC ports is opened.
        maxPeers: 0,
        port: 0,
        extIP: "127.0.0.1",
        discV4: false,
        discDns: false,
        saveReceipts: true,
        logLevel: "warn",
        accountCache: 20_000,
        storageCache: 50_000,
        codeCache: 2000,
        trieCache: 50_000,
      }),
      // Not `--logFile=false`: that names a file "false" in the working folder.
      "--no-logFile",
    ],
    logFile: join(options.dataDir, "client.log"),
  });
  const rpcUrl = `http://127.0.0.1:${rpcPort}`;
  const engineUrl = `http://127.0.0.1:${enginePort}`;
  const answers = async (): Promise<boolean> => {
    try {
      await callJsonRpc({ url: rpcUrl }, "eth_blockNumber", [], { deadlineMs: 2000 });
      // The engine port is opened last; without a token it refuses, and that is an answer.
      await callJsonRpc({ url: engineUrl }, "engine_exchangeCapabilities", [[]], { deadlineMs: 2000 });
      return true;
    } catch (error) {
      if (!(error instanceof CallFailure)) throw error;
      if (error.reason === "UNAUTHORIZED" && program.alive) return true;
      if (/EADDRINUSE|Error starting client/.test(await program.tail())) await program.stop();
      return false;
    }
  };
  await program.ready(answers, options.readyDeadlineMs ?? READY_DEADLINE_MS);
  return { program, rpcUrl, engineUrl, rpcPort, enginePort, stop: () => program.stop() };
}

/** `dist/esm/bin/cli.js`: the CommonJS build exits without a word. */
function clientScript(): string {
  const main = fileURLToPath(import.meta.resolve("@ethereumjs/client"));
  const root = main.slice(0, main.lastIndexOf(join("@ethereumjs", "client")) + join("@ethereumjs", "client").length);
  return join(root, "dist", "esm", "bin", "cli.js");
}

function flags(values: Readonly<Record<string, string | number | boolean>>): string[] {
  return Object.entries(values).map(([name, value]) => `--${name}=${value}`);
}

/** The 32 bytes behind an Engine API secret file. @throws Error naming the file when it is anything else */
export function readJwtSecret(file: string): Uint8Array {
  const text = readFileSync(file, "utf8").trim().replace(/^0x/, "");
  if (!/^[0-9a-fA-F]{64}$/.test(text)) throw new Error(`${file}: 32 bytes of hex expected`);
  return new Uint8Array(Buffer.from(text, "hex"));
}

/** Makes an Engine API secret file, mode 0600, unless there is one. */
export async function ensureJwtSecret(file: string): Promise<Uint8Array> {
  await mkdir(dirname(file), { recursive: true });
  const secret = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex");
  try {
    await writeFile(file, secret, { mode: 0o600, flag: "wx" });
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  }
  return readJwtSecret(file);
}

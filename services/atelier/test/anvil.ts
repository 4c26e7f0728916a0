/** Starts foundry's anvil (an EVM nobody here wrote) and stops exactly that process. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const require = createRequire(import.meta.url);

function anvilBinary(): string | undefined {
  const platform = process.arch === "arm64" ? "linux-arm64" : "linux-amd64";
  try {
    const binary = join(dirname(require.resolve(`@foundry-rs/anvil-${platform}/package.json`)), "bin", "anvil");
    return existsSync(binary) ? binary : undefined;
  } catch {
    return undefined;
  }
}

/** False, or why tests that need it are skipped. */
export const WITHOUT_ANVIL: string | false =
  anvilBinary() === undefined ? "anvil is not installed (optional package for this platform)" : false;

export interface Anvil {
  readonly url: string;
  /** One JSON-RPC call; throws what the node answers as an error. */
  call(method: string, ...params: unknown[]): Promise<unknown>;
  stop(): Promise<void>;
}

/** Prague, blocks only when asked for, transactions in the order in which they were sent. */
export async function startAnvil(genesis: object): Promise<Anvil> {
  const binary = anvilBinary();
  if (binary === undefined) throw new Error("anvil is not installed");
  const folder = mkdtempSync(join(tmpdir(), "lattice-anvil-"));
  writeFileSync(join(folder, "genesis.json"), JSON.stringify(genesis));
  const child = spawn(
    binary,
    [
      ...["--host", "127.0.0.1", "--port", "0", "--hardfork", "prague", "--init", join(folder, "genesis.json")],
      ...["--no-mining", "--order", "fifo", "--accounts", "0", "--disable-default-create2-deployer"],
    ],
    { cwd: folder, stdio: ["ignore", "pipe", "pipe"] },
  );
  const url = await listeningUrl(child);
  let id = 0;
  return {
    url,
    async call(method, ...params) {
      const body = JSON.stringify({ jsonrpc: "2.0", id: ++id, method, params });
      const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
      const answer = (await response.json()) as { readonly result?: unknown; readonly error?: { message: string } };
      if (answer.error !== undefined) throw new Error(`${method}: ${answer.error.message}`);
      return answer.result;
    },
    async stop() {
      const exit = once(child, "exit");
      child.kill("SIGKILL");
      await exit;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function listeningUrl(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = "";
    const read = (chunk: Buffer): void => {
      said += chunk.toString("utf8");
      const match = /Listening on (127\.0\.0\.1:\d+)/.exec(said);
      if (match !== null) resolve(`http://${match[1]}`);
    };
    child.stdout?.on("data", read);
    child.stderr?.on("data", read);
    child.once("exit", (code) => reject(new Error(`anvil exited with ${code}: ${said}`)));
  });
}

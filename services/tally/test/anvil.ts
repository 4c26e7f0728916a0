/** Starts foundry's anvil (an EVM nobody here wrote) for a test and stops exactly that process. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createPublicClient, createTestClient, createWalletClient, http } from "viem";
import { anvil as anvilChain } from "viem/chains";

const require = createRequire(import.meta.url);

/** Path of the binary for this platform, or undefined when the optional package is not installed. */
export function anvilBinary(): string | undefined {
  const platform = process.arch === "arm64" ? "linux-arm64" : "linux-amd64";
  try {
    const binary = join(dirname(require.resolve(`@foundry-rs/anvil-${platform}/package.json`)), "bin", "anvil");
    return existsSync(binary) ? binary : undefined;
  } catch {
    return undefined;
  }
}

/** False, or why the tests that need a chain are skipped. */
export const WITHOUT_ANVIL: string | false =
  anvilBinary() === undefined ? "anvil is not installed (optional package for this platform)" : false;

export interface Chain {
  readonly url: string;
  stop(): Promise<void>;
}

/** @param genesis geth-format genesis; absent: anvil's own, chain id 31337. Every transaction is mined at once. */
export async function startAnvil(genesis?: object): Promise<Chain> {
  const binary = anvilBinary();
  if (binary === undefined) throw new Error("anvil is not installed");
  const folder = mkdtempSync(join(tmpdir(), "lattice-anvil-"));
  const args = ["--host", "127.0.0.1", "--port", "0", "--hardfork", "prague", "--accounts", "0"];
  if (genesis !== undefined) {
    writeFileSync(join(folder, "genesis.json"), JSON.stringify(genesis));
    args.push("--init", join(folder, "genesis.json"));
  }
  const child = spawn(binary, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  const url = await listeningUrl(child);
  return {
    url,
    stop: () =>
      new Promise((resolve) => {
        child.once("exit", () => {
          rmSync(folder, { recursive: true, force: true });
          resolve();
        });
        child.kill("SIGKILL");
      }),
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

/** Reading, test and sending clients of a started chain. */
export function clients(url: string, chainId: number = anvilChain.id) {
  const chain = { ...anvilChain, id: chainId };
  // What is asked again after a time-out may have been done the first time.
  const transport = http(url, { timeout: 120_000 });
  return {
    reader: createPublicClient({ chain, transport, pollingInterval: 20, cacheTime: 0 }),
    tester: createTestClient({ chain, transport, mode: "anvil" }),
    sender: createWalletClient({ chain, transport }),
  };
}

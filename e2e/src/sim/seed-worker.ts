/** Runs seeds in a thread of its own: the cryptography, and what is broken on purpose, are chosen before anything is loaded. */
import { enableCompileCache } from "node:module";
import { parentPort, workerData } from "node:worker_threads";
import { useFastCrypto } from "@lattice/organism/testing/fast-crypto/hooks.ts";
import { LOG_MUTATIONS } from "./log/mutations.ts";
import { MUTATIONS, useMutation } from "./mutations.ts";
import type { SeedOptions } from "./run-seed.ts";
import { shareReading } from "./shared-reading/hooks.ts";

export interface WorkerSetup {
  readonly crypto: "fast" | "real";
  readonly mutation?: string;
  /** One committee and its logs (log/) instead of six. */
  readonly log?: boolean;
}

// A thread is made for every broken build: most of what it loads has been loaded before.
enableCompileCache();
const { crypto, mutation, log } = workerData as WorkerSetup;
if (crypto === "fast") useFastCrypto();
shareReading();
const wanted = [...MUTATIONS, ...LOG_MUTATIONS].find(({ name }) => name === mutation);
if (wanted !== undefined) useMutation(wanted);
// One committee needs none of the six organisms, which take seconds to load.
const runSeed =
  log === true ? (await import("./log/run-log-seed.ts")).runLogSeed : (await import("./run-seed.ts")).runSeed;

parentPort?.on("message", (options: SeedOptions) => {
  const tell = (line: string): void => parentPort?.postMessage({ line });
  runSeed({ ...options, ...(options.tells === true ? { verbose: tell } : {}) }).then(
    (result) => parentPort?.postMessage({ result }),
    (error: unknown) => {
      throw error;
    },
  );
});

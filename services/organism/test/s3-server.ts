/**
 * An S3-compatible server that nobody here wrote (rclone's gofakes3, which verifies signatures), for tests: the binary that
 * `S3_SERVER_BIN` names, else the one in `.tools`, else built there when this machine has Go.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const SOURCE = join(dirname(fileURLToPath(import.meta.url)), "s3-server");
const TOOL = join(SOURCE, "..", "..", "..", "..", ".tools", "s3-server");
const BUILD_DEADLINE_MS = 300_000;

export interface S3Server {
  /** `http://127.0.0.1:port/bucket` */
  readonly url: string;
  stop(): void;
}

export const S3_TEST_CREDENTIALS = { accessKeyId: "archive-test", secretAccessKey: "only-for-this-test" } as const;
const BUCKET = "lattice-archive";

/** @returns the path, or in one line why there is none */
export async function findS3Server(): Promise<{ readonly path: string } | { readonly missing: string }> {
  const chosen = process.env["S3_SERVER_BIN"];
  if (chosen !== undefined && chosen !== "") return { path: chosen };
  if (existsSync(TOOL)) return { path: TOOL };
  const unfinished = `${TOOL}.${process.pid}.new`;
  try {
    mkdirSync(dirname(TOOL), { recursive: true });
    await promisify(execFile)("go", ["build", "-mod=readonly", "-trimpath", "-o", unfinished, "."], {
      cwd: SOURCE,
      timeout: BUILD_DEADLINE_MS,
    });
    renameSync(unfinished, TOOL);
    return { path: TOOL };
  } catch (error) {
    const line = error instanceof Error ? error.message.trim().split("\n").at(-1) : "unknown";
    return {
      missing: `no S3-compatible server: none in S3_SERVER_BIN or .tools, and Go could not build one (${line})`,
    };
  }
}

export async function startS3Server(path: string): Promise<S3Server> {
  const { accessKeyId, secretAccessKey } = S3_TEST_CREDENTIALS;
  const environment = { ...process.env, S3_BUCKET: BUCKET, S3_KEY: accessKeyId, S3_SECRET: secretAccessKey };
  const child = spawn(path, [], { env: environment, stdio: ["ignore", "pipe", "ignore"] });
  const address = await new Promise<string>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the S3 server ended with ${code}`)));
    createInterface({ input: child.stdout }).once("line", resolve);
  });
  return { url: `http://${address}/${BUCKET}`, stop: () => child.kill("SIGKILL") };
}

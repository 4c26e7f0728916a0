/** `npm test`: the gate. Format, lint, types, proto lint and drift, then every test, with one closing line. */
import { spawnSync } from "node:child_process";
import { glob } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runChecks } from "./checks.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

const failed = runChecks(ROOT);
const files: string[] = [];
for await (const file of glob("{proto,services/*,gateway,deploy,e2e}/{src,test}/**/*.test.ts", { cwd: ROOT }))
  files.push(join(ROOT, file));
files.sort();
const tests = spawnSync(
  process.execPath,
  [
    "--disable-warning=ExperimentalWarning",
    "--test",
    `--test-concurrency=${availableParallelism()}`,
    "--test-timeout=300000",
    ...files,
  ],
  { cwd: ROOT, stdio: "inherit", env: process.env },
);
if (failed.length > 0) process.stdout.write(`checks failed: ${failed.join(", ")}\n`);
process.exit(failed.length > 0 || tests.status !== 0 ? 1 : 0);

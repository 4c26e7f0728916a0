/**
 * `npm test`: the gate. Format, lint, types, proto lint and drift; then unit and property tests in parallel; then what
 * starts committees, servers and whole lattices, one file at a time, so that they have the machine to themselves.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { glob } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { runChecks } from "./checks.ts";
import { readArguments } from "./command-line.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const REPORTER = join(ROOT, "e2e", "src", "count-reporter.ts");
/** One test may take this long: the longest, on a machine with nothing else to do, takes two and a half minutes. */
const TEST_TIMEOUT_MS = 1_500_000;

interface Counts {
  readonly passed: number;
  readonly skipped: number;
  readonly failures: readonly string[];
}

function run(name: string, files: readonly string[], concurrency: number, scratch: string): Counts {
  process.stdout.write(`# ${name}: ${files.length} files\n`);
  // Without files node's runner looks for tests by itself.
  if (files.length === 0) return { passed: 0, skipped: 0, failures: [] };
  const result = join(scratch, `${name.replaceAll(" ", "-")}.json`);
  const tests = spawnSync(
    process.execPath,
    [
      "--disable-warning=ExperimentalWarning",
      "--test",
      `--test-concurrency=${concurrency}`,
      `--test-timeout=${TEST_TIMEOUT_MS}`,
      "--test-reporter=dot",
      "--test-reporter-destination=stdout",
      `--test-reporter=${REPORTER}`,
      `--test-reporter-destination=${result}`,
      ...files,
    ],
    { cwd: ROOT, stdio: "inherit", env: process.env },
  );
  try {
    const counts = JSON.parse(readFileSync(result, "utf8")) as Counts;
    const unexplained = tests.status !== 0 && counts.failures.length === 0;
    return unexplained ? { ...counts, failures: [`${name}: the runner ended with ${tests.status}`] } : counts;
  } catch {
    return { passed: 0, skipped: 0, failures: [`${name}: the runner ended with ${tests.status} and no result`] };
  }
}

const { positionals: wanted } = readArguments("usage: npm test [-- PART OF A FILE'S NAME…]", {
  allowPositionals: true,
  options: {},
});
const failedChecks = runChecks(ROOT);
const files: string[] = [];
for await (const file of glob("{proto,services/*,gateway,deploy,e2e}/{src,test}/**/*.test.ts", { cwd: ROOT })) {
  if (wanted.length === 0 || wanted.some((part) => file.includes(part))) files.push(join(ROOT, file));
}
files.sort();
const alone = (file: string): boolean => /\.e2e\.test\.ts$/.test(file) || /^(e2e|deploy)\//.test(relative(ROOT, file));
const scratch = mkdtempSync(join(tmpdir(), "lattice-tests-"));
const phases = [
  run(
    "unit and property tests",
    files.filter((file) => !alone(file)),
    availableParallelism(),
    scratch,
  ),
  run("committees, servers, lattices", files.filter(alone), 1, scratch),
];
rmSync(scratch, { recursive: true, force: true });

const failures = [...failedChecks.map((check) => `check: ${check}`), ...phases.flatMap((phase) => phase.failures)];
const passed = phases.reduce((sum, phase) => sum + phase.passed, 0);
const skipped = phases.reduce((sum, phase) => sum + phase.skipped, 0);
for (const failure of failures) process.stdout.write(`failed: ${failure}\n`);
process.stdout.write(`${passed} passed, ${failures.length} failed, ${skipped} skipped\n`);
process.exit(failures.length === 0 ? 0 : 1);

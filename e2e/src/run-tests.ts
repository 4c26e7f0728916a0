/**
 * `npm test`: the gate. Format, lint, types, proto lint and drift; then unit and property tests in parallel; then what
 * starts committees and servers, two files at a time, as they mostly wait; then whole lattices and simulations, which
 * use every processor, one at a time.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { glob } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { COMPILE_CACHE } from "@lattice/deploy/local/compile-cache.ts";
import { runChecks } from "./checks.ts";
import { readArguments, wholeNumber } from "./command-line.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const REPORTER = join(ROOT, "e2e", "src", "count-reporter.ts");
/** One test may take this long: the longest, on a machine with nothing else to do, takes two and a half minutes. */
const TEST_TIMEOUT_MS = 1_500_000;

const COMMITTEES_AT_ONCE = 2;
/** So many of a phase's files are named, those that took longest. */
const SLOWEST = 8;

interface Failure {
  /** Absolute; empty when it is the runner itself that failed. */
  readonly file: string;
  readonly test: string;
}
interface Counts {
  readonly passed: number;
  readonly skipped: number;
  readonly failures: readonly Failure[];
  /** By file. */
  readonly seconds: Readonly<Record<string, number>>;
}
const NONE: Counts = { passed: 0, skipped: 0, failures: [], seconds: {} };

function run(name: string, files: readonly string[], concurrency: number, scratch: string): Counts {
  process.stdout.write(`# ${name}: ${files.length} files\n`);
  // Without files node's runner looks for tests by itself.
  if (files.length === 0) return NONE;
  const began = performance.now();
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
    // Two hundred processes, and those that they start, load the same modules.
    { cwd: ROOT, stdio: "inherit", env: { ...process.env, NODE_COMPILE_CACHE: COMPILE_CACHE } },
  );
  try {
    const counts = JSON.parse(readFileSync(result, "utf8")) as Counts;
    const slowest = Object.entries(counts.seconds).sort(([, a], [, b]) => b - a);
    const longest = slowest.slice(0, SLOWEST).map(([file, took]) => `${relative(ROOT, file)} ${took.toFixed(0)} s`);
    process.stdout.write(
      `# took ${((performance.now() - began) / 1000).toFixed(0)} s; longest: ${longest.join(", ")}\n`,
    );
    const unexplained = tests.status !== 0 && counts.failures.length === 0;
    return unexplained ? { ...counts, failures: [ended(name, tests.status)] } : counts;
  } catch {
    return { ...NONE, failures: [ended(name, tests.status)] };
  }
}

function ended(name: string, status: number | null): Failure {
  return { file: "", test: `${name}: the runner ended with ${status} and named no test` };
}

const USAGE = `usage: npm test [-- [--again N] PART OF A FILE'S NAME…]
--again N: up to N files with a failed test are run once more, alone; a test that passes then is named as unsteady`;
const { positionals: wanted, values } = readArguments(USAGE, {
  allowPositionals: true,
  options: { again: { type: "string", default: "0" } },
});
const again = wholeNumber(USAGE, "again", values.again, 0);
const failedChecks = runChecks(ROOT);
const files: string[] = [];
for await (const file of glob("{proto,services/*,gateway,deploy,e2e}/{src,test}/**/*.test.ts", { cwd: ROOT })) {
  if (wanted.length === 0 || wanted.some((part) => file.includes(part))) files.push(join(ROOT, file));
}
files.sort();
function kindOf(file: string): "unit" | "committee" | "lattice" {
  const path = relative(ROOT, file);
  if (/^e2e\/.*\.(e2e|sim)\.test\.ts$/.test(path)) return "lattice";
  return /\.e2e\.test\.ts$/.test(path) || /^(e2e|deploy)\//.test(path) ? "committee" : "unit";
}
const of = (kind: ReturnType<typeof kindOf>): string[] => files.filter((file) => kindOf(file) === kind);
const scratch = mkdtempSync(join(tmpdir(), "lattice-tests-"));
const phases = [
  run("unit and property tests", of("unit"), availableParallelism(), scratch),
  run("committees and servers", of("committee"), COMMITTEES_AT_ONCE, scratch),
  run("lattices and seeds", of("lattice"), 1, scratch),
];
const failedTests = phases.flatMap((phase) => phase.failures);
const failedFiles = [...new Set(failedTests.map(({ file }) => file))].sort();
const second =
  failedFiles.length > 0 && failedFiles.length <= again && !failedFiles.includes("")
    ? run("once more", failedFiles, 1, scratch)
    : undefined;
rmSync(scratch, { recursive: true, force: true });

const named = ({ file, test }: Failure): string => (file === "" ? test : `${relative(ROOT, file)}: ${test}`);
const failures = [
  ...failedChecks.map((check) => `check: ${check}`),
  ...(second === undefined ? failedTests : second.failures).map(named),
];
const unsteady = second === undefined ? [] : failedTests.map(named).filter((test) => !failures.includes(test));
const passed = phases.reduce((sum, phase) => sum + phase.passed, unsteady.length);
const skipped = phases.reduce((sum, phase) => sum + phase.skipped, 0);
for (const test of unsteady) process.stdout.write(`unsteady, failed and then passed: ${test}\n`);
for (const failure of failures) process.stdout.write(`failed: ${failure}\n`);
process.stdout.write(`${passed} passed, ${failures.length} failed, ${skipped} skipped\n`);
process.exit(failures.length === 0 ? 0 : 1);

/** `npm run e2e -- <scenario> [--json] [--slot-ms N] [--keep]`, `npm run e2e -- list`; `npm run e2e -- faults …`. */
import { onInterrupt } from "@lattice/deploy/local/session.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readArguments, usageError } from "./command-line.ts";
import { runFaults } from "./faults/run-faults.ts";
import { SCENARIOS } from "./scenarios/all.ts";
import { type CheckResult, ScenarioContext } from "./scenarios/scenario.ts";

const USAGE = `usage: npm run e2e -- <scenario> [--json] [--slot-ms N] [--keep]
       npm run e2e -- list [--json]
       npm run e2e -- faults [--list] [--cell NAME…] …
One line a check; --keep leaves the lattice's folder. Exit code 0 when all checks passed, 1 when one failed.`;
const SLOT_MS = 4000;

if (process.argv[2] === "faults") process.exit(await runFaults(process.argv.slice(3)));

const { values, positionals } = readArguments(USAGE, {
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
    "slot-ms": { type: "string", default: String(SLOT_MS) },
  },
});
const [name] = positionals;
if (name === undefined || positionals.length > 1) usageError(USAGE, "one scenario is expected");
const slotMs = Number(values["slot-ms"]);
if (!Number.isInteger(slotMs) || slotMs < 1000 || slotMs > 60_000)
  usageError(USAGE, "--slot-ms: 1000 to 60000 is expected");

if (name === "list") {
  if (values.json) {
    const rows = SCENARIOS.map(({ name: id, description }) => ({ name: id, description }));
    process.stdout.write(`${JSON.stringify({ schema_version: 1, scenarios: rows }, null, 2)}\n`);
  } else {
    const width = Math.max(...SCENARIOS.map((each) => each.name.length));
    for (const each of SCENARIOS) process.stdout.write(`${each.name.padEnd(width)}  ${each.description}\n`);
  }
  process.exit(EXIT.ok);
}

const scenario = SCENARIOS.find((each) => each.name === name);
if (scenario === undefined) usageError(USAGE, `no scenario ${name}; \`npm run e2e -- list\` names them`);

const startedAtMs = Date.now();
const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};
const show = (line: string): void => {
  (values.json ? process.stderr : process.stdout).write(`${line}\n`);
};
const abort = new AbortController();
onInterrupt(abort, say);
const context = new ScenarioContext({
  slotMs,
  say,
  signal: abort.signal,
  onCheck({ name: what, ok, detail }: CheckResult) {
    show(ok ? `✓ ${what}` : `× ${what}${detail === undefined || detail === "" ? "" : `: ${detail}`}`);
  },
});
show(`${scenario.name}: ${scenario.description}`);
try {
  await scenario.run(context);
} catch (error) {
  context.check("the scenario ran to its end", false, error instanceof Error ? error.message : String(error));
  if (process.env["DEBUG"] !== undefined && error instanceof Error) say(error.stack ?? "");
} finally {
  await context.end(values.keep);
}
const failed = context.results.filter(({ ok }) => !ok).length;
const passed = context.results.length - failed;
if (values.json) {
  const report = {
    schema_version: 1,
    scenario: scenario.name,
    passed,
    failed,
    duration_ms: Date.now() - startedAtMs,
    checks: context.results,
  };
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
}
show(`${passed} passed, ${failed} failed`);
process.exit(abort.signal.aborted ? EXIT.interrupted : failed === 0 && passed > 0 ? EXIT.ok : EXIT.failed);

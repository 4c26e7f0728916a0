/**
 * `npm run fuzz [-- --cases N] [--target PART] [--seed S] [--case N] [--json]`: changed bytes against every parser.
 * Exit codes: 0 nothing found, 1 findings, 2 usage.
 */
import { parseArgs } from "node:util";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { type Report, runTarget } from "./fuzz/run.ts";
import { allTargets } from "./fuzz/targets/all.ts";

function natural(text: string, name: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) {
    process.stderr.write(`fuzz: --${name}: a number expected\n`);
    process.exit(EXIT.usage);
  }
  return value;
}

function options() {
  try {
    return parseArgs({
      options: {
        cases: { type: "string", default: "1000" },
        target: { type: "string", default: "" },
        seed: { type: "string", default: "1" },
        case: { type: "string" },
        json: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    process.stderr.write(`fuzz: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(EXIT.usage);
  }
}

const { cases, target: part, seed, case: only, json } = options();
const count = natural(cases, "cases");
const single = only === undefined ? {} : { only: natural(only, "case") };
const targets = (await allTargets()).filter(({ name }) => name.includes(part));
if (targets.length === 0) {
  process.stderr.write(`fuzz: no target is called ${part}\n`);
  process.exit(EXIT.usage);
}
const reports: Report[] = [];
for (const target of targets) {
  const report = await runTarget(target, { cases: count, seed, ...single });
  reports.push(report);
  const { refused, accepted, seconds, findings } = report;
  const line = `${report.cases} cases, ${refused} refused, ${accepted} accepted, ${seconds.toFixed(1)} s`;
  process.stderr.write(`${findings.length === 0 ? "ok  " : "FAIL"} ${target.name}: ${line}\n`);
  for (const { case: n, problem, input } of findings.slice(0, 5)) {
    process.stderr.write(`  case ${n}: ${problem}\n  input: ${input.slice(0, 600)}\n`);
    process.stderr.write(`  again: npm run fuzz -- --target ${target.name} --seed ${seed} --case ${n}\n`);
  }
}
const found = reports.reduce((sum, { findings }) => sum + findings.length, 0);
if (json) process.stdout.write(`${JSON.stringify({ schema_version: 1, seed, found, targets: reports }, null, 2)}\n`);
process.exit(found === 0 ? EXIT.ok : EXIT.failed);

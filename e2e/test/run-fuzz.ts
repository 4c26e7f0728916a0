/**
 * `npm run fuzz`: changed bytes against every parser.
 * Exit codes: 0 nothing found, 1 findings, 2 usage.
 */
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readArguments, usageError, wholeNumber } from "../src/command-line.ts";
import { type Report, runTarget } from "./fuzz/run.ts";
import { allTargets } from "./fuzz/targets/all.ts";

const USAGE = `usage: npm run fuzz -- [--cases N] [--target PART] [--seed S] [--case N] [--json]
       npm run fuzz -- --list
--target: all targets with this part in their name; --case: this one case of each. A finding prints how to repeat it.`;

const { values } = readArguments(USAGE, {
  options: {
    cases: { type: "string", default: "1000" },
    target: { type: "string", default: "" },
    seed: { type: "string", default: "1" },
    case: { type: "string" },
    list: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const { target: part, seed, case: only, json } = values;
const count = wholeNumber(USAGE, "cases", values.cases, 1);
const single = only === undefined ? {} : { only: wholeNumber(USAGE, "case", only, 0) };
const targets = (await allTargets()).filter(({ name }) => name.includes(part));
if (targets.length === 0) usageError(USAGE, `no target is called ${part}`);
if (values.list) {
  process.stdout.write(targets.map(({ name }) => `${name}\n`).join(""));
  process.exit(EXIT.ok);
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

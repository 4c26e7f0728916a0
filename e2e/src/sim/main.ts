/** `npm run sim`: many seeds, or one again. */
import { availableParallelism } from "node:os";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readArguments, usageError, wholeNumber } from "../command-line.ts";
import { LOG_SLOTS, logPlanOf, type Plan, planOf, runSeeds, SeedThread } from "./pool.ts";
import type { SeedResult } from "./run-seed.ts";

const USAGE = `usage: npm run sim -- [--seeds N] [--from S] [--slots K] [--jobs J] [--mode log] [--json]
       npm run sim -- --seed S [--slots K] [--mode safety|liveness|calm|lying|log|log-calm] [--members N] [--verbose] [--json]
--mode log: one committee and its logs instead of six, many seeds in little time.
One line a seed; the last one sums up. A seed replays exactly: same slots, same digest.`;

const SLOTS = 50;
const MODES = ["safety", "liveness", "calm", "lying", "log", "log-calm"] as const;

function describe({ seed, mode, slots, broken, digest, wallMs }: SeedResult): string {
  const speed = `${(slots / (wallMs / 1000)).toFixed(0)} slots/s`;
  if (broken === undefined) return `seed ${seed}  ${mode}  ${slots} slots  ${digest.slice(0, 16)}  ${speed}`;
  const how = mode.startsWith("log") ? ` --mode ${mode}` : ` --slots ${slots}`;
  return `seed ${seed}  ${mode}  BROKEN  ${broken.checker}: ${broken.message}\n  replay: npm run sim -- --seed ${seed}${how}`;
}

const { values } = readArguments(USAGE, {
  options: {
    seeds: { type: "string", default: "20" },
    seed: { type: "string" },
    from: { type: "string", default: "1" },
    slots: { type: "string" },
    jobs: { type: "string", default: String(availableParallelism()) },
    mode: { type: "string" },
    members: { type: "string" },
    verbose: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});

function numberOf(name: string, text: string): number {
  return wholeNumber(USAGE, name, text, 1);
}

async function main(): Promise<number> {
  const log = values.mode === "log" || values.mode === "log-calm";
  const slots = numberOf("slots", values.slots ?? String(log ? LOG_SLOTS : SLOTS));
  const one = values.seed === undefined ? undefined : numberOf("seed", values.seed);
  const count = numberOf("seeds", values.seeds);
  const from = numberOf("from", values.from);
  const jobs = numberOf("jobs", values.jobs);
  const mode = MODES.find((known) => known === values.mode);
  if (values.mode !== undefined && mode === undefined)
    usageError(USAGE, `--mode: one of ${MODES.join(", ")} is expected`);
  if (one === undefined && mode !== undefined && mode !== "log")
    usageError(USAGE, "--mode: many seeds are mixed, or log");
  const planFor = (seed: number): Plan => (log ? logPlanOf(seed, slots) : planOf(seed, slots));
  const results: SeedResult[] = [];
  const each = (result: SeedResult): void => {
    results.push(result);
    process.stdout.write(values.json ? `${JSON.stringify(result)}\n` : `${describe(result)}\n`);
  };
  const startedAt = performance.now();
  if (one !== undefined) {
    const plan = planFor(one);
    const thread = new SeedThread({ crypto: plan.crypto, log: plan.log === true });
    const options = {
      ...plan.options,
      ...(mode === undefined ? {} : { mode }),
      ...(values.members === undefined ? {} : { members: numberOf("members", values.members) }),
      tells: values.verbose,
    };
    each(await thread.run(options, (line) => process.stderr.write(`${line}\n`)));
    await thread.close();
    if (!values.json) {
      for (const [title, counts] of [
        ["did", results[0]?.acts],
        ["certified", results[0]?.outcomes],
      ] as const) {
        process.stdout.write(
          `  ${title}: ${Object.entries(counts ?? {})
            .map(([name, n]) => `${name} ${n}`)
            .join(", ")}\n`,
        );
      }
    }
  } else {
    const seeds = Array.from({ length: count }, (_, at) => from + at);
    await runSeeds(seeds, planFor, jobs, each);
  }
  const broken = results.filter((result) => result.broken !== undefined);
  if (!values.json) {
    const seconds = (performance.now() - startedAt) / 1000;
    const all = results.reduce((sum, result) => sum + result.slots, 0);
    process.stdout.write(
      `${results.length} seeds, ${all} slots in ${seconds.toFixed(1)} s (${(all / seconds).toFixed(0)} slots/s), ${broken.length} broken\n`,
    );
  }
  return broken.length === 0 ? EXIT.ok : EXIT.failed;
}

process.exitCode = await main();

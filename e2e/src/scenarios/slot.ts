/** The whole way in one process: the smallest run that shows every property. */
import { join } from "node:path";
import { runSlots } from "@lattice/deploy/local/demo.ts";
import type { Mode } from "@lattice/deploy/local/lattice.ts";
import type { Scenario, ScenarioContext } from "./scenario.ts";

const SLOTS = 5;

/** Runs some slots and notes every invariant that the separate program judged. */
export async function runAndJudge(context: ScenarioContext, mode: Mode): Promise<void> {
  const { report, inTime } = await runSlots({
    slots: SLOTS,
    slotMs: context.slotMs,
    mode,
    directory: join(context.directory, "lattice"),
    say: context.say,
    ...(context.signal === undefined ? {} : { signal: context.signal }),
  });
  context.check("every slot, finality and a claim came in time", inTime);
  context.check(`${SLOTS} slots are reported`, report.slots.length === SLOTS, `${report.slots.length}`);
  const startup = report.startup_ms ?? Number.POSITIVE_INFINITY;
  context.check("a first complete slot was seen", Number.isFinite(startup), `after ${startup} ms`);
  for (const [name, holds] of Object.entries(report.invariants)) {
    context.check(
      `invariant ${name}`,
      holds,
      report.violations.find((line) => line.startsWith(`${name}:`)),
    );
  }
}

export const scenario: Scenario = {
  name: "slot",
  description: "all members in one process on the embedded log: five slots, every invariant",
  run: (context) => runAndJudge(context, "embedded"),
};

/** Scenarios about the broker: cells of the fault matrix, run together, every check of theirs one of the scenario's. */
import type { Cell } from "../faults/cell.ts";
import { resultLine } from "../faults/cell-report.ts";
import { BASELINE, CELLS } from "../faults/cells.ts";
import { runCells } from "../faults/run-cells.ts";
import type { Scenario } from "./scenario.ts";

const SEED = 7;
const RESUMED_MS = 1000;

function ofCells(name: string, description: string, chosen: (cell: Cell) => boolean): Scenario {
  return {
    name,
    description,
    async run(context) {
      const cells = [BASELINE, ...CELLS.filter(chosen)];
      const {
        problems,
        acknowledged,
        cells: results,
      } = await runCells(context, cells, {
        seed: SEED,
        smallDisks: cells.some(({ smallDisks }) => smallDisks === true),
        onResult: (result) => context.say(resultLine(result)),
      });
      for (const { cell, injects, result, reasons, resumedAfterMs } of results) {
        context.check(`${cell}: ${injects}`, result === "passed", reasons.join("; "));
        if (resumedAfterMs === null) continue;
        const name = `${cell}: every member of the ledger's log consumes again within ${RESUMED_MS} ms of a leader`;
        context.check(name, resumedAfterMs <= RESUMED_MS, `${resumedAfterMs} ms`);
      }
      context.check("every cell was run", results.length === cells.length, `${results.length} of ${cells.length}`);
      context.check(
        "nothing acknowledged is lost, doubled or reordered; the invariants hold",
        problems.length === 0,
        problems.join("; "),
      );
      context.say(`${acknowledged} acknowledged operations in the ledger`);
    },
  };
}

export const natsLeaderKill = ofCells(
  "nats-leader-kill",
  "kill -9 and SIGSTOP of each nats-server of three in turn, stream leaders among them; a ledger of every acknowledged operation",
  ({ name }) => /^(kill|stop)-nats-/.test(name),
);

export const natsAllDown = ofCells(
  "nats-all-down",
  "two, then all three nats-servers killed and started again; a ledger of every acknowledged operation",
  ({ name }) => name === "nats-only-1" || name === "nats-all-killed",
);

export const diskFull = ofCells(
  "disk-full",
  "the disk of one nats-server, of all three, of a member is full and then not: no false acknowledgement, all recovers",
  ({ name }) => name.startsWith("disk-full-"),
);

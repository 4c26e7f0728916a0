/**
 * The fault matrix: each cell makes one thing go wrong in the running lattice, holds it for some slots and mends it. What
 * must hold is the same for all and is judged elsewhere (`run-cells.ts`); a cell says only how soon slots go through again.
 */
import type { Cell } from "./cell.ts";
import { diskCells } from "./cells/disks.ts";
import { linkCells } from "./cells/links.ts";
import { killCells } from "./cells/members.ts";
import { natsCells } from "./cells/nats-servers.ts";
import { partitionCells } from "./cells/partitions.ts";
import { timeCells } from "./cells/time.ts";

/** Nothing goes wrong in it: what a machine loses by itself, for comparison. */
export const BASELINE: Cell = {
  name: "baseline",
  family: "F0",
  injects: "nothing: what this machine loses without a fault",
  holdSlots: 5,
  bound: 4,
  async inject() {
    return () => undefined;
  },
};

/** Every cell, by family. */
export const CELLS: readonly Cell[] = [
  BASELINE,
  ...killCells(),
  ...natsCells(),
  ...partitionCells(),
  ...linkCells(),
  ...timeCells(),
  ...diskCells(),
];

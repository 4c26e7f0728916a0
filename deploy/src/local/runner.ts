/** Who runs the lattice in a folder: noted there, so that nobody starts it a second time beside it. */
import { existsSync, readFileSync } from "node:fs";
import { z } from "zod";
import { writeWhole } from "../cli/whole-file.ts";
import type { Layout } from "./layout.ts";

/** A process id alone may be somebody else's by now. */
const PROCESS = z.object({ pid: z.number().int().positive(), since: z.string() });
const RUNNER = z.object({ runner: PROCESS, guard: PROCESS.optional() });
type Process = z.infer<typeof PROCESS>;

/** In clock ticks since the machine started; undefined when there is no such process, or it has ended and nobody has asked how. */
function sinceOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The second field is the program's name in brackets, and may hold any character.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? undefined : fields[19];
}

const processOf = (pid: number | undefined): Process | undefined => {
  const since = pid === undefined ? undefined : sinceOf(pid);
  return pid === undefined || since === undefined ? undefined : { pid, since };
};
const runs = (process: Process | undefined): process is Process =>
  process !== undefined && sinceOf(process.pid) === process.since;

/** Notes that this process runs the lattice. @param guardPid of what ends its processes after it */
export function noteRunner(layout: Layout, guardPid: number | undefined): void {
  const runner = processOf(process.pid);
  if (runner === undefined) return;
  const guard = processOf(guardPid);
  const note: z.infer<typeof RUNNER> = { runner, ...(guard === undefined ? {} : { guard }) };
  writeWhole(layout.runner, `${JSON.stringify(note)}\n`, 0o600);
}

/** Process ids of whoever runs the lattice now, and of what still ends the processes of one that was killed. */
export function runnerOf(layout: Layout): { readonly runner?: number; readonly guard?: number } {
  if (!existsSync(layout.runner)) return {};
  const { runner, guard } = RUNNER.parse(JSON.parse(readFileSync(layout.runner, "utf8")));
  if (runner.pid === process.pid) return {};
  return {
    ...(runs(runner) ? { runner: runner.pid } : {}),
    ...(runs(guard) ? { guard: guard.pid } : {}),
  };
}

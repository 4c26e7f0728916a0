/** Resident memory of processes, as the kernel counts it. */
import { readFileSync } from "node:fs";

/** Resident set of a process in MB (10⁶ bytes); undefined where there is no /proc or no such process. */
export function residentMb(pid: number | undefined): number | undefined {
  if (pid === undefined) return undefined;
  try {
    const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return kib === undefined ? undefined : Math.round((Number(kib) * 1024) / 1e5) / 10;
  } catch {
    return undefined;
  }
}

/** By name, those that could be read. */
export function residentMbOf(pids: Iterable<readonly [name: string, pid: number | undefined]>): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [name, pid] of pids) {
    const mb = residentMb(pid);
    if (mb !== undefined) found[name] = mb;
  }
  return found;
}

/** Looks for bytes in the memory of running processes (Linux, as their user or root). */
import { closeSync, openSync, readFileSync, readSync } from "node:fs";

const CHUNK_BYTES = 8 << 20;

/** Which of `needles` are in the writable memory of process `pid`; undefined where that may not be read. */
export function scanMemory(pid: number, needles: ReadonlyMap<string, readonly Buffer[]>): Set<string> | undefined {
  const longest = Math.max(...[...needles.values()].flat().map((each) => each.length));
  const found = new Set<string>();
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  let memory: number;
  let maps: string;
  try {
    maps = readFileSync(`/proc/${pid}/maps`, "utf8");
    memory = openSync(`/proc/${pid}/mem`, "r");
  } catch {
    return undefined;
  }
  try {
    for (const line of maps.split("\n")) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      if (from === undefined || to === undefined) continue;
      const end = BigInt(`0x${to}`);
      for (let at = BigInt(`0x${from}`); at < end; ) {
        const length = Number(end - at < BigInt(CHUNK_BYTES) ? end - at : BigInt(CHUNK_BYTES));
        let read = 0;
        try {
          read = readSync(memory, chunk, 0, length, at);
        } catch {
          // Reserved and never touched: there is nothing to read.
        }
        const bytes = chunk.subarray(0, read);
        for (const [name, forms] of needles) {
          if (!found.has(name) && forms.some((form) => bytes.includes(form))) found.add(name);
        }
        if (read < length || at + BigInt(read) >= end) break;
        at += BigInt(read - longest);
      }
    }
  } finally {
    closeSync(memory);
    chunk.fill(0);
  }
  return found;
}

/** Files that are there whole or not at all: a disk that fills up leaves nothing that looks like one. */
import { randomBytes } from "node:crypto";
import { renameSync, rmSync, writeFileSync } from "node:fs";

/**
 * @param mode of a new file
 * @param kind `new`: refused with EEXIST when there is one already
 * @throws what the file system says, with `path` as its path
 */
export function writeWhole(path: string, content: string | Uint8Array, mode = 0o644, kind?: "new"): void {
  const unfinished = kind === "new" ? path : `${path}.${randomBytes(6).toString("hex")}.new`;
  try {
    writeFileSync(unfinished, content, { mode, flag: "wx", flush: true });
    if (unfinished !== path) renameSync(unfinished, path);
  } catch (error) {
    const problem = error as NodeJS.ErrnoException;
    if (problem.code !== "EEXIST") rmSync(unfinished, { force: true });
    throw Object.assign(problem, { path });
  }
}

import { cp, rm } from "node:fs/promises";

/** A copy of a folder that somebody writes to meanwhile: where a file vanishes under it, it begins again. */
export async function copyFolder(from: string, to: string): Promise<void> {
  for (;;) {
    try {
      await cp(from, to, { recursive: true });
      return;
    } catch (error) {
      const { code, path } = error as NodeJS.ErrnoException;
      if (code !== "ENOENT" || path === from) throw error;
      await rm(to, { recursive: true, force: true });
    }
  }
}

/** Files that are there whole or as they were before, also after a crash, on a full disk, or for whoever looks meanwhile. */
import { randomBytes } from "node:crypto";
import { chmod, type FileHandle, link, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { syncDirectory } from "./append-file.ts";

export interface WholeFile {
  /** Of the file; 0600 by default. */
  readonly mode?: number;
  /**
   * Several processes may write it at the same time: what is not finished gets a name of its own, which a crash leaves behind.
   * Otherwise that name is fixed and taken over by the next try, so that no secret is left lying about; not two at a time.
   */
  readonly shared?: boolean;
  /** Refused with EEXIST when there is one already. */
  readonly onlyNew?: boolean;
}

/**
 * Writes a file and resolves once it and its name are on disk.
 * @throws what the file system says, with `path` as its path; nothing half-written is left then
 */
export async function writeWholeFile(
  path: string,
  content: string | Uint8Array | readonly Uint8Array[],
  { mode = 0o600, shared = false, onlyNew = false }: WholeFile = {},
): Promise<void> {
  const unfinished = shared ? `${path}.${randomBytes(6).toString("hex")}.new` : `${path}.new`;
  if (!shared) await rm(unfinished, { force: true });
  try {
    const file = await open(unfinished, "wx", mode);
    try {
      for (const part of typeof content === "string" || content instanceof Uint8Array ? [content] : content)
        await file.writeFile(part);
      await file.sync();
    } finally {
      await file.close();
    }
    // A name that is taken is not taken over by a link, as it is by a renaming.
    if (onlyNew) await link(unfinished, path);
    else await rename(unfinished, path);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw Object.assign(error as NodeJS.ErrnoException, { path });
  }
  if (onlyNew) await rm(unfinished);
  await syncDirectory(dirname(path));
}

/**
 * Zeros over the content, then no name: what a file held is not left in free blocks. Best effort: somebody else's file is
 * only removed, and a file system that copies on write, and flash, may keep old blocks. @throws what the file system says
 */
export async function wipeFile(path: string): Promise<void> {
  await wiped(await openToWipe(path));
  await rm(path);
}

/** As `writeWholeFile`, and zeros over what stood there before. A crash in between leaves that in free blocks. */
export async function replaceAndWipe(path: string, content: string, mode: number): Promise<void> {
  const before = await openToWipe(path);
  try {
    await writeWholeFile(path, content, { mode });
  } catch (error) {
    await before?.close();
    throw error;
  }
  await wiped(before);
}

/** Undefined for a file that this user may not write. */
async function openToWipe(path: string): Promise<FileHandle | undefined> {
  try {
    // Secrets are read-only, also for their owner.
    await chmod(path, 0o600);
    return await open(path, "r+");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EPERM" && code !== "EACCES") throw error;
    return undefined;
  }
}

async function wiped(file: FileHandle | undefined): Promise<void> {
  if (file === undefined) return;
  try {
    const { size } = await file.stat();
    await file.write(new Uint8Array(size), 0, size, 0);
    await file.sync();
  } finally {
    await file.close();
  }
}

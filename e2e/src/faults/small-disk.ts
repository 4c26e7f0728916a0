/** A disk that can be filled: a tmpfs of a given size, where this user may mount one. */
import { execFile } from "node:child_process";
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const BLOCK = Buffer.alloc(1024 * 1024);

export class SmallDisk {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** @returns undefined where mounting is not permitted */
  static async mount(path: string, megabytes: number): Promise<SmallDisk | undefined> {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    try {
      await run("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m,mode=0700`, "lattice-faults", path]);
      return new SmallDisk(path);
    } catch {
      return undefined;
    }
  }

  get #filler(): string {
    return join(this.path, "filler");
  }

  /** Leaves not a block free. @returns bytes that were taken */
  fill(): number {
    const file = openSync(this.#filler, "a");
    let taken = 0;
    try {
      for (let size = BLOCK.length; size >= 4096; size /= 2) {
        try {
          for (;;) taken += writeSync(file, BLOCK, 0, size);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
        }
      }
    } finally {
      closeSync(file);
    }
    return taken;
  }

  free(): void {
    rmSync(this.#filler, { force: true });
  }

  async unmount(): Promise<void> {
    await run("umount", ["-l", this.path]).catch(() => undefined);
  }
}

/**
 * What a steward must not forget: which standbys it knew before their seat was blocked, and which ceremony it has begun for
 * an epoch and its first slot, so that it never takes part in two. Nothing in it is secret.
 */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { parseFile } from "../ceremony/founding-file.ts";

const FILE = z.strictObject({
  version: z.literal(1),
  /** Digests of standbys. */
  standbys: z.array(z.string()),
  /** Ceremony ids by `<epoch>/<first slot>`. */
  begun: z.record(z.string(), z.string()),
});

/** Replaces a file in one step. */
export function replaceFile(path: string, content: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  rmSync(`${path}.new`, { force: true });
  writeFileSync(`${path}.new`, content, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}

export class StewardMemory {
  readonly #path: string;
  readonly #standbys: Set<string>;
  readonly #begun: Map<string, string>;

  /** @throws CeremonyProblem */
  constructor(directory: string) {
    this.#path = join(directory, "steward.json");
    const found = existsSync(this.#path) ? parseFile(FILE, this.#path, "steward's memory") : undefined;
    this.#standbys = new Set(found?.standbys);
    this.#begun = new Map(Object.entries(found?.begun ?? {}));
  }

  knows(standby: string): boolean {
    return this.#standbys.has(standby);
  }

  remember(standby: string): void {
    if (this.#standbys.has(standby)) return;
    this.#standbys.add(standby);
    this.#write();
  }

  /** False when another ceremony was begun for this epoch and slot. */
  mayBegin(epoch: bigint, slot: bigint, ceremony: string): boolean {
    const begun = this.#begun.get(`${epoch}/${slot}`);
    return begun === undefined || begun === ceremony;
  }

  begin(epoch: bigint, slot: bigint, ceremony: string): void {
    const name = `${epoch}/${slot}`;
    if (this.#begun.get(name) === ceremony) return;
    this.#begun.set(name, ceremony);
    for (const each of this.#begun.keys()) if (BigInt(each.split("/")[0] ?? 0) < epoch) this.#begun.delete(each);
    this.#write();
  }

  #write(): void {
    const begun = Object.fromEntries(this.#begun);
    replaceFile(this.#path, `${JSON.stringify({ version: 1, standbys: [...this.#standbys].sort(), begun })}\n`);
  }
}

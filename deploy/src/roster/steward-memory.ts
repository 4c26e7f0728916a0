/**
 * What a steward must not forget: which standbys it knew before their seat was blocked, and which ceremony it has begun for
 * an epoch and its first slot, so that it never takes part in two. Nothing in it is secret.
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
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

/** Replaces a file in one step; on disk, with its name, when it returns. */
export function replaceFile(path: string, content: string): void {
  const folder = dirname(path);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  rmSync(`${path}.new`, { force: true });
  writeFileSync(`${path}.new`, content, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
  const directory = openSync(folder, "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

export class StewardMemory {
  readonly #path: string;
  #standbys: ReadonlySet<string>;
  #begun: ReadonlyMap<string, string>;

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
    if (!this.#standbys.has(standby)) this.#keep(new Set([...this.#standbys, standby]), this.#begun);
  }

  /** False when another ceremony was begun for this epoch and slot. */
  mayBegin(epoch: bigint, slot: bigint, ceremony: string): boolean {
    const begun = this.#begun.get(`${epoch}/${slot}`);
    return begun === undefined || begun === ceremony;
  }

  begin(epoch: bigint, slot: bigint, ceremony: string): void {
    const name = `${epoch}/${slot}`;
    if (this.#begun.get(name) === ceremony) return;
    const begun = new Map(this.#begun).set(name, ceremony);
    for (const each of begun.keys()) if (BigInt(each.split("/")[0] ?? 0) < epoch) begun.delete(each);
    this.#keep(this.#standbys, begun);
  }

  /** Nothing counts as remembered before it is on disk: what a full one does not take is tried again. */
  #keep(standbys: ReadonlySet<string>, begun: ReadonlyMap<string, string>): void {
    const file = { version: 1, standbys: [...standbys].sort(), begun: Object.fromEntries(begun) };
    replaceFile(this.#path, `${JSON.stringify(file)}\n`);
    this.#standbys = standbys;
    this.#begun = begun;
  }
}

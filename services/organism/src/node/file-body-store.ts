/** Bodies on disk, one file each, named by slot and hash; slots far below the newest are removed. */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { equalBytes, toHex } from "../codec/codec.ts";
import { blake3 } from "../crypto/hash.ts";
import type { BodyStore } from "../service.ts";

/** Slots whose bodies are kept. */
const SLOTS_KEPT = 256n;
const MEMORY_BYTES_MAX = 16 * 1024 * 1024;

export class FileBodyStore implements BodyStore {
  readonly #directory: string;
  readonly #names = new Map<string, string>();
  readonly #landed = new Set<bigint>();
  readonly #memory = new Map<string, Uint8Array>();
  #memoryBytes = 0;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async open(parent: string): Promise<FileBodyStore> {
    const directory = join(parent, "bodies");
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const store = new FileBodyStore(directory);
    for (const name of await readdir(directory)) {
      const [slot, hash] = name.split(".");
      if (slot === undefined || hash === undefined || name.endsWith(".new")) continue;
      if (hash === "landed") store.#landed.add(BigInt(slot));
      else store.#names.set(hash, name);
    }
    return store;
  }

  async put(slot: bigint, body: Uint8Array): Promise<Uint8Array> {
    const hash = blake3(body);
    const key = toHex(hash);
    this.#remember(key, body);
    if (!this.#names.has(key)) {
      const name = `${slot}.${key}`;
      this.#names.set(key, name);
      await this.#write(name, body);
    }
    return hash;
  }

  #remember(key: string, body: Uint8Array): void {
    if (this.#memory.has(key)) return;
    this.#memory.set(key, body.slice());
    this.#memoryBytes += body.length;
    for (const [oldest, bytes] of this.#memory) {
      if (this.#memoryBytes <= MEMORY_BYTES_MAX || oldest === key) break;
      this.#memory.delete(oldest);
      this.#memoryBytes -= bytes.length;
    }
  }

  async #write(name: string, body: Uint8Array): Promise<void> {
    const path = join(this.#directory, name);
    await writeFile(`${path}.new`, body, { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  async get(hash: Uint8Array): Promise<Uint8Array | undefined> {
    const key = toHex(hash);
    const kept = this.#memory.get(key);
    if (kept !== undefined) return kept.slice();
    const name = this.#names.get(key);
    if (name === undefined) return undefined;
    try {
      const body = new Uint8Array(await readFile(join(this.#directory, name)));
      return equalBytes(blake3(body), hash) ? body : undefined;
    } catch {
      return undefined;
    }
  }

  /** Remembers that the slot is on chain: from now on bodies with `publicWhenLanded` are everybody's. */
  async markLanded(slot: bigint): Promise<void> {
    if (this.#landed.has(slot)) return;
    this.#landed.add(slot);
    await this.#write(`${slot}.landed`, new Uint8Array());
  }

  landed(slot: bigint): boolean {
    return this.#landed.has(slot);
  }

  /** Removes bodies of slots far below `newest`. */
  async prune(newest: bigint): Promise<void> {
    for (const [key, name] of this.#names) {
      const slot = BigInt(name.split(".", 1)[0] ?? "0");
      if (slot + SLOTS_KEPT >= newest) continue;
      this.#names.delete(key);
      await rm(join(this.#directory, name), { force: true });
    }
  }
}

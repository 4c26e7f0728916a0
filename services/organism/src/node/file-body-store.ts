/** Bodies on disk, one file each, named by slot and hash; slots far below the newest are removed. */
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { equalBytes, toHex } from "../codec/codec.ts";
import { blake3 } from "../crypto/hash.ts";
import type { BodyStore } from "../service.ts";
import { writeWholeFile } from "./whole-file.ts";

/** Slots whose bodies are kept. */
const SLOTS_KEPT = 256n;
const MEMORY_BYTES_MAX = 16 * 1024 * 1024;
const NAME = /^(\d{1,20})\.([0-9a-f]{64}|landed)$/;

interface KeptBody {
  /** The newest slot it was kept for. */
  slot: bigint;
  /** Resolves once it is on disk under that slot. */
  written: Promise<void>;
}

export class FileBodyStore implements BodyStore {
  readonly #directory: string;
  readonly #kept = new Map<string, KeptBody>();
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
      const [, digits, what] = NAME.exec(name) ?? [];
      if (digits === undefined || what === undefined) {
        // What a crash left half written. Anything else is not ours to remove.
        if (name.endsWith(".new")) await rm(join(directory, name), { force: true });
        continue;
      }
      const slot = BigInt(digits);
      if (what === "landed") store.#landed.add(slot);
      else if (slot >= (store.#kept.get(what)?.slot ?? 0n)) {
        store.#kept.set(what, { slot, written: Promise.resolve() });
      }
    }
    return store;
  }

  #path(slot: bigint, key: string): string {
    return join(this.#directory, `${slot}.${key}`);
  }

  async put(slot: bigint, body: Uint8Array): Promise<Uint8Array> {
    const hash = blake3(body);
    const key = toHex(hash);
    this.#remember(key, body);
    const known = this.#kept.get(key);
    if (known === undefined) {
      const kept: KeptBody = { slot, written: this.#write(`${slot}.${key}`, body.slice()) };
      this.#kept.set(key, kept);
      await this.#written(key, kept);
    } else {
      if (slot > known.slot) {
        // The same body again, for a newer slot: it lives as long as the newest of them.
        const from = known.slot;
        known.slot = slot;
        known.written = known.written.then(() => rename(this.#path(from, key), this.#path(slot, key)));
      }
      await this.#written(key, known);
    }
    return hash;
  }

  /** What failed is not kept: whoever puts it again writes it anew. */
  async #written(key: string, kept: KeptBody): Promise<void> {
    try {
      await kept.written;
    } catch (error) {
      if (this.#kept.get(key) === kept) this.#kept.delete(key);
      throw error;
    }
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
    await writeWholeFile(join(this.#directory, name), body);
  }

  async get(hash: Uint8Array): Promise<Uint8Array | undefined> {
    const key = toHex(hash);
    const inMemory = this.#memory.get(key);
    if (inMemory !== undefined) return inMemory.slice();
    const kept = this.#kept.get(key);
    if (kept === undefined) return undefined;
    for (let written: Promise<void> | undefined; written !== kept.written; ) {
      ({ written } = kept);
      try {
        await written;
        const body = new Uint8Array(await readFile(this.#path(kept.slot, key)));
        if (equalBytes(blake3(body), hash)) return body;
      } catch {
        // Gone or unreadable is as good as damaged; put for a newer slot meanwhile, it lies under another name.
      }
    }
    // So that whoever puts it again repairs it.
    if (this.#kept.get(key) === kept) this.#kept.delete(key);
    return undefined;
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

  /** Removes bodies of slots far below `newest`, and what is remembered of those slots. */
  async prune(newest: bigint): Promise<void> {
    for (const [key, { slot }] of this.#kept) {
      if (slot + SLOTS_KEPT >= newest) continue;
      this.#kept.delete(key);
      const inMemory = this.#memory.get(key);
      if (inMemory !== undefined) {
        this.#memory.delete(key);
        this.#memoryBytes -= inMemory.length;
      }
      await rm(this.#path(slot, key), { force: true });
    }
    for (const slot of this.#landed) {
      if (slot + SLOTS_KEPT >= newest) continue;
      this.#landed.delete(slot);
      await rm(this.#path(slot, "landed"), { force: true });
    }
  }
}

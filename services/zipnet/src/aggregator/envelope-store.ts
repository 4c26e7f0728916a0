/**
 * Envelopes of the last rounds on disk, one file per slot: so that a restart in the middle of a round loses nothing,
 * and so that what a client signed can be shown while its round may still be questioned (`blameWindowSlots`).
 */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { AppendFile } from "@lattice/organism/node/append-file.ts";

const SUFFIX = ".envelopes";

export class EnvelopeStore {
  readonly #directory: string;
  readonly #keptSlots: bigint;
  readonly #open = new Map<bigint, AppendFile>();

  /** @param keptSlots rounds that are kept; the roster and the vector bound the size of each */
  constructor(directory: string, keptSlots: number) {
    this.#directory = join(directory, "envelopes");
    this.#keptSlots = BigInt(Math.max(1, keptSlots));
  }

  #path(slot: bigint): string {
    return join(this.#directory, `${slot}${SUFFIX}`);
  }

  /** Opens a slot's file, hands over what it holds, and removes slots that are too old. */
  async begin(slot: bigint, onEnvelope: (raw: Uint8Array) => void): Promise<void> {
    this.#open.set(slot, await AppendFile.open(this.#path(slot), (raw) => onEnvelope(raw.slice())));
    for (const [old, file] of this.#open) {
      if (old + this.#keptSlots > slot) continue;
      this.#open.delete(old);
      await file.close();
    }
    for (const name of await readdir(this.#directory)) {
      const old = name.endsWith(SUFFIX) ? name.slice(0, -SUFFIX.length) : "";
      if (/^\d+$/.test(old) && BigInt(old) + this.#keptSlots <= slot)
        await rm(join(this.#directory, name), { force: true });
    }
  }

  /** Resolves when the envelope is on disk. */
  async put(slot: bigint, raw: Uint8Array): Promise<void> {
    await this.#open.get(slot)?.append(raw);
  }

  async close(): Promise<void> {
    for (const file of this.#open.values()) await file.close();
    this.#open.clear();
  }
}

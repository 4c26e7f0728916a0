/** Snapshots of the replicated state on disk: the newest good one plus the log's tail is a restart. */
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  bytes,
  CodecError,
  decode,
  encode,
  equalBytes,
  fixed,
  type Infer,
  literal,
  struct,
  u64,
} from "../codec/codec.ts";
import { hashBytes } from "../crypto/hash.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import { syncDirectory } from "./append-file.ts";

const SNAPSHOT = struct({
  version: literal(1),
  committee: UNIQUE_ID,
  generation: u64,
  position: u64,
  stateHash: fixed(32),
  state: bytes(1 << 30),
});
export type Snapshot = Infer<typeof SNAPSHOT>;

/** Snapshots kept, the newest included. */
const KEPT = 2;

export class Snapshots {
  readonly #directory: string;
  readonly #committee: Uint8Array;

  private constructor(directory: string, committee: Uint8Array) {
    this.#directory = directory;
    this.#committee = committee;
  }

  static async open(parent: string, committee: Uint8Array): Promise<Snapshots> {
    const directory = join(parent, "snapshots");
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return new Snapshots(directory, committee);
  }

  async #names(): Promise<string[]> {
    const names = (await readdir(this.#directory)).filter((name) => /^\d{20}\.\d{20}$/.test(name));
    return names.sort().reverse();
  }

  async save(generation: bigint, position: bigint, state: Uint8Array): Promise<void> {
    const stateHash = hashBytes("lattice/state/v1", state);
    const content = encode(SNAPSHOT, {
      version: 1,
      committee: this.#committee,
      generation,
      position,
      stateHash,
      state,
    });
    // Positions start again with every generation, so the newer generation sorts first.
    const path = join(this.#directory, fileName(generation, position));
    const file = await open(`${path}.new`, "w", 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
    await syncDirectory(this.#directory);
    for (const old of (await this.#names()).slice(KEPT)) await rm(join(this.#directory, old), { force: true });
  }

  /** The newest snapshot that is whole, of this committee and hashes right; damaged ones are passed over. */
  async *candidates(): AsyncGenerator<Snapshot> {
    for (const name of await this.#names()) {
      try {
        const snapshot = decode(SNAPSHOT, new Uint8Array(await readFile(join(this.#directory, name))));
        if (!equalBytes(snapshot.committee, this.#committee)) continue;
        if (name !== fileName(snapshot.generation, snapshot.position)) continue;
        if (!equalBytes(hashBytes("lattice/state/v1", snapshot.state), snapshot.stateHash)) continue;
        yield snapshot;
      } catch (error) {
        if (!(error instanceof CodecError)) throw error;
      }
    }
  }
}

function fileName(generation: bigint, position: bigint): string {
  return [generation, position].map((each) => each.toString().padStart(20, "0")).join(".");
}

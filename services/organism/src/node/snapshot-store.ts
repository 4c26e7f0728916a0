/**
 * Certified snapshots in a folder: a member's own, or the archive that members of a committee share. Everything that
 * is read is judged again, by the lattice config alone: a folder is no more trusted than a peer.
 * Files as in snapshot-file.ts, named `<generation>.<position>`.
 */
import { type FileHandle, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { equalBytes } from "../codec/codec.ts";
import { type CertifiedCheckpoint, type Checkpoint, checkCheckpoint, stateHash } from "../committee/checkpoint.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Refusal } from "../machine.ts";
import type { KnownEras } from "./era-book.ts";
import { makeFolder } from "./make-folder.ts";
import {
  decodeSnapshotHead,
  encodeSnapshotHead,
  SNAPSHOT_HEAD_BYTES_MAX,
  SNAPSHOT_NAME,
  type SnapshotHead,
  snapshotName,
} from "./snapshot-file.ts";
import { writeWholeFile } from "./whole-file.ts";

/** The newest, the one that logs are trimmed below, and one for whoever is still fetching it. */
export const SNAPSHOTS_KEPT = 3;

/** Which snapshot: positions begin again with every generation. */
export type SnapshotKey = Pick<Checkpoint, "generation" | "position">;

/** Where a member keeps certified snapshots. */
export interface SnapshotStore {
  /** What is held whole and certified, the newest first. */
  held(): readonly CertifiedCheckpoint[];
  /** Keeps a state under its certificate; resolves once it is on disk. What does not fit the certificate is refused. */
  save(certified: CertifiedCheckpoint, state: Uint8Array): Promise<void>;
  /** The whole state, judged again; undefined when it is not what the certificate says any more. */
  load(key: SnapshotKey): Promise<Uint8Array | undefined>;
  /** At most `length` bytes of the state from `offset`, not judged: for whoever judges the whole. */
  read(key: SnapshotKey, offset: number, length: number): Promise<Uint8Array | undefined>;
}

/** A state that is not the one that its certificate is about. */
export class SnapshotMismatch extends Error {
  override readonly name = "SnapshotMismatch";
}

interface Held {
  readonly name: string;
  readonly certified: CertifiedCheckpoint;
  readonly stateAt: number;
}

export class FileSnapshotStore implements SnapshotStore {
  readonly #folder: string;
  readonly #config: LatticeConfig;
  readonly #organism: Organism;
  readonly #kept: number;
  readonly #eras: KnownEras | undefined;
  #held: Held[] = [];
  /** One look or change after the other: what an older look has found must not hide what was saved since. */
  #turn: Promise<void> = Promise.resolve();

  private constructor(folder: string, config: LatticeConfig, organism: Organism, kept: number, eras?: KnownEras) {
    this.#eras = eras;
    this.#folder = folder;
    this.#config = config;
    this.#organism = organism;
    this.#kept = kept;
  }

  /** Judges every file, by the eras that are known when it does; what is damaged, cut, forged or foreign is passed over and left where it is. */
  static async open(
    folder: string,
    config: LatticeConfig,
    organism: Organism,
    kept = SNAPSHOTS_KEPT,
    eras?: KnownEras,
  ): Promise<FileSnapshotStore> {
    makeFolder(folder, 0o700);
    const store = new FileSnapshotStore(folder, config, organism, kept, eras);
    await store.refresh();
    return store;
  }

  /** Looks again at what is there: others may write into an archive. */
  refresh(): Promise<void> {
    return this.#next(() => this.#look());
  }

  #next(work: () => Promise<void>): Promise<void> {
    const run = this.#turn.then(work);
    this.#turn = run.catch(() => undefined);
    return run;
  }

  async #look(): Promise<void> {
    const known = new Map(this.#held.map((each) => [each.name, each]));
    const held: Held[] = [];
    for (const name of (await readdir(this.#folder)).filter((each) => SNAPSHOT_NAME.test(each))) {
      const found = known.get(name) ?? (await this.#examine(name));
      if (found !== undefined) held.push(found);
    }
    this.#held = held.sort((a, b) => (a.name < b.name ? 1 : -1));
  }

  async #examine(name: string): Promise<Held | undefined> {
    const file = await open(join(this.#folder, name), "r").catch(unreadable);
    if (file === undefined) return undefined;
    try {
      const head = await readHead(file);
      if (head === undefined || name !== snapshotName(head.certified.checkpoint)) return undefined;
      if (this.#check(head.certified) !== undefined) return undefined;
      const { checkpoint } = head.certified;
      if ((await file.stat()).size !== head.stateAt + checkpoint.stateBytes) return undefined;
      const state = await readAt(file, head.stateAt, checkpoint.stateBytes);
      return equalBytes(stateHash(state), checkpoint.stateHash) ? { name, ...head } : undefined;
    } catch (error) {
      return unreadable(error);
    } finally {
      await file.close();
    }
  }

  #check(certified: CertifiedCheckpoint): Refusal | undefined {
    return checkCheckpoint(this.#config, this.#organism, certified, this.#eras?.(this.#organism));
  }

  held(): readonly CertifiedCheckpoint[] {
    return this.#held.map(({ certified }) => certified);
  }

  #find(key: SnapshotKey): Held | undefined {
    const name = snapshotName(key);
    return this.#held.find((each) => each.name === name);
  }

  /** @throws SnapshotMismatch */
  async save(certified: CertifiedCheckpoint, state: Uint8Array): Promise<void> {
    const { checkpoint } = certified;
    const refusal = this.#check(certified);
    if (refusal !== undefined) throw new SnapshotMismatch(refusal.detail);
    if (state.length !== checkpoint.stateBytes || !equalBytes(stateHash(state), checkpoint.stateHash)) {
      throw new SnapshotMismatch(`the state is not the one certified for position ${checkpoint.position}`);
    }
    await this.#next(() => this.#write(certified, state));
  }

  async #write(certified: CertifiedCheckpoint, state: Uint8Array): Promise<void> {
    const { checkpoint } = certified;
    if (this.#find(checkpoint) !== undefined) return;
    const name = snapshotName(checkpoint);
    // A name of its own: members that share an archive write the same file at the same time.
    await writeWholeFile(join(this.#folder, name), [encodeSnapshotHead(certified), state], { shared: true });
    await this.#look();
    for (const old of this.#held.slice(this.#kept)) await rm(join(this.#folder, old.name), { force: true });
    this.#held = this.#held.slice(0, this.#kept);
    await this.#sweep();
  }

  /** Removes what a crash left half-written, and what is older than all that is kept and cannot be read. */
  async #sweep(): Promise<void> {
    const oldest = this.#held.at(-1)?.name ?? "";
    const names = new Set(this.#held.map(({ name }) => name));
    for (const name of await readdir(this.#folder)) {
      const whole = /^(\d{20}\.\d{20})(\..*\.new)?$/.exec(name);
      if (whole?.[1] === undefined || names.has(name) || whole[1] >= oldest) continue;
      await rm(join(this.#folder, name), { force: true, recursive: true });
    }
  }

  async load(key: SnapshotKey): Promise<Uint8Array | undefined> {
    const held = this.#find(key);
    if (held === undefined) return undefined;
    const { stateBytes, stateHash: expected } = held.certified.checkpoint;
    const state = await this.read(key, 0, stateBytes).catch(unreadable);
    if (state?.length === stateBytes && equalBytes(stateHash(state), expected)) return state;
    this.#held = this.#held.filter((each) => each !== held);
    return undefined;
  }

  async read(key: SnapshotKey, offset: number, length: number): Promise<Uint8Array | undefined> {
    const held = this.#find(key);
    if (held === undefined) return undefined;
    const file = await open(join(this.#folder, held.name), "r").catch(unreadable);
    if (file === undefined) {
      this.#held = this.#held.filter((each) => each !== held);
      return undefined;
    }
    try {
      const left = Math.max(0, held.certified.checkpoint.stateBytes - offset);
      return await readAt(file, held.stateAt + offset, Math.min(length, left));
    } finally {
      await file.close();
    }
  }
}

/** Whoever shares the folder may just have removed the file, and a disk may not give it back: as good as damaged. */
function unreadable(error: unknown): undefined {
  if (!(error instanceof Error && "code" in error)) throw error;
  return undefined;
}

async function readHead(file: FileHandle): Promise<SnapshotHead | undefined> {
  return decodeSnapshotHead(await readAt(file, 0, SNAPSHOT_HEAD_BYTES_MAX));
}

/** Fewer bytes where the file ends. */
async function readAt(file: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(buffer, done, length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}

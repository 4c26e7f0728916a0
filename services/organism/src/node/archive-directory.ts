/**
 * An archive outside member and log: a folder, possibly shared by members, possibly of another machine. It holds every
 * certified outcome and the newest certified snapshots of one committee. Whoever reads from it judges what it reads.
 *
 * `<folder>/<lattice id>/<organism>/outcomes/<slot / 1000>/<slot>.<stage>` and `…/snapshots/<generation>.<position>`.
 */
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { encode, toHex, tryDecode } from "../codec/codec.ts";
import { CERTIFIED, type CertifiedOutcome } from "../committee/outcome.ts";
import { type LatticeConfig, latticeId } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { ARCHIVED_SNAPSHOTS, type Archive, folderOf, isSameCertified, outcomePath } from "./archive.ts";
import type { KnownEras } from "./era-book.ts";
import { FileSnapshotStore } from "./snapshot-store.ts";
import { writeWholeFile } from "./whole-file.ts";

export class ArchiveDirectory implements Archive {
  readonly snapshots: FileSnapshotStore;
  readonly #own: string;

  private constructor(own: string, snapshots: FileSnapshotStore) {
    this.#own = own;
    this.snapshots = snapshots;
  }

  static async open(
    folder: string,
    config: LatticeConfig,
    organism: Organism,
    eras?: KnownEras,
  ): Promise<ArchiveDirectory> {
    const own = join(folder, toHex(latticeId(config)), organism);
    const snapshots = await FileSnapshotStore.open(join(own, "snapshots"), config, organism, ARCHIVED_SNAPSHOTS, eras);
    return new ArchiveDirectory(own, snapshots);
  }

  #path(stage: string, slot: bigint): { readonly folder: string; readonly name: string } | undefined {
    const [top, folder, name] = outcomePath(stage, slot) ?? [];
    return top === undefined || folder === undefined || name === undefined
      ? undefined
      : { folder: join(this.#own, top, folder), name };
  }

  /** Resolves once it is on disk. */
  async putOutcome(certified: CertifiedOutcome): Promise<void> {
    const { stage, slot } = certified.outcome;
    const place = this.#path(stage, slot);
    if (place === undefined) return;
    const { folder, name } = place;
    const path = join(folder, name);
    if (isSameCertified(await this.outcome(stage, slot), certified)) return;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await writeWholeFile(path, encode(CERTIFIED, certified), { shared: true });
  }

  /** What lies there for this slot and stage, not judged; undefined for anything that is not an outcome of it. */
  async outcome(stage: string, slot: bigint): Promise<CertifiedOutcome | undefined> {
    const place = this.#path(stage, slot);
    if (place === undefined) return undefined;
    let raw: Uint8Array;
    try {
      raw = new Uint8Array(await readFile(join(place.folder, place.name)));
    } catch {
      return undefined;
    }
    const found = tryDecode(CERTIFIED, raw);
    return found?.outcome.stage === stage && found.outcome.slot === slot ? found : undefined;
  }

  async outcomeNames(slot: bigint): Promise<ReadonlySet<string>> {
    try {
      return new Set(await readdir(join(this.#own, "outcomes", folderOf(slot))));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return new Set();
      throw error;
    }
  }
}

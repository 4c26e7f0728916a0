/** What a member keeps besides its journal, and where: files in its folder, or whatever else is passed in. */
import { join } from "node:path";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { BodyStore } from "../service.ts";
import { type EntryTail, FileEntryTail } from "./entry-tail.ts";
import { EraFile, type KnownEras, type LinksByOrganism } from "./era-book.ts";
import { FileBodyStore } from "./file-body-store.ts";
import { OutcomeArchive } from "./outcome-archive.ts";
import { FileSnapshotStore, SNAPSHOTS_KEPT, type SnapshotStore } from "./snapshot-store.ts";

/** Bodies, and which of their slots are on chain. */
export interface KeptBodies extends BodyStore {
  /** Remembers that the slot is on chain. */
  markLanded(slot: bigint): Promise<void>;
  landed(slot: bigint): boolean;
  /** Lets go of slots far below `newest`. */
  prune(newest: bigint): Promise<void>;
}

export interface MemberStorage {
  outcomes(organism: Organism): Promise<OutcomeArchive>;
  bodies(): Promise<KeptBodies>;
  snapshots(config: LatticeConfig, organism: Organism, eras?: KnownEras): Promise<SnapshotStore>;
  /** The eras that this member knew: checkpoints of later ones are judged by them before there is a state. */
  eras?(): Promise<LinksByOrganism | undefined>;
  saveEras?(links: LinksByOrganism): Promise<void>;
  /** The entries read since the second newest checkpoint; without it a member has no part in ends of generations. */
  tail?(): Promise<EntryTail>;
}

/** Production's: everything under one folder. */
export function fileStorage(directory: string): MemberStorage {
  const eras = new EraFile(join(directory, "eras.json"));
  return {
    outcomes: (organism) => OutcomeArchive.open(directory, organism),
    bodies: () => FileBodyStore.open(directory),
    snapshots: (config, organism, eras) =>
      FileSnapshotStore.open(join(directory, "snapshots"), config, organism, SNAPSHOTS_KEPT, eras),
    eras: async () => eras.read(),
    saveEras: (links) => eras.write(links),
    tail: () => FileEntryTail.open(join(directory, "tail")),
  };
}

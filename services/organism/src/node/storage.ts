/** What a member keeps besides its journal, and where: files in its folder, or whatever else is passed in. */
import type { Organism } from "../identity/organisms.ts";
import type { BodyStore } from "../service.ts";
import { FileBodyStore } from "./file-body-store.ts";
import { OutcomeArchive } from "./outcome-archive.ts";
import { type Snapshot, Snapshots } from "./snapshots.ts";

/** Bodies, and which of their slots are on chain. */
export interface KeptBodies extends BodyStore {
  /** Remembers that the slot is on chain. */
  markLanded(slot: bigint): Promise<void>;
  landed(slot: bigint): boolean;
  /** Lets go of slots far below `newest`. */
  prune(newest: bigint): Promise<void>;
}

/** Snapshots of the replicated state. */
export interface SnapshotStore {
  /** Resolves once it is durable. */
  save(generation: bigint, position: bigint, state: Uint8Array): Promise<void>;
  /** Newest first; only whole ones of this committee. */
  candidates(): AsyncIterable<Snapshot>;
}

export interface MemberStorage {
  outcomes(organism: Organism): Promise<OutcomeArchive>;
  bodies(): Promise<KeptBodies>;
  snapshots(committee: Uint8Array): Promise<SnapshotStore>;
}

/** Production's: everything under one folder. */
export function fileStorage(directory: string): MemberStorage {
  return {
    outcomes: (organism) => OutcomeArchive.open(directory, organism),
    bodies: () => FileBodyStore.open(directory),
    snapshots: (committee) => Snapshots.open(directory, committee),
  };
}

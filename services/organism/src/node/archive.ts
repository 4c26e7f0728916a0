/**
 * An archive outside member and log, possibly shared by members, possibly on another machine: every certified outcome
 * and the newest certified snapshots of one committee. Whoever reads from it judges what it reads.
 */
import { equalBytes } from "../codec/codec.ts";
import { type CertifiedOutcome, outcomeDigest } from "../committee/outcome.ts";
import type { SnapshotStore } from "./snapshot-store.ts";

export interface Archive {
  /** Others may write there too: `refresh` looks again. */
  readonly snapshots: SnapshotStore & { refresh(): Promise<void> };
  /** Resolves once it is kept. What lies there stays if it is the same, signers apart; anything else is replaced. */
  putOutcome(certified: CertifiedOutcome): Promise<void>;
  /** What lies there for this slot and stage, not judged; undefined for anything that is not an outcome of it. */
  outcome(stage: string, slot: bigint): Promise<CertifiedOutcome | undefined>;
  /** Names (`outcomeName`) of what lies there for slots of one folder, that of `slot`; not judged. Rejects when it cannot be asked. */
  outcomeNames(slot: bigint): Promise<ReadonlySet<string>>;
}

/** A group's signature is one, whoever gave the shares: what bears it needs no further look. */
export function isSameCertified(found: CertifiedOutcome | undefined, certified: CertifiedOutcome): boolean {
  return (
    found !== undefined &&
    equalBytes(found.signature, certified.signature) &&
    equalBytes(outcomeDigest(found.outcome), outcomeDigest(certified.outcome))
  );
}

/** Snapshots that an archive keeps. */
export const ARCHIVED_SNAPSHOTS = 8;
const SLOTS_PER_FOLDER = 1000n;

/** `outcomes/<slot / 1000>/<slot>.<stage>`, the parts of it. Undefined for what is no stage. */
export function outcomePath(stage: string, slot: bigint): readonly [string, string, string] | undefined {
  if (!/^[a-z-]{1,32}$/.test(stage)) return undefined;
  return ["outcomes", folderOf(slot), outcomeName(stage, slot)];
}

/** Outcomes of so many slots lie together. */
export function folderOf(slot: bigint): string {
  return `${slot / SLOTS_PER_FOLDER}`;
}

export function outcomeName(stage: string, slot: bigint): string {
  return `${slot}.${stage}`;
}

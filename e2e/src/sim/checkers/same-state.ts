/** I4, I17: the same state hash at the same position, and a state that stays within its bounds. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { hashBytes } from "@lattice/organism/crypto/hash.ts";
import { Broken, type Checker, type Replica } from "../observer.ts";

export const HASHED_EVERY = 64n;
/** Far above what these lattices reach in any number of slots, far below what an unbounded one does. */
const STATE_BYTES_MAX = 3_000_000;
/** Decided slots that a state may still hold. */
const SLOTS_HELD_MAX = 41n;

export type SnapshotOf = (replica: Replica) => Uint8Array;

/** A replica's snapshot where it stands, made once for all checkers that look at it after the same entry. */
export function snapshotsOnce(): SnapshotOf {
  let last: { readonly replica: Replica; readonly position: bigint; readonly snapshot: Uint8Array } | undefined;
  return (replica) => {
    const { position } = replica;
    if (last?.replica === replica && last.position === position) return last.snapshot;
    const snapshot = replica.snapshot();
    last = { replica, position, snapshot };
    return snapshot;
  };
}

export function sameState(snapshotOf: SnapshotOf): readonly Checker[] {
  const alike = "same state";
  const bounded = "bounded state";
  const hashes = new Map<string, { readonly hash: string; readonly by: string }>();
  return [
    {
      name: alike,
      applied({ organism, index, run }, replica) {
        if (replica.position % HASHED_EVERY !== 0n) return;
        const member = `${organism}/${index}#${run}`;
        const snapshot = snapshotOf(replica);
        if (snapshot.length > STATE_BYTES_MAX) {
          throw new Broken(bounded, `${member}: ${snapshot.length} bytes of state at position ${replica.position}`);
        }
        const hash = toHex(hashBytes("lattice/state/v1", snapshot));
        const key = `${organism} ${replica.position}`;
        const known = hashes.get(key);
        if (known === undefined) hashes.set(key, { hash, by: member });
        else if (known.hash !== hash) {
          throw new Broken(alike, `${member} and ${known.by} differ at position ${replica.position}`);
        }
      },
    },
    {
      name: bounded,
      applied({ organism, index }, replica) {
        let lowest: bigint | undefined;
        for (const stage of replica.machine.stages) {
          const floor = replica.floor(stage);
          if (lowest === undefined || floor < lowest) lowest = floor;
        }
        if (lowest !== undefined && lowest - replica.collapsedBelow > SLOTS_HELD_MAX) {
          throw new Broken(bounded, `${organism}/${index} holds slots ${replica.collapsedBelow} to ${lowest}`);
        }
      },
    },
  ];
}

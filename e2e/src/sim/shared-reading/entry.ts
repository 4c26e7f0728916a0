/**
 * Stands in for `committee/entry.ts` in simulations: members of one process read the same message, so it is
 * decoded and hashed for all of them once. Everything is the real module's; only what it returned is remembered, by the bytes
 * themselves, which nobody changes.
 */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { type ReadEntry, nextHead as realHead, readEntry as realRead } from "@lattice/organism/committee/entry.ts";

export * from "@lattice/organism/committee/entry.ts";

const READ = new WeakMap<Uint8Array, ReadEntry>();

export function readEntry(raw: Uint8Array): ReadEntry {
  const known = READ.get(raw);
  if (known !== undefined) return known;
  const read = realRead(raw);
  READ.set(raw, read);
  return read;
}

interface Link {
  readonly previous: Uint8Array;
  readonly position: bigint;
  readonly head: Uint8Array;
}
const HEADS = new WeakMap<Uint8Array, Link>();

export function nextHead(previous: Uint8Array, position: bigint, raw: Uint8Array): Uint8Array {
  const known = HEADS.get(raw);
  if (known !== undefined && known.position === position && equalBytes(known.previous, previous)) return known.head;
  const head = realHead(previous, position, raw);
  HEADS.set(raw, { previous, position, head });
  return head;
}

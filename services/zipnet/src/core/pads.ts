/**
 * Pads: AES-128-CTR keystreams folded into a vector (protocols.md §1, "Pads"; field-notes/crypto.md §4).
 *
 * Key tree: round key → per purpose HKDF-Expand (RFC 5869) → one 16-byte AES key per segment. The IV is zero and each
 * key encrypts one segment once. Nothing is ever XORed by hand: CTR encryption *is* the XOR, so the accumulator goes
 * through each client's cipher in turn. Folding a pad twice removes it again.
 */
import { createCipheriv } from "node:crypto";
import { count, fixed, list, struct, text } from "@lattice/organism/codec/codec.ts";
import { hash } from "@lattice/organism/crypto/hash.ts";
import { hkdfExpand } from "./hmac.ts";

/** What a pad is for. `zipnet/pad/sched/v1` is reserved for the schedule vector. */
export type PadPurpose = "zipnet/pad/v1" | "zipnet/pad/sched/v1";

/** How a vector is cut. */
export interface VectorShape {
  readonly cells: number;
  readonly cellBytes: number;
  readonly segments: number;
}

const KEY_BYTES = 16;
const ZERO_IV = new Uint8Array(16);

/** Bytes of a whole vector. */
export function vectorBytes({ cells, cellBytes }: VectorShape): number {
  return cells * cellBytes;
}

/** Where segments begin, and the end: `segments + 1` offsets, each on a cell boundary. Segments may be empty. */
export function segmentOffsets({ cells, cellBytes, segments }: VectorShape): number[] {
  return Array.from({ length: segments + 1 }, (_, index) => Math.floor((index * cells) / segments) * cellBytes);
}

/** One AES-128 key per segment, from a 32-byte round key. */
export function segmentKeys(roundKey: Uint8Array, purpose: PadPurpose, segments: number): Uint8Array[] {
  const stream = hkdfExpand(roundKey, Buffer.from(purpose), segments * KEY_BYTES);
  return Array.from({ length: segments }, (_, index) => stream.subarray(index * KEY_BYTES, (index + 1) * KEY_BYTES));
}

/** A vector on its way through many ciphers, segment by segment. */
export class PadAccumulator {
  readonly #segments: Uint8Array[];

  /** @param vector where to begin; zeros when left out */
  constructor(shape: VectorShape, vector: Uint8Array = new Uint8Array(vectorBytes(shape))) {
    if (vector.length !== vectorBytes(shape)) throw new RangeError("PadAccumulator: vector length");
    const offsets = segmentOffsets(shape);
    this.#segments = offsets.slice(1).map((end, index) => vector.subarray(offsets[index], end));
  }

  /** Adds (or removes) one pad. @param keys one 16-byte key per segment */
  fold(keys: readonly Uint8Array[]): void {
    for (const [index, segment] of this.#segments.entries()) {
      const key = keys[index];
      if (key === undefined) throw new RangeError("PadAccumulator: a key per segment expected");
      if (segment.length > 0) this.#segments[index] = createCipheriv("aes-128-ctr", key, ZERO_IV).update(segment);
    }
  }

  /** What has come of it, in bytes of its own. */
  vector(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#segments));
  }
}

const LEAF = struct({ purpose: text(32), segment: count, key: fixed(KEY_BYTES) });
const COMMITMENT = struct({
  headerDigest: fixed(32),
  client: fixed(32),
  member: count,
  leaves: list(fixed(32), 256),
});

/**
 * The client's commitment to what it uses towards one server, 32 bytes: a hash over one leaf per segment key. The
 * server recomputes it before it contributes; later a single segment can be opened against it without the others.
 * @param keys the segment keys of purpose `zipnet/pad/v1`
 */
export function keyCommitment(
  headerDigest: Uint8Array,
  client: Uint8Array,
  member: number,
  keys: readonly Uint8Array[],
): Uint8Array {
  const leaves = keys.map((key, segment) =>
    hash("lattice/zipnet/key-leaf/v1", LEAF, { purpose: "zipnet/pad/v1", segment, key }),
  );
  return hash("lattice/zipnet/key-commitment/v1", COMMITMENT, { headerDigest, client, member, leaves });
}

/** `target ^= other`, eight bytes at a time where both are aligned. @throws RangeError when lengths differ */
export function xorInto(target: Uint8Array, other: Uint8Array): void {
  if (target.length !== other.length) throw new RangeError("xorInto: lengths differ");
  const words = target.byteOffset % 8 === 0 && other.byteOffset % 8 === 0 ? target.length >>> 3 : 0;
  if (words > 0) {
    const into = new BigUint64Array(target.buffer, target.byteOffset, words);
    const from = new BigUint64Array(other.buffer, other.byteOffset, words);
    for (let index = 0; index < words; index++) into[index] = (into[index] ?? 0n) ^ (from[index] ?? 0n);
  }
  for (let index = words * 8; index < target.length; index++) {
    target[index] = (target[index] ?? 0) ^ (other[index] ?? 0);
  }
}

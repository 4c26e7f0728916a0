/**
 * A group in which everything is fast and nothing is hard: a point is its own discrete logarithm, multiplied by a key
 * of this process and marked with a checksum. Sums, shares, Lagrange weights and pairings behave as in BLS12-381, so
 * that threshold code runs unchanged; a byte that is changed, another key or another message fails as it should.
 * For simulations only. Nothing outside `testing/` may import it (`e2e/src/tidy`).
 */
import { blake3 } from "@napi-rs/blake-hash";

/** The order of BLS12-381's scalar field. */
export const ORDER = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001n;

const KEY = scalarOfText("lattice/testing/fast-crypto/key");
const KEY_INVERSE = inverse(KEY);

export function mod(value: bigint): bigint {
  const rest = value % ORDER;
  return rest < 0n ? rest + ORDER : rest;
}

export function inverse(value: bigint): bigint {
  let [a, b, x, y] = [mod(value), ORDER, 1n, 0n];
  while (a > 1n) {
    const quotient = a / b;
    [a, b] = [b, a % b];
    [x, y] = [y, x - quotient * y];
  }
  return mod(x);
}

/** What is hashed is written here first: most of it is short, and making buffers costs more than hashing. */
let scratch = Buffer.allocUnsafe(64 * 1024);

export function digest(...parts: readonly (Uint8Array | string)[]): Buffer {
  let at = 0;
  for (const part of parts) {
    const needed = at + 4 + (typeof part === "string" ? 3 * part.length : part.length);
    if (needed > scratch.length) {
      const larger = Buffer.allocUnsafe(2 * needed);
      scratch.copy(larger, 0, 0, at);
      scratch = larger;
    }
    let length: number;
    if (typeof part === "string") length = scratch.write(part, at + 4);
    else {
      scratch.set(part, at + 4);
      length = part.length;
    }
    scratch.writeUInt32BE(length, at);
    at += 4 + length;
  }
  return blake3(scratch.subarray(0, at));
}

export function bigintOf(bytes: Uint8Array): bigint {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let value = 0n;
  for (let at = 0; at < buffer.length; at += 8) value = (value << 64n) | buffer.readBigUInt64BE(at);
  return value;
}

/** 32 bytes big-endian. */
export function bytesOf(value: bigint): Uint8Array {
  const bytes = Buffer.allocUnsafe(32);
  let rest = value;
  for (let at = 24; at >= 0; at -= 8) {
    bytes.writeBigUInt64BE(rest & 0xffff_ffff_ffff_ffffn, at);
    rest >>= 64n;
  }
  return new Uint8Array(bytes.buffer, bytes.byteOffset, 32);
}

function scalarOfText(text: string): bigint {
  return (bigintOf(blake3(Buffer.from(text))) % (ORDER - 1n)) + 1n;
}

/** A scalar other than 0 that follows from the bytes. */
export function scalarOf(...parts: readonly (Uint8Array | string)[]): bigint {
  return (bigintOf(digest(...parts)) % (ORDER - 1n)) + 1n;
}

/** Which of the two groups: 48 or 96 bytes, as G1 and G2. */
export type Group = 48 | 96;

const DECODED = new Map<string, bigint | undefined>();
const DECODED_KEPT = 8192;

export function encodePoint(group: Group, scalar: bigint): Uint8Array {
  const masked = bytesOf(mod(scalar * KEY));
  const out = new Uint8Array(group);
  out.set(masked, group - 32);
  out.set(digest(`point/${group}`, masked).subarray(0, 16), 0);
  return out;
}

/** The scalar of a point other than infinity; undefined for bytes that are none. */
export function decodePoint(group: Group, bytes: Uint8Array): bigint | undefined {
  if (bytes.length !== group) return undefined;
  const name = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  if (DECODED.has(name)) return DECODED.get(name);
  const masked = bytes.subarray(group - 32);
  const expected = encodePoint(group, mod(bigintOf(masked) * KEY_INVERSE));
  const value = Buffer.compare(expected, bytes) === 0 ? mod(bigintOf(masked) * KEY_INVERSE) : undefined;
  const scalar = value === 0n ? undefined : value;
  DECODED.set(name, scalar);
  if (DECODED.size > DECODED_KEPT) DECODED.clear();
  return scalar;
}

/** @throws RangeError as `scalarFromBytes` */
export function secretOf(bytes: Uint8Array): bigint {
  const value = bytes.length === 32 ? bigintOf(bytes) : 0n;
  if (value === 0n || value >= ORDER) throw new RangeError("scalar out of range");
  return value;
}

/** Lagrange weights at 0 of members `indices`, 0-based, as `crypto/scalar.ts`. */
export function weightsAtZero(indices: readonly number[]): bigint[] {
  const points = indices.map((index) => BigInt(index) + 1n);
  return points.map((x, i) => {
    let numerator = 1n;
    let denominator = 1n;
    for (const [j, other] of points.entries()) {
      if (j === i) continue;
      numerator = mod(numerator * other);
      denominator = mod(denominator * mod(other - x));
    }
    return mod(numerator * inverse(denominator));
  });
}

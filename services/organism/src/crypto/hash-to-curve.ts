/**
 * RFC 9380 on node:crypto and the fast engine: hash_to_field with expand_message_xmd over SHA-256 (§5.2, §5.3.1) and
 * hash_to_curve of BLS12381G2_XMD:SHA-256_SSWU_RO_ (§8.8.2) under any domain separation tag. noble is the reference.
 */
import { createHash } from "node:crypto";
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { bytesToNumberBE } from "@noble/curves/utils.js";
import type { Fp, Fp2, G2 } from "mcl-wasm";
import { fastEngine } from "./engine.ts";
import { WIDE_BYTES, wideScalar } from "./scalar.ts";

const HASH_BYTES = 32;
/** L of BLS12381G2: ⌈(381 + 128) / 8⌉. */
const FIELD_BYTES = 64;
const Z_PAD = new Uint8Array(64);
const P = bls12_381.fields.Fp.ORDER;

/** `length` uniform bytes of the message parts, read as one message (RFC 9380 §5.3.1). @throws RangeError */
export function expandMessage(parts: readonly Uint8Array[], dst: string, length: number): Uint8Array {
  const tag = Buffer.from(dst, "ascii");
  const blocks = Math.ceil(length / HASH_BYTES);
  if (tag.length === 0 || tag.length > 255 || blocks > 255) throw new RangeError("expand_message_xmd limits");
  const tagPrime = Buffer.concat([tag, Uint8Array.of(tag.length)]);
  const first = createHash("sha256").update(Z_PAD);
  for (const part of parts) first.update(part);
  const b0 = first
    .update(Uint8Array.of(length >> 8, length & 0xff, 0))
    .update(tagPrime)
    .digest();
  const output = new Uint8Array(blocks * HASH_BYTES);
  let previous: Uint8Array = new Uint8Array(HASH_BYTES);
  for (let i = 1; i <= blocks; i++) {
    const mixed = Buffer.from(b0);
    for (let at = 0; at < HASH_BYTES; at++) mixed[at] = (mixed[at] ?? 0) ^ (previous[at] ?? 0);
    previous = createHash("sha256").update(mixed).update(Uint8Array.of(i)).update(tagPrime).digest();
    output.set(previous, (i - 1) * HASH_BYTES);
  }
  return output.slice(0, length);
}

/** A scalar from the message parts: hash_to_field with L = 48 into the scalar field (bias below 2^-128). */
export function hashToScalar(parts: readonly Uint8Array[], dst: string): bigint {
  return wideScalar(expandMessage(parts, dst, WIDE_BYTES));
}

/** hash_to_curve into G2, on the fast engine; mcl's map clears the cofactor of each summand. */
export function hashToG2(message: Uint8Array, dst: string): G2 {
  const mcl = fastEngine();
  const uniform = expandMessage([message], dst, 4 * FIELD_BYTES);
  const element = (index: number): Fp => {
    const value = bytesToNumberBE(uniform.subarray(index * FIELD_BYTES, (index + 1) * FIELD_BYTES)) % P;
    const field = new mcl.Fp();
    field.setStr(value.toString(16), 16);
    return field;
  };
  const map = (index: number): G2 => {
    const u: Fp2 = new mcl.Fp2();
    u.set_a(element(index));
    u.set_b(element(index + 1));
    return u.mapToG2();
  };
  return mcl.add(map(0), map(2));
}

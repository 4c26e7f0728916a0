/**
 * HMAC-SHA-256 (RFC 2104) and HKDF-Expand (RFC 5869 §2.3) on one-shot SHA-256. Pads need four of them per client,
 * server and round, and a `createHmac` object costs ten times as much; tests hold this against node and noble.
 */
import { hash } from "node:crypto";

const BLOCK_BYTES = 64;
const HASH_BYTES = 32;

/** 32 bytes. @param key at most 64 bytes @throws RangeError for a longer key */
export function hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  if (key.length > BLOCK_BYTES) throw new RangeError("hmacSha256: a key of at most 64 bytes expected");
  const inner = new Uint8Array(parts.reduce((size, part) => size + part.length, BLOCK_BYTES));
  const outer = new Uint8Array(BLOCK_BYTES + HASH_BYTES);
  inner.fill(0x36, 0, BLOCK_BYTES);
  outer.fill(0x5c, 0, BLOCK_BYTES);
  for (let index = 0; index < key.length; index++) {
    const byte = key[index] ?? 0;
    inner[index] = byte ^ 0x36;
    outer[index] = byte ^ 0x5c;
  }
  let at = BLOCK_BYTES;
  for (const part of parts) {
    inner.set(part, at);
    at += part.length;
  }
  outer.set(hash("sha256", inner, "buffer"), BLOCK_BYTES);
  const digest = new Uint8Array(hash("sha256", outer, "buffer"));
  inner.fill(0, 0, BLOCK_BYTES);
  outer.fill(0);
  return digest;
}

/** `length` bytes of HKDF-Expand, at most 8,160. @param key a pseudorandom key, 32 bytes */
export function hkdfExpand(key: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  if (length > 255 * HASH_BYTES) throw new RangeError("hkdfExpand: output length");
  const output = new Uint8Array(length);
  let block: Uint8Array = new Uint8Array(0);
  for (let counter = 1, at = 0; at < length; counter++, at += HASH_BYTES) {
    block = hmacSha256(key, block, info, Uint8Array.of(counter));
    output.set(block.subarray(0, Math.min(HASH_BYTES, length - at)), at);
  }
  return output;
}

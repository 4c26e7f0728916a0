/** HKDF with SHA-256 (RFC 5869) on node:crypto. */
import { createHmac } from "node:crypto";

const SHA256_BYTES = 32;

/** RFC 5869 §2.2: 32 bytes. An empty salt means 32 zero bytes, as HMAC pads it. */
export function hkdfExtract(salt: Uint8Array, inputKey: Uint8Array): Uint8Array {
  return new Uint8Array(createHmac("sha256", salt).update(inputKey).digest());
}

/** RFC 5869 §2.3: `length` bytes, at most 8,160. @throws RangeError beyond that */
export function hkdfExpand(key: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  if (!Number.isInteger(length) || length < 0 || length > 255 * SHA256_BYTES)
    throw new RangeError("HKDF output length");
  const output = new Uint8Array(length);
  let block: Uint8Array = new Uint8Array(0);
  for (let counter = 1, at = 0; at < length; counter++, at += SHA256_BYTES) {
    block = createHmac("sha256", key).update(block).update(info).update(Uint8Array.of(counter)).digest();
    output.set(block.subarray(0, Math.min(SHA256_BYTES, length - at)), at);
  }
  return output;
}

/** Extract, then expand. */
export function hkdf(salt: Uint8Array, inputKey: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  return hkdfExpand(hkdfExtract(salt, inputKey), info, length);
}

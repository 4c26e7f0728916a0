/** Stands in for `crypto/bls.ts` in simulations. */
import { decodePoint, digest, encodePoint, mod, scalarOf, secretOf } from "./group.ts";

export const BLS_DST = "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
export const BLS_PUBLIC_BYTES = 48;
export const BLS_SIGNATURE_BYTES = 96;

const RESULTS = new Map<string, boolean>();
const RESULTS_KEPT = 8192;

function hashed(message: Uint8Array): bigint {
  return scalarOf(BLS_DST, message);
}

export function blsPublicKey(secret: Uint8Array): Uint8Array {
  return encodePoint(48, secretOf(secret));
}

export function blsSign(secret: Uint8Array, message: Uint8Array): Uint8Array {
  return encodePoint(96, mod(secretOf(secret) * hashed(message)));
}

export function blsVerify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== BLS_PUBLIC_BYTES || signature.length !== BLS_SIGNATURE_BYTES) return false;
  const name = digest(publicKey, message, signature).toString("latin1");
  const known = RESULTS.get(name);
  if (known !== undefined) return known;
  const key = decodePoint(48, publicKey);
  const point = decodePoint(96, signature);
  const holds = key !== undefined && point !== undefined && mod(key * hashed(message)) === point;
  RESULTS.set(name, holds);
  if (RESULTS.size > RESULTS_KEPT) RESULTS.clear();
  return holds;
}

export function isBlsPublicKey(publicKey: Uint8Array): boolean {
  return decodePoint(48, publicKey) !== undefined;
}

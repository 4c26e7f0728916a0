/** Stands in for `crypto/secp256k1.ts` in simulations: signatures name their signer and are a keyed hash. */
import { keccak_256 } from "@noble/hashes/sha3.js";
import { bigintOf, digest } from "./group.ts";

export const ECDSA_SIGNATURE_BYTES = 65;
export const ECDSA_SECRET_BYTES = 32;

/** Address → secret. */
const SECRETS = new Map<string, Uint8Array>();

export function keccak256(data: Uint8Array): Uint8Array {
  return keccak_256(data);
}

export function addressOfSecret(secret: Uint8Array): Uint8Array {
  if (secret.length !== ECDSA_SECRET_BYTES || bigintOf(secret) === 0n) {
    throw new RangeError("secp256k1 secret out of range");
  }
  const address = new Uint8Array(digest("secp256k1/address", secret).subarray(12));
  SECRETS.set(Buffer.from(address).toString("latin1"), secret.slice());
  return address;
}

export function signDigest(secret: Uint8Array, message: Uint8Array): Uint8Array {
  if (message.length !== 32) throw new RangeError("digest: 32 bytes expected");
  const out = new Uint8Array(ECDSA_SIGNATURE_BYTES);
  // Neither half begins with a zero byte, as minimal integers want it.
  out.set(addressOfSecret(secret), 1);
  out[0] = 1;
  out.set(digest("secp256k1/signature", secret, message), 32);
  out[32] = (out[32] ?? 0) | 1;
  out[64] = 27;
  return out;
}

export function recoverAddress(message: Uint8Array, signature: Uint8Array): Uint8Array | undefined {
  if (message.length !== 32 || signature.length !== ECDSA_SIGNATURE_BYTES) return undefined;
  const address = signature.slice(1, 21);
  const secret = SECRETS.get(Buffer.from(address).toString("latin1"));
  if (secret === undefined) return undefined;
  return Buffer.compare(signDigest(secret, message), signature) === 0 ? address : undefined;
}

/**
 * BLS signatures in Ethereum's ciphersuite (draft-irtf-cfrg-bls-signature-05, minimal-pubkey-size, proof of
 * possession): public key 48 bytes in G1, signature 96 bytes in G2. Engine: blst; noble is the reference in tests.
 *
 * `fastAggregateVerify`-style use with keys that nobody has proved possession of is open to rogue keys; this file
 * verifies single signatures only. Group keys and their shares come from a ceremony that proves them.
 */
import { PublicKey, SecretKey, Signature, verify } from "@chainsafe/blst";
import { BoundedCache } from "./bounded-cache.ts";

export const BLS_DST = "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
export const BLS_PUBLIC_BYTES = 48;
export const BLS_SIGNATURE_BYTES = 96;

/**
 * A certificate is judged at the door and again in `apply`, by every stream that brings it: a pairing once is enough.
 * The result depends on the three byte strings alone, so remembering it changes nothing; 176 bytes a key.
 */
const RESULTS = new BoundedCache<boolean>(2048);
const PUBLIC_KEYS = new BoundedCache<PublicKey | "refused">(4096);

/** The 48-byte public key of a 32-byte secret scalar. @throws Error when it is 0 or not below the group order */
export function blsPublicKey(secret: Uint8Array): Uint8Array {
  return new Uint8Array(SecretKey.fromBytes(secret).toPublicKey().toBytes());
}

/** 96 bytes, deterministic. With a share as secret, a share of the signature. @throws Error as `blsPublicKey` */
export function blsSign(secret: Uint8Array, message: Uint8Array): Uint8Array {
  return new Uint8Array(SecretKey.fromBytes(secret).sign(message).toBytes());
}

/** Total: false for anything but a valid signature; infinity and points outside the subgroups are refused. */
export function blsVerify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== BLS_PUBLIC_BYTES || signature.length !== BLS_SIGNATURE_BYTES) return false;
  const key = PUBLIC_KEYS.getOrMake(publicKey, () => {
    try {
      return PublicKey.fromBytes(publicKey, true);
    } catch {
      return "refused";
    }
  });
  if (key === "refused") return false;
  return RESULTS.getOrMake(Buffer.concat([publicKey, signature, message]), () => {
    try {
      return verify(message, key, Signature.fromBytes(signature, true, true), false, false);
    } catch {
      return false;
    }
  });
}

/** Is this a key that `blsVerify` can ever accept? */
export function isBlsPublicKey(publicKey: Uint8Array): boolean {
  if (publicKey.length !== BLS_PUBLIC_BYTES) return false;
  try {
    PublicKey.fromBytes(publicKey, true);
    return true;
  } catch {
    return false;
  }
}

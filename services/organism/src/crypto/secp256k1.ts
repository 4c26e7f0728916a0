/** secp256k1 as Ethereum uses it, on noble: deterministic nonces (RFC 6979), low S only. */
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { keccak_256 } from "@noble/hashes/sha3.js";

export const ECDSA_SIGNATURE_BYTES = 65;
export const ECDSA_SECRET_BYTES = 32;

/** Keccak-256 as in Ethereum, 32 bytes. */
export function keccak256(data: Uint8Array): Uint8Array {
  return keccak_256(data);
}

/** The 20-byte address of a 32-byte secret. @throws RangeError when the secret is out of range */
export function addressOfSecret(secret: Uint8Array): Uint8Array {
  if (!secp256k1.utils.isValidSecretKey(secret)) throw new RangeError("secp256k1 secret out of range");
  return addressOfPoint(secp256k1.getPublicKey(secret, false));
}

/** r ‖ s ‖ v over a 32-byte digest, v = 27 or 28, s in the lower half. @throws RangeError on wrong lengths */
export function signDigest(secret: Uint8Array, digest: Uint8Array): Uint8Array {
  if (digest.length !== 32) throw new RangeError("digest: 32 bytes expected");
  if (!secp256k1.utils.isValidSecretKey(secret)) throw new RangeError("secp256k1 secret out of range");
  // noble's "recovered" format puts the recovery bit first.
  const signature = secp256k1.sign(digest, secret, { prehash: false, lowS: true, format: "recovered" });
  const out = new Uint8Array(ECDSA_SIGNATURE_BYTES);
  out.set(signature.subarray(1));
  out[64] = 27 + (signature[0] ?? 0);
  return out;
}

/** Total: the signer's 20-byte address, or undefined for anything malformed, high S or v other than 27 and 28. */
export function recoverAddress(digest: Uint8Array, signature: Uint8Array): Uint8Array | undefined {
  const v = signature[64];
  if (digest.length !== 32 || signature.length !== ECDSA_SIGNATURE_BYTES || (v !== 27 && v !== 28)) return undefined;
  try {
    const parsed = secp256k1.Signature.fromBytes(signature.subarray(0, 64), "compact").addRecoveryBit(v - 27);
    if (parsed.hasHighS()) return undefined;
    return addressOfPoint(parsed.recoverPublicKey(digest).toBytes(false));
  } catch {
    return undefined;
  }
}

function addressOfPoint(uncompressed: Uint8Array): Uint8Array {
  return keccak_256(uncompressed.subarray(1)).slice(12);
}

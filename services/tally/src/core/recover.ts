/** secp256k1 as Ethereum uses it: recover the 20-byte address behind a 65-byte signature. Engine: noble. */
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { ADDRESS_BYTES, keccak256, WORD_BYTES } from "./eip712.ts";

export const SIGNATURE_BYTES = 65;
/** Above this, `s` has a smaller twin that would also verify (EIP-2); OpenZeppelin's ECDSA refuses it, so do we. */
const S_MAX = secp256k1.Point.CURVE().n >> 1n;

/** `signature` is r (32) ‖ s (32) ‖ v (27 or 28). Undefined for anything that is not a low-s signature by somebody. */
export function recoverAddress(digest: Uint8Array, signature: Uint8Array): Uint8Array | undefined {
  if (digest.length !== WORD_BYTES || signature.length !== SIGNATURE_BYTES) return undefined;
  const v = signature[64];
  if (v !== 27 && v !== 28) return undefined;
  try {
    const parsed = secp256k1.Signature.fromBytes(signature.subarray(0, 64), "compact").addRecoveryBit(v - 27);
    if (parsed.s > S_MAX) return undefined;
    return keccak256(parsed.recoverPublicKey(digest).toBytes(false).subarray(1)).slice(-ADDRESS_BYTES);
  } catch {
    return undefined;
  }
}

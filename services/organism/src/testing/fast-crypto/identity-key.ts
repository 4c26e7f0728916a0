/** Stands in for `crypto/identity-key.ts` in simulations. */
import { decodePoint, encodePoint, mod, scalarOf, secretOf } from "./group.ts";
import { combineSignatures, type SignatureShare } from "./threshold.ts";

export const SUITES = {
  "unseal-slot": "LATTICE-UNSEAL-SLOT-V1_BLS12381G2_XMD:SHA-256_SSWU_RO_",
  "offer-slot": "LATTICE-OFFER-SLOT-V1_BLS12381G2_XMD:SHA-256_SSWU_RO_",
  "offer-bundle": "LATTICE-OFFER-BUNDLE-V1_BLS12381G2_XMD:SHA-256_SSWU_RO_",
  "offer-hint": "LATTICE-OFFER-HINT-V1_BLS12381G2_XMD:SHA-256_SSWU_RO_",
  "relay-payload": "LATTICE-RELAY-PAYLOAD-V1_BLS12381G2_XMD:SHA-256_SSWU_RO_",
  "drand-beacon": "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_NUL_",
} as const;
export type Suite = keyof typeof SUITES;

export const IDENTITY_KEY_BYTES = 96;
export const SEALING_KEY_BYTES = 48;

/** H(identity) of a suite. */
export function identityPoint(dst: string, identity: Uint8Array): bigint {
  return scalarOf(dst, identity);
}

export function identityShare(
  share: Uint8Array,
  suite: Suite,
  identity: Uint8Array,
  _random: (count: number) => Uint8Array,
): Uint8Array {
  return encodePoint(96, mod(secretOf(share) * identityPoint(SUITES[suite], identity)));
}

export function verifyIdentityShare(
  publicShare: Uint8Array,
  suite: Suite,
  identity: Uint8Array,
  share: Uint8Array,
): boolean {
  return verifyIdentityKey(publicShare, suite, identity, share);
}

export function combineIdentityKey(shares: readonly SignatureShare[], threshold: number): Uint8Array {
  return combineSignatures(shares, threshold);
}

export function verifyIdentityKey(
  sealingKey: Uint8Array,
  suite: Suite,
  identity: Uint8Array,
  key: Uint8Array,
): boolean {
  const left = decodePoint(48, sealingKey);
  const right = decodePoint(96, key);
  return left !== undefined && right !== undefined && mod(left * identityPoint(SUITES[suite], identity)) === right;
}

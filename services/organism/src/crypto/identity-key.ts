/**
 * Keys of identities: s·H(identity), made share by share by the committee that holds s (Boneh–Franklin 2001 with the
 * extraction done as threshold BLS). One share opens everything that is sealed to its identity, whatever the number.
 */
import { bls12_381 } from "@noble/curves/bls12-381.js";
import type { G1, G2 } from "mcl-wasm";
import { BoundedCache } from "./bounded-cache.ts";
import { fastEngine, parseG1, parseG2 } from "./engine.ts";
import { hashToG2 } from "./hash-to-curve.ts";
import { Fr, randomScalar, scalarFromBytes } from "./scalar.ts";
import { combineSignatures, type SignatureShare } from "./threshold.ts";

/** One hash-to-curve suite per use: a key made for one use opens nothing of another. */
export const SUITES = {
  "unseal-slot": "LATTICE-UNSEAL-SLOT-V1_BLS12381G2_XMD:SHA-256_SSWU_RO_",
  "offer-slot": "LATTICE-OFFER-SLOT-V1_BLS12381G2_XMD:SHA-256_SSWU_RO_",
  "offer-bundle": "LATTICE-OFFER-BUNDLE-V1_BLS12381G2_XMD:SHA-256_SSWU_RO_",
  "offer-hint": "LATTICE-OFFER-HINT-V1_BLS12381G2_XMD:SHA-256_SSWU_RO_",
  "relay-payload": "LATTICE-RELAY-PAYLOAD-V1_BLS12381G2_XMD:SHA-256_SSWU_RO_",
  /** drand's scheme `pedersen-bls-unchained`: identity = sha256(round as u64), the key is the beacon's signature. */
  "drand-beacon": "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_NUL_",
} as const;
export type Suite = keyof typeof SUITES;

export const IDENTITY_KEY_BYTES = 96;
export const SEALING_KEY_BYTES = 48;

const POINTS = new BoundedCache<G2>(1024);
let negatedGenerator: G1 | undefined;

/**
 * This member's 96-byte share of the key of `identity`. noble, with the secret blinded by a fresh scalar r:
 * (s + r)·H − r·H, since multiplication in a group with a cofactor is not blinded by the library.
 * @throws RangeError when the share is not a scalar
 */
export function identityShare(
  share: Uint8Array,
  suite: Suite,
  identity: Uint8Array,
  random: (count: number) => Uint8Array,
): Uint8Array {
  const secret = scalarFromBytes(share);
  const point = bls12_381.G2.Point.fromBytes(pointOf(suite, identity).serialize());
  for (;;) {
    const blind = randomScalar(random);
    const blinded = Fr.add(secret, blind);
    if (blinded === 0n) continue;
    return point.multiply(blinded).subtract(point.multiply(blind)).toBytes();
  }
}

/** Total: is this the share that the holder of `publicShare` (48 bytes) must make? */
export function verifyIdentityShare(
  publicShare: Uint8Array,
  suite: Suite,
  identity: Uint8Array,
  share: Uint8Array,
): boolean {
  return verifyIdentityKey(publicShare, suite, identity, share);
}

/** The 96-byte key from the first `threshold` shares, not verified: `verifyIdentityKey` is next. @throws ThresholdError */
export function combineIdentityKey(shares: readonly SignatureShare[], threshold: number): Uint8Array {
  return combineSignatures(shares, threshold);
}

/** Total: is `key` the one key of `identity` under `sealingKey`? e(sealingKey, H(identity)) = e(G, key). */
export function verifyIdentityKey(
  sealingKey: Uint8Array,
  suite: Suite,
  identity: Uint8Array,
  key: Uint8Array,
): boolean {
  const mcl = fastEngine();
  const parsedSealingKey = parseG1(sealingKey);
  const parsedKey = parseG2(key);
  if (parsedSealingKey === undefined || parsedKey === undefined) return false;
  negatedGenerator ??= parseG1(bls12_381.G1.Point.BASE.negate().toBytes());
  if (negatedGenerator === undefined) throw new Error("the generator does not parse");
  const left = mcl.millerLoop(parsedSealingKey, pointOf(suite, identity));
  const right = mcl.millerLoop(negatedGenerator, parsedKey);
  return mcl.finalExp(mcl.mul(left, right)).isOne();
}

function pointOf(suite: Suite, identity: Uint8Array): G2 {
  const name = Buffer.concat([Buffer.from(`${suite}\0`), identity]);
  return POINTS.getOrMake(name, () => hashToG2(identity, SUITES[suite]));
}

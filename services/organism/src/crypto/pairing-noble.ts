/** The reference pairing engine behind the sealing: noble, audited and slow (about 3.5 times mcl). */
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { numberToBytesBE } from "@noble/curves/utils.js";
import { concat } from "../codec/codec.ts";
import type { GtBase, IdentityPairing, PairingEngine } from "./pairing-engine.ts";

const { G1, G2, fields, pairing } = bls12_381;
type Fp12 = ReturnType<typeof pairing>;

/** Highest coefficient first: c1 before c0, c2 before c1 before c0, imaginary before real. */
function gtBytes({ c0, c1 }: Fp12): Uint8Array {
  const chunks = [c1.c2, c1.c1, c1.c0, c0.c2, c0.c1, c0.c0];
  return concat(...chunks.flatMap((fp2) => [numberToBytesBE(fp2.c1, 48), numberToBytesBE(fp2.c0, 48)]));
}

/** A point other than infinity, in the subgroup; undefined for anything else. */
function parsed<P extends { is0(): boolean; assertValidity(): void }>(
  fromBytes: (bytes: Uint8Array) => P,
  bytes: Uint8Array,
  length: number,
): P | undefined {
  if (bytes.length !== length) return undefined;
  try {
    const point = fromBytes(bytes);
    if (point.is0()) return undefined;
    point.assertValidity();
    return point;
  } catch {
    return undefined;
  }
}

export const NOBLE_PAIRINGS: PairingEngine = {
  name: "noble",
  target(sealingKey, dst, identity): GtBase | undefined {
    const key = parsed((bytes) => G1.Point.fromBytes(bytes), sealingKey, 48);
    if (key === undefined) return undefined;
    const base = pairing(key, G2.Point.fromAffine(G2.hashToCurve(identity, { DST: dst }).toAffine()));
    return { pow: (scalar) => gtBytes(fields.Fp12.pow(base, scalar)) };
  },
  identityKey(key): IdentityPairing | undefined {
    const point = parsed((bytes) => G2.Point.fromBytes(bytes), key, 96);
    if (point === undefined) return undefined;
    return {
      pair(head) {
        const other = parsed((bytes) => G1.Point.fromBytes(bytes), head, 48);
        return other && gtBytes(pairing(other, point));
      },
      free() {},
    };
  },
  timesGenerator: (scalar) => G1.Point.BASE.multiply(scalar).toBytes(),
};

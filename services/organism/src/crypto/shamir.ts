/**
 * Dealing a secret scalar t-of-n over the scalar field of BLS12-381 (Shamir 1979) with Feldman commitments in G1
 * (Feldman 1987). Everything here touches secrets and runs on noble.
 */
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { evaluationPoint, Fr, lagrangeAtZero, randomScalar, scalarFromBytes, scalarToBytes } from "./scalar.ts";

const { Point } = bls12_381.G1;

/** What a dealer makes. Member i holds `shares[i]` and nothing else of it is secret. */
export interface Dealing {
  /** 32-byte scalars, one a member, in member order. */
  readonly shares: readonly Uint8Array[];
  /** 48 bytes each: the coefficients times the generator, constant term first; `commitments[0]` is the public key. */
  readonly commitments: readonly Uint8Array[];
  /** 48 bytes each: every member's share times the generator, in member order. */
  readonly publicShares: readonly Uint8Array[];
}

/**
 * Splits a 32-byte scalar so that any `threshold` of `count` shares give it back and fewer say nothing.
 * @throws RangeError when the scalar is 0 or too large, or not 1 ≤ threshold ≤ count
 */
export function splitSecret(options: {
  readonly secret: Uint8Array;
  readonly threshold: number;
  readonly count: number;
  readonly random: (count: number) => Uint8Array;
}): Dealing {
  const { secret, threshold, count, random } = options;
  if (!Number.isSafeInteger(threshold) || !Number.isSafeInteger(count) || threshold < 1 || threshold > count) {
    throw new RangeError("1 <= threshold <= count expected");
  }
  for (;;) {
    const polynomial = [scalarFromBytes(secret)];
    while (polynomial.length < threshold) polynomial.push(randomScalar(random));
    const shares = Array.from({ length: count }, (_, index) => evaluate(polynomial, evaluationPoint(index)));
    // A share of 0 (odds 2^-255) would have the point at infinity as its public share: deal again.
    if (shares.includes(0n)) continue;
    return {
      shares: shares.map(scalarToBytes),
      commitments: polynomial.map((coefficient) => Point.BASE.multiply(coefficient).toBytes()),
      publicShares: shares.map((share) => Point.BASE.multiply(share).toBytes()),
    };
  }
}

/** A fresh 32-byte secret scalar. */
export function generateSecret(random: (count: number) => Uint8Array): Uint8Array {
  return scalarToBytes(randomScalar(random));
}

/** The 48-byte public key of a secret scalar or of a share. @throws RangeError when it is out of range */
export function publicOf(secret: Uint8Array): Uint8Array {
  return Point.BASE.multiply(scalarFromBytes(secret)).toBytes();
}

/** The secret again, from at least the threshold of shares. For ceremonies and tests; members never do this. */
export function recoverSecret(shares: readonly { readonly index: number; readonly share: Uint8Array }[]): Uint8Array {
  const weights = lagrangeAtZero(shares.map(({ index }) => index));
  let secret = 0n;
  for (const [i, { share }] of shares.entries()) {
    secret = Fr.add(secret, Fr.mul(weights[i] ?? 0n, scalarFromBytes(share)));
  }
  return scalarToBytes(secret);
}

/** Feldman's check: does `share` lie on the committed polynomial at member `index`? Total. */
export function isDealtShare(commitments: readonly Uint8Array[], index: number, share: Uint8Array): boolean {
  try {
    const expected = publicShareAt(commitments, index);
    return Buffer.from(publicOf(share)).equals(expected);
  } catch {
    return false;
  }
}

/** Member `index`'s 48-byte public share, from the commitments alone. @throws Error when a commitment is not in G1 */
export function publicShareAt(commitments: readonly Uint8Array[], index: number): Uint8Array {
  const x = evaluationPoint(index);
  let sum = Point.ZERO;
  for (const commitment of commitments.toReversed()) {
    sum = sum.multiplyUnsafe(x).add(Point.fromBytes(commitment));
  }
  return sum.toBytes();
}

function evaluate(polynomial: readonly bigint[], x: bigint): bigint {
  return polynomial.reduceRight((sum, coefficient) => Fr.add(Fr.mul(sum, x), coefficient), 0n);
}

/** Stands in for `crypto/shamir.ts` in simulations. */
import { bytesOf, decodePoint, encodePoint, mod, ORDER, scalarOf, secretOf, weightsAtZero } from "./group.ts";

export interface Dealing {
  readonly shares: readonly Uint8Array[];
  readonly commitments: readonly Uint8Array[];
  readonly publicShares: readonly Uint8Array[];
}

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
  const polynomial = [secretOf(secret)];
  while (polynomial.length < threshold) polynomial.push(scalarOf(random(48)));
  const shares = Array.from({ length: count }, (_, index) => {
    const x = BigInt(index) + 1n;
    return polynomial.reduceRight((sum, coefficient) => mod(sum * x + coefficient), 0n);
  });
  return {
    shares: shares.map(bytesOf),
    commitments: polynomial.map((coefficient) => encodePoint(48, coefficient)),
    publicShares: shares.map((share) => encodePoint(48, share)),
  };
}

export function generateSecret(random: (count: number) => Uint8Array): Uint8Array {
  return bytesOf(scalarOf(random(48)));
}

export function publicOf(secret: Uint8Array): Uint8Array {
  return encodePoint(48, secretOf(secret));
}

export function recoverSecret(shares: readonly { readonly index: number; readonly share: Uint8Array }[]): Uint8Array {
  const weights = weightsAtZero(shares.map(({ index }) => index));
  return bytesOf(shares.reduce((sum, { share }, at) => mod(sum + (weights[at] ?? 0n) * secretOf(share)), 0n));
}

export function isDealtShare(commitments: readonly Uint8Array[], index: number, share: Uint8Array): boolean {
  try {
    return Buffer.compare(publicOf(share), publicShareAt(commitments, index)) === 0;
  } catch {
    return false;
  }
}

export function publicShareAt(commitments: readonly Uint8Array[], index: number): Uint8Array {
  const x = BigInt(index) + 1n;
  const sum = commitments.reduceRight((value, commitment) => {
    const point = decodePoint(48, commitment);
    if (point === undefined) throw new Error("a commitment is no point");
    return mod(value * x + point);
  }, 0n);
  return encodePoint(48, sum % ORDER);
}

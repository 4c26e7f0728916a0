/** The scalar field of BLS12-381: 32 bytes big-endian outside, bigint inside. */
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { bytesToNumberBE, numberToBytesBE } from "@noble/curves/utils.js";

export const SCALAR_BYTES = 32;
/** Bytes that are reduced to one scalar: 48, so that the bias is below 2^-128 (RFC 9380 §5.1). */
export const WIDE_BYTES = 48;
export const Fr = bls12_381.fields.Fr;

/** @throws RangeError for anything but 32 bytes with 0 < value < group order */
export function scalarFromBytes(bytes: Uint8Array): bigint {
  const value = bytes.length === SCALAR_BYTES ? bytesToNumberBE(bytes) : 0n;
  if (value === 0n || value >= Fr.ORDER) throw new RangeError("scalar out of range");
  return value;
}

export function scalarToBytes(value: bigint): Uint8Array {
  return numberToBytesBE(Fr.create(value), SCALAR_BYTES);
}

/** 48 uniform bytes, reduced. */
export function wideScalar(bytes: Uint8Array): bigint {
  if (bytes.length !== WIDE_BYTES) throw new RangeError(`wide scalar: ${WIDE_BYTES} bytes expected`);
  return Fr.create(bytesToNumberBE(bytes));
}

/** A uniform scalar other than 0. */
export function randomScalar(random: (count: number) => Uint8Array): bigint {
  for (;;) {
    const value = wideScalar(random(WIDE_BYTES));
    if (value !== 0n) return value;
  }
}

/** Where member `index` (0-based) evaluates: x = index + 1, never 0. */
export function evaluationPoint(index: number): bigint {
  if (!Number.isSafeInteger(index) || index < 0) throw new RangeError("member index: 0, 1, 2 … expected");
  return BigInt(index) + 1n;
}

/**
 * The weights that turn shares of the members `indices` (0-based) into the value at 0: λ_i = Π_{j≠i} x_j / (x_j − x_i)
 * (Shamir 1979). @throws RangeError when an index repeats
 */
export function lagrangeAtZero(indices: readonly number[]): bigint[] {
  const points = indices.map(evaluationPoint);
  if (new Set(points).size !== points.length) throw new RangeError("member index repeats");
  return points.map((x, i) => {
    let numerator = 1n;
    let denominator = 1n;
    for (const [j, other] of points.entries()) {
      if (j === i) continue;
      numerator = Fr.mul(numerator, other);
      denominator = Fr.mul(denominator, Fr.sub(other, x));
    }
    return Fr.div(numerator, denominator);
  });
}

/**
 * Feldman commitments (Feldman 1987) as public data: sums, evaluations and Schnorr proofs of knowledge in G1 of BLS12-381,
 * on the fast engine (`initCrypto` first). Secrets are multiplied by noble and blst only.
 */
import { bls12_381 } from "@noble/curves/bls12-381.js";
import type { G1 } from "mcl-wasm";
import { concat, equalBytes } from "../codec/codec.ts";
import { blsPublicKey } from "../crypto/bls.ts";
import { fastEngine, parseG1 } from "../crypto/engine.ts";
import { hashToScalar } from "../crypto/hash-to-curve.ts";
import { evaluationPoint, Fr, SCALAR_BYTES, scalarFromBytes, scalarToBytes } from "../crypto/scalar.ts";

/** Challenge and response, 32 bytes each. */
export const PROOF_BYTES = 64;
const KNOWLEDGE_DST = "LATTICE-CEREMONY-KNOWLEDGE-V1";

const GENERATOR = bls12_381.G1.Point.BASE.toBytes();

/** Σ scalars[i] · points[i], 48 bytes each; undefined when a point is not in G1 or the sum is the point at infinity. */
export function combinePoints(points: readonly Uint8Array[], scalars: readonly bigint[]): Uint8Array | undefined {
  const mcl = fastEngine();
  const parsed: G1[] = [];
  for (const point of points) {
    const each = parseG1(point);
    if (each === undefined) return undefined;
    parsed.push(each);
  }
  if (parsed.length === 0 || parsed.length !== scalars.length) return undefined;
  const weights = scalars.map((value) => {
    const scalar = new mcl.Fr();
    scalar.setBigEndianMod(scalarToBytes(value));
    return scalar;
  });
  const sum = mcl.mulVec(parsed, weights);
  return sum.isZero() ? undefined : sum.serialize();
}

/** The polynomial through the points, in the exponent, at `at`: 48 bytes; undefined as `combinePoints`. */
export function interpolate(
  through: readonly { readonly x: bigint; readonly point: Uint8Array }[],
  at: bigint,
): Uint8Array | undefined {
  const weights = lagrangeAt(
    through.map(({ x }) => x),
    at,
  );
  return combinePoints(
    through.map(({ point }) => point),
    weights,
  );
}

/** λ_i = Π_{j≠i} (at − x_j) / (x_i − x_j), for different x_i. */
function lagrangeAt(points: readonly bigint[], at: bigint): bigint[] {
  return points.map((x, i) => {
    let numerator = 1n;
    let denominator = 1n;
    for (const [j, other] of points.entries()) {
      if (j === i) continue;
      numerator = Fr.mul(numerator, Fr.sub(at, other));
      denominator = Fr.mul(denominator, Fr.sub(x, other));
    }
    return Fr.div(numerator, denominator);
  });
}

/** The 48-byte public share of member `index` (0-based) under the commitments; undefined as `combinePoints`. */
export function publicShareOf(commitments: readonly Uint8Array[], index: number): Uint8Array | undefined {
  const x = evaluationPoint(index);
  let power = 1n;
  const powers = commitments.map(() => {
    const current = power;
    power = Fr.mul(power, x);
    return current;
  });
  return combinePoints(commitments, powers);
}

/** Feldman's check: is `share` (32 bytes) the committed polynomial's value for member `index`? Total. */
export function isShareOf(commitments: readonly Uint8Array[], index: number, share: Uint8Array): boolean {
  const expected = publicShareOf(commitments, index);
  if (expected === undefined) return false;
  try {
    return equalBytes(blsPublicKey(share), expected);
  } catch {
    return false;
  }
}

/**
 * A proof that its maker knows the discrete logarithm of `secret · G` (Schnorr 1991, made non-interactive over the
 * context: Fiat–Shamir with the statement in the hash). `nonce` is a secret scalar used for this statement only.
 */
export function proveKnowledge(secret: bigint, context: Uint8Array, nonce: bigint): Uint8Array {
  const publicKey = bls12_381.G1.Point.BASE.multiply(secret).toBytes();
  const announced = bls12_381.G1.Point.BASE.multiply(nonce).toBytes();
  const challenge = challengeOf(publicKey, announced, context);
  const response = Fr.add(nonce, Fr.mul(challenge, secret));
  return concat(scalarToBytes(challenge), scalarToBytes(response));
}

/** Total: does `proof` show knowledge of the logarithm of the 48-byte `publicKey`, in exactly this context? */
export function knows(publicKey: Uint8Array, context: Uint8Array, proof: Uint8Array): boolean {
  if (proof.length !== PROOF_BYTES) return false;
  let challenge: bigint;
  let response: bigint;
  try {
    challenge = scalarFromBytes(proof.subarray(0, SCALAR_BYTES));
    response = scalarFromBytes(proof.subarray(SCALAR_BYTES));
  } catch {
    return false;
  }
  const announced = combinePoints([GENERATOR, publicKey], [response, Fr.neg(challenge)]);
  return announced !== undefined && challengeOf(publicKey, announced, context) === challenge;
}

function challengeOf(publicKey: Uint8Array, announced: Uint8Array, context: Uint8Array): bigint {
  return hashToScalar([publicKey, announced, context], KNOWLEDGE_DST);
}

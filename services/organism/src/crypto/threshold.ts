/**
 * Threshold BLS (Boldyreva 2003): shares made by single members combine, by Lagrange interpolation in the exponent,
 * to the one signature of the group key. Public data only, so this runs on the fast engine (`initCrypto` first).
 *
 * Combining is optimistic: verify the result under the group key; look at shares one by one only when that fails.
 */
import { fastEngine, parseG1, parseG2 } from "./engine.ts";
import { lagrangeAtZero, scalarToBytes } from "./scalar.ts";

/** One member's 96-byte share of a signature or of an identity key; `index` is the member's, from 0. */
export interface SignatureShare {
  readonly index: number;
  readonly signature: Uint8Array;
}

/** Shares that cannot be combined. `index` names the member at fault, where one is. */
export class ThresholdError extends Error {
  override readonly name = "ThresholdError";
  readonly reason: "TOO_FEW" | "DUPLICATE_INDEX" | "MALFORMED_SHARE";
  readonly index: number | undefined;
  constructor(reason: ThresholdError["reason"], message: string, index?: number) {
    super(message);
    this.reason = reason;
    this.index = index;
  }
}

/**
 * The 96-byte group signature from the first `threshold` shares. Not verified here: use `blsVerify` or
 * `verifyIdentityKey` on the result. @throws ThresholdError
 */
export function combineSignatures(shares: readonly SignatureShare[], threshold: number): Uint8Array {
  const used = firstShares(shares, threshold);
  const mcl = fastEngine();
  const points = used.map(({ index, signature }) => {
    const point = parseG2(signature);
    if (point === undefined) throw new ThresholdError("MALFORMED_SHARE", `share ${index} is not in G2`, index);
    return point;
  });
  return mcl.mulVec(points, weights(used)).serialize();
}

/** The 48-byte group key from `threshold` public shares. @throws ThresholdError */
export function combinePublicShares(
  shares: readonly { readonly index: number; readonly publicShare: Uint8Array }[],
  threshold: number,
): Uint8Array {
  const used = firstShares(shares, threshold);
  const mcl = fastEngine();
  const points = used.map(({ index, publicShare }) => {
    const point = parseG1(publicShare);
    if (point === undefined) throw new ThresholdError("MALFORMED_SHARE", `public share ${index} is not in G1`, index);
    return point;
  });
  return mcl.mulVec(points, weights(used)).serialize();
}

function firstShares<S extends { readonly index: number }>(shares: readonly S[], threshold: number): readonly S[] {
  if (!Number.isSafeInteger(threshold) || threshold < 1) throw new RangeError("threshold: at least 1 expected");
  if (shares.length < threshold) {
    throw new ThresholdError("TOO_FEW", `${shares.length} shares, ${threshold} needed`);
  }
  const seen = new Set<number>();
  for (const { index } of shares) {
    if (seen.has(index)) throw new ThresholdError("DUPLICATE_INDEX", `member ${index} twice`, index);
    seen.add(index);
  }
  return shares.slice(0, threshold);
}

function weights(used: readonly { readonly index: number }[]) {
  const { Fr } = fastEngine();
  return lagrangeAtZero(used.map(({ index }) => index)).map((weight) => {
    const scalar = new Fr();
    scalar.setBigEndianMod(scalarToBytes(weight));
    return scalar;
  });
}

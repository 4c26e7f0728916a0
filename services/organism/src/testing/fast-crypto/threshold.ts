/** Stands in for `crypto/threshold.ts` in simulations. */
import { decodePoint, encodePoint, type Group, mod, weightsAtZero } from "./group.ts";

export interface SignatureShare {
  readonly index: number;
  readonly signature: Uint8Array;
}

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

export function combineSignatures(shares: readonly SignatureShare[], threshold: number): Uint8Array {
  return combine(
    96,
    shares.map(({ index, signature }) => ({ index, point: signature })),
    threshold,
  );
}

export function combinePublicShares(
  shares: readonly { readonly index: number; readonly publicShare: Uint8Array }[],
  threshold: number,
): Uint8Array {
  return combine(
    48,
    shares.map(({ index, publicShare }) => ({ index, point: publicShare })),
    threshold,
  );
}

function combine(
  group: Group,
  shares: readonly { readonly index: number; readonly point: Uint8Array }[],
  threshold: number,
): Uint8Array {
  if (!Number.isSafeInteger(threshold) || threshold < 1) throw new RangeError("threshold: at least 1 expected");
  if (shares.length < threshold) throw new ThresholdError("TOO_FEW", `${shares.length} shares, ${threshold} needed`);
  const seen = new Set<number>();
  for (const { index } of shares) {
    if (seen.has(index)) throw new ThresholdError("DUPLICATE_INDEX", `member ${index} twice`, index);
    seen.add(index);
  }
  const used = shares.slice(0, threshold);
  const weights = weightsAtZero(used.map(({ index }) => index));
  let sum = 0n;
  for (const [at, { index, point }] of used.entries()) {
    const scalar = decodePoint(group, point);
    if (scalar === undefined) throw new ThresholdError("MALFORMED_SHARE", `share ${index} is not a point`, index);
    sum = mod(sum + (weights[at] ?? 0n) * scalar);
  }
  return encodePoint(group, sum);
}

/** What a ceremony's deals come to: group keys, public shares, and each receiver's own shares. */
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { equalBytes } from "../codec/codec.ts";
import { Fr, lagrangeAtZero, scalarFromBytes, scalarToBytes } from "../crypto/scalar.ts";
import { combinePoints, publicShareOf } from "./commitments.ts";
import type { Deal } from "./message.ts";
import { type CeremonyPlan, dealersNeeded, type PlannedKey } from "./plan.ts";

/** One key that a ceremony has made or shared anew. Everything in it is public. */
export interface CeremonyKey {
  readonly name: string;
  readonly threshold: number;
  /** 48 bytes, in G1. */
  readonly publicKey: Uint8Array;
  /** 48 bytes each, by member index of the new roster. */
  readonly publicShares: readonly Uint8Array[];
  /** Participants whose deals are in it, ascending. */
  readonly dealers: readonly number[];
}

/** A key cannot be made from these deals. */
export interface KeyFailure {
  readonly key: string;
  readonly problem: string;
}

/** The dealers whose deals make the key: all good ones of a fresh key, the first `threshold` holders of an old one. */
function usedDealers(plan: CeremonyPlan, key: PlannedKey, good: readonly number[]): readonly number[] | undefined {
  if (good.length < dealersNeeded(plan, key)) return undefined;
  return key.source.type === "fresh" ? good : good.slice(0, key.source.threshold);
}

/** What each used deal counts: 1, or the old member's Lagrange coefficient (Desmedt–Jajodia 1997). */
function weightsOf(key: PlannedKey, used: readonly number[]): readonly bigint[] {
  const { source } = key;
  if (source.type === "fresh") return used.map(() => 1n);
  return lagrangeAtZero(
    used.map((dealer) => source.holders.find(({ participant }) => participant === dealer)?.index ?? -1),
  );
}

/** The public half of key `position` from the deals of `good` (participants, ascending). */
export function combineKey(
  plan: CeremonyPlan,
  position: number,
  key: PlannedKey,
  good: readonly number[],
  deals: ReadonlyMap<number, Deal>,
): CeremonyKey | KeyFailure {
  const used = usedDealers(plan, key, good);
  if (used === undefined) {
    return { key: key.name, problem: `${good.length} good dealers, ${dealersNeeded(plan, key)} needed` };
  }
  const weights = weightsOf(key, used);
  const dealt = used.map((dealer) => deals.get(dealer)?.parts.find((part) => part.key === position)?.commitments ?? []);
  const commitments: Uint8Array[] = [];
  for (let degree = 0; degree < key.threshold; degree++) {
    const sum = combinePoints(
      dealt.map((each) => each[degree] ?? new Uint8Array()),
      weights,
    );
    // The point at infinity: odds of 2^-255, or dealers who all know each other's secrets.
    if (sum === undefined) return { key: key.name, problem: "the deals cancel each other" };
    commitments.push(sum);
  }
  const publicShares = key.receivers.map((_, index) => publicShareOf(commitments, index));
  const [publicKey] = commitments;
  if (publicKey === undefined || !publicShares.every((share) => share !== undefined)) {
    return { key: key.name, problem: "the deals cancel each other" };
  }
  if (key.source.type === "reshare" && !equalBytes(publicKey, key.source.publicKey)) {
    return { key: key.name, problem: "the public key would change" };
  }
  return { name: key.name, threshold: key.threshold, publicKey, publicShares, dealers: used };
}

/**
 * A receiver's own 32-byte share of a key, from what the used dealers dealt it; checked against the public share.
 * @throws RangeError when a part is missing or the sum is not the share
 */
export function combineShare(
  key: PlannedKey,
  made: CeremonyKey,
  index: number,
  parts: ReadonlyMap<number, Uint8Array>,
): Uint8Array {
  const weights = weightsOf(key, made.dealers);
  const sum = made.dealers.reduce((total, dealer, i) => {
    const part = parts.get(dealer);
    if (part === undefined) throw new RangeError(`nothing was dealt by participant ${dealer}`);
    return Fr.add(total, Fr.mul(weights[i] ?? 0n, scalarFromBytes(part)));
  }, 0n);
  const share = scalarToBytes(sum);
  const publicShare = made.publicShares[index];
  const derived = bls12_381.G1.Point.BASE.multiply(scalarFromBytes(share)).toBytes();
  if (publicShare === undefined || !equalBytes(derived, publicShare))
    throw new RangeError(`${key.name}: not the share of member ${index}`);
  return share;
}

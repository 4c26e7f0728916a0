/**
 * From what a member has opened to what it tells the others: whose bundles to open next, or how the auction ends.
 * Pure; every honest member that opened the same bids says the same.
 */

import type { Infer } from "@lattice/organism/codec/codec.ts";
import { compareBytes, encode, toHex } from "@lattice/organism/codec/codec.ts";
import type { AUCTION_BODY } from "@lattice/organism/outcomes/offer.ts";
import { type AuctionRules, rank, type ValidBid, type Void } from "./auction.ts";
import { VERDICT } from "./codec.ts";
import type { Judged } from "./judgement.ts";
import type { Verdict } from "./types.ts";

export interface Opened {
  readonly rules: AuctionRules;
  /** Digest of BlindClosed, when blind bids take part. */
  readonly blind: Uint8Array | undefined;
  /** Bids whose values are valid. */
  readonly valid: readonly ValidBid[];
  /** Bids whose values are void. */
  readonly voids: readonly Void[];
  /** What the bundles opened so far turned out to be, by bid id in hex. */
  readonly bundles: ReadonlyMap<string, Judged<Uint8Array>>;
  /** True once the one reopening has been used. */
  readonly reopened: boolean;
}

/** A verdict without the body's hash, and the body it needs. */
export type Proposal =
  | { readonly type: "open"; readonly bidIds: readonly Uint8Array[] }
  | {
      readonly type: "final";
      readonly auction: Extract<Verdict, { type: "final" }>["auction"];
      /** In the winners' order. */
      readonly body: Infer<typeof AUCTION_BODY>;
    };

export function propose({ rules, blind, valid, voids, bundles, reopened }: Opened): Proposal {
  const badBundles = [...bundles.values()].flatMap((judged) => ("void" in judged ? [judged.void] : []));
  const bad = new Set(badBundles.map(({ bidId }) => toHex(bidId)));
  const ranking = rank(
    valid.filter((bid) => !bad.has(toHex(bid.bidId))),
    rules,
  );
  const unopened = ranking.winners.filter((winner) => !bundles.has(toHex(winner.bidId)));
  if (unopened.length > 0 && !reopened) {
    return { type: "open", bidIds: unopened.map(({ bidId }) => bidId).sort(compareBytes) };
  }
  // After the one reopening, whoever would move up next stays sealed: the place remains empty.
  const winners = ranking.winners.filter((winner) => bundles.has(toHex(winner.bidId)));
  const referenced = new Set(winners.flatMap((winner) => winner.references.map(toHex)));
  const body = winners.flatMap(({ bidId }) => {
    const judged = bundles.get(toHex(bidId));
    return judged !== undefined && "valid" in judged ? [{ bidId, bundle: judged.valid }] : [];
  });
  return {
    type: "final",
    auction: {
      version: 1,
      rule: rules.rule,
      blind,
      winners: [...winners],
      blindBids: ranking.blindBids,
      seenBids: ranking.seenBids,
      rivals: ranking.rivals.filter(({ messageId }) => referenced.has(toHex(messageId))),
      voids: [...voids, ...badBundles].sort((a, b) => compareBytes(a.bidId, b.bidId)),
    },
    body,
  };
}

export function encodeVerdict(verdict: Verdict): Uint8Array {
  return encode(VERDICT, verdict);
}

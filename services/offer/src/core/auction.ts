/**
 * The auction rules: pure functions from valid bids to winners and prices. Nothing here knows of keys, logs or
 * bundles; the rules themselves are data from the lattice config.
 *
 * blind: the highest amounts take the top of the block. seen: greedy by value. tail: one bid for the end of the
 * block. Prices: first-price is the amount; second-price is uniform, the highest amount that did not win in the
 * class (Vickrey's rule for several equal items), never below the reserve. Ties go to the lower H(slot key ‖ bid id),
 * which nobody could know while bidding was open.
 */
import { compareBytes, equalBytes, fixed, struct, toHex } from "@lattice/organism/codec/codec.ts";
import { hash } from "@lattice/organism/crypto/hash.ts";
import { G2_BYTES, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { AuctionCommitment, BidClass, Winner } from "@lattice/organism/outcomes/offer.ts";

/** A bid whose value layer opened and broke no rule. */
export interface ValidBid {
  readonly bidId: Uint8Array;
  readonly paymentId: Uint8Array;
  readonly class: BidClass;
  readonly searcher: Uint8Array;
  readonly escrowAccount: Uint8Array;
  readonly amountWei: bigint;
  readonly references: readonly Uint8Array[];
  readonly bundleCommitment: Uint8Array;
  /** `tieBreaker` of this bid. */
  readonly tie: Uint8Array;
}

export type Void = AuctionCommitment["voids"][number];
export type VoidReason = Void["reason"];
export type Rival = AuctionCommitment["rivals"][number];

export interface AuctionRules {
  readonly rule: "first-price" | "second-price";
  readonly reserveWei: bigint;
  /** How many bids win in each class. */
  readonly winnersMax: { readonly [C in BidClass]: number };
}

/** The outcome's format has room for 64 winners; the classes share it. */
const BLIND_WINNERS_CEILING = 31;
const SEEN_WINNERS_CEILING = 32;

export function rulesOf(config: LatticeConfig): AuctionRules {
  const { rule, reserveWei, blindWinnersMax, seenWinnersMax } = config.offer.content;
  return {
    rule,
    reserveWei,
    winnersMax: {
      blind: Math.min(blindWinnersMax, BLIND_WINNERS_CEILING),
      seen: Math.min(seenWinnersMax, SEEN_WINNERS_CEILING),
      tail: 1,
    },
  };
}

/** Who wins, at which price, against how much competition. */
export interface Ranking {
  /** Blind, then seen, then tail; by falling amount within each. */
  readonly winners: readonly Winner[];
  readonly blindBids: number;
  readonly seenBids: number;
  /** For every message that a seen winner references, ascending by id. */
  readonly rivals: readonly Rival[];
}

const IN_ORDER: readonly BidClass[] = ["blind", "seen", "tail"];

/** Does not depend on the order of `bids`. */
export function rank(bids: readonly ValidBid[], rules: AuctionRules): Ranking {
  const inClass = (wanted: BidClass): ValidBid[] => bids.filter((bid) => bid.class === wanted).sort(byAmountThenTie);
  const winners = IN_ORDER.flatMap((wanted) => winnersOf(inClass(wanted), rules.winnersMax[wanted], rules));
  const seen = inClass("seen");
  return { winners, blindBids: inClass("blind").length, seenBids: seen.length, rivals: rivalsOf(winners, seen) };
}

function winnersOf(sorted: readonly ValidBid[], most: number, rules: AuctionRules): Winner[] {
  const bestLoser = sorted[most]?.amountWei ?? 0n;
  const secondPrice = bestLoser > rules.reserveWei ? bestLoser : rules.reserveWei;
  return sorted.slice(0, most).map((bid) => ({
    bidId: bid.bidId,
    paymentId: bid.paymentId,
    class: bid.class,
    searcher: bid.searcher,
    escrowAccount: bid.escrowAccount,
    amountWei: bid.amountWei,
    clearingWei: rules.rule === "first-price" ? bid.amountWei : secondPrice,
    references: [...bid.references],
    bundleCommitment: bid.bundleCommitment,
  }));
}

/** What tally weighs refunds by: the highest valid seen bid that does without the message (protocols.md §6). */
function rivalsOf(winners: readonly Winner[], seen: readonly ValidBid[]): Rival[] {
  const referenced = new Map<string, Uint8Array>();
  for (const winner of winners) for (const id of winner.references) referenced.set(toHex(id), id);
  const messages = [...referenced.values()].sort(compareBytes);
  return messages.map((messageId) => ({
    messageId,
    highestOtherWei: seen.find((bid) => !bid.references.some((id) => equalBytes(id, messageId)))?.amountWei ?? 0n,
  }));
}

function byAmountThenTie(a: ValidBid, b: ValidBid): number {
  if (a.amountWei !== b.amountWei) return a.amountWei > b.amountWei ? -1 : 1;
  return compareBytes(a.tie, b.tie) || compareBytes(a.bidId, b.bidId);
}

const TIE = struct({ slotKey: fixed(G2_BYTES), bidId: fixed(32) });

/** H(slot key ‖ bid id), 32 bytes. @param slotKey 96 bytes, compressed G2 */
export function tieBreaker(slotKey: Uint8Array, bidId: Uint8Array): Uint8Array {
  return hash("lattice/offer/tie/v1", TIE, { slotKey, bidId });
}

/** What offer publishes: the closed set of blind bids, and the auction's outcome. Canonical formats. */
import {
  bytes,
  type Codec,
  count,
  fixed,
  type Infer,
  list,
  literal,
  oneOf,
  optional,
  struct,
  u256,
  union,
} from "../codec/codec.ts";
import { RAW_TRANSACTION_BYTES_MAX } from "./unseal.ts";

export const OFFER_STAGES = ["blind", "auction"] as const;

/** blind: top of the block, final once closed. seen: after the last pool message. tail: end of the block, no references. */
export type BidClass = "blind" | "seen" | "tail";
const BID_CLASS = oneOf("blind", "seen", "tail");

/** Commitment of stage `blind`: certified before unseal may freeze. */
export const BLIND_CLOSED = struct({
  version: literal(1),
  /** Ascending. */
  bidIds: list(fixed(32), 4096),
});
export type BlindClosed = Infer<typeof BLIND_CLOSED>;

/** A bundle, as its searcher sealed it. */
export const BUNDLE = struct({
  version: literal(1),
  items: list(
    union({
      /** A raw signed transaction of the searcher's own, or of others if before it. */
      transaction: struct({ raw: bytes(RAW_TRANSACTION_BYTES_MAX) }),
      /** A pool message of this slot, spliced in by atelier. */
      reference: struct({ messageId: fixed(16) }),
    }),
    64,
  ),
  /** Hashes of transactions that may revert (seen class). */
  mayRevert: list(fixed(32), 64),
  refundRecipient: optional(fixed(20)),
});
export type Bundle = Infer<typeof BUNDLE>;

export const WINNER = struct({
  bidId: fixed(32),
  /**
   * What the bundle names when it pays the settlement contract: `payBid(slot, paymentId)`. Known before the bundle is
   * sealed (the bid id is not: it hashes the sealed bundle), unique because nonces are single-use.
   */
  paymentId: fixed(32),
  class: BID_CLASS,
  searcher: fixed(20),
  escrowAccount: fixed(20),
  /** What the sealed value layer said. */
  amountWei: u256,
  /** What the rule charges. */
  clearingWei: u256,
  references: list(fixed(16), 64),
  bundleCommitment: fixed(32),
});
export type Winner = Infer<typeof WINNER>;

/** Commitment of stage `auction`. Winners in execution order within their class. */
export const AUCTION = struct({
  version: literal(1),
  rule: oneOf("first-price", "second-price"),
  /** Digest of the BlindClosed outcome the blind winners come from. */
  blind: optional(fixed(32)),
  winners: list(WINNER as Codec<Winner>, 64),
  /** Valid bids per class: how much competition there was. */
  blindBids: count,
  seenBids: count,
  /** Per referenced message: the highest valid bid that does not reference it (tally's refund weights). */
  rivals: list(struct({ messageId: fixed(16), highestOtherWei: u256 }), 65_536),
  voids: list(
    struct({
      bidId: fixed(32),
      account: fixed(20),
      chargeWei: u256,
      reason: oneOf(
        "value-malformed",
        "bundle-malformed",
        "commitment-mismatch",
        "below-reserve",
        "above-cap",
        "unknown-reference",
      ),
    }),
    4096,
  ),
});
export type AuctionCommitment = Infer<typeof AUCTION>;

/** Body of stage `auction`: the winning bundles only. For admitted atelier members until the slot has landed. */
export const AUCTION_BODY = list(struct({ bidId: fixed(32), bundle: bytes(262_144) }), 64);

/**
 * The sealed bid as it travels: what it says in clear, two sealed layers, and the searcher's signature
 * (protocols.md §3). Canonical encoding; the bid id names it everywhere.
 */
import {
  bytes,
  type Codec,
  encode,
  equalBytes,
  fixed,
  type Infer,
  list,
  literal,
  oneOf,
  struct,
  tryDecode,
  u64,
  u256,
} from "@lattice/organism/codec/codec.ts";
import { TICKET_BYTES_MAX } from "@lattice/organism/committee/ticket.ts";
import { hash, hashBytes } from "@lattice/organism/crypto/hash.ts";
import type { BidClass } from "@lattice/organism/outcomes/offer.ts";
import { BUNDLE_BYTES_MAX, bundleLayerBytes, VALUE_LAYER_BYTES } from "./layers.ts";

export const BID_CLASSES: readonly BidClass[] = ["blind", "seen", "tail"];
export const BID_CLASS: Codec<BidClass> = oneOf("blind", "seen", "tail");

/** One ticket for each rule of the lattice's admission list for offer, so none where that is empty. */
export const TICKETS_MAX = 4;

/** What makes a bid this one and no other: both layers are bound to it. */
export const BID_CONTEXT = struct({
  committee: fixed(32),
  epoch: u64,
  slot: u64,
  class: BID_CLASS,
  searcher: fixed(20),
  /** Chosen by the searcher, used once per slot. */
  nonce: u64,
});
export type BidContext = Infer<typeof BID_CONTEXT>;

/** Sizes are constant per class: there is always a replacement field, all zero when there is nothing to replace. */
const BID_BODY = struct({
  version: literal(1),
  context: BID_CONTEXT as Codec<BidContext>,
  escrowAccount: fixed(20),
  /** An upper bound of what the bid may cost: coarse, so that it says little about the sealed amount. */
  capWei: u256,
  /** Of the searcher's live bids with one id, the highest nonce stands; id zero: not replaceable. */
  replacement: struct({ id: fixed(16), nonce: u64 }),
  tickets: list(bytes(TICKET_BYTES_MAX), TICKETS_MAX),
  valueLayer: fixed(VALUE_LAYER_BYTES),
  bundleLayer: bytes(bundleLayerBytes(BUNDLE_BYTES_MAX)),
});
export type BidBody = Infer<typeof BID_BODY>;

const SIGNED_BID = struct({
  body: bytes(TICKETS_MAX * (TICKET_BYTES_MAX + 4) + VALUE_LAYER_BYTES + bundleLayerBytes(BUNDLE_BYTES_MAX) + 1024),
  /** r ‖ s ‖ v, low s, v 27 or 28, over `bidId`. */
  signature: fixed(65),
});

/** A bid taken apart. */
export interface SealedBid {
  /** H/"lattice/offer/bid/v1"(body): 32 bytes; what the searcher signs. */
  readonly id: Uint8Array;
  readonly body: BidBody;
  readonly signature: Uint8Array;
}

export function bidId(bodyBytes: Uint8Array): Uint8Array {
  return hashBytes("lattice/offer/bid/v1", bodyBytes);
}

export function encodeBidBody(body: BidBody): Uint8Array {
  return encode(BID_BODY, body);
}

export function encodeBid(bodyBytes: Uint8Array, signature: Uint8Array): Uint8Array {
  return encode(SIGNED_BID, { body: bodyBytes, signature });
}

/** Undefined for anything that is not exactly one bid. */
export function parseBid(raw: Uint8Array): SealedBid | undefined {
  const signed = tryDecode(SIGNED_BID, raw);
  const body = signed === undefined ? undefined : tryDecode(BID_BODY, signed.body);
  return signed === undefined || body === undefined
    ? undefined
    : { id: bidId(signed.body), body, signature: signed.signature };
}

/** The largest bid the lattice takes: its bundle layer has exactly one size. */
export function bidBytesMax(bundleBytes: number): number {
  const empty: BidBody = {
    version: 1,
    context: {
      committee: new Uint8Array(32),
      epoch: 0n,
      slot: 0n,
      class: "blind",
      searcher: new Uint8Array(20),
      nonce: 0n,
    },
    escrowAccount: new Uint8Array(20),
    capWei: 0n,
    replacement: { id: new Uint8Array(16), nonce: 0n },
    tickets: [],
    valueLayer: new Uint8Array(VALUE_LAYER_BYTES),
    bundleLayer: new Uint8Array(bundleLayerBytes(bundleBytes)),
  };
  return encodeBid(encodeBidBody(empty), new Uint8Array(65)).length + TICKETS_MAX * (TICKET_BYTES_MAX + 4);
}

const NO_REPLACEMENT = new Uint8Array(16);

/** True when the bid names something it replaces, or may be replaced by. */
export function isReplaceable(body: Pick<BidBody, "replacement">): boolean {
  return !equalBytes(body.replacement.id, NO_REPLACEMENT);
}

const SLOT_IDENTITY = struct({ committee: fixed(32), epoch: u64, slot: u64 });

/** The identity that values are sealed to: one key opens all values of the slot, and no bundle. */
export function slotIdentity(context: Pick<BidContext, "committee" | "epoch" | "slot">): Uint8Array {
  const { committee, epoch, slot } = context;
  return hash("lattice/offer/slot-id/v1", SLOT_IDENTITY, { committee, epoch, slot });
}

/** The identity that one bid's bundle is sealed to. Nonces are single-use, so no two bids share it. */
export function bundleIdentity(context: BidContext): Uint8Array {
  return hash("lattice/offer/bundle-id/v1", BID_CONTEXT, context);
}

/** What this bid's transactions name when they pay: `payBid(slot, paymentId)`. Unique, since nonces are single-use. */
export function paymentId(context: BidContext): Uint8Array {
  return hash("lattice/offer/payment-id/v1", BID_CONTEXT, context);
}

const VALUE_AAD = struct({ context: BID_CONTEXT as Codec<BidContext>, bundleHash: fixed(32) });

/** Binds the value layer to the bid and to its bundle ciphertext: copied into another bid, it opens to nothing. */
export function valueAad(context: BidContext, bundleLayer: Uint8Array): Uint8Array {
  return encode(VALUE_AAD, { context, bundleHash: hashBytes("lattice/offer/bundle-layer/v1", bundleLayer) });
}

/**
 * Binds the bundle layer to the bid. It cannot name its own hash as the value layer does: the Fujisaki-Okamoto
 * randomness, so the ciphertext itself, depends on this aad.
 */
export function bundleAad(context: BidContext): Uint8Array {
  return encode(BID_CONTEXT, context);
}

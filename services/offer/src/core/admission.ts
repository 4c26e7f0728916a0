/**
 * Which bids are let in. Judged twice with the same code: at the door, so that hopeless bids do not fill the log,
 * and in `apply`, where it counts. Everything here may be said at once: it depends on nobody else's sealed bid.
 */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { checkTickets } from "@lattice/organism/committee/ticket.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { type Refusal, refuse } from "@lattice/organism/machine.ts";
import type { BidClass } from "@lattice/organism/outcomes/offer.ts";
import { type BidBody, bidBytesMax, isReplaceable, parseBid, type SealedBid } from "./bid.ts";
import { isAuthorised, uncommitted } from "./escrow.ts";
import { bundleLayerBytes } from "./layers.ts";
import { bidsPerSlotMax, STANDINGS_MAX, SUBMISSIONS_PER_BID } from "./limits.ts";
import { type Cancel, cancelDigest, isSignedBy } from "./requests.ts";
import type { LiveBid, SlotState, State } from "./types.ts";

/** What the judge needs to know of the committee's state. */
export interface AdmissionContext {
  rosterAt(slot: bigint): Pick<Roster, "epoch" | "activationSlot" | "sealingUntilSlot">;
  /** True while the stage of the slot is undecided and within the window. */
  open(stage: "blind" | "auction", slot: bigint): boolean;
  /** True once an UnsealedRound, with messages or without, has been observed for the slot. */
  unsealed(slot: bigint): boolean;
}

/** A bid that may enter, and the one it replaces. */
export interface Admitted {
  readonly bid: SealedBid;
  readonly replaces: LiveBid | undefined;
}

export interface Admission {
  bid(state: State, raw: Uint8Array, context: AdmissionContext): Admitted | Refusal;
  cancel(state: State, cancel: Cancel, context: AdmissionContext): LiveBid | Refusal;
}

export function isRefusal(value: object): value is Refusal {
  return "reason" in value;
}

export function createAdmission(config: LatticeConfig): Admission {
  const committee = committeeId(config, "offer");
  const { bundleBytes, bidsPerSearcherMax, reserveWei } = config.offer.content;
  const layerBytes = bundleLayerBytes(bundleBytes);
  const slotCapacity = bidsPerSlotMax(bidBytesMax(bundleBytes));

  function judge(state: State, raw: Uint8Array, context: AdmissionContext): Admitted | Refusal {
    const bid = parseBid(raw);
    if (bid === undefined) return refuse("BID_MALFORMED", "the bytes are not one sealed bid");
    const { body } = bid;
    const { slot, searcher, class: bidClass } = body.context;
    if (!equalBytes(body.context.committee, committee))
      return refuse("WRONG_COMMITTEE", "sealed for another committee");
    const { epoch, activationSlot, sealingUntilSlot } = context.rosterAt(slot);
    if (body.context.epoch !== epoch) return refuse("WRONG_EPOCH", `sealed for epoch ${body.context.epoch}`);
    if (slot < activationSlot || slot > sealingUntilSlot) {
      return refuse("WRONG_EPOCH", `the sealing key of epoch ${epoch} does not serve slot ${slot}`);
    }
    if (body.bundleLayer.length !== layerBytes) {
      return refuse("BID_SIZE", `a bundle layer of ${body.bundleLayer.length} bytes, ${layerBytes} expected`);
    }
    const slotState = state.slots.get(slot);
    const closed = closedFor(bidClass, slot, slotState, context);
    if (closed !== undefined) return closed;
    if (slotState?.standings.has(toHex(bid.id)) === true) return refuse("DUPLICATE", "this bid is in the log already");
    const nonces = slotState?.nonces.get(toHex(searcher)) ?? [];
    if (nonces.includes(body.context.nonce))
      return refuse("NONCE_USED", `nonce ${body.context.nonce} was used this slot`);
    if (nonces.length >= bidsPerSearcherMax * SUBMISSIONS_PER_BID) {
      return refuse("TOO_MANY_BIDS", `${nonces.length} bids of this searcher have been taken this slot`);
    }
    const mine = [...(slotState?.bids.values() ?? [])].filter((other) => equalBytes(other.context.searcher, searcher));
    const replaces = isReplaceable(body) ? mine.find((other) => sameSeries(other, body)) : undefined;
    if (replaces !== undefined && replaces.replacement.nonce >= body.replacement.nonce) {
      return refuse("REPLACEMENT_NOT_NEWER", `replacement nonce ${replaces.replacement.nonce} stands`);
    }
    if (replaces === undefined && mine.length >= bidsPerSearcherMax) {
      return refuse("TOO_MANY_BIDS", `at most ${bidsPerSearcherMax} live bids per searcher and slot`);
    }
    const full = replaces === undefined && (slotState?.bids.size ?? 0) >= slotCapacity;
    if (full || (slotState?.standings.size ?? 0) >= STANDINGS_MAX) {
      return refuse("AUCTION_FULL", `at most ${slotCapacity} live bids per slot`);
    }
    const covered = cover(state, body, replaces, reserveWei);
    if (covered !== undefined) return covered;
    const expected = { audience: committee, subject: searcher, slot, throwAway: config.throwAway };
    const ticket = checkTickets(config.offer.acl, body.tickets, expected);
    if (!ticket.admitted) return ticket.refusal;
    if (!isSignedBy(searcher, bid.id, bid.signature))
      return refuse("BAD_SIGNATURE", "not signed by the named searcher");
    return { bid, replaces };
  }

  function judgeCancel(state: State, cancel: Cancel, context: AdmissionContext): LiveBid | Refusal {
    const { terms, signature } = cancel;
    if (!equalBytes(terms.committee, committee))
      return refuse("WRONG_COMMITTEE", "the request is for another committee");
    const slotState = state.slots.get(terms.slot);
    const bid = slotState?.bids.get(toHex(terms.bidId));
    if (slotState === undefined || bid === undefined) return refuse("BID_UNKNOWN", "no such live bid in that slot");
    if (bid.context.class === "blind") return refuse("BID_FINAL", "blind bids are not cancelled");
    if (slotState.phase !== "bidding" || !context.open("auction", terms.slot)) {
      return refuse("CLASS_CLOSED", "the seen close has passed");
    }
    if (!isSignedBy(bid.context.searcher, cancelDigest(terms), signature)) {
      return refuse("BAD_SIGNATURE", "not signed by the bid's searcher");
    }
    return bid;
  }

  return { bid: judge, cancel: judgeCancel };
}

/** Blind: until the blind close. Seen and tail: from the UnsealedRound to the seen close. */
function closedFor(
  bidClass: BidClass,
  slot: bigint,
  slotState: SlotState | undefined,
  context: AdmissionContext,
): Refusal | undefined {
  if (bidClass === "blind") {
    const open = context.open("blind", slot) && slotState?.blindClosed !== true;
    return open ? undefined : refuse("CLASS_CLOSED", `blind bidding for slot ${slot} is not open`);
  }
  if (!context.open("auction", slot) || (slotState !== undefined && slotState.phase !== "bidding")) {
    return refuse("CLASS_CLOSED", `${bidClass} bidding for slot ${slot} is not open`);
  }
  return context.unsealed(slot)
    ? undefined
    : refuse("CLASS_NOT_OPEN", `slot ${slot} has not been unsealed: ${bidClass} bidding starts then`);
}

function sameSeries(other: LiveBid, body: BidBody): boolean {
  return other.context.class === body.context.class && equalBytes(other.replacement.id, body.replacement.id);
}

function cover(state: State, body: BidBody, replaces: LiveBid | undefined, reserveWei: bigint): Refusal | undefined {
  const { searcher, slot } = body.context;
  if (body.capWei < reserveWei) return refuse("CAP_BELOW_RESERVE", `the reserve is ${reserveWei} wei`);
  if (!isAuthorised(state, body.escrowAccount, searcher, slot)) {
    return refuse("ACCOUNT_NOT_AUTHORISED", "the account has not authorised this searcher for that slot");
  }
  const left = uncommitted(state, body.escrowAccount, slot, replaces?.id);
  if (left === undefined) return refuse("ESCROW_UNKNOWN", "no recent certified reading of the account's escrow");
  return body.capWei > left
    ? refuse("OVER_ESCROW", "the cap is above what is left of the account's escrow")
    : undefined;
}

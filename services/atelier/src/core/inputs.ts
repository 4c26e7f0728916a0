/** From upstream outcomes to what a block is built from. Everything here is certified; bodies were fetched by hash. */
import { decode, equalBytes, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { AUCTION, AUCTION_BODY, BUNDLE, type Winner } from "@lattice/organism/outcomes/offer.ts";
import { contentHash, MESSAGE_CONTENT, UNSEALED, UNSEALED_BODY } from "@lattice/organism/outcomes/unseal.ts";
import type { BlockAttributes } from "./candidate.ts";
import type { PoolMessage, WinningBundle } from "./order.ts";

/** The rules of this lattice; from its config. */
export interface BuildRules {
  /** Share of block gas that blind winners may claim, basis points. */
  readonly blindGasBps: number;
  readonly carrySlots: bigint;
  /** Settlement contract, 20 bytes. */
  readonly settlement: Uint8Array;
}

/** Everything a candidate is a function of, besides the parent's state. */
export interface BuildInputs {
  readonly slot: bigint;
  readonly candidateVersion: number;
  readonly attributes: BlockAttributes;
  readonly rules: BuildRules;
  /** Digests of the outcomes that pool and bundles come from. */
  readonly unsealed?: Uint8Array;
  readonly auction?: Uint8Array;
  /** Opened in earlier slots, not landed. */
  readonly carried: readonly PoolMessage[];
  readonly pool: readonly PoolMessage[];
  /** Winners in the auction's order. */
  readonly bundles: readonly WinningBundle[];
}

/** A body that does not belong to its commitment: whoever served it is wrong, the outcome is not. */
export class BodyMismatch extends Error {
  override readonly name = "BodyMismatch";
}

/**
 * The messages of an UnsealedRound, in unseal order.
 * @throws CodecError when either does not decode; BodyMismatch when they do not belong together
 */
export function poolMessages(slot: bigint, commitment: Uint8Array, body: Uint8Array): PoolMessage[] {
  const { messages } = decode(UNSEALED, commitment);
  const contents = decode(UNSEALED_BODY, body);
  if (messages.length !== contents.length) throw new BodyMismatch("unsealed body: another number of messages");
  return messages.map((message, unsealIndex) => {
    const opened = contents[unsealIndex];
    if (opened === undefined || !equalBytes(opened.messageId, message.messageId)) {
      throw new BodyMismatch("unsealed body: another order of messages");
    }
    if (!equalBytes(contentHash(opened.messageId, opened.content), message.contentHash)) {
      throw new BodyMismatch("unsealed body: content hash differs");
    }
    const { rawTransaction, refund } = decode(MESSAGE_CONTENT, opened.content);
    return { messageId: opened.messageId, slot, unsealIndex, rawTransaction, refund };
  });
}

/**
 * The winners of an AuctionOutcome with their bundles. Blind winners are admitted only from the BlindClosed outcome
 * that the freeze named (`frozenBlind`: the digest in UnsealedRound; absent after NoBlind).
 * @throws CodecError when either does not decode; BodyMismatch when a winner's bundle is missing
 */
export function winningBundles(
  commitment: Uint8Array,
  body: Uint8Array,
  frozenBlind: Uint8Array | undefined,
): WinningBundle[] {
  const auction = decode(AUCTION, commitment);
  const bundles = new Map(decode(AUCTION_BODY, body).map((entry) => [toHex(entry.bidId), entry.bundle]));
  const blindAdmitted =
    auction.blind !== undefined && frozenBlind !== undefined && equalBytes(auction.blind, frozenBlind);
  return auction.winners.map((winner) => {
    const sealed = bundles.get(toHex(winner.bidId));
    if (sealed === undefined) throw new BodyMismatch("auction body: a winner's bundle is missing");
    return winningBundle(winner, sealed, blindAdmitted);
  });
}

function winningBundle(winner: Winner, sealed: Uint8Array, blindAdmitted: boolean): WinningBundle {
  const { bidId, paymentId, searcher, escrowAccount, amountWei, clearingWei, references } = winner;
  const base = { bidId, paymentId, class: winner.class, searcher, escrowAccount, amountWei, clearingWei, references };
  const bundle = tryDecode(BUNDLE, sealed);
  if (bundle === undefined) return { ...base, items: [], mayRevert: [], problem: "malformed" };
  const opened = { ...base, items: bundle.items, mayRevert: bundle.mayRevert };
  if (winner.class === "blind" && !blindAdmitted) return { ...opened, problem: "not-in-blind-set" };
  return opened;
}

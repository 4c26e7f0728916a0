/** Attribution's input, put together from what atelier and offer certified for the slot and from what the chain shows. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import type { OrderRow } from "@lattice/organism/outcomes/atelier.ts";
import type { AuctionCommitment, Winner } from "@lattice/organism/outcomes/offer.ts";
import {
  type AppliedHint,
  AttributionError,
  type AttributionInput,
  type LandedMessage,
  type PayingOrder,
} from "./attribution.ts";

/** Everything the rule needs about one landed block. */
export interface LandedSlot {
  readonly slot: bigint;
  /** The certified candidate's block hash, final on chain. */
  readonly blockHash: Uint8Array;
  /** The candidate's order → (payment, value) table. */
  readonly table: readonly OrderRow[];
  readonly auction: Pick<AuctionCommitment, "winners" | "rivals" | "voids">;
  /** Pool and carried messages in the block. */
  readonly messages: readonly LandedMessage[];
  readonly hints?: readonly AppliedHint[];
  /** 20 bytes; absent where the proposer is paid inside the block. */
  readonly proposer?: Uint8Array;
  /** `EscrowCharged` events since the last slot: bid id and wei taken. */
  readonly collected?: readonly { readonly bidId: Uint8Array; readonly wei: bigint }[];
  readonly reservedWei?: bigint;
}

/** @throws AttributionError MISSING_WINNER when the table has a bid that the auction does not know. */
export function attributionInput(landed: LandedSlot): AttributionInput {
  const winners = new Map(landed.auction.winners.map((winner) => [toHex(winner.bidId), winner]));
  return {
    slot: landed.slot,
    blockHash: landed.blockHash,
    messages: [...landed.messages],
    orders: landed.table.map((row) => payingOrder(row, winners.get(toHex(row.bidId)))),
    rivals: [...landed.auction.rivals],
    hints: [...(landed.hints ?? [])],
    proposer: landed.proposer,
    voids: landed.auction.voids.map(({ bidId, account, chargeWei }) => ({ bidId, account, wei: chargeWei })),
    collected: [...(landed.collected ?? [])],
    reservedWei: landed.reservedWei ?? 0n,
  };
}

/** A bundle that did not land refunds nobody, so its references are not looked at: they may be what it is void for. */
function payingOrder(row: OrderRow, winner: Winner | undefined): PayingOrder {
  if (winner === undefined) throw new AttributionError("MISSING_WINNER", toHex(row.bidId));
  return {
    bidId: row.bidId,
    class: row.class,
    paymentWei: row.paymentWei,
    valueWei: row.valueWei,
    bidWei: winner.amountWei,
    account: row.escrowAccount,
    rebateTo: row.searcher,
    references: row.class === "seen" && row.status === "landed" ? row.references : [],
  };
}

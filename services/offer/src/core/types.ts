/** The vocabulary of the offer machine. */
import type { Duty } from "@lattice/organism/machine.ts";
import type { AuctionCommitment } from "@lattice/organism/outcomes/offer.ts";
import type { BidContext } from "./bid.ts";
import type { Cancel, Registration } from "./requests.ts";

/** An accepted bid that still takes part. Ticket and signature have done their work and are not kept. */
export interface LiveBid {
  readonly id: Uint8Array;
  readonly context: BidContext;
  readonly escrowAccount: Uint8Array;
  readonly capWei: bigint;
  readonly replacement: { readonly id: Uint8Array; readonly nonce: bigint };
  readonly valueLayer: Uint8Array;
  readonly bundleLayer: Uint8Array;
}

export type Standing = "live" | "withdrawn" | "won" | "lost" | "void" | "unanswered";

/** How far the auction of a slot is. `opening`: bundles of `opened` may be opened; `reopened` at most once. */
export type Phase = "bidding" | "closed" | "opening" | "reopened" | "done";

/** One slot. Maps are keyed by lower-case hex. */
export interface SlotState {
  /** Live bids by id; emptied when the auction is decided. */
  bids: Map<string, LiveBid>;
  /** Every accepted bid, by id. */
  standings: Map<string, { readonly searcher: Uint8Array; readonly standing: Standing }>;
  /** Nonces used in this slot, by searcher. */
  nonces: Map<string, bigint[]>;
  /** The blind stage is decided: blind bids are final. */
  blindClosed: boolean;
  /** Ascending ids under BlindClosed. */
  blindIds: Uint8Array[];
  phase: Phase;
  /** Ascending ids of the bids that take part, from the seen close on. */
  contestants: Uint8Array[];
  /** By member: its share of the slot identity, sealed to the members. */
  slotShares: Map<number, Uint8Array>;
  /** Ids of bids whose bundle identities may be shared: winners, and nobody else ever. */
  opened: Uint8Array[];
  /** By bid id, by member: shares of bundle identities, sealed to the members. */
  bundleShares: Map<string, Map<number, Uint8Array>>;
}

/** An account whose escrow answers for the bids of the searchers it has authorised. */
export interface AccountState {
  /** By searcher: the last slot of the authorisation. */
  searchers: Map<string, bigint>;
  /** The slot in which it was first seen. */
  sinceSlot: bigint;
}

/** What members are to read from the chain for `slot`: fixed by the log, so that all read the same. */
export interface EscrowQuery {
  readonly slot: bigint;
  /** Ascending. */
  readonly accounts: readonly Uint8Array[];
  /** Ascending bid ids whose charges are outstanding. */
  readonly charges: readonly Uint8Array[];
}

/** What an account owes until the contract has taken it. */
export interface Debt {
  readonly account: Uint8Array;
  readonly wei: bigint;
  readonly slot: bigint;
}

export interface State {
  slots: Map<bigint, SlotState>;
  accounts: Map<string, AccountState>;
  /** Certified escrow by account, and the slot for which it was read. */
  escrow: Map<string, bigint>;
  escrowSlot: bigint;
  query: EscrowQuery | undefined;
  /** By bid id. */
  debts: Map<string, Debt>;
}

export type Command =
  | { readonly type: "bid"; readonly bid: Uint8Array }
  | { readonly type: "cancel"; readonly cancel: Cancel }
  | { readonly type: "register"; readonly registration: Registration }
  | { readonly type: "slotShare"; readonly slot: bigint; readonly box: Uint8Array }
  | { readonly type: "bundleShare"; readonly slot: bigint; readonly bidId: Uint8Array; readonly box: Uint8Array };

/** Topics on which q members must agree before the auction goes on. */
export const VERDICT_TOPICS = ["ranked", "checked", "rechecked"] as const;
export type VerdictTopic = (typeof VERDICT_TOPICS)[number];
export const ESCROW_TOPIC = "escrow";

/** What members agree on: which bundles to open next, or how the auction ends. */
export type Verdict =
  | { readonly type: "open"; readonly bidIds: readonly Uint8Array[] }
  | { readonly type: "final"; readonly auction: AuctionCommitment; readonly bodyHash: Uint8Array | undefined };

export type CloseStage = "blind" | "seen";

export type OfferDuty = Duty &
  (
    | { readonly type: "close"; readonly stage: CloseStage }
    | { readonly type: "slot-share" }
    | { readonly type: "bundle-share"; readonly bidId: Uint8Array }
    | { readonly type: "verdict"; readonly topic: VerdictTopic }
    | { readonly type: "escrow"; readonly query: EscrowQuery }
  );

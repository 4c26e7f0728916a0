/** Every reason for which offer refuses, beside those all organisms share. */
import { TICKET_FAULTS } from "@lattice/organism/committee/ticket.ts";
import type { FaultCatalogue } from "@lattice/organism/fault.ts";

const FIX = "Fix the caller; the same bytes are refused for ever.";

export const FAULTS = {
  ...TICKET_FAULTS,
  BID_MALFORMED: {
    code: "INVALID_ARGUMENT",
    meaning: "The bytes are not one canonical sealed bid.",
    remedy: FIX,
    retry: false,
  },
  BID_SIZE: {
    code: "INVALID_ARGUMENT",
    meaning: "A sealed layer does not have the constant size of this lattice.",
    remedy: "Pad the bundle to the config's bundleBytes before sealing.",
    retry: false,
  },
  WRONG_COMMITTEE: {
    code: "FAILED_PRECONDITION",
    meaning: "The bid or request is bound to another committee.",
    remedy: "Use the lattice config of this lattice.",
    retry: false,
  },
  WRONG_EPOCH: {
    code: "FAILED_PRECONDITION",
    meaning: "The bid is sealed under the key of another epoch.",
    remedy: "Ask GetSealingKey for the slot and seal again.",
    retry: false,
  },
  CLASS_NOT_OPEN: {
    code: "FAILED_PRECONDITION",
    meaning: "Bidding of this class has not begun for the slot.",
    remedy: "Send again once the slot's UnsealedRound is out.",
    retry: true,
  },
  CLASS_CLOSED: {
    code: "FAILED_PRECONDITION",
    meaning: "Bidding of this class is over for the slot.",
    remedy: "Bid for a later slot.",
    retry: false,
  },
  NONCE_USED: {
    code: "ALREADY_EXISTS",
    meaning: "The searcher has used this nonce in this slot.",
    remedy: "Seal again under a fresh nonce.",
    retry: false,
  },
  TOO_MANY_BIDS: {
    code: "RESOURCE_EXHAUSTED",
    meaning: "The searcher has as many bids in this slot as the lattice allows.",
    remedy: "Replace one of them, or bid for a later slot.",
    retry: false,
  },
  AUCTION_FULL: {
    code: "RESOURCE_EXHAUSTED",
    meaning: "The slot holds as many bids as the state has room for.",
    remedy: "Bid for a later slot.",
    retry: true,
  },
  REPLACEMENT_NOT_NEWER: {
    code: "FAILED_PRECONDITION",
    meaning: "A bid with this replacement id and the same or a higher nonce stands.",
    remedy: "Use a higher replacement nonce.",
    retry: false,
  },
  CAP_BELOW_RESERVE: {
    code: "INVALID_ARGUMENT",
    meaning: "The bid's cap is below the reserve price, so it cannot win.",
    remedy: "Raise the cap; the reserve is in the lattice config.",
    retry: false,
  },
  ACCOUNT_NOT_AUTHORISED: {
    code: "PERMISSION_DENIED",
    meaning: "The escrow account has not authorised this searcher for that slot.",
    remedy: "Send RegisterSearcher with the account's signature.",
    retry: true,
  },
  REGISTRATION_EXPIRED: {
    code: "INVALID_ARGUMENT",
    meaning: "The registration ends before the running slot.",
    remedy: "Have the account sign one with a later slot.",
    retry: false,
  },
  ACCOUNTS_FULL: {
    code: "RESOURCE_EXHAUSTED",
    meaning: "No more accounts, or searchers of this account, are followed.",
    remedy: "Use an account that is registered, or try later.",
    retry: true,
  },
  ESCROW_UNKNOWN: {
    code: "UNAVAILABLE",
    meaning: "The committee has no recent certified reading of the account's escrow.",
    remedy: "Register the account and wait for the next slot; if it lasts, the members cannot reach the chain.",
    retry: true,
  },
  OVER_ESCROW: {
    code: "FAILED_PRECONDITION",
    meaning: "The cap is above what is left of the account's certified escrow.",
    remedy: "Deposit more, lower the cap, or wait until earlier charges are settled.",
    retry: true,
  },
  BAD_SIGNATURE: {
    code: "UNAUTHENTICATED",
    meaning: "The request is not signed by the key it names.",
    remedy: FIX,
    retry: false,
  },
  BID_UNKNOWN: {
    code: "NOT_FOUND",
    meaning: "No such bid is known in that slot, or no longer.",
    remedy: "Check the slot and the bid id.",
    retry: false,
  },
  BID_FINAL: {
    code: "FAILED_PRECONDITION",
    meaning: "Blind bids are commitments: they are not cancelled.",
    remedy: "Nothing; before the blind close a replacement is accepted.",
    retry: false,
  },
  STATUS_NOT_YET: {
    code: "FAILED_PRECONDITION",
    meaning: "What became of bids is said only some time after the slot.",
    remedy: "Ask again once the following slot has ended.",
    retry: true,
  },
  NO_SEALING_KEY: {
    code: "OUT_OF_RANGE",
    meaning: "No sealing key serves that slot.",
    remedy: "Ask for a slot within the range of the current epoch.",
    retry: false,
  },
  SHARE_NOT_DUE: {
    code: "FAILED_PRECONDITION",
    meaning: "A member shared a key that the auction has not called for.",
    remedy: "Nothing: it is attributed to its author.",
    retry: false,
  },
  FACT_UNEXPECTED: {
    code: "FAILED_PRECONDITION",
    meaning: "Members agreed on something that does not fit the state of the auction.",
    remedy: "Report it: more members are corrupt or out of date than the quorum allows.",
    retry: false,
  },
} as const satisfies FaultCatalogue;

export type OfferReason = keyof typeof FAULTS;

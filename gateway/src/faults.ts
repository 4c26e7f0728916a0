/** Every reason the gateway itself can give; those of the organisms behind it are passed on unchanged. */
import { type FaultCatalogue, faultsOf } from "@lattice/organism/fault.ts";

export const FAULTS = {
  TRANSACTION_UNDECODABLE: {
    code: "INVALID_ARGUMENT",
    meaning: "The bytes are not one canonically encoded, signed transaction.",
    remedy: "Send the raw signed transaction, 0x-prefixed in JSON-RPC.",
    retry: false,
  },
  TRANSACTION_TYPE: {
    code: "INVALID_ARGUMENT",
    meaning: "This transaction type is not carried.",
    remedy: "Use a legacy, access-list or dynamic-fee transaction.",
    retry: false,
  },
  WRONG_CHAIN: {
    code: "INVALID_ARGUMENT",
    meaning: "The transaction is signed for another chain, or for any.",
    remedy: "Sign for the chain id in the metadata.",
    retry: false,
  },
  TRANSACTION_TOO_LARGE: {
    code: "INVALID_ARGUMENT",
    meaning: "The transaction does not fit a message of this lattice.",
    remedy: "Send at most the limit in the metadata.",
    retry: false,
  },
  NONCE_TOO_LOW: {
    code: "INVALID_ARGUMENT",
    meaning: "nonce too low: the account has used it already.",
    remedy: "Read the account's transaction count and sign again.",
    retry: false,
  },
  NONCE_TOO_HIGH: {
    code: "INVALID_ARGUMENT",
    meaning: "nonce too high: too many of the account's transactions would have to come first.",
    remedy: "Send the transactions before it, or sign with a nonce nearer to the account's pending count.",
    retry: false,
  },
  UNDERFUNDED: {
    code: "INVALID_ARGUMENT",
    meaning: "insufficient funds for gas * price + value.",
    remedy: "Fund the account, or lower value or fees.",
    retry: false,
  },
  BAD_AUTHORISATION: {
    code: "INVALID_ARGUMENT",
    meaning: "The refund authorisation is not signed by the transaction's sender for this transaction and contract.",
    remedy: "Sign RefundAuthorisation (EIP-712) with the sender's key, or leave it out: refunds then go to the sender.",
    retry: false,
  },
  QUEUE_FULL: {
    code: "RESOURCE_EXHAUSTED",
    meaning: "Too many submissions wait for a round.",
    remedy: "Wait a slot and send again.",
    retry: true,
  },
  SUBMISSION_UNKNOWN: {
    code: "NOT_FOUND",
    meaning: "No such transaction was submitted here, or it was settled long ago.",
    remedy: "Ask the gateway that it was submitted to; of old ones the chain tells.",
    retry: false,
  },
  SLOT_UNKNOWN: {
    code: "NOT_FOUND",
    meaning: "Nothing is known of this slot.",
    remedy: "Ask for a slot that has begun and that the gateway still holds.",
    retry: true,
  },
  OUTCOME_TOO_OLD: {
    code: "OUT_OF_RANGE",
    meaning: "The outcomes asked for are older than what this gateway holds.",
    remedy: "Start from the oldest slot, named in the metadata, or ask the committees' members.",
    retry: false,
  },
  NO_SEARCHER: {
    code: "FAILED_PRECONDITION",
    meaning: "This gateway holds no searcher key, so it cannot bid.",
    remedy: "Set GATEWAY_SEARCHER_KEY_FILE, or seal the bid yourself and call offer's SubmitBid.",
    retry: false,
  },
  ORIGIN_REFUSED: {
    code: "PERMISSION_DENIED",
    meaning: "A web page may not bid with this gateway's searcher key.",
    remedy: "Bid from a program, or name the page's origin in GATEWAY_BIDDING_ORIGINS.",
    retry: false,
  },
  BAD_BID: {
    code: "INVALID_ARGUMENT",
    meaning: "The parts do not make a bid that could win.",
    remedy: "See the message; fix the bundle or the amount.",
    retry: false,
  },
  BAD_REQUEST: {
    code: "INVALID_ARGUMENT",
    meaning: "A field of the request is not what the method takes.",
    remedy: "See the message; the same request is refused for ever.",
    retry: false,
  },
  BAD_CLAIM: {
    code: "INTERNAL",
    meaning: "What tally said is owed does not verify under its attestation.",
    remedy: "Ask again: another member may answer. If it lasts, report it.",
    retry: true,
  },
  CHAIN_UNREACHABLE: {
    code: "UNAVAILABLE",
    meaning: "The execution node does not answer.",
    remedy: "Retry; check GATEWAY_CHAIN_RPC.",
    retry: true,
  },
  CALL_TIMEOUT: {
    code: "DEADLINE_EXCEEDED",
    meaning: "The call did not finish in time; whether it took effect is not known.",
    remedy: "Ask again with the same content: it is accepted once.",
    retry: true,
  },
  METHOD_NOT_FORWARDED: {
    code: "UNIMPLEMENTED",
    meaning: "The gateway neither serves nor forwards this method.",
    remedy: "Use a method that the gateway's README lists.",
    retry: false,
  },
} as const satisfies FaultCatalogue;

export const gatewayFault = faultsOf("gateway", FAULTS);

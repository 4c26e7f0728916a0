/** Every reason the gateway itself can give; those of the organisms behind it are passed on unchanged. */
import { type FaultCatalogue, faultsOf } from "@lattice/organism/fault.ts";

export const FAULTS = {
  TRANSACTION_UNDECODABLE: {
    code: "INVALID_ARGUMENT",
    meaning: "The bytes are not a signed transaction.",
    remedy: "Send the raw signed transaction, 0x-prefixed.",
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
    meaning: "The transaction is signed for another chain.",
    remedy: "Sign for the chain id in the metadata.",
    retry: false,
  },
  TRANSACTION_TOO_LARGE: {
    code: "INVALID_ARGUMENT",
    meaning: "The transaction does not fit a message of this lattice.",
    remedy: "Send less than the limit in the metadata.",
    retry: false,
  },
  NONCE_TOO_LOW: {
    code: "INVALID_ARGUMENT",
    meaning: "The account has used this nonce already.",
    remedy: "Read the account's transaction count and sign again.",
    retry: false,
  },
  UNDERFUNDED: {
    code: "INVALID_ARGUMENT",
    meaning: "The account cannot pay value and gas.",
    remedy: "Fund the account, or lower value or fees.",
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
    meaning: "No such transaction was submitted here.",
    remedy: "Ask the gateway that it was submitted to.",
    retry: false,
  },
  SLOT_UNKNOWN: {
    code: "NOT_FOUND",
    meaning: "Nothing is known of this slot.",
    remedy: "Ask for a slot that has begun and that the gateway still holds.",
    retry: true,
  },
  NO_SEARCHER: {
    code: "FAILED_PRECONDITION",
    meaning: "This gateway holds no searcher key, so it cannot bid.",
    remedy: "Set GATEWAY_SEARCHER_KEY_FILE, or seal the bid yourself and call offer's SubmitBid.",
    retry: false,
  },
  BAD_BID: {
    code: "INVALID_ARGUMENT",
    meaning: "The parts do not make a bid that could win.",
    remedy: "See the message; fix the bundle or the amount.",
    retry: false,
  },
  CHAIN_UNREACHABLE: {
    code: "UNAVAILABLE",
    meaning: "The execution node does not answer.",
    remedy: "Retry; check GATEWAY_CHAIN_RPC.",
    retry: true,
  },
  METHOD_NOT_FORWARDED: {
    code: "UNIMPLEMENTED",
    meaning: "The gateway neither serves nor forwards this method.",
    remedy: "Use a method that the integrators' page lists.",
    retry: false,
  },
} as const satisfies FaultCatalogue;

export const gatewayFault = faultsOf("gateway", FAULTS);

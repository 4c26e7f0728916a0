/** Every reason tally can give, besides the common ones. */
import type { FaultCatalogue } from "@lattice/organism/fault.ts";

export const FAULTS = {
  OUT_OF_TURN: {
    code: "FAILED_PRECONDITION",
    meaning: "Slots are attributed in order, and this one is not the next.",
    remedy: "Nothing: it is said again when its turn comes.",
    retry: true,
  },
  BAD_FACT: {
    code: "INVALID_ARGUMENT",
    meaning: "What members said of the chain or of the attribution contradicts certified outcomes.",
    remedy: "Compare the members' chain endpoints and versions; it is said again with the next attempt.",
    retry: false,
  },
  NO_BATCH: {
    code: "NOT_FOUND",
    meaning: "There is no batch of this number to sign, or not any more.",
    remedy: "Nothing: members sign the open batch.",
    retry: false,
  },
  BAD_ATTESTATION_SHARE: {
    code: "INVALID_ARGUMENT",
    meaning: "The signature is not by the member's settlement address over the open batch.",
    remedy: "Compare the member's signer key with the roster.",
    retry: false,
  },
  BATCH_UNKNOWN: {
    code: "NOT_FOUND",
    meaning: "This batch does not exist yet, or is no longer kept.",
    remedy: "Watch the attestations; older ones are in the settlement contract's events.",
    retry: true,
  },
  NOTHING_ATTESTED: {
    code: "NOT_FOUND",
    meaning: "The contract's root holds nothing for this recipient.",
    remedy: "Read the balance: what is owed can be claimed after the next batch is on chain.",
    retry: true,
  },
  BAD_ADDRESS: {
    code: "INVALID_ARGUMENT",
    meaning: "A recipient has 20 bytes.",
    remedy: "Send the address without padding.",
    retry: false,
  },
} as const satisfies FaultCatalogue;

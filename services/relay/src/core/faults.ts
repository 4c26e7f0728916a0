/** Every reason relay can give, besides the common ones. */
import type { FaultCatalogue } from "@lattice/organism/fault.ts";

export const FAULTS = {
  NO_CANDIDATE: {
    code: "FAILED_PRECONDITION",
    meaning: "No certified candidate is known for this slot and parent.",
    remedy: "Ask again later in the slot, or build a fallback block.",
    retry: true,
  },
  OTHER_BLOCK: {
    code: "FAILED_PRECONDITION",
    meaning: "This member has handed over, or the committee has certified, another block for the slot.",
    remedy: "Nothing: one block a slot.",
    retry: false,
  },
  ABSTAINS: {
    code: "UNAVAILABLE",
    meaning:
      "This member has lost its journal and may have handed over another block for the slot: it hands over none.",
    remedy: "Ask another member of relay.",
    retry: true,
  },
  ATTRIBUTES_DIFFER: {
    code: "FAILED_PRECONDITION",
    meaning: "The candidate was built on other attributes than the ones asked for.",
    remedy: "Build a fallback block; compare the attributes that atelier was given.",
    retry: false,
  },
  UNKNOWN_PAYLOAD: {
    code: "NOT_FOUND",
    meaning: "No payload was begun under this id.",
    remedy: "Call engine_forkchoiceUpdatedV3 with attributes first.",
    retry: false,
  },
  BAD_ACKNOWLEDGEMENT: {
    code: "INVALID_ARGUMENT",
    meaning: "The acknowledgement is malformed or not signed by a pinned sequencer.",
    remedy: "Compare the sequencer's address with relay.sequencers in the lattice config.",
    retry: false,
  },
} as const satisfies FaultCatalogue;

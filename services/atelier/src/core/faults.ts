/** Reasons that atelier gives besides the common ones. */
import type { FaultCatalogue } from "@lattice/organism/fault.ts";

export const FAULTS = {
  BAD_ATTRIBUTES: {
    code: "INVALID_ARGUMENT",
    meaning: "The attributes are malformed, for another slot or lattice, or not signed by a pinned sequencer.",
    remedy: "Compare the sequencer's address with relay.sequencers in the lattice config.",
    retry: false,
  },
  ATTRIBUTES_UNKNOWN: {
    code: "FAILED_PRECONDITION",
    meaning: "No quorum has seen attributes of this slot on that parent.",
    remedy: "Wait until they are agreed; look at the sequencer when they never are.",
    retry: true,
  },
  INPUTS_UNKNOWN: {
    code: "FAILED_PRECONDITION",
    meaning: "An unsealed round or the auction that the block depends on has not been observed in this log.",
    remedy: "Wait: each is decided, if only skipped.",
    retry: true,
  },
  INPUTS_DIFFER: {
    code: "INVALID_ARGUMENT",
    meaning: "The proposal names another unsealed round or auction than the observed ones.",
    remedy: "Look at the member that proposed it.",
    retry: false,
  },
  COMMITMENT_MISMATCH: {
    code: "INVALID_ARGUMENT",
    meaning: "The proposal's commitment does not decode, or contradicts the key it is proposed under.",
    remedy: "Look at the member that proposed it.",
    retry: false,
  },
  VERSION_NOT_OPEN: {
    code: "INVALID_ARGUMENT",
    meaning: "Candidates have version 0 in this machine family.",
    remedy: "Propose version 0.",
    retry: false,
  },
  PROPOSAL_CONFLICT: {
    code: "PERMISSION_DENIED",
    meaning: "A member proposed two different candidates under one key: provable fraud.",
    remedy: "Replace the member; the two signed entries are the proof.",
    retry: false,
  },
  CANDIDATE_UNKNOWN: {
    code: "INVALID_ARGUMENT",
    meaning: "What members agreed on is none of the slot's proposals.",
    remedy: "Look at the members that said so.",
    retry: false,
  },
  CANDIDATE_REFUSED: {
    code: "INVALID_ARGUMENT",
    meaning: "This member executed a proposal and found it wrong; it withholds its vote.",
    remedy: "Compare the refusal's reason on all members: a single one means its chain state is off.",
    retry: false,
  },
} as const satisfies FaultCatalogue;

export type AtelierReason = keyof typeof FAULTS;

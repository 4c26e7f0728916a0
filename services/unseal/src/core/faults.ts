/** Reasons that unseal gives besides the common ones. */
import type { FaultCatalogue } from "@lattice/organism/fault.ts";

export const FAULTS = {
  FREEZE_UNCERTIFIED: {
    code: "FAILED_PRECONDITION",
    meaning: "The freeze record names an outcome that this log has not observed with its certificate.",
    remedy: "Wait until Broadcast and BlindClosed, or a quorum's NoBlind, are in the log.",
    retry: true,
  },
  FREEZE_STANDS: {
    code: "ALREADY_EXISTS",
    meaning: "The slot has its freeze record.",
    remedy: "Nothing to do.",
    retry: false,
  },
  FREEZE_MISSING: {
    code: "FAILED_PRECONDITION",
    meaning: "The slot was said to be opened, but has no freeze record or too few shares.",
    remedy: "Look at the members that said so: they cannot have opened it by the rules.",
    retry: false,
  },
  FACT_MISMATCH: {
    code: "INVALID_ARGUMENT",
    meaning: "What members agreed on is not an unsealed round of the frozen outcomes.",
    remedy: "Look at the members that said so.",
    retry: false,
  },
  SHARE_BEFORE_FREEZE: {
    code: "PERMISSION_DENIED",
    meaning: "A share of a slot key was published before the slot's freeze record: provable fraud.",
    remedy: "Replace the member; the signed entry in the log is the proof.",
    retry: false,
  },
  SHARE_CONFLICT: {
    code: "PERMISSION_DENIED",
    meaning: "A member published two different shares for one slot: provable fraud.",
    remedy: "Replace the member; the two signed entries are the proof.",
    retry: false,
  },
  SHARE_UNUSABLE: {
    code: "INVALID_ARGUMENT",
    meaning: "A member's share does not open, or does not verify under its public share.",
    remedy: "Check that member's key file; the others open the slot without it while t of them remain.",
    retry: false,
  },
  WRONG_EPOCH: {
    code: "FAILED_PRECONDITION",
    meaning: "The command belongs to another epoch, or the epoch's sealing key does not serve this slot.",
    remedy: "Restart the member with the current roster.",
    retry: false,
  },
  GATE_CLOSED: {
    code: "FAILED_PRECONDITION",
    meaning: "No candidate has been certified lately, so nothing is opened that nobody can build.",
    remedy: "Look at atelier; the slot expires unopened and senders seal for a later one.",
    retry: true,
  },
  PAST_DEADLINE: {
    code: "OUT_OF_RANGE",
    meaning: "The slot's deadline has passed; it stays sealed for ever.",
    remedy: "Seal for a later slot.",
    retry: false,
  },
  SEALING_KEY_UNKNOWN: {
    code: "NOT_FOUND",
    meaning: "No certified sealing key serves this slot.",
    remedy: "Ask for a slot in the range of the current roster.",
    retry: false,
  },
  OPENING_NOT_LANDED: {
    code: "FAILED_PRECONDITION",
    meaning: "Openings are published for messages on chain only, and this one is not known to be.",
    remedy: "Wait until tally has attributed the slot; a message that never lands is never opened to the public.",
    retry: true,
  },
  OPENING_UNKNOWN: {
    code: "NOT_FOUND",
    meaning: "This member does not hold the opening of that message.",
    remedy: "Ask another member, or check slot and message id.",
    retry: true,
  },
} as const satisfies FaultCatalogue;

export type UnsealReason = keyof typeof FAULTS;

/** Everything zipnet can refuse. */
import { TICKET_FAULTS } from "@lattice/organism/committee/ticket.ts";
import { COMMON_FAULTS, type Fault, type FaultCatalogue, faultsOf } from "@lattice/organism/fault.ts";
import type { Refusal } from "@lattice/organism/machine.ts";

export const FAULTS = {
  ...TICKET_FAULTS,
  BAD_KEY: {
    code: "INVALID_ARGUMENT",
    meaning: "A key is missing, repeated, not a point of its curve, or of small order.",
    remedy: "Make fresh keys: one Ed25519 envelope key and one X25519 key per server.",
    retry: false,
  },
  BAD_SIGNATURE: {
    code: "INVALID_ARGUMENT",
    meaning: "The signature does not cover exactly these bytes under the key it names.",
    remedy: "Sign the canonical bytes described in docs/protocol/zipnet.md.",
    retry: false,
  },
  BAD_VECTOR: {
    code: "INVALID_ARGUMENT",
    meaning: "The vector or the list of key commitments does not have the round's length.",
    remedy: "Take cells, cell size and servers from the round's header.",
    retry: false,
  },
  BAD_AGGREGATE: {
    code: "INVALID_ARGUMENT",
    meaning: "The aggregate's bitmap, proofs or signatures do not fit the round.",
    remedy: "Fold again from the envelopes; one proof per participant in roster order.",
    retry: false,
  },
  WRONG_ROUND: {
    code: "FAILED_PRECONDITION",
    meaning: "This is for another round, or answers another header.",
    remedy: "Answer the certified header of the round that is open.",
    retry: false,
  },
  ROUND_CLOSED: {
    code: "FAILED_PRECONDITION",
    meaning: "The round takes nothing more.",
    remedy: "Answer a later header; seal the message again for its slot.",
    retry: false,
  },
  NO_ROUND: {
    code: "FAILED_PRECONDITION",
    meaning: "No round is open for this slot here.",
    remedy: "Watch rounds and answer what is certified.",
    retry: true,
  },
  ROUND_TOO_EARLY: {
    code: "FAILED_PRECONDITION",
    meaning: "The round's opening time is too far in the future.",
    remedy: "Wait for the slot.",
    retry: true,
  },
  ROUND_TOO_LATE: {
    code: "FAILED_PRECONDITION",
    meaning: "The round's closing time has passed, or a later slot's round was opened already.",
    remedy: "Nothing: the slot is left out.",
    retry: false,
  },
  ROUNDS_IN_FLIGHT: {
    code: "FAILED_PRECONDITION",
    meaning: "As many rounds are open as the lattice's pipeline depth allows.",
    remedy: "Wait until one of them is decided.",
    retry: true,
  },
  SERVER_KEYS_MISSING: {
    code: "FAILED_PRECONDITION",
    meaning: "Not every server has published a key that serves this slot.",
    remedy: "Start the missing servers, or rotate their keys.",
    retry: true,
  },
  SERVER_KEY_STALE: {
    code: "FAILED_PRECONDITION",
    meaning: "The serial is not the server's current one.",
    remedy: "Read the servers' keys again and register under them.",
    retry: false,
  },
  ALREADY_REGISTERED: {
    code: "ALREADY_EXISTS",
    meaning: "This envelope key is registered with other agreement keys.",
    remedy: "Use a fresh envelope key and a ticket for it.",
    retry: false,
  },
  ROSTER_FULL: {
    code: "RESOURCE_EXHAUSTED",
    meaning: "The lattice has as many clients as its config allows.",
    remedy: "Wait for registrations to expire.",
    retry: true,
  },
  CLIENT_STRUCK: {
    code: "PERMISSION_DENIED",
    meaning: "This client signed key commitments that do not match its pads.",
    remedy: "Register with fresh keys and a new ticket.",
    retry: false,
  },
  NOT_IN_ROSTER: {
    code: "PERMISSION_DENIED",
    meaning: "The client is not in this round's roster.",
    remedy: "Register; a registration counts from the next header on.",
    retry: false,
  },
  ENVELOPE_CONFLICT: {
    code: "ALREADY_EXISTS",
    meaning: "A different envelope of this client and round has been received.",
    remedy: "Send the journaled bytes again, or wait for the next round.",
    retry: false,
  },
  AGGREGATOR_REFUSED: {
    code: "PERMISSION_DENIED",
    meaning: "This server takes no aggregates from this aggregator.",
    remedy: "Ask the operator to add the aggregator's key to ZIPNET_AGGREGATORS.",
    retry: false,
  },
  TOO_FEW_PARTICIPANTS: {
    code: "FAILED_PRECONDITION",
    meaning: "Fewer clients took part than the lattice's minimum: nobody could hide among them.",
    remedy: "Nothing: the round is aborted.",
    retry: false,
  },
  PARTIAL_UNEXPECTED: {
    code: "FAILED_PRECONDITION",
    meaning: "The partial is not the author's one for the aggregate that stands.",
    remedy: "Nothing: it is refused alike by all members.",
    retry: false,
  },
  PARTIAL_GIVEN: {
    code: "FAILED_PRECONDITION",
    meaning: "This server has contributed to another aggregate of the round, or its ratchet is beyond it.",
    remedy: "Nothing: a second partial is never given; the round is left to expire.",
    retry: false,
  },
  HEADER_COMMITTEE: {
    code: "FAILED_PRECONDITION",
    meaning: "The header is of another committee.",
    remedy: "Compare lattice configs.",
    retry: false,
  },
  HEADER_CERTIFICATE: {
    code: "INVALID_ARGUMENT",
    meaning: "The header's certificate does not verify under the lattice config.",
    remedy: "Ask another member.",
    retry: false,
  },
  HEADER_SHAPE: {
    code: "INVALID_ARGUMENT",
    meaning: "The header is none, or does not follow from the lattice config.",
    remedy: "Do not answer it.",
    retry: false,
  },
  HEADER_OPERATOR: {
    code: "PERMISSION_DENIED",
    meaning: "A server of the header is not of the operator that the config pins.",
    remedy: "Do not answer it.",
    retry: false,
  },
  HEADER_SERIAL: {
    code: "FAILED_PRECONDITION",
    meaning: "A server key of the header is not the one the client registered with, or out of its slot range.",
    remedy: "Register again when the serial is higher; never answer a lower one.",
    retry: false,
  },
  HEADER_RHO: {
    code: "FAILED_PRECONDITION",
    meaning: "The round counter does not fit what the client has seen and the slots that have passed.",
    remedy: "Do not answer it.",
    retry: false,
  },
  HEADER_CLOCK: {
    code: "FAILED_PRECONDITION",
    meaning: "The header's slot is not open by the client's clock.",
    remedy: "Check the clock; wait for the next round.",
    retry: false,
  },
  HEADER_ROSTER: {
    code: "FAILED_PRECONDITION",
    meaning: "The round's roster is smaller than the lattice's minimum.",
    remedy: "Do not answer it.",
    retry: false,
  },
  NOT_REGISTERED: {
    code: "FAILED_PRECONDITION",
    meaning: "The client has no registration that is still valid.",
    remedy: "Register first.",
    retry: false,
  },
  MESSAGE_TOO_LARGE: {
    code: "INVALID_ARGUMENT",
    meaning: "The sealed message does not fit a cell.",
    remedy: "Send less; the limit is in the metadata.",
    retry: false,
  },
} as const satisfies FaultCatalogue;

export type ZipnetReason = keyof typeof FAULTS;

export const fault = faultsOf("zipnet", FAULTS);

/** A refusal, of the committee layer or our own, as the fault that its caller is told. */
export function faultOf({ reason, detail }: Refusal): Fault {
  const catalogue: FaultCatalogue = { ...COMMON_FAULTS, ...FAULTS };
  const known = Object.hasOwn(catalogue, reason) ? reason : "BUG";
  return faultsOf("zipnet", catalogue)(known, detail);
}

/**
 * Which committee a caller means. Every RPC of a bound service carries the COMMITTEE id that the caller derived from
 * its own lattice config; another id, or none, is refused before the handler runs (architecture.md §3).
 */
import { equalBytes, toHex } from "../codec/codec.ts";
import { COMMON_FAULTS, Fault } from "../fault.ts";

/** Metadata key of the 32-byte COMMITTEE id. */
export const ORGANISM_HEADER = "lattice-organism-id-bin";

/**
 * @param expected this member's COMMITTEE id, 32 bytes
 * @param given the header's value
 * @throws Fault ORGANISM_MISMATCH with both ids in the metadata, as hex: `expected`, and `given` ("" when missing)
 */
export function checkBinding(domain: string, expected: Uint8Array, given: string | Uint8Array | undefined): void {
  if (given instanceof Uint8Array && equalBytes(given, expected)) return;
  const hex = given instanceof Uint8Array ? toHex(given.subarray(0, 32)) : "";
  const detail =
    hex === ""
      ? `the call carries no ${ORGANISM_HEADER}; this member is of committee ${toHex(expected)}`
      : `the call is meant for committee ${hex}; this member is of ${toHex(expected)}`;
  const metadata = { expected: toHex(expected), given: hex };
  throw new Fault(`${domain}.lattice`, "ORGANISM_MISMATCH", COMMON_FAULTS.ORGANISM_MISMATCH, detail, metadata);
}

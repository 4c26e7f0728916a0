/** Faults as callers of this organism get them, and refusals turned into faults. */
import { COMMON_FAULTS, type Fault, type FaultCatalogue, faultsOf } from "@lattice/organism/fault.ts";
import type { Refusal } from "@lattice/organism/machine.ts";
import { FAULTS } from "../core/faults.ts";

const ALL = { ...COMMON_FAULTS, ...FAULTS } satisfies FaultCatalogue;
type Reason = keyof typeof ALL;

export const fault = faultsOf<Reason>("offer", ALL);

/** What the log refused, as the caller gets it. */
export function faultOfRefusal({ reason, detail }: Refusal): Fault {
  return reason in ALL ? fault(reason as Reason, detail) : fault("BUG", `unlisted reason ${reason}`);
}

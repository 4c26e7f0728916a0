/** Which outcomes a slot's block is built from, and whether they are there. Pure. */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";

/** What has been observed, as `Context`, `View` and `MemberHost` all answer it. */
export interface Observed {
  observed(organism: Organism, stage: string, slot: bigint): Outcome | undefined;
}

/** The first slot of every lattice. */
const FIRST_SLOT = 1n;

/** Slots before `slot` whose messages may still be carried into it, oldest first. */
export function carriedFrom(slot: bigint, carrySlots: bigint): bigint[] {
  const from = slot - carrySlots < FIRST_SLOT ? FIRST_SLOT : slot - carrySlots;
  const slots: bigint[] = [];
  for (let at = from; at < slot; at++) slots.push(at);
  return slots;
}

export interface SlotOutcomes {
  readonly unsealed: Outcome;
  readonly auction: Outcome;
  /** Unsealed rounds of the slots that messages are carried from, oldest first. */
  readonly earlier: readonly Outcome[];
}

/**
 * Everything decided that the slot's block depends on; undefined while something is still open. Each of these stages
 * is decided in any case, if only Skipped, so waiting ends.
 */
export function slotOutcomes(observed: Observed, slot: bigint, carrySlots: bigint): SlotOutcomes | undefined {
  const unsealed = observed.observed("unseal", "unsealed", slot);
  const auction = observed.observed("offer", "auction", slot);
  if (unsealed === undefined || auction === undefined) return undefined;
  const earlier: Outcome[] = [];
  for (const at of carriedFrom(slot, carrySlots)) {
    const outcome = observed.observed("unseal", "unsealed", at);
    if (outcome === undefined) return undefined;
    earlier.push(outcome);
  }
  return { unsealed, auction, earlier };
}

/** What a candidate names as its origin: the outcome's digest; nothing for a stage that was skipped. */
export function originOf(outcome: Outcome): Uint8Array | undefined {
  return outcome.kind === "skipped" ? undefined : outcomeDigest(outcome);
}

export function sameOrigin(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : equalBytes(a, b);
}

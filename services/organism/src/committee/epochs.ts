/**
 * Epochs: which roster a slot belongs to, and what may follow a roster (log.md §7).
 *
 * A slot's epoch is a function of the slot, so votes never straddle: the new roster's shares are of another polynomial
 * of the same key, and those of two epochs do not combine.
 */
import { equalBytes } from "../codec/codec.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Roster, RosterMember } from "./roster.ts";
import { ERAS, OTHER_SIZES } from "./rules.ts";

/** How far ahead a roster may be announced, in slots. */
export const ACTIVATION_AHEAD_MAX = 100_000n;

/** The roster that `slot` belongs to. @param rosters at least one, oldest first; slots before the first are the first's */
export function rosterAt(rosters: readonly Roster[], slot: bigint): Roster {
  let found: Roster | undefined;
  for (const roster of rosters) if (found === undefined || roster.activationSlot <= slot) found = roster;
  if (found === undefined) throw new RangeError("a committee has a roster");
  return found;
}

/** Who a member is, apart from the shares that every epoch makes anew. */
function samePerson(a: RosterMember, b: RosterMember): boolean {
  return equalBytes(a.memberKey, b.memberKey) && equalBytes(a.boxKey, b.boxKey);
}

/** Why a committee keeps its size; undefined when it may have another. */
export function sizeBound(organism: Organism, members: number): string | undefined {
  if (organism === "zipnet") return `zipnet keeps its ${members} members: the lattice id fixes its operators`;
  if (organism === "tally") return `tally keeps its ${members} members: the settlement contract knows its signers`;
  return undefined;
}

/** Indexes whose member is another in `to` than in `from`; seats that only one of them has do not count. */
export function replaced(from: Roster, to: Roster): number[] {
  return to.members.filter((member, index) => !samePerson(member, from.members[index] ?? member)).map((m) => m.index);
}

export interface SuccessorTerms {
  readonly organism: Organism;
  /** The first slot of which nothing can have been said yet. */
  readonly earliestSlot: bigint;
  /** The rules that govern where it is judged. */
  readonly rules: number;
}

/**
 * What keeps `to` from following `from`; undefined when it may. One member at a time, replaced, added at the end or
 * given up there: with two, the quorum of the old epoch could be gone before the new one speaks. Seats are numbers that
 * shares are evaluated at, so no seat but the last can go.
 */
export function successorProblem(
  from: Roster,
  to: Roster,
  { organism, earliestSlot, rules }: SuccessorTerms,
): string | undefined {
  if (to.epoch !== from.epoch + 1n) return `epoch ${to.epoch} does not follow ${from.epoch}`;
  if (to.activationSlot < earliestSlot) return `slot ${to.activationSlot} is too near; ${earliestSlot} at the earliest`;
  if (to.activationSlot > earliestSlot + ACTIVATION_AHEAD_MAX) return `slot ${to.activationSlot} is too far ahead`;
  const others = replaced(from, to);
  const grown = to.members.length - from.members.length;
  if (others.length + Math.abs(grown) > 1) {
    if (others.length > 1) return `members ${others.join(", ")} at once: one at a time`;
    return `${to.members.length} members after ${from.members.length}, and ${others.length} replaced: one at a time`;
  }
  const bound = grown !== 0 ? sizeBound(organism, from.members.length) : undefined;
  if (bound !== undefined) return bound;
  if (rules < OTHER_SIZES && (grown !== 0 || to.version !== 1)) {
    return `${to.members.length} members after ${from.members.length}: a committee keeps its size before rules ${OTHER_SIZES}`;
  }
  if (rules < ERAS && to.version === 3) return `a certificate key of its own: not before rules ${ERAS}`;
  for (const [index, member] of to.members.entries()) {
    const before = from.members[index] ?? from.members[0];
    if ((before?.signer === undefined) !== (member.signer === undefined)) return `member ${index} needs a signer`;
    if (before?.signer !== undefined && !equalBytes(before.signer, member.signer ?? new Uint8Array())) {
      return `member ${index}: the settlement contract knows its signer, which therefore stays`;
    }
    if ((before?.secondShare === undefined) !== (member.secondShare === undefined)) {
      return `member ${index}: shares of other keys than before`;
    }
  }
  if ((from.sealingKey === undefined) !== (to.sealingKey === undefined)) return "a sealing key comes or goes";
  if (to.sealingKey !== undefined && to.sealingUntilSlot < to.activationSlot) return "its sealing key serves no slot";
  return undefined;
}

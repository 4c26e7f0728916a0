/**
 * Epochs: which roster a slot belongs to, and what may follow a roster (log.md §7).
 *
 * A slot's epoch is a function of the slot, so votes never straddle: the new roster's shares are of another polynomial
 * of the same key, and those of two epochs do not combine.
 */
import { equalBytes } from "../codec/codec.ts";
import type { Roster, RosterMember } from "./roster.ts";

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

/** Indexes whose member is another in `to` than in `from`. */
export function replaced(from: Roster, to: Roster): number[] {
  return to.members.filter((member, index) => !samePerson(member, from.members[index] ?? member)).map((m) => m.index);
}

/**
 * What keeps `to` from following `from`; undefined when it may. One member at a time: with two, the quorum of the old
 * epoch could be gone before the new one speaks.
 * @param earliestSlot the first slot of which nothing can have been said yet
 */
export function successorProblem(from: Roster, to: Roster, earliestSlot: bigint): string | undefined {
  if (to.epoch !== from.epoch + 1n) return `epoch ${to.epoch} does not follow ${from.epoch}`;
  if (to.activationSlot < earliestSlot) return `slot ${to.activationSlot} is too near; ${earliestSlot} at the earliest`;
  if (to.activationSlot > earliestSlot + ACTIVATION_AHEAD_MAX) return `slot ${to.activationSlot} is too far ahead`;
  if (to.members.length !== from.members.length) {
    return `${to.members.length} members after ${from.members.length}: a committee keeps its size`;
  }
  const others = replaced(from, to);
  if (others.length > 1) return `members ${others.join(", ")} at once: one at a time`;
  for (const [index, member] of to.members.entries()) {
    const before = from.members[index];
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

/**
 * Epochs: which roster a slot belongs to, and what may follow a roster (log.md §7).
 *
 * A slot's epoch is a function of the slot, so votes never straddle: the new roster's shares are of another polynomial
 * of the same key, and those of two epochs do not combine.
 */
import { equalBytes } from "../codec/codec.ts";
import { invariant } from "../fault.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { type Refusal, refuse } from "../machine.ts";
import { type Quorum, type Roster, type RosterMember, rosterQuorum } from "./roster.ts";
import { ERAS, OTHER_SIZES } from "./rules.ts";
import type { SlotWindow } from "./slot-window.ts";
import { emptyAuthor, type SharedState, WINDOW_AHEAD } from "./state.ts";

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

/** The rosters that a committee's log has brought, and which of them counts where. */
export class Epochs {
  readonly #config: LatticeConfig;
  readonly #organism: Organism;
  readonly #shared: SharedState;
  readonly #window: SlotWindow;

  constructor(config: LatticeConfig, organism: Organism, shared: SharedState, window: SlotWindow) {
    this.#config = config;
    this.#organism = organism;
    this.#shared = shared;
    this.#window = window;
  }

  /** The roster of the lowest undecided slot. */
  get current(): Roster {
    return this.at(this.#window.lowest);
  }
  /** The roster that a slot belongs to, as far as it is known here. */
  at(slot: bigint): Roster {
    return rosterAt(this.#shared.rosters, slot);
  }
  /** The roster of an epoch, while it is known here. */
  of(epoch: bigint): Roster | undefined {
    return this.#shared.rosters.find((roster) => roster.epoch === epoch);
  }

  /** Members, faults and quorum in the epoch of the lowest undecided slot. */
  get quorum(): Quorum {
    return this.#quorumIn(this.current);
  }
  quorumAt(slot: bigint): Quorum {
    return this.#quorumIn(this.at(slot));
  }
  /** That of the epoch in force for one whose roster is not known here. */
  quorumOf(epoch: bigint): Quorum {
    return this.#quorumIn(this.of(epoch) ?? this.current);
  }
  /** Of every epoch known here. */
  get quorums(): Map<bigint, Quorum> {
    return new Map(this.#shared.rosters.map((roster) => [roster.epoch, this.#quorumIn(roster)]));
  }
  #quorumIn(roster: Roster): Quorum {
    return rosterQuorum(this.#config, this.#organism, roster);
  }

  /** True when a slot's epoch has that seat. */
  hasSeat(index: number, slot: bigint): boolean {
    return index < this.at(slot).members.length;
  }

  /**
   * True for a seat that the committee has given up. It is heard until what its epochs decided is certified: its share
   * may be needed for that, and for nothing later.
   */
  hasLeft(index: number): boolean {
    const current = this.current;
    const seated = this.#shared.rosters.some(({ epoch, members }) => epoch >= current.epoch && index < members.length);
    if (seated) return false;
    for (const [slot, { stages }] of this.#shared.slots) {
      if (!this.hasSeat(index, slot)) continue;
      for (const { certified } of stages.values()) if (!certified) return false;
    }
    return true;
  }

  /** The epochs in which `memberKey` is member `index`, as far as they are known here, oldest first. */
  held(index: number, memberKey: Uint8Array): bigint[] {
    return this.#shared.rosters.flatMap(({ epoch, members }) => {
      const member = members[index];
      return member !== undefined && equalBytes(member.memberKey, memberKey) ? [epoch] : [];
    });
  }

  /** Takes the next epoch's roster. Only when the newest is active, so that there are never two to come. */
  follow(roster: Roster): Refusal | undefined {
    const { rosters, authors, rules } = this.#shared;
    const newest = rosters.at(-1);
    invariant(newest !== undefined, "a committee has a roster");
    if (roster.epoch === newest.epoch) return refuse("DUPLICATE", `the roster of epoch ${roster.epoch} is known`);
    if (newest.activationSlot > this.#window.lowest) {
      return refuse("ROSTER_REFUSED", `epoch ${newest.epoch} is not active yet`);
    }
    // Beyond the window: of these slots nothing can have been said.
    const depth = BigInt(this.#config.pipelineDepth);
    const ahead = depth > WINDOW_AHEAD ? depth : WINDOW_AHEAD;
    const problem = successorProblem(newest, roster, {
      organism: this.#organism,
      earliestSlot: this.#window.now + ahead + 1n,
      rules: rules.active,
    });
    if (problem !== undefined) return refuse("ROSTER_REFUSED", problem);
    rosters.push(roster);
    // A seat that was given up keeps its entry: incarnations of a key that comes back go on counting.
    while (authors.length < roster.members.length) authors.push(emptyAuthor());
    return undefined;
  }

  /** Forgets the epochs that slots from `below` on do not belong to. */
  forgetBelow(below: bigint): void {
    const { rosters } = this.#shared;
    rosters.splice(0, rosters.indexOf(this.at(below)));
  }
}

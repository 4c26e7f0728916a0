/**
 * The interface every organism's state machine implements, and its laws.
 *
 * 1. `apply` is synchronous, total and deterministic: same genesis and same events, same state and same outcomes on
 *    every member, for ever. It never throws; what a corrupt member or client could send is refused with a reason
 *    and without any change of state. It may change the state it is given in place, and only that.
 * 2. Nothing is emitted by `apply`. What a member does follows from state: `duties(state, view)` is recomputed after
 *    every event and on restart, so a replay repeats exactly what is missing and nothing twice (log.md §3).
 * 3. Time reaches `apply` only as log time, randomness only as bytes inside commands, the outside world only as
 *    facts that q members saw alike.
 * 4. Each stage of each slot is decided once: Result, Empty or Skipped.
 *
 * The committee layer (`committee/`) does what all six share: authors and lanes, votes, skips, closes, agreed facts,
 * observed upstream outcomes, chunks. A machine sees only what follows from them, as events.
 */
import type { Codec } from "./codec/codec.ts";
import type { Lane } from "./committee/entry.ts";
import type { Outcome, OutcomeKind } from "./committee/outcome.ts";
import type { Quorum, Roster } from "./committee/roster.ts";
import type { Organism } from "./identity/organisms.ts";

/** Why something was not accepted. `reason` is in the organism's catalogue; `detail` is a sentence without secrets. */
export interface Refusal {
  readonly reason: string;
  readonly detail: string;
}

export function refuse(reason: string, detail: string): Refusal {
  return { reason, detail };
}

/** What can happen to a machine. */
export type MachineEvent<Command> =
  /** A command of this organism, from an admitted member. */
  | { readonly type: "command"; readonly author: number; readonly command: Command }
  /** q members closed `stage` of `slot`, and every input that f + 1 of them listed has landed. Comes once. */
  | { readonly type: "closed"; readonly stage: string; readonly slot: bigint }
  /** q members saw the same fact. Comes once per (topic, slot). */
  | { readonly type: "agreed"; readonly topic: string; readonly slot: bigint; readonly fact: Uint8Array }
  /** A certified outcome of an organism in `upstream`; its certificate has been verified. Comes once per stage. */
  | { readonly type: "observed"; readonly organism: Organism; readonly outcome: Outcome }
  /** q members let this stage expire; it has just been decided Skipped. */
  | { readonly type: "skipped"; readonly stage: string; readonly slot: bigint };

/** A decision of one stage of one slot. */
export interface Decision {
  readonly stage: string;
  readonly slot: bigint;
  readonly kind: OutcomeKind;
  /** Canonical bytes, public at once. */
  readonly commitment: Uint8Array;
  /** blake3 of the body, when there is one. */
  readonly bodyHash?: Uint8Array;
}

/** What `apply` may read besides its own state, and the one thing it may cause. */
export interface Context {
  readonly position: bigint;
  /** The rule version that governs this entry (committee/rules.ts). */
  readonly rules: number;
  /** Log time, ms: the monotone median of members' entry clocks. */
  readonly nowMs: number;
  /** Of the lowest undecided slot's epoch. What concerns a slot asks `quorumAt`. */
  readonly quorum: Quorum;
  quorumAt(slot: bigint): Quorum;
  /** The roster of the lowest undecided slot. What concerns a slot asks `rosterAt`. */
  readonly roster: Roster;
  /** The roster that a slot belongs to (epochs.ts). */
  rosterAt(slot: bigint): Roster;
  /** This committee's decision, while it is retained. */
  outcome(stage: string, slot: bigint): Outcome | undefined;
  /** An upstream outcome that was observed, while it is retained. */
  observed(organism: Organism, stage: string, slot: bigint): Outcome | undefined;
  /** True while `slot` may still be talked about for `stage`: not decided, not below the floor, not beyond the window. */
  open(stage: string, slot: bigint): boolean;
  /** Decides a stage. The first decision stands; false when it was decided already. */
  decide(decision: Decision): boolean;
}

/** What `duties` may read: the member's own position in the world. */
export interface View {
  /** This member's index. */
  readonly self: number;
  /** The rule version that governed the last entry. */
  readonly rules: number;
  /** This member's clock, ms. */
  readonly nowMs: number;
  readonly quorum: Quorum;
  quorumAt(slot: bigint): Quorum;
  readonly roster: Roster;
  rosterAt(slot: bigint): Roster;
  /** The lowest slot whose `stage` is not decided. */
  floor(stage: string): bigint;
  outcome(stage: string, slot: bigint): Outcome | undefined;
  observed(organism: Organism, stage: string, slot: bigint): Outcome | undefined;
  /** What this member has said about a topic, once it is in the log. */
  said(topic: string, slot: bigint): Uint8Array | undefined;
  /** True once this member's Close is in the log. */
  hasClosed(stage: string, slot: bigint): boolean;
  /** True when this member has journaled a promise under the key. */
  promised(key: string): boolean;
}

/** Something this member should do now. Its key identifies it across restarts; doing it puts something in the log. */
export interface Duty {
  /** `kind/slot/version`, unique. */
  readonly key: string;
  readonly slot: bigint;
  /** True for what must never be said twice differently: journaled before it is published. */
  readonly promise: boolean;
  readonly lane?: Lane;
  /** True for what begins a new slot: left undone while the log is nearly full. */
  readonly opens?: boolean;
}

/** What carrying out a duty, or a client's request, puts into the log. */
export type Submission<Command> =
  | { readonly type: "machine"; readonly command: Command }
  | { readonly type: "saw"; readonly topic: string; readonly slot: bigint; readonly fact: Uint8Array }
  | { readonly type: "close"; readonly stage: string; readonly slot: bigint; readonly inputs: readonly Uint8Array[] };

/** A stage of an upstream organism that this one reacts to. */
export interface Upstream {
  readonly organism: Organism;
  readonly stage: string;
}

/** A replicated state machine. Made by the organism's `createMachine(config, roster)`. */
export interface Machine<State, Command, D extends Duty> {
  readonly organism: Organism;
  /** The decisions each slot ends in, in order. */
  readonly stages: readonly string[];
  readonly upstream: readonly Upstream[];
  readonly state: Codec<State>;
  readonly command: Codec<Command>;
  genesis(): State;
  apply(state: State, event: MachineEvent<Command>, context: Context): Refusal | undefined;
  duties(state: State, view: View): readonly D[];
  /** From when on this member may let an undecided stage expire (Unix ms); undefined: never. */
  skipAtMs(stage: string, slot: bigint): number | undefined;
  /** True when the input with this hash has landed; closes wait for what they list. */
  hasInput(state: State, stage: string, slot: bigint, hash: Uint8Array): boolean;
  /** The body of a decided stage, when it follows from state alone. */
  bodyOf?(state: State, stage: string, slot: bigint): Uint8Array | undefined;
  /**
   * The state without what guests are not given: whatever slots below `decidedBelow`, which are decided, have left
   * behind and no later event is judged by. Changes nothing; what it shares with `state` is not kept. Applying events
   * and taking this view must commute (committee/guest-view.ts).
   */
  forGuests(state: State, decidedBelow: bigint): State;
  /** Everything about slots below `slot` may be forgotten now. Called at the same position on every member. */
  collapse(state: State, slot: bigint): void;
}

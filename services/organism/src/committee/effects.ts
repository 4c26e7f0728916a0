/** What one log message causes besides the state that it leaves. Members are told of it; no later entry is judged by it. */
import type { Organism } from "../identity/organisms.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { Era } from "./eras.ts";
import type { CertifiedOutcome, Outcome } from "./outcome.ts";
import type { RulePlan } from "./rules.ts";

/** Filled while the message is applied. */
export interface Effects {
  /** Stages decided by it, in order. */
  readonly decided: Outcome[];
  /** Stages whose certificate became complete by it. */
  readonly certified: Outcome[];
  /** The proof by which a key was blocked. */
  fraud?: Uint8Array;
  /**
   * A checkpoint was due at this position: what to vote on, the state as it will be restored, and as guests get it. A
   * guest's own `stateHash` is not what members certify.
   */
  checkpoint?: { readonly checkpoint: Checkpoint; readonly state: Uint8Array; readonly guest: Uint8Array };
  /** The roster of an epoch to come was taken up by this entry. */
  announced?: CertifiedOutcome;
  /** An era begins with the roster announced, or enough members have told of one upstream. */
  era?: { readonly organism: Organism; readonly era: Era; readonly link: CertifiedOutcome };
  /** A quorum can follow these rules: they govern from that position on, if it still can there. */
  planned?: RulePlan;
  /** From this entry on these rules govern. */
  activated?: number;
  /** Its certificate became complete by this entry. */
  certifiedCheckpoint?: Checkpoint;
  /** Members that signed another state than this one at a checkpoint. */
  dissent?: Dissent;
  /** Shares that turned out to be none, and count no more: by this entry, or taken with an earlier one. */
  badShares?: readonly BadShare[];
}

export interface BadShare {
  readonly author: number;
  /** Of what it was to be a share, for people. */
  readonly what: string;
}

/** Members that agree with each other about a checkpoint, and not with this replica. */
export interface Dissent {
  readonly position: bigint;
  /** What they signed. */
  readonly stateHash: Uint8Array;
  /** Ascending. */
  readonly authors: readonly number[];
}

export function noEffects(): Effects {
  return { decided: [], certified: [] };
}

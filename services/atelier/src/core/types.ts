/** atelier's vocabulary: what is replicated, what members say, what they are to do. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import type { Duty } from "@lattice/organism/machine.ts";
import type { SequencerAttributes } from "@lattice/organism/outcomes/sequencer.ts";

export const STAGE = "candidate";

/** Topic of the fact "I have executed this candidate and found it right". */
export const CANDIDATE_TOPIC = "candidate";

/** Topic of a slot's attributes on one parent: after a reorganisation members may speak of the new parent too. */
export function attributesTopic(parentHash: Uint8Array): string {
  return `attributes/${toHex(parentHash.subarray(0, 10))}`;
}

/** What a proposal is keyed by; one per key and author, ever. */
export interface ProposalKey {
  readonly slot: bigint;
  /** 32 bytes. */
  readonly parentHash: Uint8Array;
  readonly candidateVersion: number;
}

/** A proposal that stands. */
export interface Proposal {
  author: number;
  position: bigint;
  parentHash: Uint8Array;
  candidateVersion: number;
  /** Canonical CANDIDATE. */
  commitment: Uint8Array;
  /** The body, sealed to all members; empty once nobody needs it any more. */
  sealedBody: Uint8Array;
}

/** Two different candidates of one author under one key. The two signed entries in the log are the proof. */
export interface Evidence {
  member: number;
  parentHash: Uint8Array;
  candidateVersion: number;
  /** Log positions of the two. */
  first: bigint;
  second: bigint;
}

export interface SlotRecord {
  /** Attributes that q members saw alike, in the order in which they were agreed; the last are the ones to build on. */
  attributes: SequencerAttributes[];
  /** Log time at which everything needed for the last attributes was there, ms. */
  readyMs: number | undefined;
  /** In log order. */
  proposals: Proposal[];
  evidence: Evidence[];
}

export interface AtelierState {
  slots: Map<bigint, SlotRecord>;
}

/** "This is the block." A promise: one per (slot, parent, version). */
export interface ProposalCommand extends ProposalKey {
  readonly type: "proposal";
  readonly commitment: Uint8Array;
  /** blake3 of the body in clear, 32 bytes. */
  readonly bodyHash: Uint8Array;
  readonly sealedBody: Uint8Array;
}
export type AtelierCommand = ProposalCommand;

/** "Build and propose." */
export interface ProposeDuty extends Duty {
  readonly type: "propose";
  readonly parentHash: Uint8Array;
}
/** "Execute what is proposed; say which is the first right one." */
export interface JudgeDuty extends Duty {
  readonly type: "judge";
}
export type AtelierDuty = ProposeDuty | JudgeDuty;

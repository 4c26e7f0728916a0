/** tally's vocabulary. */
import type { Duty } from "@lattice/organism/machine.ts";
import type { Charge } from "@lattice/organism/outcomes/tally.ts";
import type { Attestation } from "./attestation.ts";
import type { Ledger } from "./ledger.ts";
import type { CollectedCharge } from "./slot-attribution.ts";

export const STAGE = "attribution";

/** Topics of the facts that q members must have seen alike; see `topicOf` for how a further attempt is named. */
export type Topic = "chain" | "attributed";

export interface BlockReference {
  readonly number: bigint;
  /** 32 bytes. */
  readonly hash: Uint8Array;
}

/** `AttestationPosted`, as the chain shows it. */
export interface PostedEvent {
  readonly batch: bigint;
  readonly root: Uint8Array;
  readonly total: bigint;
  readonly blockNumber: bigint;
}

/** What the chain says of one slot; nothing in it can change any more. */
export interface ChainFact {
  readonly version: 1;
  /** The final block at the candidate's height. */
  readonly standing: BlockReference & { readonly parentHash: Uint8Array };
  /** First block whose events are listed. */
  readonly fromBlock: bigint;
  /** Last block whose events are listed; `fromBlock − 1` when nothing new was looked at. Final. */
  readonly scanned: BlockReference;
  readonly collected: readonly CollectedCharge[];
  readonly posted: readonly PostedEvent[];
}

/** A closed batch. Its signatures come in as members read the log. */
export interface Batch {
  readonly attestation: Attestation;
  /** The slot whose attribution closed it. */
  readonly slot: bigint;
  /** By member index: 65 bytes, r ‖ s ‖ v. */
  readonly signatures: Map<number, Uint8Array>;
  /** Log time at which it had enough signatures, Unix ms; 0 before. */
  signedAtMs: number;
  /** The block that posted it, final; 0 before. */
  postedIn: bigint;
}

/** What a slot's attribution was computed from, besides certified outcomes. */
export interface AttributedSlot {
  readonly collected: readonly CollectedCharge[];
  /** Last final block whose events had been counted. */
  readonly scanned: bigint;
}

export interface TallyState {
  /** The lowest slot that is not attributed. */
  next: bigint;
  /** What q members saw on chain of slot `next`, when its candidate landed. */
  chain: ChainFact | undefined;
  /** The last final block whose events are counted; undefined before the first. */
  scanned: BlockReference | undefined;
  /** Number of the newest landed block; 0 before the first. */
  landedNumber: bigint;
  /** Charges collected since the last landed slot. */
  collected: CollectedCharge[];
  ledger: Ledger;
  /** To be put into a batch, oldest first. */
  charges: Charge[];
  /** Bid id (hex) → slot of every charge there was: the contract takes none twice. */
  readonly charged: Map<string, bigint>;
  /** Slots attributed since the last batch closed. */
  sinceBatch: number;
  /** The newest batch that the contract has, as far as final blocks show. */
  postedBatch: bigint;
  /** Newest last; the open one, if there is one, is the last. */
  batches: Batch[];
  /** The ledger as the open batch states it. */
  openLedger: Ledger | undefined;
  /** The ledger as the contract's root states it: what can be claimed. */
  postedLedger: Ledger | undefined;
  readonly slots: Map<bigint, AttributedSlot>;
}

/** A member's signature over the open batch. */
export interface AttestationShareCommand {
  readonly type: "attestationShare";
  readonly batch: bigint;
  /** 65 bytes, r ‖ s ‖ v, over the attestation's EIP-712 digest. */
  readonly signature: Uint8Array;
}
export type TallyCommand = AttestationShareCommand;

/** "Find out what the chain says about this slot." */
export interface ReadChainDuty extends Duty {
  readonly type: "read-chain";
  readonly topic: string;
}
/** "Compute this slot's attribution." */
export interface AttributeDuty extends Duty {
  readonly type: "attribute";
  readonly topic: string;
}
/** "Have the candidate's body here while its committee still serves it." Puts nothing into the log. */
export interface KeepBodyDuty extends Duty {
  readonly type: "keep-body";
}
/** "Sign this batch." */
export interface AttestDuty extends Duty {
  readonly type: "attest";
  readonly batch: bigint;
}
/** "See to it that the contract gets this batch." Puts nothing into the log. */
export interface PostDuty extends Duty {
  readonly type: "post";
  readonly batch: bigint;
}
export type TallyDuty = ReadChainDuty | AttributeDuty | KeepBodyDuty | AttestDuty | PostDuty;

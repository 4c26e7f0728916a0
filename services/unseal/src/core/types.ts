/** What unseal's machine keeps, takes and asks for. Encodings in `codec.ts`. */
import type { Duty } from "@lattice/organism/machine.ts";

/** The record after which, and only after which, shares of a slot may exist. One per slot. */
export interface Freeze {
  /** Where it stands in the log. */
  readonly position: bigint;
  /** Digest of the certified Broadcast outcome. */
  readonly broadcast: Uint8Array;
  /** Digest of the certified outcome of offer's `blind` stage; absent after q NoBlind. */
  readonly blind: Uint8Array | undefined;
}

/** What an honest member never puts into the log. The entry at `position` is signed by it and proves the fraud. */
export interface Evidence {
  readonly member: number;
  readonly kind: "share-before-freeze" | "share-conflict";
  readonly position: bigint;
  /** H/"lattice/unseal/evidence/v1"(the command). */
  readonly digest: Uint8Array;
}

export interface SlotRecord {
  freeze: Freeze | undefined;
  /** q members had no outcome of offer's `blind` stage at its deadline. */
  noBlind: boolean;
  /** By member: its share of the slot key, boxed to all members. */
  shares: Map<number, Uint8Array>;
  /** At most one per member and kind. */
  evidence: Evidence[];
  /** Message ids of this slot whose transactions are on chain, ascending. */
  landed: Uint8Array[];
}

export interface UnsealState {
  version: 1;
  /** Slots from here on may have a record. */
  retainedFrom: bigint;
  /** The newest slot for which atelier certified a candidate. */
  candidateSlot: bigint | undefined;
  slots: Map<bigint, SlotRecord>;
}

export type UnsealCommand =
  /** "These two certified outcomes are what the slot is opened over." */
  | {
      readonly type: "freeze";
      readonly slot: bigint;
      readonly epoch: bigint;
      readonly broadcast: Uint8Array;
      readonly blind: Uint8Array | undefined;
    }
  /** The author's share of the slot key, boxed to all members: the broker learns nothing. */
  | { readonly type: "share"; readonly slot: bigint; readonly epoch: bigint; readonly sealed: Uint8Array };

/** Facts that members agree about. */
export const NO_BLIND_TOPIC = "no-blind";
export const OPENED_TOPIC = "opened";

export type UnsealDuty = Duty &
  (
    | { readonly kind: "freeze"; readonly broadcast: Uint8Array; readonly blind: Uint8Array | undefined }
    | { readonly kind: "no-blind" }
    | { readonly kind: "share" }
    | { readonly kind: "open" }
  );

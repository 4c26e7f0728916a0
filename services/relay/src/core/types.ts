/** relay's vocabulary. */
import type { Duty } from "@lattice/organism/machine.ts";

/** Members that handed this slot's payload over, and which. */
export interface ShippedSlot {
  blockHash: Uint8Array;
  members: number[];
}

export interface RelayState {
  shipped: Map<bigint, ShippedSlot>;
}

/** "I have handed this block to the sequencer." A promise: one block a slot and member. */
export interface ShippedCommand {
  readonly type: "shipped";
  readonly slot: bigint;
  readonly blockHash: Uint8Array;
}
export type RelayCommand = ShippedCommand;

/** "Find out what the sequencer says about this slot." */
export interface AcknowledgeDuty extends Duty {
  readonly type: "acknowledge";
}
export type RelayDuty = AcknowledgeDuty;

/** Topic of the fact that q members must have seen alike: the sequencer's signed acknowledgement. */
export const ACKNOWLEDGEMENT_TOPIC = "acknowledgement";

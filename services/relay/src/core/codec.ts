/** Canonical bytes of relay's commands, facts and state. */
import { type Codec, count, fixed, type Infer, list, map, struct, u64, union } from "@lattice/organism/codec/codec.ts";
import { SEQUENCER_ACKNOWLEDGEMENT, type SequencerAcknowledgement } from "@lattice/organism/outcomes/sequencer.ts";
import type { RelayCommand, RelayState } from "./types.ts";

export const COMMAND: Codec<RelayCommand> = union({ shipped: struct({ slot: u64, blockHash: fixed(32) }) });

const SHIPPED = struct({ blockHash: fixed(32), members: list(count, 16) });
export const STATE: Codec<RelayState> = struct({ shipped: map(u64, SHIPPED, 100_000) });

/** The fact under ACKNOWLEDGEMENT_TOPIC: signed bytes, so that `apply` judges it without asking anybody. */
export const SIGNED_ACKNOWLEDGEMENT = struct({
  acknowledgement: SEQUENCER_ACKNOWLEDGEMENT as Codec<SequencerAcknowledgement>,
  signature: fixed(65),
});
export type SignedAcknowledgement = Infer<typeof SIGNED_ACKNOWLEDGEMENT>;

/** What relay publishes: whether the sequencer or proposer took the block. Canonical formats. */
import { fixed, type Infer, literal, struct, text, u64 } from "../codec/codec.ts";

export const RELAY_STAGES = ["accepted"] as const;

/** Commitment of stage `accepted`, kind `result`: AcceptedHeader(s). */
export const ACCEPTED = struct({
  version: literal(1),
  parentHash: fixed(32),
  blockHash: fixed(32),
  blockNumber: u64,
  /** Who acknowledged, and its signature over the acknowledgement (outcomes/sequencer.ts). */
  sequencer: fixed(20),
  signature: fixed(65),
});
export type AcceptedHeader = Infer<typeof ACCEPTED>;

/** Commitment of stage `accepted`, kind `empty`: NotTaken(s). */
export const NOT_TAKEN = struct({
  version: literal(1),
  parentHash: fixed(32),
  /** The block that stands instead; zero when none. */
  blockHash: fixed(32),
  reason: text(64),
});
export type NotTaken = Infer<typeof NOT_TAKEN>;

/** What tally publishes: who is owed what for a slot. Canonical formats. */
import { bool, type Codec, fixed, type Infer, list, literal, oneOf, struct, u64, u256 } from "../codec/codec.ts";

export const TALLY_STAGES = ["attribution"] as const;

export const CREDIT = struct({
  recipient: fixed(20),
  kind: oneOf("order-flow-provider", "bid-winner", "co-builder", "proposer"),
  wei: u256,
});
export type Credit = Infer<typeof CREDIT>;

/** A blind winner's amount, or a void bid's charge, taken from escrow. */
export const CHARGE = struct({ bidId: fixed(32), account: fixed(20), wei: u256 });
export type Charge = Infer<typeof CHARGE>;

/** Commitment of stage `attribution`. Credits sum to refundableWei − remainderWei, exactly. */
export const ATTRIBUTION = struct({
  version: literal(1),
  /** True when the certified candidate's block is final on chain. */
  landed: bool,
  parentHash: fixed(32),
  blockHash: fixed(32),
  blockNumber: u64,
  /** Messages whose transactions are in the block. */
  landedMessages: list(fixed(16), 65_536),
  credits: list(CREDIT as Codec<Credit>, 65_536),
  charges: list(CHARGE as Codec<Charge>, 4096),
  /** Bid payments of this block that the refund rule distributes. */
  refundableWei: u256,
  remainderWei: u256,
});
export type AttributionCommitment = Infer<typeof ATTRIBUTION>;

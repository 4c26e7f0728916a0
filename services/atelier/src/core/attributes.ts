/** What a block of a slot must carry, as the sequencer signed it. Pure. */
import { equalBytes, tryDecode } from "@lattice/organism/codec/codec.ts";
import { type LatticeConfig, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { type SequencerAttributes, verifyAttributes } from "@lattice/organism/outcomes/sequencer.ts";
import type { BlockAttributes } from "./candidate.ts";
import { SIGNED_ATTRIBUTES, type SignedAttributes } from "./codec.ts";

/** True when a sequencer that the config pins signed them for this lattice and slot. */
export function attributesHold(config: LatticeConfig, slot: bigint, signed: SignedAttributes): boolean {
  const { attributes, signature } = signed;
  if (attributes.slot !== slot || attributes.chainId !== config.chainId) return false;
  if (!equalBytes(attributes.latticeId, latticeId(config))) return false;
  return config.relay.content.sequencers.some((address) => verifyAttributes(address, attributes, signature));
}

/** Decodes and judges a fact; undefined when it is not a pinned sequencer's word on this slot. */
export function attributesOfFact(
  config: LatticeConfig,
  slot: bigint,
  fact: Uint8Array,
): SequencerAttributes | undefined {
  const signed = tryDecode(SIGNED_ATTRIBUTES, fact);
  return signed !== undefined && attributesHold(config, slot, signed) ? signed.attributes : undefined;
}

/** As the block takes them over. A rollup's block has no withdrawals. */
export function blockAttributes(attributes: SequencerAttributes): BlockAttributes {
  const { parentHash, timestampS, prevRandao, feeRecipient, gasLimit, parentBeaconBlockRoot, extraData } = attributes;
  return {
    parentHash,
    timestamp: timestampS,
    prevRandao,
    feeRecipient,
    gasLimit,
    parentBeaconBlockRoot,
    extraData,
    withdrawals: [],
  };
}

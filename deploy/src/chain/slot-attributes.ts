/** What the sequencer asks for in a slot, and whether a payload is that. Pure: the same slot and parent, the same bytes. */
import { concat, encode, fromHex, text, toHex, u64 } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import type { SequencerAttributes } from "@lattice/organism/outcomes/sequencer.ts";
import { type Hex, type PayloadAttributes, type PayloadEnvelope, toQuantity } from "./execution-payload.ts";

/** A block as the sequencer remembers it. */
export interface BlockReference {
  readonly number: bigint;
  readonly hash: Hex;
  readonly timestampS: bigint;
  readonly gasLimit: bigint;
}

export interface AttributeRules {
  /** 32 bytes. */
  readonly latticeId: Uint8Array;
  readonly chainId: bigint;
  readonly genesisMs: number;
  readonly slotMs: number;
  /** 20 bytes. */
  readonly feeRecipient: Uint8Array;
  /** At most 32 bytes. */
  readonly extraData: Uint8Array;
}

export function startOfSlotMs(rules: AttributeRules, slot: bigint): number {
  return rules.genesisMs + Number(slot) * rules.slotMs;
}

/**
 * The attributes of `slot` on `parent`. The timestamp is the slot's start in whole seconds, or one more than the
 * parent's where slots are shorter than that; randomness and beacon root are hashes of (chain, slot), so that everybody
 * can recompute them. The gas limit is the parent's: the local chain does not move it.
 */
export function slotAttributes(rules: AttributeRules, slot: bigint, parent: BlockReference): SequencerAttributes {
  const startS = BigInt(Math.floor(startOfSlotMs(rules, slot) / 1000));
  return {
    version: 1,
    latticeId: rules.latticeId,
    chainId: rules.chainId,
    slot,
    parentHash: fromHex(parent.hash),
    parentNumber: parent.number,
    timestampS: startS > parent.timestampS ? startS : parent.timestampS + 1n,
    prevRandao: derived("prev-randao", rules.chainId, slot),
    feeRecipient: rules.feeRecipient,
    gasLimit: parent.gasLimit,
    parentBeaconBlockRoot: derived("beacon-root", rules.chainId, slot),
    extraData: rules.extraData,
  };
}

/** Another block for the place of `replaced`: as its slot's, but with other randomness, so with another hash. */
export function alternativeAttributes(
  rules: AttributeRules,
  slot: bigint,
  parent: BlockReference,
  replaced: BlockReference,
): SequencerAttributes {
  return {
    ...slotAttributes(rules, slot, parent),
    timestampS: replaced.timestampS,
    prevRandao: keccak256(concat(derived("alternative", rules.chainId, slot), fromHex(replaced.hash))),
  };
}

function derived(what: string, chainId: bigint, slot: bigint): Uint8Array {
  return keccak256(concat(encode(text(64), `lattice/sequencer/${what}/v1`), encode(u64, chainId), encode(u64, slot)));
}

/** As an execution client takes them. */
export function engineAttributes(attributes: SequencerAttributes): PayloadAttributes {
  return {
    timestamp: toQuantity(attributes.timestampS),
    prevRandao: hex(attributes.prevRandao),
    suggestedFeeRecipient: hex(attributes.feeRecipient),
    withdrawals: [],
    parentBeaconBlockRoot: hex(attributes.parentBeaconBlockRoot),
  };
}

/** As a builder is asked: the op-stack's extras, the extra data, and the signed canonical attributes that say everything. */
export interface BuilderAttributes extends PayloadAttributes {
  readonly noTxPool: false;
  readonly transactions: readonly never[];
  readonly gasLimit: Hex;
  readonly extraData: Hex;
  readonly lattice: { readonly attributes: Hex; readonly signature: Hex };
}

export function builderAttributes(
  attributes: SequencerAttributes,
  canonical: Uint8Array,
  signature: Uint8Array,
): BuilderAttributes {
  return {
    ...engineAttributes(attributes),
    noTxPool: false,
    transactions: [],
    gasLimit: toQuantity(attributes.gasLimit),
    extraData: hex(attributes.extraData),
    lattice: { attributes: hex(canonical), signature: hex(signature) },
  };
}

/** A payload's field that is not as the attributes say. */
export interface Deviation {
  readonly field: string;
  readonly wanted: string;
  readonly got: string;
}

/**
 * The first field in which a payload departs from its attributes. The beacon root is no field of a payload: it is
 * passed beside it and enters the block hash, so a payload built on another one has a wrong hash.
 */
export function deviationOf(
  attributes: SequencerAttributes,
  { executionPayload }: PayloadEnvelope,
): Deviation | undefined {
  const wanted: [string, string, string][] = [
    ["parentHash", hex(attributes.parentHash), executionPayload.parentHash],
    ["blockNumber", toQuantity(attributes.parentNumber + 1n), executionPayload.blockNumber],
    ["timestamp", toQuantity(attributes.timestampS), executionPayload.timestamp],
    ["prevRandao", hex(attributes.prevRandao), executionPayload.prevRandao],
    ["feeRecipient", hex(attributes.feeRecipient), executionPayload.feeRecipient],
    ["gasLimit", toQuantity(attributes.gasLimit), executionPayload.gasLimit],
    ["extraData", hex(attributes.extraData), executionPayload.extraData],
    ["withdrawals", "0", executionPayload.withdrawals.length.toString()],
    ["blobGasUsed", "0x0", executionPayload.blobGasUsed],
  ];
  const found = wanted.find(([, want, got]) => want !== got);
  return found === undefined ? undefined : { field: found[0], wanted: found[1], got: found[2] };
}

export function hex(bytes: Uint8Array): Hex {
  return `0x${toHex(bytes)}`;
}

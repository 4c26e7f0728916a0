/**
 * What an L2 sequencer says to a lattice, signed (protocols.md §5, l2-sequencer).
 *
 * Before a slot it publishes its *attributes*: every header field that is its to choose. After the slot it publishes
 * an *acknowledgement*: which block stands. Both are canonical bytes (codec.ts), signed with secp256k1 over
 * `keccak256(text(tag) ‖ canonical bytes)` as r ‖ s ‖ v with v = 27 or 28; two tags keep the two apart. Relay,
 * atelier and the sequencer driver share this file.
 */
import {
  bytes,
  type Codec,
  concat,
  encode,
  equalBytes,
  fixed,
  type Infer,
  literal,
  oneOf,
  struct,
  text,
  u64,
} from "../codec/codec.ts";
import { keccak256, recoverAddress, signDigest } from "../crypto/secp256k1.ts";

/** The yellow paper's limit on a header's extra data. */
export const EXTRA_DATA_BYTES_MAX = 32;

/** What a block of this slot must carry. Withdrawals are none, always: a rollup has no validators. */
export const SEQUENCER_ATTRIBUTES = struct({
  version: literal(1),
  latticeId: fixed(32),
  chainId: u64,
  slot: u64,
  parentHash: fixed(32),
  parentNumber: u64,
  /** The block's timestamp in whole Unix seconds, above the parent's. */
  timestampS: u64,
  prevRandao: fixed(32),
  feeRecipient: fixed(20),
  gasLimit: u64,
  parentBeaconBlockRoot: fixed(32),
  extraData: bytes(EXTRA_DATA_BYTES_MAX),
});
export type SequencerAttributes = Infer<typeof SEQUENCER_ATTRIBUTES>;

/**
 * What became of a slot. `accepted`: a block of this lattice. `fallback`: the sequencer's own empty block.
 * `none`: no block, the head stands still and `blockHash` is zero.
 */
export const SEQUENCER_ACKNOWLEDGEMENT = struct({
  version: literal(1),
  latticeId: fixed(32),
  slot: u64,
  parentHash: fixed(32),
  blockHash: fixed(32),
  outcome: oneOf("accepted", "fallback", "none"),
  /** One of the sequencer's stable words; empty when accepted. */
  reason: text(64),
});
export type SequencerAcknowledgement = Infer<typeof SEQUENCER_ACKNOWLEDGEMENT>;

const ATTRIBUTES_TAG = "lattice/sequencer/attributes/v1";
const ACKNOWLEDGEMENT_TAG = "lattice/sequencer/acknowledgement/v1";
const TAG = text(64);

function digest<T>(tag: string, codec: Codec<T>, value: T): Uint8Array {
  return keccak256(concat(encode(TAG, tag), encode(codec, value)));
}

/** The 32 bytes that are signed. @throws CodecError when a field is out of range */
export function attributesDigest(attributes: SequencerAttributes): Uint8Array {
  return digest(ATTRIBUTES_TAG, SEQUENCER_ATTRIBUTES, attributes);
}

/** The 32 bytes that are signed. @throws CodecError when a field is out of range */
export function acknowledgementDigest(acknowledgement: SequencerAcknowledgement): Uint8Array {
  return digest(ACKNOWLEDGEMENT_TAG, SEQUENCER_ACKNOWLEDGEMENT, acknowledgement);
}

/** 65 bytes, from a 32-byte secret. */
export function signAttributes(secret: Uint8Array, attributes: SequencerAttributes): Uint8Array {
  return signDigest(secret, attributesDigest(attributes));
}

/** 65 bytes, from a 32-byte secret. */
export function signAcknowledgement(secret: Uint8Array, acknowledgement: SequencerAcknowledgement): Uint8Array {
  return signDigest(secret, acknowledgementDigest(acknowledgement));
}

/** Total: did the holder of this 20-byte address sign these attributes? */
export function verifyAttributes(address: Uint8Array, attributes: SequencerAttributes, signature: Uint8Array): boolean {
  return signedBy(address, attributesDigest(attributes), signature);
}

/** Total: did the holder of this 20-byte address sign this acknowledgement? */
export function verifyAcknowledgement(
  address: Uint8Array,
  acknowledgement: SequencerAcknowledgement,
  signature: Uint8Array,
): boolean {
  return signedBy(address, acknowledgementDigest(acknowledgement), signature);
}

function signedBy(address: Uint8Array, signed: Uint8Array, signature: Uint8Array): boolean {
  const signer = recoverAddress(signed, signature);
  return signer !== undefined && equalBytes(signer, address);
}

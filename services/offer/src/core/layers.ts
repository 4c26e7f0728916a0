/**
 * The plaintexts of a bid's two sealed layers. Each has one length, whatever it holds: the value layer always, the
 * bundle layer per lattice (`offer.bundleBytes`).
 */
import {
  bytes,
  compareBytes,
  concat,
  encode,
  equalBytes,
  fixed,
  list,
  literal,
  Reader,
  struct,
  tryDecode,
  u256,
} from "@lattice/organism/codec/codec.ts";
import { hash } from "@lattice/organism/crypto/hash.ts";
import { BUNDLE, type Bundle } from "@lattice/organism/outcomes/offer.ts";

/** What sealing adds (`crypto/ibe.ts`): version, U (48), V (32), GCM tag (16). Asserted by a test of `sealBid`. */
export const SEALED_OVERHEAD_BYTES = 97;
/** Pool messages a bid may reference. */
export const REFERENCES_MAX = 32;
const MESSAGE_ID_BYTES = 16;

/** What a value layer says. */
export interface BidValue {
  readonly amountWei: bigint;
  /** Ids of the pool messages whose order flow the bundle uses, 16 bytes each, distinct. */
  readonly references: readonly Uint8Array[];
  /** Salted commitment to the bundle. */
  readonly bundleCommitment: Uint8Array;
}

const VALUE = struct({
  version: literal(1),
  amountWei: u256,
  bundleCommitment: fixed(32),
  references: list(fixed(MESSAGE_ID_BYTES), REFERENCES_MAX),
});
/** Version, amount, commitment, count, and room for every reference. */
const VALUE_PLAIN_BYTES = 1 + 32 + 32 + 4 + REFERENCES_MAX * MESSAGE_ID_BYTES;

/** Bytes of a sealed value layer. */
export const VALUE_LAYER_BYTES = VALUE_PLAIN_BYTES + SEALED_OVERHEAD_BYTES;

/** Constant length. @throws CodecError when there are too many references */
export function encodeValue(value: BidValue): Uint8Array {
  const { amountWei, bundleCommitment } = value;
  const plain = encode(VALUE, { version: 1, amountWei, bundleCommitment, references: [...value.references] });
  return padTo(plain, VALUE_PLAIN_BYTES);
}

/** Undefined for another length, padding other than zeros, or a reference named twice. */
export function decodeValue(plain: Uint8Array): BidValue | undefined {
  if (plain.length !== VALUE_PLAIN_BYTES) return undefined;
  const used = new Reader(plain.subarray(65)).u32() * MESSAGE_ID_BYTES + 69;
  const value = tryDecode(VALUE, plain.subarray(0, used));
  if (value === undefined || !isZero(plain.subarray(used))) return undefined;
  const sorted = [...value.references].sort(compareBytes);
  if (sorted.some((reference, index) => index > 0 && equalBytes(reference, sorted[index - 1] ?? reference))) {
    return undefined;
  }
  return value;
}

/** The largest value of `offer.bundleBytes` (lattice-config.ts). */
export const BUNDLE_BYTES_MAX = 262_144;
const SALT_BYTES = 32;
const BUNDLE_FRAME_BYTES = SALT_BYTES + 4;

/** Bytes of a sealed bundle layer where bundles are padded to `bundleBytes`. */
export function bundleLayerBytes(bundleBytes: number): number {
  return bundleBytes + SEALED_OVERHEAD_BYTES;
}

/** The largest encoded bundle that fits: salt and length take 36 bytes. */
export function bundleRoom(bundleBytes: number): number {
  return bundleBytes - BUNDLE_FRAME_BYTES;
}

const COMMITTED = struct({ salt: fixed(SALT_BYTES), bundle: bytes(BUNDLE_BYTES_MAX) });

/** The salt is in the bundle layer, so that who can open only the value cannot even test a guess of the bundle. */
export function bundleCommitment(salt: Uint8Array, bundle: Uint8Array): Uint8Array {
  return hash("lattice/offer/bundle/v1", COMMITTED, { salt, bundle });
}

/** @param bundle canonical bytes, at most `bundleRoom(bundleBytes)`. @throws RangeError when larger */
export function encodeBundleLayer(salt: Uint8Array, bundle: Uint8Array, bundleBytes: number): Uint8Array {
  const room = bundleRoom(bundleBytes);
  if (bundle.length > room) throw new RangeError(`bundle of ${bundle.length} bytes, at most ${room}`);
  return padTo(encode(COMMITTED, { salt, bundle }), bundleBytes);
}

/** An opened bundle layer. */
export interface OpenedBundle {
  readonly salt: Uint8Array;
  /** Canonical bytes of `bundle`. */
  readonly bundleBytes: Uint8Array;
  readonly bundle: Bundle;
}

/** Undefined for anything that `encodeBundleLayer` cannot have made. */
export function decodeBundleLayer(plain: Uint8Array, bundleBytes: number): OpenedBundle | undefined {
  if (plain.length !== bundleBytes) return undefined;
  const reader = new Reader(plain);
  const salt = reader.raw(SALT_BYTES);
  const length = reader.u32();
  if (length > reader.remaining) return undefined;
  const encoded = reader.raw(length);
  if (!isZero(reader.raw(reader.remaining))) return undefined;
  const bundle = tryDecode(BUNDLE, encoded);
  return bundle === undefined ? undefined : { salt, bundleBytes: encoded, bundle };
}

function padTo(plain: Uint8Array, length: number): Uint8Array {
  return concat(plain, new Uint8Array(length - plain.length));
}

function isZero(padding: Uint8Array): boolean {
  return padding.every((byte) => byte === 0);
}

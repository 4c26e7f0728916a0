/**
 * Log entries: what one member says at one position (log.md §2).
 *
 * Signed over a tag and the exact bytes, chained per author and lane, and bound to the chain head the author saw, so
 * that a fork shows at the first entry that crosses it. Unknown versions are refused, never guessed.
 */
import { bytes, count, decode, encode, fixed, type Infer, literal, oneOf, struct, u64 } from "../codec/codec.ts";
import { hash, hashBytes } from "../crypto/hash.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";

/** `ctl` carries what is small and urgent, `bulk` what may be large: a vector never holds up a share. */
export type Lane = "ctl" | "bulk";
export const LANES: readonly Lane[] = ["ctl", "bulk"];

/** A command above this travels as chunks. */
export const CHUNK_BYTES = 512 * 1024;
/** Chunks of one command, at most: 16 MiB and its envelope. */
export const CHUNKS_MAX = 33;
/** The largest entry body: a chunk and its envelope. */
export const ENTRY_BYTES_MAX = CHUNK_BYTES + 4096;
/** A Join with its signature; what it says is short. */
export const JOIN_BYTES_MAX = 1024;

export const ENTRY_BODY = struct({
  version: literal(1),
  committee: UNIQUE_ID,
  generation: u64,
  epoch: u64,
  author: count,
  incarnation: u64,
  lane: oneOf("ctl", "bulk"),
  /** 1, 2, 3 … per (author, incarnation, lane). */
  sequence: u64,
  /** Hash of the author's previous entry in the lane; zero for the first. */
  previous: fixed(32),
  /** The last position the author had applied when it signed, and the chain head there. */
  seenPosition: u64,
  seenHead: fixed(32),
  clockMs: u64,
  command: bytes(CHUNK_BYTES + 1024),
});
export type EntryBody = Infer<typeof ENTRY_BODY>;

const SIGNED = struct({ body: bytes(ENTRY_BYTES_MAX), signature: fixed(64) });

export const ENTRY_TAG = "lattice/entry/v1";
export const ZERO_HASH: Uint8Array = new Uint8Array(32);

/** An entry as it came: `raw` is what was hashed into the chain, `body` the exact signed bytes. */
export interface SignedEntry {
  readonly bodyBytes: Uint8Array;
  readonly signature: Uint8Array;
  readonly body: EntryBody;
}

/** An entry that has been read and named before it is applied. */
export interface ReadEntry extends SignedEntry {
  /** `entryHash` of the body. */
  readonly hash: Uint8Array;
  /** The key that its signature is known to verify under, because somebody has looked; or has made it, in this process. */
  readonly verifiedBy?: Uint8Array;
}

export function encodeEntry(bodyBytes: Uint8Array, signature: Uint8Array): Uint8Array {
  return encode(SIGNED, { body: bodyBytes, signature });
}

/** @throws CodecError */
export function decodeEntry(raw: Uint8Array): SignedEntry {
  const { body: bodyBytes, signature } = decode(SIGNED, raw);
  return { bodyBytes, signature, body: decode(ENTRY_BODY, bodyBytes) };
}

/** @throws CodecError */
export function readEntry(raw: Uint8Array): ReadEntry {
  const entry = decodeEntry(raw);
  return { ...entry, hash: entryHash(entry.bodyBytes) };
}

/** Identifies an entry, whatever its signature bytes: the hash of the signed body. */
export function entryHash(bodyBytes: Uint8Array): Uint8Array {
  return hashBytes("lattice/entry/hash/v1", bodyBytes);
}

const HEAD = struct({ previous: fixed(32), position: u64, message: fixed(32) });

/** The chain head after `raw` at `position`. Every message counts, refused ones too: nothing in the log can change. */
export function nextHead(previous: Uint8Array, position: bigint, raw: Uint8Array): Uint8Array {
  const message = hashBytes("lattice/log/message/v1", raw);
  return hash("lattice/log/head/v1", HEAD, { previous, position, message });
}

const SUCCESSION = struct({ committee: UNIQUE_ID, generation: u64, endPosition: u64, endHead: fixed(32) });

/** The head before the first entry of a generation that follows another: it names where that one ended. */
export function successionHead(
  committee: Uint8Array,
  generation: bigint,
  end: { readonly position: bigint; readonly head: Uint8Array },
): Uint8Array {
  const succession = { committee, generation, endPosition: end.position, endHead: end.head };
  return hash("lattice/log/succession/v1", SUCCESSION, succession);
}

/** The head before the first entry of the first generation. */
export function genesisHead(committee: Uint8Array, generation: bigint): Uint8Array {
  return hash("lattice/log/genesis/v1", struct({ committee: UNIQUE_ID, generation: u64 }), { committee, generation });
}

/**
 * blake3 under domain tags: `H/tag(fields)` of protocols.md is blake3(u32 length ‖ tag ‖ canonical fields).
 * Two engines: noble below 64 bytes, the native one above (3x at 100 bytes, 5x at 600, 164x at 160 KiB). What is large
 * is not copied behind its tag: the native engine takes one after the other.
 */
import { Blake3Hasher, blake3 as blake3Native } from "@napi-rs/blake-hash";
import { blake3 as blake3Noble } from "@noble/hashes/blake3.js";
import { type Codec, concat, encode, text } from "../codec/codec.ts";

/** Length in bytes of every hash and id. */
export const HASH_BYTES = 32;
const NATIVE_FROM_BYTES = 64;
const PARTS_FROM_BYTES = 16 * 1024;
const TAG = text(64);

/** Plain blake3, 32 bytes out. For ids and content; everything signed or compared across roles goes through `hash`. */
export function blake3(data: Uint8Array): Uint8Array {
  if (data.length < NATIVE_FROM_BYTES) return blake3Noble(data);
  return new Uint8Array(blake3Native(asBuffer(data)));
}

function asBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** Tags are few and come again with every entry. */
const HEADS = new Map<string, Uint8Array>();
const HEADS_MAX = 256;

function headOf(tag: string): Uint8Array {
  const known = HEADS.get(tag);
  if (known !== undefined) return known;
  const head = encode(TAG, tag);
  if (HEADS.size >= HEADS_MAX) HEADS.clear();
  HEADS.set(tag, head);
  return head;
}

/** H/tag over bytes that are already canonical. */
export function hashBytes(tag: string, canonical: Uint8Array): Uint8Array {
  const head = headOf(tag);
  if (canonical.length < PARTS_FROM_BYTES) return blake3(concat(head, canonical));
  return new Uint8Array(new Blake3Hasher().update(asBuffer(head)).update(asBuffer(canonical)).digestBuffer());
}

/** H/tag over the canonical encoding of `value`. */
export function hash<T>(tag: string, codec: Codec<T>, value: T): Uint8Array {
  return hashBytes(tag, encode(codec, value));
}

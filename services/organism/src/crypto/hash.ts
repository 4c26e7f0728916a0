/**
 * blake3 under domain tags: `H/tag(fields)` of protocols.md is blake3(u32 length ‖ tag ‖ canonical fields), by the native
 * engine. What is large is not copied behind its tag: the engine takes one after the other.
 */
import { Blake3Hasher, blake3 as blake3Native } from "@napi-rs/blake-hash";
import { type Codec, encode, text } from "../codec/codec.ts";

/** Length in bytes of every hash and id. */
export const HASH_BYTES = 32;
const PARTS_FROM_BYTES = 16 * 1024;
const TAG_BYTES_MAX = 64;
const TAG = text(TAG_BYTES_MAX);

/** Plain blake3, 32 bytes out. For ids and content; everything signed or compared across roles goes through `hash`. */
export function blake3(data: Uint8Array): Uint8Array {
  return bytesOf(blake3Native(asBuffer(data)));
}

function asBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** The same bytes, as nothing but bytes. */
function bytesOf({ buffer, byteOffset, byteLength }: Buffer): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
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

/** Where a tag and what is short come together: a buffer for each would cost more than its hash. */
const together = Buffer.alloc(4 + TAG_BYTES_MAX + PARTS_FROM_BYTES);

/** H/tag over bytes that are already canonical. */
export function hashBytes(tag: string, canonical: Uint8Array): Uint8Array {
  const head = headOf(tag);
  if (canonical.length >= PARTS_FROM_BYTES) {
    return bytesOf(new Blake3Hasher().update(asBuffer(head)).update(asBuffer(canonical)).digestBuffer());
  }
  const length = head.length + canonical.length;
  together.set(head);
  together.set(canonical, head.length);
  const hashed = blake3Native(together.subarray(0, length));
  // It may have been a secret.
  together.fill(0, 0, length);
  return bytesOf(hashed);
}

/** H/tag over the canonical encoding of `value`. */
export function hash<T>(tag: string, codec: Codec<T>, value: T): Uint8Array {
  return hashBytes(tag, encode(codec, value));
}

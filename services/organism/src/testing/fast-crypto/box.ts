/** Stands in for `crypto/box.ts` in simulations: same lengths, one keyed hash instead of HPKE. */
import { concat, count, encode, fixed, list, struct, tryDecode, bytes as varBytes } from "../../codec/codec.ts";
import { digest } from "./group.ts";
import { type AgreementKey, agreementKey, dh } from "./x25519.ts";

export const BOX_OVERHEAD_BYTES = 48;
const CONTENT_KEY_BYTES = 32;
const TAG_BYTES = 16;

const SHARED_BOX = struct({
  keyCommitment: fixed(32),
  wraps: list(struct({ index: count, wrapped: fixed(CONTENT_KEY_BYTES + BOX_OVERHEAD_BYTES) }), 256),
  body: varBytes(0xffff_ffff),
});

type Random = (count: number) => Uint8Array;

/** One pad for the whole text: hides it from a search, and no more than that. */
function hidden(key: Uint8Array, text: Uint8Array): Uint8Array {
  const pad = digest("box/pad", key);
  const out = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) out[at] = (text[at] ?? 0) ^ (pad[at & 31] ?? 0);
  return out;
}

function seal(key: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  return concat(hidden(key, plaintext), digest("box/tag", key, aad, plaintext).subarray(0, TAG_BYTES));
}

function open(key: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
  if (sealed.length < TAG_BYTES) return undefined;
  const plaintext = hidden(key, sealed.subarray(0, sealed.length - TAG_BYTES));
  const tag = digest("box/tag", key, aad, plaintext).subarray(0, TAG_BYTES);
  return Buffer.compare(tag, sealed.subarray(sealed.length - TAG_BYTES)) === 0 ? plaintext : undefined;
}

export function sealTo(
  recipient: Uint8Array,
  info: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
  random: Random,
): Uint8Array {
  const own = agreementKey(random(32));
  return concat(own.publicKey, seal(digest(dh(own, recipient), info), aad, plaintext));
}

export function openFrom(
  key: AgreementKey,
  info: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  if (sealed.length < BOX_OVERHEAD_BYTES) return undefined;
  try {
    return open(digest(dh(key, sealed.subarray(0, 32)), info), aad, sealed.subarray(32));
  } catch {
    return undefined;
  }
}

export interface BoxRecipient {
  readonly index: number;
  readonly publicKey: Uint8Array;
}

export function sealToAll(
  recipients: readonly BoxRecipient[],
  info: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
  random: Random,
): Uint8Array {
  const contentKey = random(CONTENT_KEY_BYTES);
  const keyCommitment = new Uint8Array(digest("box/commitment", contentKey));
  const wraps = recipients.map(({ index, publicKey }) => ({
    index,
    wrapped: sealTo(publicKey, info, concat(encode(count, index), keyCommitment, aad), contentKey, random),
  }));
  return encode(SHARED_BOX, { keyCommitment, wraps, body: seal(contentKey, aad, plaintext) });
}

export function openAsOne(
  index: number,
  key: AgreementKey,
  info: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  const box = tryDecode(SHARED_BOX, sealed);
  const wrap = box?.wraps.find((candidate) => candidate.index === index);
  if (box === undefined || wrap === undefined) return undefined;
  const contentKey = openFrom(key, info, concat(encode(count, index), box.keyCommitment, aad), wrap.wrapped);
  if (contentKey === undefined) return undefined;
  if (Buffer.compare(digest("box/commitment", contentKey), box.keyCommitment) !== 0) return undefined;
  return open(contentKey, aad, box.body);
}

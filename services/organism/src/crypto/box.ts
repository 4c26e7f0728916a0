/**
 * Sealing bytes to X25519 recipients.
 *
 * One recipient: HPKE base mode (RFC 9180). Several: a random content key encrypts once (AES-256-GCM), HPKE wraps it
 * for each. AES-GCM commits to no key, so a sender could make one ciphertext that opens differently for two
 * recipients (Albertini et al., USENIX Security 2022); a hash of the content key stands in the clear and every
 * recipient checks it, so whoever can open reads the same. Base mode authenticates no sender: signatures do that.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { concat, count, encode, fixed, list, struct, tryDecode, bytes as varBytes } from "../codec/codec.ts";
import { tagged } from "./ed25519.ts";
import { deriveKeyPair, gcmOpen, gcmSeal, hpkeOpen, hpkeSeal } from "./hpke.ts";
import type { AgreementKey } from "./x25519.ts";

/** What `sealTo` adds to a plaintext: 32 bytes encapsulated key, 16 bytes tag. */
export const BOX_OVERHEAD_BYTES = 48;
const CONTENT_KEY_BYTES = 32;
const WRAPPED_BYTES = CONTENT_KEY_BYTES + BOX_OVERHEAD_BYTES;
/** Each content key encrypts once, so its nonce may be constant. */
const NONCE = new Uint8Array(12);
const RECIPIENTS_MAX = 256;

const SHARED_BOX = struct({
  keyCommitment: fixed(32),
  wraps: list(struct({ index: count, wrapped: fixed(WRAPPED_BYTES) }), RECIPIENTS_MAX),
  body: varBytes(0xffff_ffff),
});

/** Cryptographic randomness: `count` fresh bytes (the Random port). */
type Random = (count: number) => Uint8Array;

/**
 * Seals to one recipient: 48 bytes longer than the plaintext. `info` names the purpose, `aad` the context; both
 * must be given again to open. @throws BadPublicKey
 */
export function sealTo(
  recipient: Uint8Array,
  info: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
  random: Random,
): Uint8Array {
  return hpkeSeal(recipient, info, aad, plaintext, deriveKeyPair(random(32)));
}

/** The plaintext, or undefined when this was not sealed to `key` with the same info and aad. */
export function openFrom(
  key: AgreementKey,
  info: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  return hpkeOpen(key, info, aad, sealed);
}

/** One recipient of a shared box; `index` is whatever the caller numbers recipients by. */
export interface BoxRecipient {
  readonly index: number;
  /** X25519, 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** Seals once to up to 256 recipients: 88 bytes each, and 56 in all, on top of the plaintext. @throws BadPublicKey */
export function sealToAll(
  recipients: readonly BoxRecipient[],
  info: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
  random: Random,
): Uint8Array {
  const contentKey = random(CONTENT_KEY_BYTES);
  const keyCommitment = commitmentOf(contentKey);
  const wraps = recipients.map(({ index, publicKey }) => ({
    index,
    wrapped: sealTo(publicKey, info, wrapAad(index, keyCommitment, aad), contentKey, random),
  }));
  return encode(SHARED_BOX, { keyCommitment, wraps, body: gcmSeal("aes-256-gcm", contentKey, NONCE, aad, plaintext) });
}

/** The plaintext, or undefined when there is no wrap for `index` that `key` opens, or the context differs. */
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
  const contentKey = openFrom(key, info, wrapAad(index, box.keyCommitment, aad), wrap.wrapped);
  if (contentKey === undefined || !timingSafeEqual(commitmentOf(contentKey), box.keyCommitment)) return undefined;
  return gcmOpen("aes-256-gcm", contentKey, NONCE, aad, box.body);
}

function commitmentOf(contentKey: Uint8Array): Uint8Array {
  return createHash("sha256").update(tagged("lattice/box/key-commitment/v1", contentKey)).digest();
}

function wrapAad(index: number, keyCommitment: Uint8Array, aad: Uint8Array): Uint8Array {
  return tagged("lattice/box/wrap/v1", concat(encode(count, index), keyCommitment, aad));
}

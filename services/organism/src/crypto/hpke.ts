/**
 * HPKE base mode, single shot (RFC 9180 §6.1): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM
 * (kem 0x0020, kdf 0x0001, aead 0x0002). The AEAD is a parameter only so that the RFC's own vectors, which use
 * AES-128-GCM with this KEM, run through the same code.
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
import { concat } from "../codec/codec.ts";
import { hkdfExpand, hkdfExtract } from "./hkdf.ts";
import { type AgreementKey, agreementKey, BadPublicKey, dh, X25519_BYTES } from "./x25519.ts";

export const GCM_TAG_BYTES = 16;
const NONCE_BYTES = 12;
const EMPTY = new Uint8Array(0);
const MODE_BASE = 0;

/** RFC 9180 §7.3. */
export interface HpkeAead {
  readonly id: number;
  readonly cipher: "aes-128-gcm" | "aes-256-gcm";
  readonly keyBytes: number;
}
export const AES_128_GCM: HpkeAead = { id: 1, cipher: "aes-128-gcm", keyBytes: 16 };
export const AES_256_GCM: HpkeAead = { id: 2, cipher: "aes-256-gcm", keyBytes: 32 };

const ascii = (text: string): Uint8Array => Buffer.from(text, "ascii");
const u16 = (value: number): Uint8Array => Uint8Array.of(value >> 8, value & 0xff);
const KEM_SUITE = concat(ascii("KEM"), u16(0x0020));
const hpkeSuite = (aead: HpkeAead): Uint8Array => concat(ascii("HPKE"), u16(0x0020), u16(0x0001), u16(aead.id));

/** RFC 9180 §4. */
function labeledExtract(suite: Uint8Array, salt: Uint8Array, label: string, inputKey: Uint8Array): Uint8Array {
  return hkdfExtract(salt, concat(ascii("HPKE-v1"), suite, ascii(label), inputKey));
}
function labeledExpand(
  suite: Uint8Array,
  key: Uint8Array,
  label: string,
  info: Uint8Array,
  length: number,
): Uint8Array {
  return hkdfExpand(key, concat(u16(length), ascii("HPKE-v1"), suite, ascii(label), info), length);
}

/** RFC 9180 §7.1.3 DeriveKeyPair: the X25519 key of 32 bytes of key material. */
export function deriveKeyPair(inputKey: Uint8Array): AgreementKey {
  const key = labeledExtract(KEM_SUITE, EMPTY, "dkp_prk", inputKey);
  return agreementKey(labeledExpand(KEM_SUITE, key, "sk", EMPTY, X25519_BYTES));
}

function extractAndExpand(shared: Uint8Array, encapsulated: Uint8Array, recipient: Uint8Array): Uint8Array {
  const key = labeledExtract(KEM_SUITE, EMPTY, "eae_prk", shared);
  return labeledExpand(KEM_SUITE, key, "shared_secret", concat(encapsulated, recipient), 32);
}

function keySchedule(aead: HpkeAead, sharedSecret: Uint8Array, info: Uint8Array): [key: Uint8Array, nonce: Uint8Array] {
  const suite = hpkeSuite(aead);
  const context = concat(
    Uint8Array.of(MODE_BASE),
    labeledExtract(suite, EMPTY, "psk_id_hash", EMPTY),
    labeledExtract(suite, EMPTY, "info_hash", info),
  );
  const secret = labeledExtract(suite, sharedSecret, "secret", EMPTY);
  return [
    labeledExpand(suite, secret, "key", context, aead.keyBytes),
    labeledExpand(suite, secret, "base_nonce", context, NONCE_BYTES),
  ];
}

/**
 * One message to one recipient: 32 bytes encapsulated key ‖ ciphertext ‖ 16 bytes tag.
 * `ephemeral` is used for this message only. @throws BadPublicKey
 */
export function hpkeSeal(
  recipient: Uint8Array,
  info: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
  ephemeral: AgreementKey,
  aead: HpkeAead = AES_256_GCM,
): Uint8Array {
  const sharedSecret = extractAndExpand(dh(ephemeral, recipient), ephemeral.publicKey, recipient);
  const [key, nonce] = keySchedule(aead, sharedSecret, info);
  return concat(ephemeral.publicKey, gcmSeal(aead.cipher, key, nonce, aad, plaintext));
}

/** The plaintext, or undefined when `sealed` was not made for this key, info and aad. */
export function hpkeOpen(
  recipient: AgreementKey,
  info: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
  aead: HpkeAead = AES_256_GCM,
): Uint8Array | undefined {
  if (sealed.length < X25519_BYTES + GCM_TAG_BYTES) return undefined;
  const encapsulated = sealed.subarray(0, X25519_BYTES);
  let shared: Uint8Array;
  try {
    shared = dh(recipient, encapsulated);
  } catch (error) {
    if (error instanceof BadPublicKey) return undefined;
    throw error;
  }
  const [key, nonce] = keySchedule(aead, extractAndExpand(shared, encapsulated, recipient.publicKey), info);
  return gcmOpen(aead.cipher, key, nonce, aad, sealed.subarray(X25519_BYTES));
}

/** AES-GCM: ciphertext ‖ 16 bytes tag. The caller never uses a key with one nonce twice. */
export function gcmSeal(
  cipher: HpkeAead["cipher"],
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): Uint8Array {
  const seal = createCipheriv(cipher, key, nonce, { authTagLength: GCM_TAG_BYTES });
  seal.setAAD(aad);
  return concat(seal.update(plaintext), seal.final(), seal.getAuthTag());
}

/** The plaintext, or undefined when the tag does not match. */
export function gcmOpen(
  cipher: HpkeAead["cipher"],
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  if (sealed.length < GCM_TAG_BYTES) return undefined;
  const end = sealed.length - GCM_TAG_BYTES;
  const open = createDecipheriv(cipher, key, nonce, { authTagLength: GCM_TAG_BYTES });
  open.setAAD(aad);
  open.setAuthTag(sealed.subarray(end));
  const plaintext = open.update(sealed.subarray(0, end));
  try {
    return concat(plaintext, open.final());
  } catch {
    return undefined;
  }
}

/**
 * Ed25519 (RFC 8032) over tagged messages: u32 length ‖ tag ‖ bytes, so that a signature made for one purpose is
 * never one for another. `node:crypto` signs and verifies (14 to 18 times noble); noble parses public keys, where
 * keys of small order and encodings that are not canonical are refused: such keys "sign" every message.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { ed25519 } from "@noble/curves/ed25519.js";
import { concat } from "../codec/codec.ts";
import { BoundedCache } from "./bounded-cache.ts";

export const ED25519_PUBLIC_BYTES = 32;
export const ED25519_SEED_BYTES = 32;
export const ED25519_SIGNATURE_BYTES = 64;

/** RFC 8410 §4 and §7: what stands before the 32 raw bytes in DER. */
const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const PUBLIC_KEYS = new BoundedCache<KeyObject | "refused">(4096);

/** A key that signs. The secret stays inside the KeyObject. */
export interface SigningKey {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly privateKey: KeyObject;
}

/** The key of a 32-byte seed. @throws RangeError when the seed has another length */
export function generateSigningKey(seed: Uint8Array): SigningKey {
  if (seed.length !== ED25519_SEED_BYTES) throw new RangeError(`Ed25519 seed: ${ED25519_SEED_BYTES} bytes expected`);
  const privateKey = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: "der", type: "pkcs8" });
  const spki = createPublicKey(privateKey).export({ format: "der", type: "spki" });
  return { publicKey: new Uint8Array(spki.subarray(SPKI_PREFIX.length)), privateKey };
}

/** Is this a key that `verifyTagged` can ever accept: canonical, on the curve, not of small order? */
export function isSigningPublicKey(publicKey: Uint8Array): boolean {
  return importPublic(publicKey) !== "refused";
}

/** 64 bytes, deterministic. */
export function signTagged(key: SigningKey, tag: string, bytes: Uint8Array): Uint8Array {
  return new Uint8Array(sign(null, tagged(tag, bytes), key.privateKey));
}

/** Total: false for anything that is not a signature by this key over exactly this tag and these bytes. */
export function verifyTagged(publicKey: Uint8Array, tag: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== ED25519_SIGNATURE_BYTES) return false;
  const key = importPublic(publicKey);
  return key !== "refused" && verify(null, tagged(tag, bytes), key, signature);
}

/** The same by another thread: the event loop has a twentieth of the work. For many at a time; one alone waits longer. */
export function verifyTaggedElsewhere(
  publicKey: Uint8Array,
  tag: string,
  bytes: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  const key = importPublic(publicKey);
  if (signature.length !== ED25519_SIGNATURE_BYTES || key === "refused") return Promise.resolve(false);
  return new Promise((resolve, reject) => {
    verify(null, tagged(tag, bytes), key, signature, (error, verifies) => {
      if (error === null) resolve(verifies);
      else reject(error);
    });
  });
}

/** Tags are few and come again with every entry. */
const HEADS = new Map<string, Uint8Array>();
const HEADS_MAX = 256;

function headOf(tag: string): Uint8Array {
  const known = HEADS.get(tag);
  if (known !== undefined) return known;
  const name = Buffer.from(tag, "utf8");
  const length = Buffer.alloc(4);
  length.writeUInt32BE(name.length);
  const head = concat(length, name);
  if (HEADS.size >= HEADS_MAX) HEADS.clear();
  HEADS.set(tag, head);
  return head;
}

/** What is signed: u32 big-endian length of the tag ‖ tag ‖ bytes. */
export function tagged(tag: string, bytes: Uint8Array): Uint8Array {
  return concat(headOf(tag), bytes);
}

function importPublic(publicKey: Uint8Array): KeyObject | "refused" {
  if (publicKey.length !== ED25519_PUBLIC_BYTES) return "refused";
  return PUBLIC_KEYS.getOrMake(publicKey, () => {
    try {
      if (ed25519.Point.fromBytes(publicKey, false).isSmallOrder()) return "refused";
      return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: "der", type: "spki" });
    } catch {
      return "refused";
    }
  });
}

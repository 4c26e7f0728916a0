/** X25519 (RFC 7748) on node:crypto, with raw 32-byte keys outside and cached KeyObjects inside (29 times noble). */
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from "node:crypto";
import { BoundedCache } from "./bounded-cache.ts";

export const X25519_BYTES = 32;

/** RFC 8410 §4 and §7: what stands before the 32 raw bytes in DER. */
const PKCS8_PREFIX = Buffer.from("302e020100300506032b656e04220420", "hex");
const SPKI_PREFIX = Buffer.from("302a300506032b656e032100", "hex");
const PUBLIC_KEYS = new BoundedCache<KeyObject>(16_384);

/** A key that agrees on secrets. The secret stays inside the KeyObject. */
export interface AgreementKey {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly privateKey: KeyObject;
}

/** A peer's public key that gives no secret: wrong length, or a point of small order. */
export class BadPublicKey extends Error {
  override readonly name = "BadPublicKey";
}

/** The key of 32 secret bytes (clamped by X25519 itself). @throws RangeError when they are not 32 */
export function agreementKey(secret: Uint8Array): AgreementKey {
  if (secret.length !== X25519_BYTES) throw new RangeError(`X25519 secret: ${X25519_BYTES} bytes expected`);
  const privateKey = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, secret]), format: "der", type: "pkcs8" });
  const spki = createPublicKey(privateKey).export({ format: "der", type: "spki" });
  return { publicKey: new Uint8Array(spki.subarray(SPKI_PREFIX.length)), privateKey };
}

/** The 32-byte shared secret; RFC 7748 §6.1 all-zero results are refused. @throws BadPublicKey */
export function dh(key: AgreementKey, publicKey: Uint8Array): Uint8Array {
  if (publicKey.length !== X25519_BYTES) throw new BadPublicKey(`X25519 public key: ${X25519_BYTES} bytes expected`);
  const peer = PUBLIC_KEYS.getOrMake(publicKey, () =>
    createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: "der", type: "spki" }),
  );
  let shared: Uint8Array;
  try {
    shared = new Uint8Array(diffieHellman({ privateKey: key.privateKey, publicKey: peer }));
  } catch {
    throw new BadPublicKey("X25519 public key of small order");
  }
  if (shared.every((byte) => byte === 0)) throw new BadPublicKey("X25519 public key of small order");
  return shared;
}

/** Stands in for `crypto/ed25519.ts` in simulations: a keyed hash, whose key only this module can find. */
import { concat } from "../../codec/codec.ts";
import { digest } from "./group.ts";

export const ED25519_PUBLIC_BYTES = 32;
export const ED25519_SEED_BYTES = 32;
export const ED25519_SIGNATURE_BYTES = 64;

export interface SigningKey {
  readonly publicKey: Uint8Array;
  readonly privateKey: Uint8Array;
}

/** Public key → seed. */
const SEEDS = new Map<string, Uint8Array>();

function name(publicKey: Uint8Array): string {
  return Buffer.from(publicKey.buffer, publicKey.byteOffset, publicKey.byteLength).toString("latin1");
}

export function generateSigningKey(seed: Uint8Array): SigningKey {
  if (seed.length !== ED25519_SEED_BYTES) throw new RangeError(`Ed25519 seed: ${ED25519_SEED_BYTES} bytes expected`);
  const publicKey = new Uint8Array(digest("ed25519/public", seed));
  const known = SEEDS.get(name(publicKey));
  const kept = known ?? seed.slice();
  if (known === undefined) SEEDS.set(name(publicKey), kept);
  return { publicKey, privateKey: kept };
}

export function isSigningPublicKey(publicKey: Uint8Array): boolean {
  return SEEDS.has(name(publicKey));
}

function signatureOf(seed: Uint8Array, tag: string, bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(ED25519_SIGNATURE_BYTES);
  const mac = digest(seed, tag, bytes);
  out.set(mac);
  out.set(mac, 32);
  return out;
}

export function signTagged(key: SigningKey, tag: string, bytes: Uint8Array): Uint8Array {
  return signatureOf(key.privateKey, tag, bytes);
}

interface Made {
  readonly seed: Uint8Array;
  readonly tag: string;
  readonly signature: Uint8Array;
}
/** The signature of these very bytes, made once when several members look at it. Nobody changes bytes that were signed. */
const MADE = new WeakMap<Uint8Array, Made>();

export function verifyTagged(publicKey: Uint8Array, tag: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  const seed = SEEDS.get(name(publicKey));
  if (seed === undefined || signature.length !== ED25519_SIGNATURE_BYTES) return false;
  let made = MADE.get(bytes);
  if (made === undefined || made.seed !== seed || made.tag !== tag) {
    made = { seed, tag, signature: signatureOf(seed, tag, bytes) };
    MADE.set(bytes, made);
  }
  return Buffer.compare(made.signature, signature) === 0;
}

export function verifyTaggedElsewhere(
  publicKey: Uint8Array,
  tag: string,
  bytes: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  return Promise.resolve(verifyTagged(publicKey, tag, bytes, signature));
}

export function tagged(tag: string, bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(tag, "utf8");
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return concat(length, text, bytes);
}

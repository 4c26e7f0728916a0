/** Stands in for `crypto/x25519.ts` in simulations. */
import { bigintOf, bytesOf, digest, mod, ORDER, scalarOf } from "./group.ts";

export const X25519_BYTES = 32;

export interface AgreementKey {
  readonly publicKey: Uint8Array;
  readonly privateKey: bigint;
}

export class BadPublicKey extends Error {
  override readonly name = "BadPublicKey";
}

const GENERATOR = scalarOf("x25519/generator");

export function agreementKey(secret: Uint8Array): AgreementKey {
  if (secret.length !== X25519_BYTES) throw new RangeError(`X25519 secret: ${X25519_BYTES} bytes expected`);
  const privateKey = scalarOf("x25519/secret", secret);
  return { publicKey: bytesOf(mod(privateKey * GENERATOR)), privateKey };
}

export function dh(key: AgreementKey, publicKey: Uint8Array): Uint8Array {
  if (publicKey.length !== X25519_BYTES) throw new BadPublicKey(`X25519 public key: ${X25519_BYTES} bytes expected`);
  const point = bigintOf(publicKey);
  if (point === 0n || point >= ORDER) throw new BadPublicKey("X25519 public key of small order");
  return new Uint8Array(digest("x25519/shared", bytesOf(mod(key.privateKey * point))));
}

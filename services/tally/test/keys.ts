/** Deterministic throw-away keys and signatures for tests. */
import { compareBytes } from "@lattice/organism/codec/codec.ts";
import { addressOfSecret, keccak256, signDigest as sign } from "@lattice/organism/crypto/secp256k1.ts";

export interface TestKey {
  readonly secret: Uint8Array;
  readonly address: Uint8Array;
}

export function testKey(name: string): TestKey {
  const secret = keccak256(new TextEncoder().encode(`lattice test key ${name}`));
  return { secret, address: addressOfSecret(secret) };
}

/** `count` keys in ascending order of address. */
export function testKeys(name: string, count: number): TestKey[] {
  return Array.from({ length: count }, (_, index) => testKey(`${name} ${index}`)).sort((a, b) =>
    compareBytes(a.address, b.address),
  );
}

/** 65 bytes, r ‖ s ‖ v. */
export function signDigest(key: TestKey, digest: Uint8Array): Uint8Array {
  return sign(key.secret, digest);
}

/** Deterministic throw-away keys and signatures for tests. */
import { compareBytes, concat } from "@lattice/organism/codec/codec.ts";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { keccak256 } from "../src/core/eip712.ts";

export interface TestKey {
  readonly secret: Uint8Array;
  readonly address: Uint8Array;
}

export function testKey(name: string): TestKey {
  const secret = keccak256(new TextEncoder().encode(`lattice test key ${name}`));
  const address = keccak256(secp256k1.getPublicKey(secret, false).subarray(1)).slice(-20);
  return { secret, address };
}

/** `count` keys in ascending order of address. */
export function testKeys(name: string, count: number): TestKey[] {
  return Array.from({ length: count }, (_, index) => testKey(`${name} ${index}`)).sort((a, b) =>
    compareBytes(a.address, b.address),
  );
}

/** 65 bytes, r ‖ s ‖ v. */
export function signDigest(key: TestKey, digest: Uint8Array): Uint8Array {
  const recovered = secp256k1.sign(digest, key.secret, { prehash: false, format: "recovered" });
  return concat(recovered.subarray(1), Uint8Array.of(27 + (recovered[0] ?? 0)));
}

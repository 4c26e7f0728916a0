import assert from "node:assert/strict";
import { test } from "node:test";
import { x25519 } from "@noble/curves/ed25519.js";
import { hkdf as hkdfNoble } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import fc from "fast-check";
import { fromHex, toHex } from "../codec/codec.ts";
import { hkdf } from "./hkdf.ts";
import { agreementKey, BadPublicKey, dh } from "./x25519.ts";

const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 });

test("RFC 7748 §6.1", () => {
  const alice = agreementKey(fromHex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
  const bob = agreementKey(fromHex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
  assert.equal(toHex(alice.publicKey), "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  assert.equal(toHex(dh(alice, bob.publicKey)), "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
});

test("agrees with noble", () => {
  fc.assert(
    fc.property(bytes32, bytes32, (a, b) => {
      const left = agreementKey(a);
      const right = agreementKey(b);
      assert.deepEqual(left.publicKey, x25519.getPublicKey(a));
      assert.deepEqual(dh(left, right.publicKey), dh(right, left.publicKey));
      assert.deepEqual(dh(left, right.publicKey), x25519.getSharedSecret(a, right.publicKey));
    }),
    { numRuns: 100 },
  );
});

test("refuses points of small order and wrong lengths", () => {
  const key = agreementKey(new Uint8Array(32).fill(7));
  // 0, 1, and the two points of order 8 (Bernstein's list), p - 1, p, p + 1.
  const small = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  ];
  for (const point of small) assert.throws(() => dh(key, fromHex(point)), BadPublicKey);
  assert.throws(() => dh(key, new Uint8Array(31)), BadPublicKey);
  assert.throws(() => agreementKey(new Uint8Array(31)), RangeError);
  assert.equal(dh(key, agreementKey(new Uint8Array(32).fill(9)).publicKey).length, 32);
});

test("HKDF-SHA256: RFC 5869 case 1, and noble at every length", () => {
  const okm = hkdf(
    fromHex("000102030405060708090a0b0c"),
    fromHex("0b".repeat(22)),
    fromHex("f0f1f2f3f4f5f6f7f8f9"),
    42,
  );
  assert.equal(toHex(okm), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  fc.assert(
    fc.property(fc.uint8Array(), fc.uint8Array(), fc.uint8Array(), fc.nat(300), (salt, key, info, length) => {
      assert.deepEqual(hkdf(salt, key, info, length), hkdfNoble(sha256, key, salt, info, length));
    }),
  );
  assert.throws(() => hkdf(new Uint8Array(), new Uint8Array(), new Uint8Array(), 8161), RangeError);
});

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ed25519 } from "@noble/curves/ed25519.js";
import fc from "fast-check";
import { fromHex, toHex } from "../codec/codec.ts";
import { generateSigningKey, isSigningPublicKey, signTagged, tagged, verifyTagged } from "./ed25519.ts";

const vectors = JSON.parse(readFileSync(new URL("./vectors/ed25519.json", import.meta.url), "utf8"));
const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 });

test("the keys are RFC 8032's, and the tagged signatures are pinned", () => {
  for (const { seed, publicKey } of vectors.rfc8032) {
    assert.equal(toHex(generateSigningKey(fromHex(seed)).publicKey), publicKey);
  }
  for (const { seed, tag, message, signature } of vectors.tagged) {
    const key = generateSigningKey(fromHex(seed));
    assert.equal(toHex(signTagged(key, tag, fromHex(message))), signature);
    assert.ok(verifyTagged(key.publicKey, tag, fromHex(message), fromHex(signature)));
  }
});

test("agrees with noble both ways", () => {
  fc.assert(
    fc.property(bytes32, fc.string({ maxLength: 20 }), fc.uint8Array({ maxLength: 200 }), (seed, tag, message) => {
      const key = generateSigningKey(seed);
      assert.deepEqual(key.publicKey, ed25519.getPublicKey(seed));
      const signature = signTagged(key, tag, message);
      assert.deepEqual(signature, ed25519.sign(tagged(tag, message), seed));
      assert.ok(verifyTagged(key.publicKey, tag, message, signature));
    }),
    { numRuns: 100 },
  );
});

test("refuses another key, tag, message, length or one flipped bit", () => {
  const key = generateSigningKey(randomBytes(32));
  const message = randomBytes(40);
  const signature = signTagged(key, "t", message);
  assert.ok(verifyTagged(key.publicKey, "t", message, signature));
  assert.ok(!verifyTagged(generateSigningKey(randomBytes(32)).publicKey, "t", message, signature));
  assert.ok(!verifyTagged(key.publicKey, "u", message, signature));
  assert.ok(!verifyTagged(key.publicKey, "t", message.subarray(1), signature));
  assert.ok(!verifyTagged(key.publicKey, "t", message, signature.subarray(1)));
  assert.ok(!verifyTagged(key.publicKey.subarray(1), "t", message, signature));
  // A byte moved across the border between tag and message is another message.
  assert.ok(
    !verifyTagged(key.publicKey, "tx", message, signTagged(key, "t", Buffer.concat([Buffer.from("x"), message]))),
  );
  for (let bit = 0; bit < 512; bit++) {
    const flipped = Uint8Array.from(signature);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.ok(!verifyTagged(key.publicKey, "t", message, flipped));
  }
});

test("refuses keys of small order and encodings that are not canonical", () => {
  const identity = new Uint8Array(32);
  identity[0] = 1;
  // With the identity as key, R = S·B verifies any message in a check that forgets this.
  const forged = new Uint8Array(64);
  forged[0] = 1;
  assert.ok(!isSigningPublicKey(identity));
  assert.ok(!verifyTagged(identity, "t", new Uint8Array(3), forged));
  assert.ok(!isSigningPublicKey(new Uint8Array(32)));
  assert.ok(!isSigningPublicKey(new Uint8Array(32).fill(0xff)));
  assert.ok(isSigningPublicKey(generateSigningKey(new Uint8Array(32)).publicKey));
});

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import test from "node:test";
import { hkdfExpand as nodeExpand } from "@lattice/organism/crypto/hkdf.ts";
import { expand as nobleExpand } from "@noble/hashes/hkdf.js";
import { hmac as nobleHmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import fc from "fast-check";
import { hkdfExpand, hmacSha256 } from "./hmac.ts";

const bytes = (maxLength: number) => fc.uint8Array({ maxLength });

test("HMAC equals node's and noble's, however the message is cut", () => {
  fc.assert(
    fc.property(bytes(64), fc.array(bytes(100), { maxLength: 4 }), (key, parts) => {
      const ours = hmacSha256(key, ...parts);
      const message = new Uint8Array(Buffer.concat(parts));
      assert.deepEqual(ours, nobleHmac(sha256, key, message));
      assert.deepEqual(ours, new Uint8Array(createHmac("sha256", key).update(message).digest()));
    }),
  );
  assert.throws(() => hmacSha256(new Uint8Array(65)), RangeError);
});

test("RFC 4231 test case 2", () => {
  const digest = hmacSha256(Buffer.from("Jefe"), Buffer.from("what do ya want for nothing?"));
  assert.equal(Buffer.from(digest).toString("hex"), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
});

test("HKDF-Expand equals node's and noble's", () => {
  const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
  fc.assert(
    fc.property(key, bytes(60), fc.integer({ min: 1, max: 1024 }), (prk, info, length) => {
      const ours = hkdfExpand(prk, info, length);
      assert.deepEqual(ours, nobleExpand(sha256, prk, info, length));
      assert.deepEqual(ours, nodeExpand(prk, info, length));
    }),
  );
  assert.throws(() => hkdfExpand(new Uint8Array(32), new Uint8Array(), 8161), RangeError);
});

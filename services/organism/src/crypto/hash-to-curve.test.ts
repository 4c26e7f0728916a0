import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, test } from "node:test";
import { hash_to_field } from "@noble/curves/abstract/hash-to-curve.js";
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { sha256 } from "@noble/hashes/sha2.js";
import fc from "fast-check";
import { concat, toHex } from "../codec/codec.ts";
import { initCrypto } from "./engine.ts";
import { expandMessage, hashToG2, hashToScalar } from "./hash-to-curve.ts";
import { Fr } from "./scalar.ts";

const vectors = JSON.parse(readFileSync(new URL("./vectors/hash-to-curve.json", import.meta.url), "utf8"));
const dsts = fc.string({ minLength: 1, maxLength: 60, unit: "grapheme-ascii" });

before(() => initCrypto());

test("expand_message_xmd: RFC 9380 appendix K.1", () => {
  for (const { message, length, uniform } of vectors.expand.cases) {
    assert.equal(toHex(expandMessage([Buffer.from(message)], vectors.expand.dst, length)), uniform);
  }
  assert.throws(() => expandMessage([], "x".repeat(256), 32), RangeError);
  assert.throws(() => expandMessage([], "", 32), RangeError);
  assert.throws(() => expandMessage([], "x", 256 * 32), RangeError);
});

test("scalars are noble's hash_to_field with L = 48, however the message is cut", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array(), { maxLength: 4 }), dsts, (parts, DST) => {
      const [expected] = hash_to_field(concat(...parts), 1, {
        DST,
        p: Fr.ORDER,
        m: 1,
        k: 129,
        expand: "xmd",
        hash: sha256,
      });
      assert.equal(hashToScalar(parts, DST), expected?.[0]);
    }),
  );
});

test("points of G2 are noble's hashToCurve", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), dsts, (message, DST) => {
      assert.deepEqual(hashToG2(message, DST).serialize(), bls12_381.G2.hashToCurve(message, { DST }).toBytes());
    }),
    { numRuns: 100 },
  );
});

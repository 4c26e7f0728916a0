import assert from "node:assert/strict";
import { test } from "node:test";
import { blake3 as noble } from "@noble/hashes/blake3.js";
import fc from "fast-check";
import { concat, toHex } from "../codec/codec.ts";
import { blake3, hashBytes } from "./hash.ts";

test("blake3: the published hash of nothing, and noble on both sides of where the engine changes", () => {
  assert.equal(toHex(blake3(new Uint8Array())), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
  for (const length of [1, 63, 64, 1023, 1024, 1025, 2048, 5000, 163_840]) {
    const bytes = Uint8Array.from({ length }, (_, at) => at % 251);
    assert.deepEqual(blake3(bytes), noble(bytes));
    assert.deepEqual(blake3(bytes.subarray(1)), noble(bytes.subarray(1)));
  }
});

test("a tag is length-prefixed: nothing moves across its border", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme-ascii", maxLength: 20 }), fc.uint8Array(), (tag, bytes) => {
      const length = new Uint8Array(4);
      new DataView(length.buffer).setUint32(0, tag.length);
      assert.deepEqual(hashBytes(tag, bytes), noble(concat(length, Buffer.from(tag), bytes)));
    }),
  );
  for (const length of [16_383, 16_384, 16_385, 1_000_000]) {
    const bytes = Uint8Array.from({ length: length + 1 }, (_, at) => at % 251).subarray(1);
    assert.deepEqual(hashBytes("tag", bytes), noble(concat(Uint8Array.of(0, 0, 0, 3), Buffer.from("tag"), bytes)));
  }
  assert.notDeepEqual(hashBytes("a", Uint8Array.of(98)), hashBytes("ab", new Uint8Array()));
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { CodecError, encode } from "@lattice/organism/codec/codec.ts";
import { BUNDLE } from "@lattice/organism/outcomes/offer.ts";
import fc from "fast-check";
import {
  bundleCommitment,
  bundleRoom,
  decodeBundleLayer,
  decodeValue,
  encodeBundleLayer,
  encodeValue,
  REFERENCES_MAX,
} from "./layers.ts";

const SALT = new Uint8Array(32).fill(3);
const COMMITMENT = new Uint8Array(32).fill(4);
const reference = (byte: number): Uint8Array => new Uint8Array(16).fill(byte);
const bundle = (raw: Uint8Array): Uint8Array =>
  encode(BUNDLE, { version: 1, items: [{ type: "transaction", raw }], mayRevert: [], refundRecipient: undefined });

test("a value layer has one length whatever it says, and reads back", () => {
  const lengths = new Set<number>();
  fc.assert(
    fc.property(
      fc.bigInt({ min: 0n, max: (1n << 256n) - 1n }),
      fc.uniqueArray(fc.integer({ min: 0, max: 255 }), { maxLength: REFERENCES_MAX }),
      (amountWei, bytes) => {
        const plain = encodeValue({ amountWei, references: bytes.map(reference), bundleCommitment: COMMITMENT });
        lengths.add(plain.length);
        const value = decodeValue(plain);
        assert.equal(value?.amountWei, amountWei);
        assert.deepEqual(value?.references, bytes.map(reference));
        assert.deepEqual(value?.bundleCommitment, COMMITMENT);
      },
    ),
  );
  assert.equal(lengths.size, 1);
});

test("a value layer of another length, version, padding, or naming a message twice is refused", () => {
  const plain = encodeValue({ amountWei: 5n, references: [reference(1)], bundleCommitment: COMMITMENT });
  assert.ok(decodeValue(plain) !== undefined);
  assert.equal(decodeValue(plain.subarray(1)), undefined);
  assert.equal(decodeValue(new Uint8Array([...plain, 0])), undefined);
  assert.equal(decodeValue(plain.with(0, 2)), undefined);
  assert.equal(decodeValue(plain.with(plain.length - 1, 1)), undefined);
  // A count beyond the format, and one that would reach past the end.
  assert.equal(decodeValue(plain.with(68, REFERENCES_MAX + 1)), undefined);
  assert.equal(decodeValue(plain.with(65, 255)), undefined);
  const twice = { amountWei: 5n, references: [reference(1), reference(2), reference(1)], bundleCommitment: COMMITMENT };
  assert.equal(decodeValue(encodeValue(twice)), undefined);
  const many = Array.from({ length: REFERENCES_MAX + 1 }, (_, index) => reference(index));
  assert.throws(() => encodeValue({ amountWei: 5n, references: many, bundleCommitment: COMMITMENT }), CodecError);
});

test("a bundle layer fills exactly the lattice's size up to its room, and one byte more is refused", () => {
  const size = 1024;
  const frame = bundle(new Uint8Array()).length;
  const full = bundle(new Uint8Array(bundleRoom(size) - frame).fill(1));
  for (const encoded of [bundle(Uint8Array.of(1, 2, 3)), full]) {
    const plain = encodeBundleLayer(SALT, encoded, size);
    assert.equal(plain.length, size);
    const opened = decodeBundleLayer(plain, size);
    assert.deepEqual(opened?.bundleBytes, encoded);
    assert.deepEqual(opened?.salt, SALT);
  }
  assert.throws(() => encodeBundleLayer(SALT, new Uint8Array(bundleRoom(size) + 1), size), RangeError);
});

test("a bundle layer with a length beyond its end, padding other than zeros or no bundle inside is refused", () => {
  const plain = encodeBundleLayer(SALT, bundle(Uint8Array.of(1)), 256);
  assert.ok(decodeBundleLayer(plain, 256) !== undefined);
  assert.equal(decodeBundleLayer(plain, 257), undefined);
  assert.equal(decodeBundleLayer(plain.with(32, 255), 256), undefined);
  assert.equal(decodeBundleLayer(plain.with(255, 1), 256), undefined);
  assert.equal(decodeBundleLayer(plain.with(36, 9), 256), undefined);
});

test("the commitment depends on the salt, so a guess of the bundle cannot be tested without it", () => {
  const encoded = bundle(Uint8Array.of(1));
  assert.notDeepEqual(bundleCommitment(SALT, encoded), bundleCommitment(SALT.with(0, 0), encoded));
  assert.notDeepEqual(bundleCommitment(SALT, encoded), bundleCommitment(SALT, bundle(Uint8Array.of(2))));
});

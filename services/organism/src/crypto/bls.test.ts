import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { before, test } from "node:test";
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { fromHex, toHex } from "../codec/codec.ts";
import { BLS_DST, blsPublicKey, blsSign, blsVerify, isBlsPublicKey } from "./bls.ts";
import { initCrypto } from "./engine.ts";
import { lagrangeAtZero } from "./scalar.ts";
import { generateSecret, isDealtShare, publicOf, publicShareAt, recoverSecret, splitSecret } from "./shamir.ts";
import { INFINITY_G1, INFINITY_G2, strayG1, strayG2 } from "./stray-points.ts";
import { combinePublicShares, combineSignatures, ThresholdError } from "./threshold.ts";

const { longSignatures: noble, G1, G2 } = bls12_381;
const vectors = JSON.parse(readFileSync(new URL("./vectors/bls.json", import.meta.url), "utf8"));
const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
const message = Buffer.from("message");

before(() => initCrypto());

test("published vectors", () => {
  for (const { secret, publicKey, message: bytes, signature } of vectors.sign) {
    assert.equal(toHex(blsPublicKey(fromHex(secret))), publicKey);
    assert.equal(toHex(blsSign(fromHex(secret), fromHex(bytes))), signature);
    assert.ok(blsVerify(fromHex(publicKey), fromHex(bytes), fromHex(signature)));
  }
});

test("agrees with noble", () => {
  for (let round = 0; round < 10; round++) {
    const secret = generateSecret(random);
    const bytes = random(round * 7);
    const hashed = noble.hash(bytes, BLS_DST);
    assert.deepEqual(blsPublicKey(secret), publicOf(secret));
    assert.deepEqual(blsPublicKey(secret), noble.getPublicKey(secret).toBytes());
    const signature = blsSign(secret, bytes);
    assert.deepEqual(signature, noble.sign(hashed, secret).toBytes());
    assert.ok(noble.verify(signature, hashed, blsPublicKey(secret)));
    assert.ok(blsVerify(blsPublicKey(secret), bytes, noble.sign(hashed, secret).toBytes()));
  }
});

test("verification is total and refuses everything near a signature", () => {
  const secret = generateSecret(random);
  const key = blsPublicKey(secret);
  const signature = blsSign(secret, message);
  assert.ok(blsVerify(key, message, signature));
  assert.ok(!blsVerify(key, message.subarray(1), signature));
  assert.ok(!blsVerify(blsPublicKey(generateSecret(random)), message, signature));
  assert.ok(!blsVerify(key, message, blsSign(generateSecret(random), message)));
  for (const bad of [INFINITY_G1, strayG1(), key.subarray(1), new Uint8Array(48), new Uint8Array(0), random(48)]) {
    assert.ok(!blsVerify(bad, message, signature));
    assert.ok(!isBlsPublicKey(bad));
  }
  for (const bad of [
    INFINITY_G2,
    strayG2(),
    signature.subarray(1),
    new Uint8Array(96),
    new Uint8Array(0),
    random(96),
  ]) {
    assert.ok(!blsVerify(key, message, bad));
  }
  // Infinity as key and signature verifies everything where it is let in.
  assert.ok(!blsVerify(INFINITY_G1, message, INFINITY_G2));
  // Uncompressed encodings of the very same points are not canonical here.
  assert.ok(!blsVerify(G1.Point.fromBytes(key).toBytes(false), message, signature));
  assert.ok(!blsVerify(key, message, G2.Point.fromBytes(signature).toBytes(false)));
  for (let bit = 0; bit < 96 * 8; bit += 5) {
    const flipped = Uint8Array.from(signature);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.ok(!blsVerify(key, message, flipped));
  }
  assert.throws(() => blsSign(new Uint8Array(32), message));
  assert.throws(() => blsSign(new Uint8Array(32).fill(0xff), message));
});

test("any threshold of shares gives the one group signature; fewer do not", () => {
  for (const [threshold, count] of [
    [1, 1],
    [2, 3],
    [3, 4],
    [3, 5],
    [5, 7],
  ] as const) {
    const secret = generateSecret(random);
    const dealing = splitSecret({ secret, threshold, count, random });
    const groupKey = publicOf(secret);
    assert.deepEqual(dealing.commitments[0], groupKey);
    const shares = dealing.shares.map((share, index) => ({ index, share, signature: blsSign(share, message) }));
    const order = shares.toSorted(() => (random(1)[0] ?? 0) - 128);
    const signature = combineSignatures(order, threshold);
    assert.deepEqual(signature, blsSign(secret, message));
    assert.ok(blsVerify(groupKey, message, signature));
    assert.deepEqual(combineSignatures(order.toReversed(), threshold), signature);
    assert.deepEqual(recoverSecret(order.slice(0, threshold)), secret);
    const publicShares = dealing.publicShares.map((publicShare, index) => ({ index, publicShare }));
    assert.deepEqual(combinePublicShares(publicShares.toReversed(), threshold), groupKey);
    for (const [index, share] of dealing.shares.entries()) {
      assert.deepEqual(publicOf(share), dealing.publicShares[index]);
      assert.deepEqual(publicShareAt(dealing.commitments, index), dealing.publicShares[index]);
      assert.ok(isDealtShare(dealing.commitments, index, share));
      assert.ok(!isDealtShare(dealing.commitments, index, generateSecret(random)));
      if (threshold > 1) assert.ok(!isDealtShare(dealing.commitments, index + 1, share));
      assert.ok(blsVerify(publicOf(share), message, blsSign(share, message)));
    }
    if (threshold > 1) {
      assert.notDeepEqual(combineSignatures(order, threshold - 1), signature);
      assert.notDeepEqual(recoverSecret(order.slice(0, threshold - 1)), secret);
    }
    // noble's combination is the reference.
    const used = order.slice(0, threshold);
    const weights = lagrangeAtZero(used.map(({ index }) => index));
    const sum = used.reduce(
      (total, share, i) => total.add(G2.Point.fromBytes(share.signature).multiply(weights[i] ?? 0n)),
      G2.Point.ZERO,
    );
    assert.deepEqual(sum.toBytes(), signature);
  }
});

test("a share of somebody else spoils the result, and is found by itself", () => {
  const secret = generateSecret(random);
  const { shares, publicShares } = splitSecret({ secret, threshold: 2, count: 3, random });
  const signed = shares.map((share, index) => ({ index, signature: blsSign(share, message) }));
  const [first, second] = signed;
  assert.ok(first && second);
  const swapped = [first, { index: 2, signature: second.signature }];
  assert.ok(!blsVerify(publicOf(secret), message, combineSignatures(swapped, 2)));
  assert.ok(blsVerify(publicShares[1] ?? new Uint8Array(), message, second.signature));
  assert.ok(!blsVerify(publicShares[2] ?? new Uint8Array(), message, second.signature));
});

test("shares that cannot be combined are refused with their member", () => {
  const secret = generateSecret(random);
  const { shares } = splitSecret({ secret, threshold: 2, count: 3, random });
  const signed = shares.map((share, index) => ({ index, signature: blsSign(share, message) }));
  const [first] = signed;
  assert.ok(first);
  const refusal = (reason: string, index?: number) => (error: unknown) =>
    error instanceof ThresholdError && error.reason === reason && error.index === index;
  assert.throws(() => combineSignatures([first], 2), refusal("TOO_FEW"));
  assert.throws(() => combineSignatures([first, first], 2), refusal("DUPLICATE_INDEX", 0));
  for (const signature of [INFINITY_G2, strayG2(), new Uint8Array(95), random(96)]) {
    assert.throws(() => combineSignatures([first, { index: 1, signature }], 2), refusal("MALFORMED_SHARE", 1));
  }
  assert.throws(() => splitSecret({ secret, threshold: 4, count: 3, random }), RangeError);
  assert.throws(() => splitSecret({ secret, threshold: 0, count: 3, random }), RangeError);
  assert.throws(() => splitSecret({ secret: new Uint8Array(32), threshold: 2, count: 3, random }), RangeError);
});

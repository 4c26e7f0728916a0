import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { bytesToNumberBE, numberToBytesBE } from "@noble/curves/utils.js";
import { fromHex, toHex } from "../codec/codec.ts";
import { addressOfSecret, keccak256, recoverAddress, signDigest } from "./secp256k1.ts";

const vectors = JSON.parse(readFileSync(new URL("./vectors/secp256k1.json", import.meta.url), "utf8"));

test("addresses and signatures are Ethereum's", () => {
  for (const { secret, address, digest, signature } of vectors.cases) {
    assert.equal(toHex(addressOfSecret(fromHex(secret))), address);
    assert.equal(toHex(signDigest(fromHex(secret), fromHex(digest))), signature);
    const recovered = recoverAddress(fromHex(digest), fromHex(signature));
    assert.equal(recovered && toHex(recovered), address);
  }
  assert.equal(toHex(keccak256(new Uint8Array())), "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
});

test("refuses high S, other v, other lengths; another digest gives another address", () => {
  const secret = new Uint8Array(randomBytes(32));
  const digest = keccak256(randomBytes(8));
  const signature = signDigest(secret, digest);
  assert.deepEqual(recoverAddress(digest, signature), addressOfSecret(secret));
  const high = Uint8Array.from(signature);
  high.set(numberToBytesBE(secp256k1.Point.Fn.ORDER - bytesToNumberBE(signature.subarray(32, 64)), 32), 32);
  high[64] = signature[64] === 27 ? 28 : 27;
  assert.equal(recoverAddress(digest, high), undefined);
  for (const v of [0, 1, 26, 29]) {
    const other = Uint8Array.from(signature);
    other[64] = v;
    assert.equal(recoverAddress(digest, other), undefined);
  }
  assert.equal(recoverAddress(digest, signature.subarray(1)), undefined);
  assert.equal(recoverAddress(digest.subarray(1), signature), undefined);
  const zero = new Uint8Array(65);
  zero[64] = 27;
  assert.equal(recoverAddress(digest, zero), undefined);
  assert.notDeepEqual(recoverAddress(keccak256(Uint8Array.of(1)), signature), addressOfSecret(secret));
  assert.throws(() => addressOfSecret(new Uint8Array(32)), RangeError);
  assert.throws(() => signDigest(secret, digest.subarray(1)), RangeError);
});

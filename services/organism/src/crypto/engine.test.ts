import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { before, test } from "node:test";
import { bls12_381 } from "@noble/curves/bls12-381.js";
import fc from "fast-check";
import mcl from "mcl-wasm";
import { concat } from "../codec/codec.ts";
import { initCrypto, parseG1, parseG2 } from "./engine.ts";
import { MCL_PAIRINGS } from "./pairing-mcl.ts";
import { NOBLE_PAIRINGS } from "./pairing-noble.ts";
import { randomScalar, scalarToBytes } from "./scalar.ts";
import { INFINITY_G1, INFINITY_G2, strayG1, strayG2 } from "./stray-points.ts";

const { G1, G2 } = bls12_381;
const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));

before(() => initCrypto());

/** What mcl by itself, with its own membership check, makes of these bytes. */
function mclParses(point: mcl.G1 | mcl.G2, bytes: Uint8Array): boolean {
  try {
    point.deserialize(bytes);
    return !point.isZero();
  } catch {
    return false;
  }
}
function nobleParses(parse: () => { is0(): boolean }): boolean {
  try {
    return !parse().is0();
  } catch {
    return false;
  }
}

test("points: three parsers agree on good ones, on every flipped bit and on noise", () => {
  for (let round = 0; round < 5; round++) {
    const scalar = randomScalar(random);
    const one = G1.Point.BASE.multiply(scalar).toBytes();
    const two = G2.Point.BASE.multiply(scalar).toBytes();
    assert.deepEqual(parseG1(one)?.serialize(), one);
    assert.deepEqual(parseG2(two)?.serialize(), two);
    for (let bit = round; bit < 48 * 8; bit += 5) {
      const flipped = Uint8Array.from(one);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const parsed = parseG1(flipped) !== undefined;
      assert.equal(parsed, mclParses(new mcl.G1(), flipped));
      assert.equal(
        parsed,
        nobleParses(() => G1.Point.fromBytes(flipped)),
      );
    }
    for (let bit = round; bit < 96 * 8; bit += 25) {
      const flipped = Uint8Array.from(two);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const parsed = parseG2(flipped) !== undefined;
      assert.equal(parsed, mclParses(new mcl.G2(), flipped));
      assert.equal(
        parsed,
        nobleParses(() => G2.Point.fromBytes(flipped)),
      );
    }
  }
  const dirty = Uint8Array.from(INFINITY_G1);
  dirty[7] = 1;
  for (const bad of [
    strayG1(),
    INFINITY_G1,
    dirty,
    new Uint8Array(48),
    new Uint8Array(47),
    G1.Point.BASE.toBytes(false),
  ]) {
    assert.equal(parseG1(bad), undefined);
  }
  for (const bad of [strayG2(), INFINITY_G2, new Uint8Array(96), new Uint8Array(0), G2.Point.BASE.toBytes(false)]) {
    assert.equal(parseG2(bad), undefined);
  }
  assert.equal(parseG1(concat(G1.Point.BASE.toBytes(), new Uint8Array(1))), undefined);
  fc.assert(fc.property(fc.uint8Array({ minLength: 48, maxLength: 48 }), (noise) => parseG1(noise) === undefined));
});

test("pairings, powers and products with the generator are the same bytes in both engines", () => {
  for (let round = 0; round < 10; round++) {
    const [a, b, r] = [randomScalar(random), randomScalar(random), randomScalar(random)];
    const head = G1.Point.BASE.multiply(a).toBytes();
    const key = G2.Point.BASE.multiply(b).toBytes();
    const fast = MCL_PAIRINGS.identityKey(key);
    assert.deepEqual(fast?.pair(head), NOBLE_PAIRINGS.identityKey(key)?.pair(head));
    fast?.free();
    assert.deepEqual(MCL_PAIRINGS.timesGenerator(r), NOBLE_PAIRINGS.timesGenerator(r));
    const identity = random(16);
    const power = MCL_PAIRINGS.target(head, "DST", identity)?.pow(r);
    assert.deepEqual(power, NOBLE_PAIRINGS.target(head, "DST", identity)?.pow(r));
    // e(aG, H)^r = e(rG, aH)
    const identityKey = G2.hashToCurve(identity, { DST: "DST" }).multiply(a).toBytes();
    assert.deepEqual(power, MCL_PAIRINGS.identityKey(identityKey)?.pair(MCL_PAIRINGS.timesGenerator(r)));
  }
});

test("scalars keep their 32 bytes", () => {
  assert.equal(scalarToBytes(1n).length, 32);
  assert.equal(scalarToBytes(1n)[31], 1);
});

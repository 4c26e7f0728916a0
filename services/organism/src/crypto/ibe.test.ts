import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { before, test } from "node:test";
import { bls12_381 } from "@noble/curves/bls12-381.js";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../codec/codec.ts";
import { initCrypto } from "./engine.ts";
import {
  combineIdentityKey,
  IBE_OVERHEAD_BYTES,
  type IbeOpened,
  identityShare,
  openIbe,
  openWithSigma,
  SUITES,
  type Suite,
  sealIbe,
  verifyIdentityKey,
  verifyIdentityShare,
} from "./ibe.ts";
import { MCL_PAIRINGS } from "./pairing-mcl.ts";
import { NOBLE_PAIRINGS } from "./pairing-noble.ts";
import { scalarFromBytes } from "./scalar.ts";
import { generateSecret, publicOf, splitSecret } from "./shamir.ts";
import { INFINITY_G1, INFINITY_G2, strayG1, strayG2 } from "./stray-points.ts";

const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
const vectors = JSON.parse(readFileSync(new URL("./vectors/ibe.json", import.meta.url), "utf8"));
const { G1, G2 } = bls12_381;

before(() => initCrypto());

/** A committee of one: its secret makes whole keys. */
function keyPair(suite: Suite, identity: Uint8Array) {
  const secret = generateSecret(random);
  return { secret, sealingKey: publicOf(secret), identityKey: identityShare(secret, suite, identity, random) };
}

function failureOf(opened: IbeOpened | { readonly content: Uint8Array } | { readonly failure: string }): string {
  return "failure" in opened ? opened.failure : "opened";
}

test("golden vectors, and what a second reading of the formulas gives", () => {
  for (const v of vectors.cases) {
    const suite: Suite = v.suite;
    const address = { suite, sealingKey: fromHex(v.sealingKey), identity: fromHex(v.identity) };
    const aad = fromHex(v.aad);
    assert.deepEqual(publicOf(fromHex(v.secret)), address.sealingKey);
    assert.equal(toHex(identityShare(fromHex(v.secret), suite, address.identity, random)), v.identityKey);
    assert.ok(verifyIdentityKey(address.sealingKey, suite, address.identity, fromHex(v.identityKey)));
    for (const engine of [MCL_PAIRINGS, NOBLE_PAIRINGS]) {
      const sealed = sealIbe({ ...address, aad, content: fromHex(v.content), random: () => fromHex(v.sigma) }, engine);
      assert.equal(toHex(sealed), v.sealed);
      const opened = openIbe({ identityKey: fromHex(v.identityKey), aad, sealed }, engine);
      assert.deepEqual(opened, { content: fromHex(v.content), sigma: fromHex(v.sigma) });
    }
  }
});

test("the engines agree on 120 random messages, both ways, with the key and with sigma", () => {
  const suites = Object.keys(SUITES) as Suite[];
  for (const suite of suites) {
    const identity = random(32);
    const { sealingKey, identityKey } = keyPair(suite, identity);
    const address = { suite, sealingKey, identity };
    for (let sample = 0; sample < 20; sample++) {
      const aad = random(sample % 7);
      const content = random(sample * 13);
      const [from, to] = sample % 2 === 0 ? [MCL_PAIRINGS, NOBLE_PAIRINGS] : [NOBLE_PAIRINGS, MCL_PAIRINGS];
      const sealed = sealIbe({ ...address, aad, content, random }, from);
      assert.equal(sealed.length, content.length + IBE_OVERHEAD_BYTES);
      const opened = openIbe({ identityKey, aad, sealed }, to);
      assert.ok("content" in opened);
      assert.deepEqual(opened.content, content);
      assert.deepEqual(openWithSigma({ ...address, aad, sigma: opened.sigma, sealed }, to), { content });
      const flipped = Uint8Array.from(sealed);
      const bit = Math.floor((sample / 20) * sealed.length * 8);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const failures = [MCL_PAIRINGS, NOBLE_PAIRINGS].map((engine) =>
        failureOf(openIbe({ identityKey, aad, sealed: flipped }, engine)),
      );
      assert.equal(failures[0], failures[1]);
      assert.notEqual(failures[0], "opened");
    }
  }
});

test("sealing is fresh every time, and any content goes through", () => {
  const identity = random(8);
  const { sealingKey, identityKey } = keyPair("unseal-slot", identity);
  const address = { suite: "unseal-slot", sealingKey, identity } as const;
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 2000 }), fc.uint8Array({ maxLength: 60 }), (content, aad) => {
      const sealed = sealIbe({ ...address, aad, content, random });
      assert.notDeepEqual(sealed, sealIbe({ ...address, aad, content, random }));
      const opened = openIbe({ identityKey, aad, sealed });
      assert.ok("content" in opened);
      assert.deepEqual(opened.content, content);
    }),
    { numRuns: 50 },
  );
});

test("every flipped bit, every cut and every other context is refused", () => {
  const identity = random(32);
  const { sealingKey, identityKey, secret } = keyPair("offer-slot", identity);
  const address = { suite: "offer-slot", sealingKey, identity } as const;
  const aad = random(20);
  const sealed = sealIbe({ ...address, aad, content: random(5), random });
  const opened = openIbe({ identityKey, aad, sealed });
  assert.ok("sigma" in opened);
  const { sigma } = opened;
  for (let bit = 0; bit < sealed.length * 8; bit++) {
    const flipped = Uint8Array.from(sealed);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.ok("failure" in openIbe({ identityKey, aad, sealed: flipped }), `bit ${bit}`);
    assert.ok("failure" in openWithSigma({ ...address, aad, sigma, sealed: flipped }), `bit ${bit} with sigma`);
  }
  for (const cut of [0, 1, 48, IBE_OVERHEAD_BYTES - 1]) {
    assert.equal(failureOf(openIbe({ identityKey, aad, sealed: sealed.subarray(0, cut) })), "malformed");
    assert.equal(failureOf(openWithSigma({ ...address, aad, sigma, sealed: sealed.subarray(0, cut) })), "malformed");
  }
  assert.equal(failureOf(openIbe({ identityKey, aad, sealed: concat(sealed, Uint8Array.of(0)) })), "undecryptable");
  assert.equal(failureOf(openIbe({ identityKey, aad: random(20), sealed })), "undecryptable");
  assert.equal(failureOf(openIbe({ identityKey, aad: aad.subarray(1), sealed })), "undecryptable");
  const otherKey = identityShare(secret, "offer-slot", random(32), random);
  assert.equal(failureOf(openIbe({ identityKey: otherKey, aad, sealed })), "undecryptable");
  const otherSuite = identityShare(secret, "offer-bundle", identity, random);
  assert.equal(failureOf(openIbe({ identityKey: otherSuite, aad, sealed })), "undecryptable");
  assert.equal(failureOf(openWithSigma({ ...address, aad, sigma: random(32), sealed })), "undecryptable");
  assert.equal(failureOf(openWithSigma({ ...address, aad, sigma: sigma.subarray(1), sealed })), "malformed");
  // The right σ under another identity, suite or committee is not what was sealed there.
  assert.equal(failureOf(openWithSigma({ ...address, identity: random(32), aad, sigma, sealed })), "inconsistent");
  assert.equal(failureOf(openWithSigma({ ...address, suite: "offer-bundle", aad, sigma, sealed })), "inconsistent");
  const other = publicOf(generateSecret(random));
  assert.equal(failureOf(openWithSigma({ ...address, sealingKey: other, aad, sigma, sealed })), "inconsistent");
  assert.ok("content" in openWithSigma({ ...address, aad, sigma, sealed }));
});

test("a sender who makes U and V from another r than the content demands is found out", () => {
  const identity = random(32);
  const { sealingKey, identityKey } = keyPair("unseal-slot", identity);
  const address = { suite: "unseal-slot", sealingKey, identity } as const;
  const aad = random(4);
  const sigma = random(32);
  const honest = sealIbe({ ...address, aad, content: Uint8Array.of(1), random: () => sigma });
  const other = sealIbe({ ...address, aad, content: Uint8Array.of(2), random: () => sigma });
  // Same σ, so the body of one opens under the head of the other; only the check of U tells.
  const crossed = concat(honest.subarray(0, 81), other.subarray(81));
  for (const engine of [MCL_PAIRINGS, NOBLE_PAIRINGS]) {
    assert.equal(failureOf(openIbe({ identityKey, aad, sealed: crossed }, engine)), "inconsistent");
    assert.equal(failureOf(openWithSigma({ ...address, aad, sigma, sealed: crossed }, engine)), "inconsistent");
  }
  // The right U with a V that hides another value: openable by nobody with the key, so not with σ either.
  const wrongV = Uint8Array.from(honest);
  wrongV[60] = (wrongV[60] ?? 0) ^ 1;
  assert.equal(failureOf(openWithSigma({ ...address, aad, sigma, sealed: wrongV })), "inconsistent");
});

test("points outside the groups and at infinity are refused by both engines", () => {
  const identity = random(32);
  const { sealingKey, identityKey } = keyPair("unseal-slot", identity);
  const address = { suite: "unseal-slot", sealingKey, identity } as const;
  const aad = new Uint8Array();
  const sealed = sealIbe({ ...address, aad, content: random(9), random });
  const uncompressedFlag = Uint8Array.from(sealed.subarray(1, 49));
  uncompressedFlag[0] = (uncompressedFlag[0] ?? 0) & 0x7f;
  for (const engine of [MCL_PAIRINGS, NOBLE_PAIRINGS]) {
    for (const head of [strayG1(), INFINITY_G1, new Uint8Array(48), new Uint8Array(48).fill(0xff), uncompressedFlag]) {
      const crafted = concat(sealed.subarray(0, 1), head, sealed.subarray(49));
      assert.equal(failureOf(openIbe({ identityKey, aad, sealed: crafted }, engine)), "malformed");
    }
    for (const bad of [strayG2(), INFINITY_G2, new Uint8Array(96), random(96), identityKey.subarray(1)]) {
      assert.throws(() => openIbe({ identityKey: bad, aad, sealed }, engine), RangeError);
    }
    for (const bad of [strayG1(), INFINITY_G1, new Uint8Array(48), sealingKey.subarray(1)]) {
      const content = random(1);
      assert.throws(() => sealIbe({ ...address, sealingKey: bad, aad, content, random }, engine), RangeError);
    }
  }
  for (const bad of [strayG2(), INFINITY_G2, new Uint8Array(96), identityKey.subarray(1)]) {
    assert.ok(!verifyIdentityKey(sealingKey, "unseal-slot", identity, bad));
  }
  for (const bad of [strayG1(), INFINITY_G1, new Uint8Array(48), sealingKey.subarray(1)]) {
    assert.ok(!verifyIdentityKey(bad, "unseal-slot", identity, identityKey));
  }
  assert.ok(!verifyIdentityKey(INFINITY_G1, "unseal-slot", identity, INFINITY_G2));
});

test("shares of an identity key: made blinded, verified, combined; liars are found", () => {
  const identity = random(32);
  const suite = "offer-bundle";
  const secret = generateSecret(random);
  const { shares, publicShares } = splitSecret({ secret, threshold: 3, count: 5, random });
  const made = shares.map((share, index) => ({ index, signature: identityShare(share, suite, identity, random) }));
  for (const { index, signature } of made) {
    const publicShare = publicShares[index] ?? new Uint8Array();
    assert.ok(verifyIdentityShare(publicShare, suite, identity, signature));
    assert.ok(!verifyIdentityShare(publicShares[(index + 1) % 5] ?? new Uint8Array(), suite, identity, signature));
    assert.ok(!verifyIdentityShare(publicShare, "offer-slot", identity, signature));
    assert.ok(!verifyIdentityShare(publicShare, suite, random(32), signature));
    // Blinding changes nothing of the result.
    const point = G2.hashToCurve(identity, { DST: SUITES[suite] });
    const plain = point.multiply(scalarFromBytes(shares[index] ?? new Uint8Array()));
    assert.deepEqual(signature, plain.toBytes());
    assert.deepEqual(signature, identityShare(shares[index] ?? new Uint8Array(), suite, identity, random));
  }
  const key = combineIdentityKey(made.slice(2), 3);
  assert.deepEqual(key, combineIdentityKey(made, 3));
  assert.deepEqual(key, identityShare(secret, suite, identity, random));
  assert.ok(verifyIdentityKey(publicOf(secret), suite, identity, key));
  const lie = made.map((share) => (share.index === 1 ? { ...share, signature: G2.Point.BASE.toBytes() } : share));
  assert.ok(!verifyIdentityKey(publicOf(secret), suite, identity, combineIdentityKey(lie, 3)));
  const liars = lie.filter(
    ({ index, signature }) => !verifyIdentityShare(publicShares[index] ?? new Uint8Array(), suite, identity, signature),
  );
  assert.deepEqual(
    liars.map(({ index }) => index),
    [1],
  );
  const sealed = sealIbe({ suite, sealingKey: publicOf(secret), identity, aad: identity, content: random(7), random });
  assert.ok("content" in openIbe({ identityKey: key, aad: identity, sealed }));
  const few = combineIdentityKey(made, 2);
  assert.equal(failureOf(openIbe({ identityKey: few, aad: identity, sealed })), "undecryptable");
  assert.deepEqual(G1.Point.fromBytes(publicOf(secret)).toBytes(), publicOf(secret));
});

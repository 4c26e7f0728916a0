import assert from "node:assert/strict";
import { createCipheriv, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { before, test } from "node:test";
import { hash_to_field } from "@noble/curves/abstract/hash-to-curve.js";
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { bytesToNumberBE, numberToBytesBE } from "@noble/curves/utils.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import fc from "fast-check";
import tlock from "tlock-js/crypto/ibe.js";
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

/** The formulas at the head of ibe.ts, read a second time: noble's hashes, noble's curve, no code of ours. */
function sealByHand(v: {
  suite: Suite;
  secret: string;
  identity: string;
  sigma: string;
  aad: string;
  content: string;
}) {
  const [sigma, aad, content] = [fromHex(v.sigma), fromHex(v.aad), fromHex(v.content)];
  const u32 = (value: number) => Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
  const field = {
    DST: "LATTICE-IBE-H3-V1_XMD:SHA-256_BLS12381-SCALAR_",
    p: bls12_381.fields.Fr.ORDER,
    m: 1,
    k: 129,
    expand: "xmd",
    hash: sha256,
  } as const;
  const r = hash_to_field(concat(sigma, u32(aad.length), aad, content), 1, field)[0]?.[0] ?? 0n;
  const point = G2.hashToCurve(fromHex(v.identity), { DST: SUITES[v.suite] });
  // e(sG, H)^r as one pairing of (rs)G.
  const s = bytesToNumberBE(fromHex(v.secret));
  const gt = bls12_381.pairing(G1.Point.BASE.multiply(bls12_381.fields.Fr.mul(r, s)), point);
  const words = [gt.c1, gt.c0].flatMap((c6) => [c6.c2, c6.c1, c6.c0]).flatMap((c2) => [c2.c1, c2.c0]);
  const gtBytes = concat(...words.map((word) => numberToBytesBE(word, 48)));
  const tag = Buffer.from("lattice/ibe/h2/v1");
  const pad = sha256(concat(u32(tag.length), tag, gtBytes));
  const okm = hkdf(sha256, sigma, new Uint8Array(0), Buffer.from("lattice/ibe/h4/v1"), 44);
  const cipher = createCipheriv("aes-256-gcm", okm.subarray(0, 32), okm.subarray(32));
  cipher.setAAD(aad);
  const body = concat(cipher.update(content), cipher.final(), cipher.getAuthTag());
  const masked = sigma.map((byte, at) => byte ^ (pad[at] ?? 0));
  return toHex(concat(Uint8Array.of(1), G1.Point.BASE.multiply(r).toBytes(), masked, body));
}

test("golden vectors, by both engines and by hand", () => {
  for (const v of vectors.cases) {
    const suite: Suite = v.suite;
    const address = { suite, sealingKey: fromHex(v.sealingKey), identity: fromHex(v.identity) };
    const aad = fromHex(v.aad);
    assert.deepEqual(publicOf(fromHex(v.secret)), address.sealingKey);
    assert.equal(toHex(identityShare(fromHex(v.secret), suite, address.identity, random)), v.identityKey);
    assert.ok(verifyIdentityKey(address.sealingKey, suite, address.identity, fromHex(v.identityKey)));
    assert.equal(sealByHand(v), v.sealed);
    for (const engine of [MCL_PAIRINGS, NOBLE_PAIRINGS]) {
      const sealed = sealIbe({ ...address, aad, content: fromHex(v.content), random: () => fromHex(v.sigma) }, engine);
      assert.equal(toHex(sealed), v.sealed);
      const opened = openIbe({ identityKey: fromHex(v.identityKey), aad, sealed }, engine);
      assert.deepEqual(opened, { content: fromHex(v.content), sigma: fromHex(v.sigma) });
    }
  }
});

test("a published beacon of drand is an identity key of its round, and of no other", () => {
  const { round, publicKey, signature } = vectors.drand;
  const identityOf = (number: number) => sha256(numberToBytesBE(number, 8));
  const [key, beacon] = [fromHex(publicKey), fromHex(signature)];
  assert.ok(verifyIdentityKey(key, "drand-beacon", identityOf(round), beacon));
  assert.ok(!verifyIdentityKey(key, "drand-beacon", identityOf(round + 1), beacon));
  assert.ok(!verifyIdentityKey(key, "unseal-slot", identityOf(round), beacon));
});

test("our pairing and bytes of GT open what tlock-js sealed", async () => {
  const identity = sha256(numberToBytesBE(42, 8));
  const { sealingKey, identityKey } = keyPair("drand-beacon", identity);
  for (let sample = 0; sample < 10; sample++) {
    const message = random(32);
    const { U, V, W } = await tlock.encryptOnG1(sealingKey, identity, message);
    for (const engine of [MCL_PAIRINGS, NOBLE_PAIRINGS]) {
      const pairing = engine.identityKey(identityKey);
      const pad = sha256(concat(Buffer.from("IBE-H2"), pairing?.pair(U) ?? random(0)));
      const sigma = V.map((byte, at) => byte ^ (pad[at] ?? 0));
      const stream = sha256(concat(Buffer.from("IBE-H4"), sigma));
      assert.deepEqual(
        Uint8Array.from(W, (byte, at) => byte ^ (stream[at] ?? 0)),
        message,
      );
      pairing?.free();
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

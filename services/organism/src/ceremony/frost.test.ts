/** noble's FROST key generation (split-round as frost-rs, RFC 9591 Appendix C) over G1 of BLS12-381, beside ours. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { before, describe, test } from "node:test";
import { createFROST } from "@noble/curves/abstract/frost.js";
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { toHex } from "../codec/codec.ts";
import { initCrypto } from "../crypto/engine.ts";
import { publicOf } from "../crypto/shamir.ts";
import { CeremonyDriver, freshPlan, people, range } from "../testing/ceremony-driver.ts";
import { combinePoints, isShareOf, publicShareOf } from "./commitments.ts";

const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
const frost = createFROST({ name: "FROST-BLS12381G1-TEST", Point: bls12_381.G1.Point, hash: sha256 });
const [N, T] = [5, 3];
const identifier = (index: number): string => frost.Identifier.fromNumber(index + 1);

describe("against noble's FROST", () => {
  before(initCrypto);

  test("what FROST deals, we accept, and it comes to FROST's keys", () => {
    const signers = { min: T, max: N };
    const first = range(N).map((index) => frost.DKG.round1(identifier(index), signers));
    const others = (index: number) => first.flatMap((each, i) => (i === index ? [] : [each.public]));
    const second = first.map((each, index) => frost.DKG.round2(each.secret, others(index)));
    const keys = first.map((each, index) => {
      const received = second.flatMap((dealt, dealer) => {
        const to = dealt[identifier(index)];
        return dealer === index || to === undefined ? [] : [to];
      });
      for (const { identifier: from, signingShare } of received) {
        const dealer = range(N).find((candidate) => identifier(candidate) === from) ?? -1;
        const commitment = first[dealer]?.public.commitment ?? [];
        assert.ok(isShareOf(commitment, index, signingShare));
        assert.equal(isShareOf(commitment, (index + 1) % N, signingShare), false);
      }
      return frost.DKG.round3(each.secret, others(index), received);
    });
    const combined = range(T).map(
      (degree) =>
        combinePoints(
          first.map((each) => each.public.commitment[degree] ?? random(48)),
          first.map(() => 1n),
        ) ?? random(48),
    );
    for (const [index, key] of keys.entries()) {
      assert.deepEqual(combined.map(toHex), key.public.commitments.map(toHex));
      const ours = publicShareOf(combined, index) ?? random(48);
      assert.equal(toHex(ours), toHex(key.public.verifyingShares[identifier(index)] ?? random(48)));
      assert.equal(toHex(ours), toHex(publicOf(key.secret.signingShare)));
    }
  });

  test("what we make, FROST accepts, and signs with", () => {
    const persons = people(N, random);
    const driver = new CeremonyDriver(freshPlan(persons, { certificate: T }), persons, random);
    const { result, deals } = driver.run().attempt;
    const [key] = result?.keys ?? [];
    assert.ok(key !== undefined);
    const commitments = range(T).map(
      (degree) =>
        combinePoints(
          [...deals.values()].map(({ parts }) => parts[0]?.commitments[degree] ?? random(48)),
          [...deals.values()].map(() => 1n),
        ) ?? random(48),
    );
    assert.deepEqual(commitments[0], key.publicKey);
    const shared = {
      signers: { min: T, max: N },
      commitments,
      verifyingShares: Object.fromEntries(key.publicShares.map((share, index) => [identifier(index), share])),
    };
    const secretOf = (index: number, whose = index) => ({
      identifier: identifier(index),
      signingShare: driver.ownShares(whose).get(0) ?? random(32),
    });
    for (const index of range(N)) frost.validateSecret(secretOf(index), shared);
    assert.throws(() => frost.validateSecret(secretOf(0, 1), shared));
    const message = random(32);
    const signing = [0, 2, 4].map((index) => ({ secret: secretOf(index), nonces: frost.commit(secretOf(index)) }));
    const list = signing.map(({ nonces }) => nonces.commitments);
    const shares = Object.fromEntries(
      signing.map(({ secret, nonces }) => [
        secret.identifier,
        frost.signShare(secret, shared, nonces.nonces, list, message),
      ]),
    );
    const signature = frost.aggregate(shared, list, message, shares);
    assert.ok(frost.verify(signature, message, key.publicKey));
    assert.equal(frost.verify(signature, random(32), key.publicKey), false);
  });
});

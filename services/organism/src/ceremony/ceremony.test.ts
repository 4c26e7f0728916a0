import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { before, describe, test } from "node:test";
import fc from "fast-check";
import { concat, equalBytes, toHex } from "../codec/codec.ts";
import { blsSign, blsVerify } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { combineIdentityKey, identityShare, openIbe, sealIbe, verifyIdentityKey } from "../crypto/ibe.ts";
import { Fr, lagrangeAtZero, scalarFromBytes } from "../crypto/scalar.ts";
import { publicOf, recoverSecret } from "../crypto/shamir.ts";
import { combinePublicShares, combineSignatures } from "../crypto/threshold.ts";
import { CeremonyDriver, freshPlan, people, range } from "../testing/ceremony-driver.ts";
import { attemptBoxKey, openDeal } from "./dealing.ts";
import type { CeremonyKey } from "./outcome.ts";
import { type CeremonyPlan, type PlannedKey, planProblems } from "./plan.ts";
import { sharedPoint } from "./share-box.ts";

const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
const MESSAGE = new TextEncoder().encode("what the committee says");

/** `t` of `n` as fast-check draws them, small enough to run whole ceremonies. */
const sizes = fc.integer({ min: 2, max: 5 }).chain((n) => fc.tuple(fc.constant(n), fc.integer({ min: 1, max: n })));

function subsets(n: number, size: number): number[][] {
  if (size === 0) return [[]];
  return range(n).flatMap((first) =>
    first < size - 1 ? [] : subsets(first, size - 1).map((rest) => [...rest, first]),
  );
}

function finished(n: number, thresholds: Readonly<Record<string, number>>): CeremonyDriver {
  const persons = people(n, random);
  const driver = new CeremonyDriver(freshPlan(persons, thresholds), persons, random);
  assert.deepEqual(planProblems(driver.plan), []);
  assert.equal(driver.run().attempt.phase, "done");
  return driver;
}

function shareOf(driver: CeremonyDriver, who: number, position = 0): Uint8Array {
  return driver.ownShares(who).get(position) ?? new Uint8Array();
}

describe("distributed key generation", () => {
  before(initCrypto);

  test("any t of n have the key; all replicas and a late reader see the same", () => {
    fc.assert(
      fc.property(sizes, ([n, t]) => {
        const driver = finished(n, { certificate: t });
        const result = driver.replay().attempt.result;
        for (const replica of driver.replicas) assert.deepEqual(replica.attempt.result, result);
        const [key] = result?.keys ?? [];
        assert.ok(key !== undefined);
        assert.deepEqual(
          key.publicShares,
          range(n).map((who) => publicOf(shareOf(driver, who))),
        );
        for (const chosen of subsets(n, t)) {
          const shares = chosen.map((index) => ({ index, share: shareOf(driver, index) }));
          assert.deepEqual(publicOf(recoverSecret(shares)), key.publicKey);
        }
        if (t === 1) return;
        for (const chosen of subsets(n, t - 1)) {
          const shares = chosen.map((index) => ({ index, share: shareOf(driver, index) }));
          assert.notDeepEqual(publicOf(recoverSecret(shares)), key.publicKey);
        }
      }),
      { numRuns: 8 },
    );
  });

  test("signatures and identity keys made with the shares verify under the group key", () => {
    const driver = finished(5, { certificate: 4, sealing: 3 });
    const [certificate, sealing]: readonly CeremonyKey[] = driver.replica(2).attempt.result?.keys ?? [];
    assert.ok(certificate !== undefined && sealing !== undefined);
    assert.equal(equalBytes(certificate.publicKey, sealing.publicKey), false);
    for (const chosen of subsets(5, 4)) {
      const shares = chosen.map((index) => ({ index, signature: blsSign(shareOf(driver, index), MESSAGE) }));
      assert.ok(blsVerify(certificate.publicKey, MESSAGE, combineSignatures(shares, 4)));
      assert.equal(blsVerify(certificate.publicKey, MESSAGE, combineSignatures(shares, 3)), false);
      const publicShares: { index: number; publicShare: Uint8Array }[] = chosen.map((index) => ({
        index,
        publicShare: certificate.publicShares[index] ?? random(48),
      }));
      assert.deepEqual(combinePublicShares(publicShares, 4), certificate.publicKey);
    }
    const identity = random(32);
    const aad = random(8);
    const shares = [4, 0, 2].map((index) => ({
      index,
      signature: identityShare(shareOf(driver, index, 1), "unseal-slot", identity, random),
    }));
    const identityKey = combineIdentityKey(shares, 3);
    assert.ok(verifyIdentityKey(sealing.publicKey, "unseal-slot", identity, identityKey));
    assert.equal(verifyIdentityKey(certificate.publicKey, "unseal-slot", identity, identityKey), false);
    const content = random(40);
    const sealed = sealIbe({ suite: "unseal-slot", sealingKey: sealing.publicKey, identity, aad, content, random });
    const opened = openIbe({ identityKey, aad, sealed });
    assert.ok("content" in opened && equalBytes(opened.content, content));
  });

  test("the secret is the sum of what everybody dealt, and nobody's part alone", () => {
    const driver = finished(4, { certificate: 3 });
    const { deals, result } = driver.replica(0).attempt;
    const constants = [...deals.values()].map(({ parts }) => toHex(parts[0]?.commitments[0] ?? new Uint8Array()));
    assert.equal(new Set(constants).size, 4);
    assert.equal(constants.includes(toHex(result?.keys[0]?.publicKey ?? new Uint8Array())), false);
  });

  test("t - 1 members learn nothing: their shares fit every secret, and they open nobody else's box", () => {
    const [n, t] = [5, 3];
    const driver = finished(n, { certificate: t });
    const corrupt = [1, 3];
    const own = corrupt.map((who) => ({ index: who, share: shareOf(driver, who) }));
    // For any candidate secret there is a share of an honest member that completes theirs to it.
    fc.assert(
      fc.property(fc.bigInt({ min: 1n, max: Fr.ORDER - 1n }), (candidate) => {
        const weights = lagrangeAtZero([...corrupt, 0]);
        const known = own.reduce(
          (sum, { share }, i) => Fr.add(sum, Fr.mul(weights[i] ?? 0n, scalarFromBytes(share))),
          0n,
        );
        const missing = Fr.div(Fr.sub(candidate, known), weights[2] ?? 0n);
        if (missing === 0n) return;
        const share = Fr.toBytes(missing);
        assert.equal(scalarFromBytes(recoverSecret([...own, { index: 0, share }])), candidate);
      }),
    );
    const { attempt, scene } = driver.replica(0);
    for (const who of corrupt) {
      const key = attemptBoxKey(scene, driver.secrets(who, 1));
      for (const [dealer, deal] of attempt.deals) {
        const shared = sharedPoint(key, deal.ephemeral);
        for (const receiver of range(n)) {
          assert.equal(openDeal(scene, dealer, receiver, deal, shared) !== undefined, receiver === who);
        }
      }
    }
  });

  test("in whatever order messages land, the honest agree", () => {
    fc.assert(
      fc.property(
        fc.array(fc.shuffledSubarray(range(4), { minLength: 4 }), { minLength: 8, maxLength: 8 }),
        (orders) => {
          const persons = people(4, random);
          const driver = new CeremonyDriver(freshPlan(persons, { certificate: 3 }), persons, random);
          let next = 0;
          driver.run(() => orders[next++ % orders.length] ?? range(4));
          assert.deepEqual(
            driver.replicas.map(({ attempt }) => [attempt.phase, attempt.result]),
            driver.replicas.map(() => ["done", driver.replica(0).attempt.result]),
          );
        },
      ),
      { numRuns: 6 },
    );
  });

  test("what is said again after a restart is the same to the bit, at every message", () => {
    const persons = people(3, random);
    const driver = new CeremonyDriver(freshPlan(persons, { certificate: 2 }), persons, random);
    driver.run();
    const { log } = driver;
    // Whoever starts again at any point of the log says what it said, or what it would have said.
    for (let upTo = 0; upTo < log.length; upTo++) {
      const again = new CeremonyDriver(driver.plan, persons, random);
      for (const [name, seed] of driver.seeds) again.seeds.set(name, seed);
      for (const raw of log.slice(0, upTo)) again.append(raw);
      again.run();
      assert.ok(equalBytes(concat(...again.log), concat(...log)), `after ${upTo} messages`);
      assert.deepEqual(again.replica(1).attempt.result?.keys, driver.replica(1).attempt.result?.keys);
    }
  });

  test("the publication is the group's signature with the new key, and done needs it", () => {
    const persons = people(3, random);
    const digest = random(32);
    const publication = { key: 0, digest: () => digest };
    const driver = new CeremonyDriver(freshPlan(persons, { certificate: 2 }), persons, random, publication);
    const { attempt } = driver.run();
    assert.equal(attempt.phase, "done");
    const [key] = attempt.result?.keys ?? [];
    assert.ok(key !== undefined && attempt.publication !== undefined);
    assert.ok(blsVerify(key.publicKey, digest, attempt.publication));
    assert.equal(blsVerify(key.publicKey, random(32), attempt.publication), false);
  });
});

describe("plan of a ceremony", () => {
  before(initCrypto);
  const persons = people(4, random);
  const plan = freshPlan(persons, { certificate: 3, sealing: 3 });
  const keyed = (change: Partial<PlannedKey>): CeremonyPlan => ({
    ...plan,
    keys: plan.keys.slice(0, 1).map((key) => ({ ...key, ...change })),
  });

  test("a good one has no problems", () => assert.deepEqual(planProblems(plan), []));
  const refused: readonly (readonly [string, CeremonyPlan, RegExp])[] = [
    ["nobody", { ...plan, participants: [] as Uint8Array[] }, /participants: at least 2/],
    [
      "one twice",
      { ...plan, participants: [...plan.participants.slice(1), plan.participants[1]] as Uint8Array[] },
      /twice/,
    ],
    [
      "a key of small order",
      { ...plan, participants: [...plan.participants.slice(1), new Uint8Array(32)] },
      /not an Ed25519/,
    ],
    ["no key", { ...plan, keys: [] }, /keys: at least one/],
    ["a key twice", { ...plan, keys: plan.keys.slice(0, 1).flatMap((key) => [key, key]) }, /a name stands twice/],
    ["a threshold of 0", keyed({ threshold: 0 }), /threshold/],
    ["a threshold above the receivers", keyed({ threshold: 5 }), /threshold/],
    ["a stranger as receiver", keyed({ receivers: [0, 1, 2, 4] }), /receivers/],
    ["a receiver twice", keyed({ receivers: [0, 1, 2, 2] }), /receivers/],
    ["closing by half", { ...plan, closeQuorum: 2 }, /closeQuorum/],
    ["fewer holders than the threshold", { ...plan, holdersMin: 2 }, /holdersMin/],
    ["more holders than receivers", { ...plan, holdersMin: 5 }, /holdersMin/],
    ["more dealers than there are", { ...plan, dealersMin: 5 }, /dealersMin/],
  ];
  for (const [what, bad, problem] of refused) {
    test(`refused: ${what}`, () => assert.match(planProblems(bad).join("; "), problem));
  }
});

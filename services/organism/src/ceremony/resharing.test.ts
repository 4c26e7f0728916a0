import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { before, describe, test } from "node:test";
import { blsSign, blsVerify } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { publicOf, recoverSecret } from "../crypto/shamir.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { CeremonyDriver, freshPlan, people, range } from "../testing/ceremony-driver.ts";
import { resharing } from "../testing/resharing.ts";
import { planProblems } from "./plan.ts";

const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
const MESSAGE = new TextEncoder().encode("the same key, other holders");

function generated(n: number, t: number): CeremonyDriver {
  const persons = people(n, random);
  const driver = new CeremonyDriver(freshPlan(persons, { certificate: t }), persons, random);
  assert.equal(driver.run().attempt.phase, "done");
  return driver;
}
const keyOf = (driver: CeremonyDriver) => driver.replica(0).attempt.result?.keys[0];
const share = (driver: CeremonyDriver, participant: number): Uint8Array =>
  driver.ownShares(participant).get(0) ?? new Uint8Array();
/** Shares by member index of the new roster. */
function sharesOf(driver: CeremonyDriver): Uint8Array[] {
  return (driver.plan.keys[0]?.receivers ?? []).map((participant) => share(driver, participant));
}

describe("resharing", () => {
  before(initCrypto);

  for (const [what, n, t, n2, t2, kept] of [
    ["more members, higher threshold", 3, 2, 5, 4, 3],
    ["fewer members, lower threshold", 5, 4, 3, 2, 2],
    ["nobody stays", 4, 3, 4, 3, 0],
    ["one is replaced", 5, 3, 5, 3, 4],
  ] as const) {
    test(`${what}: ${t}-of-${n} to ${t2}-of-${n2}, the public key stays`, () => {
      const old = generated(n, t);
      const next = [...old.persons.slice(n - kept), ...people(n2 - kept, random)];
      const { plan, persons } = resharing(old, range(n), next, { certificate: t2 });
      assert.deepEqual(planProblems(plan), []);
      const driver = new CeremonyDriver(plan, persons, random);
      assert.equal(driver.run().attempt.phase, "done");
      const [before, after] = [keyOf(old), keyOf(driver)];
      assert.ok(before !== undefined && after !== undefined);
      assert.deepEqual(after.publicKey, before.publicKey);
      const shares = sharesOf(driver);
      assert.equal(shares.length, n2);
      assert.deepEqual(after.publicShares, shares.map(publicOf));
      const signed = shares.map((each, index) => ({ index, signature: blsSign(each, MESSAGE) }));
      assert.ok(blsVerify(before.publicKey, MESSAGE, combineSignatures(signed.slice(n2 - t2), t2)));
      assert.equal(blsVerify(before.publicKey, MESSAGE, combineSignatures(signed.slice(1, t2), t2 - 1)), false);
    });
  }

  test("refresh: the same members, and an old share is worth nothing beside new ones", () => {
    const old = generated(4, 3);
    const { plan, persons } = resharing(old, range(4), old.persons, {});
    const driver = new CeremonyDriver(plan, persons, random);
    driver.run();
    const secret = recoverSecret(range(3).map((index) => ({ index, share: share(old, index) })));
    const fresh = sharesOf(driver);
    const mixed = [share(old, 0), share(old, 1), fresh[2] ?? random(32)];
    const recovered = (shares: readonly Uint8Array[]) =>
      recoverSecret(shares.slice(0, 3).map((each, index) => ({ index, share: each })));
    assert.deepEqual(recovered(fresh), secret);
    assert.notDeepEqual(recovered(mixed), secret);
    for (const index of range(4)) assert.notDeepEqual(fresh[index], share(old, index));
  });

  test("t old holders are enough, whoever they are; t - 1 are not", () => {
    const old = generated(5, 3);
    for (const gone of [
      [0, 1],
      [2, 4],
    ]) {
      const { plan, persons } = resharing(old, range(5), people(4, random), { certificate: 3 }, { holdersMin: 4 });
      const driver = new CeremonyDriver(plan, persons, random);
      for (const who of gone) driver.behaviours.set(who, () => []);
      const { attempt } = driver.run();
      assert.equal(attempt.phase, "done", attempt.failure);
      assert.deepEqual(keyOf(driver)?.publicKey, keyOf(old)?.publicKey);
      assert.deepEqual([...attempt.out.keys()], gone);
    }
    const { plan, persons } = resharing(old, range(5), people(4, random), { certificate: 3 }, { holdersMin: 4 });
    const driver = new CeremonyDriver(plan, persons, random);
    for (const who of [0, 1, 2]) driver.behaviours.set(who, () => []);
    const { attempt } = driver.run();
    assert.equal(attempt.phase, "aborted");
    assert.match(attempt.failure ?? "", /2 dealers are left, 3 needed/);
    assert.deepEqual([...attempt.out.keys()], [0, 1, 2]);
  });

  test("an old holder without its share deals nothing, and has one again with the next epoch", () => {
    const old = generated(4, 3);
    const { plan, persons } = resharing(old, range(4), old.persons, {}, { holdersMin: 3 });
    const forgetful = persons.map(({ key, oldShares }, who) =>
      who === 1 || !oldShares ? { key } : { key, oldShares },
    );
    const driver = new CeremonyDriver(plan, forgetful, random);
    const { attempt } = driver.run();
    assert.equal(attempt.phase, "done", attempt.failure);
    assert.deepEqual(
      [...attempt.out.values()].map(({ participant, reason, detail }) => [participant, reason, detail]),
      [[1, "SILENT", "silent in phase deal"]],
    );
    assert.deepEqual(keyOf(driver)?.dealers.includes(1), false);
    driver.round();
    assert.ok(attempt.holders.has(1), "it confirms late");
    assert.deepEqual(publicOf(share(driver, 1)), keyOf(driver)?.publicShares[1]);
  });

  test("whoever deals another share than its own is named by everybody", () => {
    const old = generated(4, 2);
    const { plan, persons } = resharing(old, range(4), people(3, random), {}, { holdersMin: 3 });
    const [first, ...rest] = persons;
    assert.ok(first !== undefined);
    const liar = { ...first, oldShares: new Map([[0, share(old, 3)]]) };
    const driver = new CeremonyDriver(plan, [liar, ...rest], random);
    const { attempt } = driver.run();
    assert.equal(attempt.phase, "done", attempt.failure);
    assert.deepEqual(
      [...attempt.out.values()].map(({ participant, reason, detail }) => [participant, reason, detail]),
      [[0, "BAD_DEAL", "deals another certificate share than its own"]],
    );
    assert.deepEqual(keyOf(driver)?.publicKey, keyOf(old)?.publicKey);
    assert.equal(keyOf(driver)?.dealers.includes(0), false);
  });

  test("a plan whose public shares are not those of its key is refused", () => {
    const old = generated(4, 3);
    const { plan } = resharing(old, range(4), old.persons, {});
    const [key] = plan.keys;
    assert.ok(key?.source.type === "reshare");
    const { source } = key;
    const withSource = (change: Partial<typeof source>) => ({
      ...plan,
      keys: [{ ...key, source: { ...source, ...change } }],
    });
    assert.deepEqual(planProblems(withSource({})), []);
    const swapped = source.holders.map((holder, i) => ({ ...holder, index: source.holders[3 - i]?.index ?? 0 }));
    assert.match(planProblems(withSource({ holders: swapped })).join(), /not those of its public key/);
    assert.match(
      planProblems(withSource({ publicKey: publicOf(random(32).fill(1)) })).join(),
      /not those of its public key/,
    );
    assert.match(planProblems(withSource({ threshold: 5 })).join(), /old threshold/);
    assert.match(planProblems(withSource({ threshold: 2 })).join(), /not those of its public key/);
  });

  test("an epoch: the certificate key is shared anew and the sealing key is another, in one ceremony", () => {
    const persons = people(4, random);
    const old = new CeremonyDriver(freshPlan(persons, { certificate: 3, sealing: 2 }), persons, random);
    old.run();
    const next = [...persons.slice(1), ...people(1, random)];
    const shared = resharing(old, range(4), next, {});
    const plan = {
      ...shared.plan,
      dealersMin: 4,
      keys: shared.plan.keys.map((key) =>
        key.name === "sealing" ? { ...key, source: { type: "fresh" as const } } : key,
      ),
    };
    assert.deepEqual(planProblems(plan), []);
    const driver = new CeremonyDriver(plan, shared.persons, random);
    const { attempt } = driver.run();
    assert.equal(attempt.phase, "done", attempt.failure);
    const [before, after] = [old.replica(0).attempt.result?.keys, attempt.result?.keys];
    assert.deepEqual(after?.[0]?.publicKey, before?.[0]?.publicKey);
    assert.notDeepEqual(after?.[1]?.publicKey, before?.[1]?.publicKey);
    assert.deepEqual(
      after?.[1]?.dealers,
      plan.keys[1]?.receivers.toSorted((a, b) => a - b),
    );
  });
});

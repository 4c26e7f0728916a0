/** From founding to the next epoch, organism by organism: rosters that the runtime takes up, keys that stay or change. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { random, testConfig } from "../../test/test-lattice.ts";
import { successorProblem } from "../committee/epochs.ts";
import { followLinks } from "../committee/era-links.ts";
import { checkRoster, type Roster, sealingThreshold } from "../committee/roster.ts";
import { ERAS, OTHER_SIZES, RULES } from "../committee/rules.ts";
import { initCrypto } from "../crypto/engine.ts";
import { publicOf, recoverSecret } from "../crypto/shamir.ts";
import { agreementKey } from "../crypto/x25519.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import { CeremonyDriver, type DriverPerson, people } from "../testing/ceremony-driver.ts";
import {
  draftOf,
  type FoundingMember,
  foundedConfig,
  foundedKeys,
  foundingPlan,
  foundingPublication,
  foundingRoster,
  namedShares,
} from "./founding.ts";
import { ceremonyId, planProblems } from "./plan.ts";
import {
  epochSharesOf,
  heldShares,
  type Succession,
  successionPlan,
  successionPublication,
  successionRoster,
} from "./succession.ts";

const none = new Uint8Array(48);
const noKeys = Object.fromEntries(ORGANISMS.map((organism) => [organism, none])) as Record<Organism, Uint8Array>;

function member(person: DriverPerson, organism: Organism): FoundingMember {
  return {
    memberKey: person.key.publicKey,
    boxKey: agreementKey(random(32)).publicKey,
    ...(organism === "tally" ? { signer: random(20) } : {}),
  };
}

function ended(driver: CeremonyDriver) {
  const { attempt } = driver.run();
  assert.equal(attempt.phase, "done", attempt.failure);
  assert.ok(attempt.result !== undefined && attempt.publication !== undefined);
  return { result: attempt.result, publication: attempt.publication, holders: [...attempt.holders].sort() };
}

function found(organism: Organism, persons: readonly DriverPerson[]) {
  const own = persons.map((person) => member(person, organism));
  const members = Object.fromEntries(ORGANISMS.map((each) => [each, own])) as Record<Organism, FoundingMember[]>;
  const founding = { draft: draftOf(testConfig(noKeys)), members };
  const plan = foundingPlan(founding, organism);
  assert.deepEqual(planProblems(plan), []);
  const driver = new CeremonyDriver(plan, persons, random, foundingPublication(founding, organism));
  const end = ended(driver);
  const config = foundedConfig(founding.draft, { [organism]: foundedKeys(end.result) });
  const checked = checkRoster(config, organism, foundingRoster(founding, organism, end));
  assert.ok("roster" in checked, "problem" in checked ? checked.problem : "");
  return { driver, config, roster: checked.roster, members: own };
}

describe("founding and succession", () => {
  before(initCrypto);

  for (const organism of ORGANISMS) {
    test(`${organism}: one of three is replaced; certificates verify under the key that the config pins`, () => {
      const persons = people(3, random);
      const { driver, config, roster, members } = found(organism, persons);
      const [newcomer] = people(1, random);
      assert.ok(newcomer !== undefined);
      const { signer } = members[1] ?? {};
      const next = members.map((each, index) =>
        index === 1 ? { ...member(newcomer, organism), ...(signer === undefined ? {} : { signer }) } : each,
      );
      const succession: Succession = {
        config,
        organism,
        from: roster,
        members: next,
        activationSlot: 100n,
        sealingUntilSlot: 1000n,
      };
      const plan = successionPlan(succession);
      assert.deepEqual(planProblems(plan), []);
      const holders: DriverPerson[] = persons.map((person, index) => {
        const { certificateShare, secondShare } = namedShares(driver.ownShares(index));
        assert.ok(certificateShare !== undefined);
        return { ...person, oldShares: heldShares({ organism }, { certificateShare, secondShare }) };
      });
      const again = new CeremonyDriver(plan, [...holders, newcomer], random, successionPublication(succession));
      const certified = successionRoster(succession, ended(again));
      const checked = checkRoster(config, organism, certified);
      assert.ok("roster" in checked, "problem" in checked ? checked.problem : "");
      const after: Roster = checked.roster;
      assert.equal(successorProblem(roster, after, { organism, earliestSlot: 50n, rules: RULES.highest }), undefined);
      assert.deepEqual(certified.signers, [0, 1, 2]);
      const shares = namedShares(again.ownShares(3));
      assert.deepEqual(publicOf(shares.certificateShare ?? random(32)), after.members[1]?.certificateShare);
      for (const [index, each] of after.members.entries()) {
        assert.notDeepEqual(each.certificateShare, roster.members[index]?.certificateShare);
      }
      // The one who leaves has dealt and holds nothing of the new epoch.
      assert.equal(again.ownShares(1).size, 0);
      const sealing = organism === "unseal" || organism === "offer";
      assert.equal(after.sealingKey !== undefined, sealing);
      if (sealing) assert.notDeepEqual(after.sealingKey, roster.sealingKey);
      if (organism === "atelier") {
        assert.deepEqual(again.replica(0).attempt.result?.keys[1]?.publicKey, config.atelier.content.builderKey);
      }
      const forged = { ...certified, outcome: { ...certified.outcome, slot: certified.outcome.slot + 1n } };
      assert.ok("problem" in checkRoster(config, organism, forged));
    });
  }

  test("unseal: three members become four and three shares open a slot instead of two; then three again", () => {
    const persons = people(4, random);
    const { driver, config, roster, members } = found("unseal", persons.slice(0, 3));
    const newcomer = persons[3] ?? assert.fail();
    const change = (before: CeremonyDriver, from: Roster, next: FoundingMember[], threshold?: number) => {
      const slots = { activationSlot: from.activationSlot + 100n, sealingUntilSlot: 1000n };
      const stated = threshold === undefined ? {} : { sealingThreshold: threshold };
      const succession: Succession = { config, organism: "unseal", from, members: next, ...slots, ...stated };
      const plan = successionPlan(succession);
      assert.deepEqual(planProblems(plan), []);
      const holders = persons.slice(0, plan.participants.length).map((person, index): DriverPerson => {
        if (index >= from.members.length) return person;
        const { certificateShare } = namedShares(before.ownShares(index));
        assert.ok(certificateShare !== undefined);
        return { ...person, oldShares: heldShares({ organism: "unseal" }, { certificateShare }) };
      });
      const again = new CeremonyDriver(plan, holders, random, successionPublication(succession));
      const checked = checkRoster(config, "unseal", successionRoster(succession, ended(again)));
      return { again, ...("roster" in checked ? checked : assert.fail(checked.problem)) };
    };
    const four = change(driver, roster, [...members, member(newcomer, "unseal")], 3);
    assert.deepEqual([four.roster.members.length, sealingThreshold(config, "unseal", four.roster)], [4, 3]);
    const terms = { organism: "unseal" as const, earliestSlot: 50n, rules: RULES.highest };
    assert.equal(successorProblem(roster, four.roster, terms), undefined);
    assert.match(successorProblem(roster, four.roster, { ...terms, rules: OTHER_SIZES - 1 }) ?? "", /rules/);
    const sealed = (count: number): Uint8Array => {
      const shares = [0, 1, 3].slice(0, count).map((index) => {
        const { secondShare } = namedShares(four.again.ownShares(index));
        return { index, share: secondShare ?? assert.fail() };
      });
      return publicOf(recoverSecret(shares));
    };
    assert.deepEqual(sealed(3), four.roster.sealingKey);
    assert.notDeepEqual(sealed(2), four.roster.sealingKey, "one share fewer makes another key");
    const three = change(four.again, four.roster, members, 2);
    assert.deepEqual([three.roster.members.length, sealingThreshold(config, "unseal", three.roster)], [3, 2]);
    assert.equal(successorProblem(four.roster, three.roster, terms), undefined);
    assert.equal(three.again.ownShares(3).size, 0, "who leaves holds nothing of the epoch");
  });

  for (const organism of ["relay", "unseal", "atelier"] as const) {
    test(`${organism}: an epoch that begins an era: another certificate key, certified under the one before, and then reshared`, () => {
      const persons = people(3, random);
      const { driver, config, roster, members } = found(organism, persons);
      const base = { config, organism, members, sealingUntilSlot: 1000n };
      const begins: Succession = { ...base, from: roster, activationSlot: 100n, newEra: true };
      const held = (before: CeremonyDriver, of: Parameters<typeof epochSharesOf>[0], index: number) => {
        const { certificateShare, secondShare } = epochSharesOf(of, before.ownShares(index));
        assert.ok(certificateShare !== undefined);
        return heldShares({ organism }, { certificateShare, secondShare });
      };
      const plan = successionPlan(begins);
      assert.deepEqual(planProblems(plan), []);
      assert.notDeepEqual(ceremonyId(plan), ceremonyId(successionPlan({ ...begins, newEra: false })));
      const holders = persons.map((person, index) => ({ ...person, oldShares: held(driver, { organism }, index) }));
      const ceremony = new CeremonyDriver(plan, holders, random, successionPublication(begins));
      const link = successionRoster(begins, ended(ceremony));
      const checked = checkRoster(config, organism, link);
      assert.ok("begins" in checked && checked.begins !== undefined, "problem" in checked ? checked.problem : "no era");
      const { begins: era, roster: next } = checked;
      assert.equal(era.number, 1);
      assert.notDeepEqual(era.key, config[organism].policy.certificateKey);
      const terms = { organism, earliestSlot: 50n, rules: RULES.highest };
      assert.equal(successorProblem(roster, next, terms), undefined);
      assert.match(successorProblem(roster, next, { ...terms, rules: ERAS - 1 }) ?? "", /rules/);
      // What the members keep are shares of the new key, and nothing of the one that is over.
      const shares = [0, 1].map((index) => ({
        index,
        share: epochSharesOf(begins, ceremony.ownShares(index)).certificateShare ?? assert.fail(),
      }));
      assert.deepEqual(publicOf(recoverSecret(shares)), era.key);
      assert.deepEqual(publicOf(shares[0]?.share ?? random(32)), next.members[0]?.certificateShare);
      if (organism === "atelier") {
        const { secondShare } = epochSharesOf(begins, ceremony.ownShares(0));
        assert.deepEqual(publicOf(secondShare ?? random(32)), next.members[0]?.secondShare);
        assert.deepEqual(ceremony.replica(0).attempt.result?.keys[1]?.publicKey, config.atelier.content.builderKey);
      }
      assert.equal(next.sealingKey !== undefined, organism === "unseal");

      const followed = followLinks(config, organism, [link]);
      assert.ok("eras" in followed);
      const goesOn: Succession = { ...base, from: next, activationSlot: 200n };
      const again = new CeremonyDriver(
        successionPlan(goesOn),
        persons.map((person, index) => ({ ...person, oldShares: held(ceremony, begins, index) })),
        random,
        successionPublication(goesOn),
      );
      const certified = successionRoster(goesOn, ended(again));
      const after = checkRoster(config, organism, certified, followed.eras);
      assert.ok("roster" in after && after.begins === undefined, "problem" in after ? after.problem : "an era");
      assert.deepEqual(after.roster.era, next.era);
      assert.ok("problem" in checkRoster(config, organism, certified), "not under the pinned key");
    });
  }

  test("with one old holder away the epoch still follows, and the absent one is named", () => {
    const persons = people(3, random);
    const { driver, config, roster, members } = found("relay", persons);
    const succession: Succession = {
      config,
      organism: "relay",
      from: roster,
      members,
      activationSlot: 100n,
      sealingUntilSlot: 1000n,
    };
    const holders = persons.map((person, index) => ({
      ...person,
      oldShares: heldShares(succession, {
        certificateShare: driver.ownShares(index).get(0) ?? random(32),
      }),
    }));
    const plan = successionPlan(succession);
    const again = new CeremonyDriver(plan, holders, random, successionPublication(succession));
    again.behaviours.set(2, () => []);
    const certified = successionRoster(succession, ended(again));
    assert.ok("roster" in checkRoster(config, "relay", certified));
    assert.deepEqual(certified.signers, [0, 1]);
    assert.deepEqual(
      again.replica(0).state.blames.map(({ participant, reason }) => [participant, reason]),
      [[2, "SILENT"]],
    );
  });
});

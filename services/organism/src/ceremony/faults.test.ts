import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { before, describe, test } from "node:test";
import fc from "fast-check";
import { initCrypto } from "../crypto/engine.ts";
import { generateSecret, publicOf } from "../crypto/shamir.ts";
import { type Behaviour, CeremonyDriver, freshPlan, people, range } from "../testing/ceremony-driver.ts";
import { type BlameReason, Ceremony } from "./ceremony.ts";
import { type AttemptSecrets, ephemeralKey, makeComplaint, makeDeal, makeEnrolment, sealBox } from "./dealing.ts";
import { type CeremonyCommand, type Deal, decodeMessage, signMessage } from "./message.ts";
import { nextCommand, spoiltFor } from "./participant.ts";

const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
const CORRUPT = 2;

interface Role {
  readonly what: string;
  readonly reason: BlameReason;
  readonly behaviour: (driver: CeremonyDriver) => Behaviour;
}

/** Changes one kind of message and leaves the others. */
function changing<T extends CeremonyCommand["type"]>(
  type: T,
  change: (command: CeremonyCommand & { type: T }, ceremony: Ceremony) => readonly CeremonyCommand[],
): Behaviour {
  return (command, ceremony) =>
    command.type === type ? change(command as CeremonyCommand & { type: T }, ceremony) : [command];
}

const other = (driver: CeremonyDriver): AttemptSecrets => ({
  ...driver.secrets(CORRUPT, 1),
  seed: new Uint8Array(32).fill(3),
});

/** A deal whose box for `receiver` holds what `damage` makes of it. */
function withBox(deal: Deal, receiver: number, damage: (sealed: Uint8Array) => Uint8Array): Deal {
  return {
    ...deal,
    boxes: deal.boxes.map((box) => (box.participant === receiver ? { ...box, sealed: damage(box.sealed) } : box)),
  };
}
const flipped = (value: Uint8Array, at = 0): Uint8Array => value.map((byte, i) => (i === at ? byte ^ 1 : byte));

/** Every way in which participant 2 breaks its word that leaves a proof. */
const ROLES: readonly Role[] = [
  {
    what: "a box that does not open",
    reason: "BAD_SHARE",
    behaviour: () => changing("deal", (deal) => [{ ...deal, ...withBox(deal, 0, flipped) }]),
  },
  {
    what: "a box that opens to a wrong share",
    reason: "BAD_SHARE",
    behaviour: (driver) =>
      changing("deal", (deal, { scene, attempt }) => {
        const ephemeral = ephemeralKey(scene, driver.secrets(CORRUPT, 1));
        const boxKey = attempt.boxKeys.get(1) ?? random(32);
        const box = sealBox(scene, CORRUPT, 1, ephemeral, boxKey, [generateSecret(random)]);
        return [{ ...deal, ...withBox(deal, 1, () => box) }];
      }),
  },
  {
    what: "another polynomial than it enrolled with",
    reason: "BAD_DEAL",
    behaviour: (driver) =>
      changing("deal", (_, { scene, attempt }) => [
        { type: "deal", ...makeDeal(scene, CORRUPT, other(driver), attempt.boxKeys) },
      ]),
  },
  {
    what: "commitments of a lower degree",
    reason: "BAD_DEAL",
    behaviour: () =>
      changing("deal", (deal) => [
        { ...deal, parts: deal.parts.map((part) => ({ ...part, commitments: part.commitments.slice(1) })) },
      ]),
  },
  {
    what: "no proof of the constant term",
    reason: "BAD_DEAL",
    behaviour: () =>
      changing("deal", (deal) => [
        { ...deal, parts: deal.parts.map((part) => ({ ...part, proof: flipped(part.proof, 40) })) },
      ]),
  },
  {
    what: "another dealer's ephemeral point, to have its shares revealed by a complaint",
    reason: "BAD_DEAL",
    behaviour: () =>
      changing("deal", (deal, { attempt }) => {
        const [victim] = attempt.deals.values();
        return victim === undefined
          ? [deal]
          : [{ ...deal, ephemeral: victim.ephemeral, ephemeralProof: victim.ephemeralProof, boxes: victim.boxes }];
      }),
  },
  {
    what: "a missing box",
    reason: "BAD_DEAL",
    behaviour: () => changing("deal", (deal) => [{ ...deal, boxes: deal.boxes.slice(1) }]),
  },
  {
    what: "two deals",
    reason: "TWO_VOICES",
    behaviour: () => changing("deal", (deal) => [deal, { ...deal, ...withBox(deal, 0, flipped) }]),
  },
  {
    what: "an enrolment that nothing can be sealed to",
    reason: "BAD_DEAL",
    behaviour: () => changing("enrol", (enrol) => [{ ...enrol, boxKey: new Uint8Array(32) }]),
  },
  {
    what: "a complaint about a good share",
    reason: "FALSE_COMPLAINT",
    behaviour: (driver) =>
      changing("verdict", (_, { scene, attempt }) => {
        const deal = attempt.deals.get(0);
        if (deal === undefined) throw new Error("no deal to complain about");
        return [{ type: "verdict", complaints: [makeComplaint(scene, 0, CORRUPT, deal, driver.secrets(CORRUPT, 1))] }];
      }),
  },
  {
    what: "a complaint with a made-up point",
    reason: "FALSE_COMPLAINT",
    behaviour: (driver) =>
      changing("verdict", (_, { scene, attempt }) => {
        const deal = attempt.deals.get(0);
        if (deal === undefined) throw new Error("no deal to complain about");
        const honest = makeComplaint(scene, 0, CORRUPT, deal, driver.secrets(CORRUPT, 1));
        return [{ type: "verdict", complaints: [{ ...honest, shared: deal.ephemeral }] }];
      }),
  },
  {
    what: "a complaint about nobody",
    reason: "FALSE_COMPLAINT",
    behaviour: () =>
      changing("verdict", () => [
        { type: "verdict", complaints: [{ dealer: 9, shared: random(32), proof: random(64) }] },
      ]),
  },
  {
    what: "two verdicts",
    reason: "TWO_VOICES",
    behaviour: (driver) =>
      changing("verdict", (verdict, { scene, attempt }) => {
        const deal = attempt.deals.get(1);
        if (deal === undefined) throw new Error("no deal to complain about");
        return [
          verdict,
          { type: "verdict", complaints: [makeComplaint(scene, 1, CORRUPT, deal, driver.secrets(CORRUPT, 1))] },
        ];
      }),
  },
  {
    what: "a confirmation of shares that it does not hold",
    reason: "BAD_CONFIRMATION",
    behaviour: () =>
      changing("confirm", (confirm) => [
        { ...confirm, holdings: confirm.holdings.map(({ key, proof }) => ({ key, proof: flipped(proof, 63) })) },
      ]),
  },
  {
    what: "a confirmation of another transcript",
    reason: "OTHER_TRANSCRIPT",
    behaviour: () => changing("confirm", (confirm) => [{ ...confirm, transcript: random(32) }]),
  },
  { what: "silence from the start", reason: "SILENT", behaviour: () => () => [] },
  { what: "silence instead of a deal", reason: "SILENT", behaviour: () => changing("deal", () => []) },
  { what: "silence instead of a verdict", reason: "SILENT", behaviour: () => changing("verdict", () => []) },
  { what: "silence instead of a confirmation", reason: "SILENT", behaviour: () => changing("confirm", () => []) },
  {
    what: "withdrawal",
    reason: "WITHDREW",
    behaviour: () => changing("deal", () => [{ type: "abort", reason: "the operator stopped it" }]),
  },
];

function driverOf(strict: boolean, n = 5, t = 3): CeremonyDriver {
  const persons = people(n, random);
  const least = strict ? {} : { dealersMin: n - 1, holdersMin: n - 1 };
  return new CeremonyDriver(freshPlan(persons, { certificate: t }, least), persons, random);
}

function agree(driver: CeremonyDriver): void {
  const [first] = driver.replicas;
  const view = (ceremony: Ceremony | undefined) => [
    ceremony?.attempt.phase,
    ceremony?.attempt.failure,
    ceremony?.attempt.result,
    ceremony?.state.blames,
  ];
  for (const replica of [...driver.replicas, driver.replay()]) assert.deepEqual(view(replica), view(first));
}

describe("one corrupt member of a ceremony", () => {
  before(initCrypto);

  for (const { what, reason, behaviour } of ROLES) {
    test(`${what}: the others finish without it, and name it`, () => {
      const driver = driverOf(false);
      driver.behaviours.set(CORRUPT, behaviour(driver));
      const { attempt, state } = driver.run();
      assert.equal(attempt.phase, "done", attempt.failure);
      agree(driver);
      assert.deepEqual(
        state.blames.map((blame) => [blame.participant, blame.reason]),
        [[CORRUPT, reason]],
      );
      const honest = range(5).filter((who) => who !== CORRUPT);
      assert.deepEqual([...attempt.holders].sort(), honest);
      for (const who of honest) {
        assert.deepEqual(
          publicOf(driver.ownShares(who).get(0) ?? random(32)),
          attempt.result?.keys[0]?.publicShares[who],
        );
      }
    });

    test(`${what}: where everybody is needed, the attempt is aborted and names it`, () => {
      const driver = driverOf(true, 3, 2);
      driver.behaviours.set(CORRUPT, behaviour(driver));
      const { attempt, state } = driver.run();
      assert.equal(attempt.phase, "aborted");
      agree(driver);
      assert.deepEqual([...new Set(state.blames.map(({ participant }) => participant))], [CORRUPT]);
      assert.equal(state.blames[0]?.reason, reason);
    });
  }

  test("evidence is signed messages of the accused, wherever something can be proved", () => {
    for (const { reason, behaviour } of ROLES) {
      const driver = driverOf(false);
      driver.behaviours.set(CORRUPT, behaviour(driver));
      const [blame] = driver.run().state.blames;
      const authors = blame?.evidence.map((raw) => decodeMessage(raw).body.author) ?? [];
      const provable = !["SILENT", "WITHDREW", "OTHER_TRANSCRIPT"].includes(reason);
      assert.equal(authors.includes(CORRUPT), provable, reason);
    }
  });

  test("two attempts: an absent member may come back, a proved liar may not", () => {
    for (const [role, phase] of [
      ["silence instead of a deal", "done"],
      ["two deals", "aborted"],
    ] as const) {
      const driver = driverOf(true, 3, 2);
      const behaviour = ROLES.find(({ what }) => what === role)?.behaviour(driver);
      assert.ok(behaviour !== undefined);
      driver.behaviours.set(CORRUPT, behaviour);
      driver.run();
      const first = driver.replica(0).attempt;
      assert.equal(first.phase, "aborted");
      driver.behaviours.clear();
      assert.equal(driver.say(0, { type: "retry" }, 2), undefined);
      assert.equal(driver.replica(1).attempt.number, 1);
      assert.equal(driver.say(0, { type: "retry" }, 2), "REPEATED");
      assert.equal(driver.say(1, { type: "retry" }, 2), undefined);
      assert.equal(driver.replica(1).attempt.number, 2);
      const second = driver.run().attempt;
      assert.equal(second.phase, phase);
      agree(driver);
      if (phase !== "done") continue;
      assert.notDeepEqual(second.boxKeys.get(0), first.boxKeys.get(0));
      assert.notDeepEqual(second.commitments.get(0), first.commitments.get(0));
    }
  });

  test("an honest dealer's shares stay hidden from whoever repeats its box to provoke a complaint", () => {
    const driver = driverOf(false);
    const role = ROLES.find(({ what }) => what.startsWith("another dealer's ephemeral"));
    driver.behaviours.set(CORRUPT, role?.behaviour(driver) ?? (() => []));
    const { attempt } = driver.run();
    const complaints = [...attempt.said.values()].flatMap((kinds) => {
      const command = kinds.get("verdict")?.body.command;
      return command?.type === "verdict" ? command.complaints : [];
    });
    assert.deepEqual(complaints, []);
  });

  test("two enrolments are no offence: the first binds, the other changes nothing, whenever it lands", () => {
    for (const phase of ["enrol", "deal", "confirm"] as const) {
      const driver = driverOf(true, 3, 2);
      const { scene } = driver.replica(0);
      const second: CeremonyCommand = { type: "enrol", ...makeEnrolment(scene, CORRUPT, other(driver)) };
      if (phase === "enrol")
        driver.say(CORRUPT, nextCommand(driver.replica(CORRUPT), CORRUPT, driver.secrets(CORRUPT, 1)) ?? assert.fail());
      while (driver.replica(0).attempt.phase !== phase) driver.round();
      assert.equal(driver.say(CORRUPT, second), "REPEATED");
      const { attempt, state } = driver.run();
      assert.equal(attempt.phase, "done", attempt.failure);
      assert.deepEqual(state.blames, []);
      agree(driver);
    }
  });

  test("a verdict is the same to the bit after others have complained about the same dealer", () => {
    const driver = driverOf(false);
    driver.behaviours.set(
      CORRUPT,
      changing("deal", (deal) =>
        [withBox(withBox(deal, 0, flipped), 1, flipped)].map((each) => ({ ...deal, ...each })),
      ),
    );
    while (driver.replica(0).attempt.phase !== "judge") driver.round();
    const verdict = (who: number) => nextCommand(driver.replica(who), who, driver.secrets(who, 1)) ?? assert.fail();
    const before = verdict(1);
    assert.equal(driver.say(0, verdict(0)), undefined);
    assert.equal(driver.replica(1).attempt.out.get(CORRUPT)?.reason, "BAD_SHARE");
    assert.deepEqual(verdict(1), before);
    assert.equal(driver.run().attempt.phase, "done");
    assert.deepEqual(
      driver.replica(0).state.blames.map(({ participant, reason }) => [participant, reason]),
      [[CORRUPT, "BAD_SHARE"]],
    );
  });

  test("who was not waited for, and was dealt a bad share, has none and says nothing; the others hold theirs", () => {
    const driver = driverOf(false);
    const late = 4;
    driver.behaviours.set(
      CORRUPT,
      changing("deal", (deal) => [{ ...deal, ...withBox(deal, late, flipped) }]),
    );
    driver.behaviours.set(
      late,
      changing("verdict", () => []),
    );
    const { attempt } = driver.run();
    assert.equal(attempt.phase, "done", attempt.failure);
    assert.equal(attempt.out.get(late)?.reason, "SILENT");
    driver.behaviours.clear();
    assert.equal(driver.round(), false);
    assert.deepEqual(spoiltFor(driver.replica(late), late, driver.secrets(late, 1)), [CORRUPT]);
    assert.deepEqual(spoiltFor(driver.replica(1), 1, driver.secrets(1, 1)), []);
  });

  test("who confirms late is a holder still; who withdraws after the end changes nothing", () => {
    const driver = driverOf(false);
    driver.behaviours.set(
      CORRUPT,
      changing("confirm", () => []),
    );
    driver.run();
    assert.equal(driver.replica(0).attempt.holders.has(CORRUPT), false);
    const before = driver.replica(0).attempt.result;
    assert.equal(driver.say(0, { type: "abort", reason: "too late" }), "PHASE_OVER");
    assert.deepEqual(driver.replica(0).attempt.result, before);
    const late = new CeremonyDriver(driver.plan, driver.persons, random);
    for (const [name, seed] of driver.seeds) late.seeds.set(name, seed);
    const confirms = driver.log.findIndex((raw) => decodeMessage(raw).body.command.type === "confirm");
    for (const raw of driver.log.slice(0, confirms)) late.append(raw);
    late.round();
    const own = late.log.find(
      (raw) => decodeMessage(raw).body.author === CORRUPT && decodeMessage(raw).body.command.type === "confirm",
    );
    assert.ok(own !== undefined);
    assert.equal(driver.append(own), undefined);
    assert.ok(driver.replica(3).attempt.holders.has(CORRUPT));
    agree(driver);
  });
});

describe("what a ceremony refuses", () => {
  before(initCrypto);

  test("each message where it does not belong", () => {
    const driver = driverOf(true, 3, 2);
    const { id, scene } = driver.replica(0);
    const enrol = (who: number): CeremonyCommand => ({
      type: "enrol",
      ...makeEnrolment(scene, who, driver.secrets(who, 1)),
    });
    const signed = (who: number, as: number, ceremony: Uint8Array, attempt: number): Uint8Array => {
      const { key } = driver.persons[as] ?? people(1, random)[0] ?? assert.fail();
      return signMessage(key, { version: 1, ceremony, attempt, author: who, command: enrol(who % 3) });
    };
    assert.equal(driver.append(random(100)), "MALFORMED");
    assert.equal(driver.append(signed(0, 0, random(32), 1)), "OTHER_CEREMONY");
    assert.equal(driver.append(signed(3, 0, id, 1)), "NOT_A_PARTICIPANT");
    assert.equal(driver.append(signed(0, 1, id, 1)), "BAD_SIGNATURE");
    assert.equal(driver.append(signed(0, 0, id, 2)), "OTHER_ATTEMPT");
    assert.equal(driver.say(0, { type: "verdict", complaints: [] }), "TOO_EARLY");
    assert.equal(driver.say(0, { type: "close", phase: "deal" }), "TOO_EARLY");
    assert.equal(driver.say(0, { type: "retry" }, 2), "TOO_EARLY");
    assert.equal(driver.say(0, { type: "retry" }, 3), "OTHER_ATTEMPT");
    const good = signed(0, 0, id, 1);
    assert.equal(driver.append(good), undefined);
    assert.equal(driver.append(good), "REPEATED");
    assert.equal(driver.say(0, { type: "close", phase: "enrol" }), undefined);
    assert.equal(driver.say(0, { type: "close", phase: "enrol" }), "REPEATED");
    assert.equal(driver.say(1, { type: "close", phase: "enrol" }), undefined);
    // Two of three closed: the two who have not enrolled are out, and all three were needed.
    assert.equal(driver.replica(0).attempt.phase, "aborted");
    assert.equal(driver.say(1, enrol(1)), "OUT");
    assert.equal(driver.say(0, { type: "deal", ...makeDeal(scene, 0, driver.secrets(0, 1), new Map()) }), "PHASE_OVER");
  });

  test("a message with any byte changed blames nobody and changes nothing", () => {
    const driver = driverOf(true, 3, 2);
    driver.run();
    fc.assert(
      fc.property(fc.nat(driver.log.length - 1), fc.nat(), fc.integer({ min: 1, max: 255 }), (which, where, mask) => {
        const ceremony = new Ceremony(driver.plan);
        for (const raw of driver.log.slice(0, which)) ceremony.apply(raw);
        const raw = driver.log[which] ?? new Uint8Array();
        const at = where % raw.length;
        const refusal = ceremony.apply(raw.map((byte, i) => (i === at ? byte ^ mask : byte)));
        assert.ok(
          ["MALFORMED", "OTHER_CEREMONY", "NOT_A_PARTICIPANT", "BAD_SIGNATURE"].includes(refusal ?? ""),
          refusal,
        );
        assert.deepEqual(ceremony.state.blames, []);
        assert.equal(ceremony.apply(raw), undefined);
      }),
      { numRuns: 150 },
    );
  });
});

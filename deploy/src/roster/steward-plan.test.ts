/** What is due, and that whoever knows the same comes to the same file: each accepted standby beside the nearest refused one. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { ceremonyId } from "@lattice/organism/ceremony/plan.ts";
import { successionPlan } from "@lattice/organism/ceremony/succession.ts";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { signHead } from "@lattice/organism/committee/heads.ts";
import { ERAS } from "@lattice/organism/committee/rules.ts";
import { generateSigningKey, type SigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { dealCommittee } from "../../../services/organism/test/test-lattice.ts";
import { successionToJson } from "../ceremony/reshare.ts";
import { type CommitteeView, judgeCommittee } from "./committee-view.ts";
import { judgeStandby, makeStandby, STANDBY_FILE, type Standby, type StandbyFile, standbyOf } from "./standby.ts";
import { type Due, dueEpoch, type Facts, limitsOf, type Schedule } from "./steward-plan.ts";
import { scheduleProblems } from "./steward-settings.ts";

const MEMBERS = 4;
const LIAR = 2;
const committee = dealCommittee(MEMBERS, { genesisMs: 1_790_000_000_000, slotMs: 1000 }, "third");
const { config, certifiedRoster } = committee;
const roster = committee.rosters.relay;
const SCHEDULE: Schedule = { refreshEvery: 100n, gather: 16n, ceremony: 8n };
/** 8 slots ahead, one that runs, one to spare. */
const ANNOUNCED = 10n;

const seatKey = (index: number): SigningKey => generateSigningKey(committee.secrets[index]?.memberKey ?? assert.fail());
const keys = (fill: number) => {
  const own = generateSigningKey(new Uint8Array(32).fill(fill));
  return { own, member: { memberKey: own.publicKey, boxKey: agreementKey(new Uint8Array(32).fill(fill)).publicKey } };
};
function statement(fill: number, seat = LIAR, by = seatKey(seat)): StandbyFile {
  const { own, member } = keys(fill);
  return makeStandby(config, "relay", seat, by, own, member);
}
function good(file: StandbyFile): Standby {
  const judged = judgeStandby(config, "relay", STANDBY_FILE.parse(JSON.parse(JSON.stringify(file))));
  if ("problem" in judged) assert.fail(judged.problem);
  return judged.standby;
}

/** @param signers as whoever answers tells them */
function viewAt(nowSlot: bigint, blocked: readonly number[] = [], signers: readonly number[] = []): CommitteeView {
  const told = blocked.map((index) => seatKey(index).publicKey);
  const judged = judgeCommittee(
    config,
    "relay",
    Array.from({ length: MEMBERS }, (_, index) => ({
      index,
      address: `m${index}:1`,
      decidedSlot: nowSlot - 2n,
      rules: ERAS,
      caughtUp: true,
      blocked: told,
      rosters: [{ roster, certified: { ...certifiedRoster, signers: [...signers] } }],
      head: signHead(seatKey(index), {
        version: 1,
        committee: roster.committee,
        generation: 0n,
        member: index,
        position: 50n,
        head: new Uint8Array(32).fill(7),
        newest: 60n,
      }),
    })),
  );
  if ("problem" in judged) assert.fail(judged.problem);
  return judged;
}

function orders<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((item, at) => orders(items.toSpliced(at, 1)).map((rest) => [item, ...rest]));
}

const proof = new Set([toHex(seatKey(LIAR).publicKey)]);
const factsAt = (nowSlot: bigint, standbys: readonly Standby[], blocked: readonly number[] = [LIAR]): Facts => ({
  view: viewAt(nowSlot, blocked),
  proven: proof,
  standbys,
  nowSlot,
});
function epochOf(due: Due) {
  if (due.type !== "epoch") assert.fail(due.type === "waiting" ? due.problems.join("; ") : "nothing is due");
  return due;
}
function waiting(due: Due, reason: RegExp): Extract<Due, { type: "waiting" }> {
  assert.ok(due.type === "waiting", `${due.type}; expected: ${reason}`);
  assert.match(due.problems.join("\n"), reason);
  return due;
}

describe("what a steward finds due", () => {
  before(initCrypto);

  test("a refresh, from its gathering on until its last call; then the next one", () => {
    const lastCall = 200n - ANNOUNCED - 8n;
    const due = (nowSlot: bigint): Due => dueEpoch(factsAt(nowSlot, [], []), SCHEDULE);
    assert.equal(due(lastCall - 17n).type, "nothing");
    for (const nowSlot of [lastCall - 16n, lastCall - 1n]) {
      const { succession, why } = epochOf(due(nowSlot));
      assert.deepEqual([why, succession.activationSlot], ["refresh", 200n]);
      assert.deepEqual(limitsOf(succession, SCHEDULE), { lastCall, end: 200n - ANNOUNCED });
    }
    assert.equal(due(lastCall).type, "nothing");
    assert.equal(dueEpoch(factsAt(lastCall - 1n, [], []), { gather: 16n, ceremony: 8n }).type, "nothing");
    const eras = (eraEvery: bigint): boolean | undefined =>
      epochOf(dueEpoch(factsAt(lastCall - 1n, [], []), { ...SCHEDULE, eraEvery })).succession.newEra;
    assert.deepEqual([eras(200n), eras(150n), eras(201n)], [true, true, undefined], "the first since a multiple");
    const begun = epochOf(dueEpoch(factsAt(lastCall + 3n, [], []), SCHEDULE, 200n));
    assert.equal(begun.succession.activationSlot, 200n);
    const unhealthy = { ...factsAt(lastCall - 1n, [], []) };
    const seats = unhealthy.view.seats.map((each) =>
      each.index === 1 ? { ...each, problem: "gone", live: false } : each,
    );
    waiting(dueEpoch({ ...unhealthy, view: { ...unhealthy.view, seats } }, SCHEDULE), /member 1 is away \(gone\)/);
  });

  test("a blocked seat's standby, at once; never without a proof, never without a standby", () => {
    const standby = good(statement(9));
    const { succession, replaced, why } = epochOf(dueEpoch(factsAt(100n, [standby]), SCHEDULE));
    assert.deepEqual([why, replaced, succession.activationSlot], ["blocked", LIAR, 128n]);
    assert.deepEqual(succession.members[LIAR]?.memberKey, standby.member.memberKey);
    assert.equal(epochOf(dueEpoch(factsAt(109n, [standby]), SCHEDULE)).succession.activationSlot, 128n);
    assert.equal(epochOf(dueEpoch(factsAt(110n, [standby]), SCHEDULE)).succession.activationSlot, 144n);
    waiting(dueEpoch({ ...factsAt(100n, [standby]), proven: new Set() }, SCHEDULE), /nobody shows a proof/);
    const alone = waiting(dueEpoch(factsAt(100n, []), SCHEDULE), /nobody stands by for seat 2/);
    assert.deepEqual(alone.missing, [LIAR]);
    const spent = { ...factsAt(100n, [standby]), proven: new Set([...proof, toHex(standby.member.memberKey)]) };
    waiting(dueEpoch(spent, SCHEDULE), /said two things itself/);
  });

  test("the same file to the byte, in whatever order standbys lie there and whoever told of the roster", () => {
    const others = [statement(11, 0), statement(12, 1), statement(13, 3), statement(9)].map(good);
    const file = ({ view, ...facts }: Facts): string => {
      const { succession } = epochOf(dueEpoch({ view, ...facts }, SCHEDULE));
      return successionToJson(succession, view.certified);
    };
    const expected = file(factsAt(100n, others));
    // Every slot in which attempts for one activation begin, with another order and other signers in each.
    for (const [turn, standbys] of orders(others).entries()) {
      const nowSlot = 94n + BigInt(turn % 16);
      const view = viewAt(nowSlot, [LIAR], [0, 1, 2, 3].slice(turn % 4));
      assert.equal(file({ ...factsAt(nowSlot, standbys), view }), expected);
    }
    assert.notEqual(file(factsAt(93n, others)), expected);
  });

  test("who knows another standby is in another ceremony", () => {
    const idOf = (standby: Standby): string =>
      toHex(ceremonyId(successionPlan(epochOf(dueEpoch(factsAt(100n, [standby]), SCHEDULE)).succession)));
    assert.equal(idOf(good(statement(9))), idOf(good(statement(9))));
    assert.notEqual(idOf(good(statement(9))), idOf(good(statement(10))));
  });

  test("a schedule must leave room for an epoch", () => {
    const settings = { STEWARD_GATHER_SLOTS: 32, STEWARD_CEREMONY_SLOTS: 16 };
    assert.deepEqual(scheduleProblems({ ...settings, STEWARD_REFRESH_EVERY_SLOTS: 59 }, ANNOUNCED), []);
    assert.equal(scheduleProblems({ ...settings, STEWARD_REFRESH_EVERY_SLOTS: 58 }, ANNOUNCED).length, 1);
  });
});

describe("a standby", () => {
  before(initCrypto);

  test("holds for one committee, one seat and one member key, and is signed by both keys", () => {
    const file = statement(9);
    const { member } = good(file);
    assert.deepEqual(member, keys(9).member);
    const refused = (change: Partial<StandbyFile>, reason: RegExp): void => {
      const judged = judgeStandby(config, "relay", { ...file, ...change });
      assert.ok("problem" in judged, String(reason));
      assert.match(judged.problem, reason);
    };
    const elsewhere = makeStandby(
      { ...config, name: "other" },
      "relay",
      LIAR,
      seatKey(LIAR),
      keys(9).own,
      keys(9).member,
    );
    refused(elsewhere, /not of this one/);
    refused({ ...elsewhere, committee: file.committee }, /not signed by the key that it stands for/);
    refused({ seat: 1 }, /not signed by the key/);
    refused({ standsFor: toHex(seatKey(1).publicKey) }, /not signed by the key/);
    refused({ member: statement(10).member }, /not signed by the key/);
    refused({ possession: statement(10).possession }, /not signed by its own key/);
    const signedByAnother = makeStandby(config, "relay", LIAR, seatKey(LIAR), keys(10).own, keys(9).member);
    refused(signedByAnother, /not signed by its own key/);
    assert.ok("problem" in judgeStandby(config, "offer", file));
    assert.throws(() => STANDBY_FILE.parse({ ...file, seat: -1 }));
    assert.throws(() => STANDBY_FILE.parse({ ...file, signature: file.signature.slice(2) }));
  });

  test("of another seat's key, or two of one seat: nobody stands by", () => {
    const [nine, ten] = [good(statement(9)), good(statement(10))];
    assert.deepEqual(standbyOf(roster, LIAR, [nine, nine]), { standby: nine });
    for (const both of [
      [nine, ten],
      [ten, nine],
    ]) {
      const judged = standbyOf(roster, LIAR, both);
      assert.ok("problem" in judged && /2 different standbys for seat 2/.test(judged.problem));
    }
    // Seat 1's key vouches for a standby of seat 2.
    const foreign = good(statement(9, LIAR, seatKey(1)));
    assert.ok("problem" in standbyOf(roster, LIAR, [foreign]));
    assert.deepEqual(standbyOf(roster, LIAR, [foreign, nine]), { standby: nine });
    // Once it has the seat, it stands by for nobody.
    const members = roster.members.map((member) => (member.index === LIAR ? { ...member, ...nine.member } : member));
    assert.ok("problem" in standbyOf({ ...roster, members }, LIAR, [nine]));
  });
});

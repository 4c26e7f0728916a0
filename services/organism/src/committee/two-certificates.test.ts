/**
 * A forking broker and f corrupt members try to get two certificates for one thing: every split of the honest members
 * over two and three histories, corrupt members signing everything, journals kept. And the checker can fail: with a
 * bare majority, or with members that keep no journal, it finds two.
 */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import fc from "fast-check";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { encode, toHex } from "../codec/codec.ts";
import { initCrypto } from "../crypto/engine.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { slotStartMs } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import { CommitteeDriver } from "../testing/committee-driver.ts";
import { ForkWatch } from "./heads.ts";
import { type Outcome, outcomeDigest, verifyCertificate } from "./outcome.ts";

type Driver = CommitteeDriver<ProbeState, ProbeCommand, Duty>;

const SLOT = 10n;
const SIZES = [
  { n: 3, f: 0 },
  { n: 4, f: 1 },
  { n: 7, f: 2 },
] as const;

const dealt = new Map<number, TestCommittee>();
before(async () => {
  await initCrypto();
  for (const { n, f } of SIZES) dealt.set(n, dealCommittee(n, {}, f === 0 ? "none" : "third"));
});

/** One history, in which the slot is decided in its own way. */
function history(n: number, side: number): { readonly driver: Driver; readonly outcome: Outcome } {
  const committee = dealt.get(n);
  assert.ok(committee !== undefined);
  const { config, rosters, secrets } = committee;
  const driver: Driver = new CommitteeDriver({
    config,
    roster: rosters.relay,
    secrets,
    createMachine: probeMachine,
    replicas: 1,
  });
  driver.nowMs = slotStartMs(config, SLOT);
  driver.joinAll();
  const command = encode(probeMachine().command, {
    type: "decide",
    stage: "first",
    slot: SLOT,
    kind: "result",
    commitment: new Uint8Array([side]),
  });
  // Whoever is corrupt, or the broker by its choice of order, brings another input to each history.
  assert.equal(driver.author(n - 1).say({ type: "machine", command }).refusal, undefined);
  const outcome = driver.committee.outcome("first", SLOT);
  assert.ok(outcome !== undefined);
  return { driver, outcome };
}

interface Attack {
  readonly n: number;
  readonly f: number;
  /** Per honest member, the histories that it is shown, in order: it votes in each unless its journal forbids. */
  readonly shown: readonly (readonly number[])[];
  readonly journals: boolean;
  readonly quorum: number;
}

/** How many histories end with a quorum of shares for the slot. Corrupt members are the last f. */
function certificates({ n, f, shown, journals, quorum }: Attack): number {
  const sides = [...new Set(shown.flat())].map((side) => ({ side, ...history(n, side) }));
  const promised = new Map<number, string>();
  const shares = new Map<number, Map<number, Uint8Array>>(sides.map(({ side }) => [side, new Map()]));
  const vote = (member: number, side: number): void => {
    const found = sides.find((each) => each.side === side);
    assert.ok(found !== undefined);
    shares.get(side)?.set(member, found.driver.share(member, found.outcome));
    const share = found.driver.share(member, found.outcome);
    // Through the log as well: what apply takes is what counts.
    found.driver.author(member).say({ type: "vote", votes: [{ stage: "first", slot: SLOT, share }] });
  };
  for (const [member, seen] of shown.entries()) {
    for (const side of seen) {
      const outcome = sides.find((each) => each.side === side)?.outcome;
      assert.ok(outcome !== undefined);
      const digest = toHex(outcomeDigest(outcome));
      if (journals && (promised.get(member) ?? digest) !== digest) continue;
      promised.set(member, digest);
      vote(member, side);
    }
  }
  for (let member = n - f; member < n; member++) for (const { side } of sides) vote(member, side);
  return sides.filter(({ side, driver, outcome }) => {
    const held = [...(shares.get(side) ?? new Map<number, Uint8Array>())];
    const enough = held.length >= quorum;
    const inLog = driver.committee.votes("first", SLOT).size >= driver.committee.quorum.quorum;
    if (quorum === driver.committee.quorum.quorum) assert.equal(inLog, enough);
    if (enough && inLog) {
      const committee = dealt.get(n);
      const signature = combineSignatures(
        held.map(([index, share]) => ({ index, signature: share })),
        driver.committee.quorum.quorum,
      );
      assert.ok(
        verifyCertificate(committee?.config.relay.policy.certificateKey ?? new Uint8Array(), outcome, signature),
      );
    }
    return enough;
  }).length;
}

/** Every way to put `members` on `sides` histories. */
function splits(members: number, sides: number): number[][] {
  return Array.from({ length: sides ** members }, (_, code) =>
    Array.from({ length: members }, (_, member) => Math.floor(code / sides ** member) % sides),
  );
}
const quorumOf = (n: number, f: number): number => Math.floor((n + f) / 2) + 1;

for (const { n, f } of SIZES) {
  describe(`n = ${n}, f = ${f}`, () => {
    test("no split over two histories gives two certificates; some give one", () => {
      const counts = splits(n - f, 2).map((split) =>
        certificates({ n, f, shown: split.map((side) => [side]), journals: true, quorum: quorumOf(n, f) }),
      );
      assert.ok(counts.every((count) => count <= 1));
      assert.ok(counts.includes(1));
    });

    test("nor does showing members several histories in turn, with restarts: the journal has the first word", () => {
      const attack = fc.array(fc.uniqueArray(fc.nat({ max: 2 }), { minLength: 1, maxLength: 3 }), {
        minLength: n - f,
        maxLength: n - f,
      });
      fc.assert(
        fc.property(attack, (shown) => {
          assert.ok(certificates({ n, f, shown, journals: true, quorum: quorumOf(n, f) }) <= 1);
        }),
        { numRuns: n === 7 ? 15 : 40 },
      );
    });

    test("the checker sees two where there are two: honest members without a journal", () => {
      const shown = Array.from({ length: n - f }, () => [0, 1]);
      assert.equal(certificates({ n, f, shown, journals: false, quorum: quorumOf(n, f) }), 2);
    });

    test("after heads were compared honest members go on along one history at most, and f liars stop nobody", () => {
      const quorum = { members: n, faults: f, quorum: quorumOf(n, f) };
      for (const split of splits(n - f, 3)) {
        // Corrupt members agree with everybody, which is how they keep most of them going.
        const going = split.filter((side, self) => {
          const watch = new ForkWatch(() => quorum, self);
          for (const [other, seen] of split.entries()) {
            if (other === self) continue;
            if (seen === side) watch.agrees(other, 5n);
            else watch.differs(other, 5n, "statement");
          }
          for (let liar = n - f; liar < n; liar++) watch.agrees(liar, 5n);
          return !watch.forked;
        });
        assert.ok(new Set(going).size <= 1, split.join());
      }
      const watch = new ForkWatch(() => quorum, 0);
      for (let liar = n - f; liar < n; liar++) watch.differs(liar, 5n, "statement");
      assert.equal(watch.forked, false);
      // One after another: as long as a quorum can be left it goes on, with one more it stops.
      for (let other = 1; other < n - f; other++) {
        watch.differs(other, 5n, "entry");
        assert.equal(watch.forked, n - f - other < quorumOf(n, f));
      }
    });
  });
}

test("a bare majority is not enough: at n = 7, f = 2 the broker has two certificates", () => {
  const shown = [[0], [0], [1], [1], [1]];
  assert.equal(certificates({ n: 7, f: 2, shown, journals: true, quorum: 4 }), 2);
});

test("what is held against a member is settled by what it shows later, and old entries of another chain are not news", () => {
  const watch = new ForkWatch(() => ({ members: 4, faults: 1, quorum: 3 }), 0);
  assert.equal(watch.differs(1, 10n, "entry"), true);
  assert.equal(watch.differs(1, 11n, "statement"), false, "told once");
  watch.agrees(1, 9n);
  assert.equal(watch.differing.length, 1, "it agreed before the fork");
  watch.agrees(1, 10n);
  assert.deepEqual(watch.differing, []);
  assert.equal(watch.differs(1, 10n, "entry"), false);
  assert.equal(watch.differs(1, 11n, "entry"), true);
  for (const member of [0, 4, -1]) assert.equal(watch.differs(member, 20n, "entry"), false);
  assert.deepEqual(watch.differing, [{ member: 1, position: 11n, by: "entry" }]);
});

/** Chains of certificate keys: which key speaks where, what extends a chain, and what does not. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import fc from "fast-check";
import { decode, encode } from "../codec/codec.ts";
import { blsSign } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { generateSecret } from "../crypto/shamir.ts";
import { dealCommittee, random, type TestCommittee } from "../testing/dealt-committee.ts";
import { certifyRoster, type DealtEpoch, firstEpoch, type NextEpoch, nextEpoch } from "../testing/dealt-eras.ts";
import { type Checkpoint, checkCheckpoint, checkpointDigest } from "./checkpoint.ts";
import { erasOf, followLinks } from "./era-links.ts";
import { type Eras, eraAt, eraOfEpoch, keyFor, newestEra, pinnedEras } from "./eras.ts";
import { type CertifiedOutcome, checkOutcome, type Outcome, outcomeDigest } from "./outcome.ts";
import { checkRoster, ROSTER, type Roster } from "./roster.ts";

let dealt: TestCommittee;
let zero: DealtEpoch;
/** Epoch 1 as before, 2 begins era 1, 3 goes on in it, 4 begins era 2. */
let epochs: readonly NextEpoch[];
let links: readonly CertifiedOutcome[];
let eras: Eras;

before(async () => {
  await initCrypto();
  dealt = dealCommittee(3);
  zero = firstEpoch(dealt, "relay", 2);
  const one = nextEpoch(zero, { activationSlot: 100n });
  const two = nextEpoch(one, { activationSlot: 200n, newEra: true });
  const three = nextEpoch(two, { activationSlot: 300n });
  const four = nextEpoch(three, { activationSlot: 400n, newEra: true });
  epochs = [one, two, three, four];
  links = [two.certified, four.certified];
  const followed = followLinks(dealt.config, "relay", links);
  eras = "eras" in followed ? followed.eras : assert.fail(followed.problem);
});

const epoch = (number: number): DealtEpoch => (number === 0 ? zero : (epochs[number - 1] ?? assert.fail()));
const link = (number: number): CertifiedOutcome => links[number - 1] ?? assert.fail();
/** Whose epoch a slot is. */
const epochAt = (slot: bigint): bigint => (slot < 100n ? 0n : slot / 100n > 4n ? 4n : slot / 100n);

function outcome(slot: bigint, of: bigint, secret: Uint8Array): CertifiedOutcome {
  const body: Outcome = {
    version: 1,
    committee: zero.roster.committee,
    generation: 0n,
    epoch: of,
    slot,
    stage: "accepted",
    kind: "empty",
    commitment: new Uint8Array(),
    bodyHash: undefined,
  };
  return { outcome: body, signature: blsSign(secret, outcomeDigest(body)), signers: [] };
}
const check = (certified: CertifiedOutcome, by: Eras = eras): string | undefined =>
  checkOutcome(dealt.config, "relay", certified, by)?.reason;
function problem(certified: CertifiedOutcome, by: Eras = eras): string {
  const checked = checkRoster(dealt.config, "relay", certified, by);
  return "problem" in checked ? checked.problem : "";
}

describe("which key speaks", () => {
  test("from an era's first slot on its key only, before it the one before", () => {
    const [first, second, third] = [0, 2, 4].map((number) => epoch(number).secret);
    assert.ok(first !== undefined && second !== undefined && third !== undefined);
    for (const [slot, right, wrong] of [
      [1n, first, second],
      [199n, first, second],
      [200n, second, first],
      [399n, second, third],
      [400n, third, second],
      [1_000_000n, third, first],
    ] as const) {
      assert.equal(check(outcome(slot, epochAt(slot), right)), undefined, `slot ${slot}`);
      assert.equal(check(outcome(slot, epochAt(slot), wrong)), "BAD_CERTIFICATE", `slot ${slot}`);
    }
  });

  test("an outcome of one era's slot and another's epoch is certified by nobody", () => {
    const keys = [0, 2, 4].map((number) => epoch(number).secret);
    for (const secret of keys) {
      assert.equal(check(outcome(250n, 1n, secret)), "BAD_CERTIFICATE");
      assert.equal(check(outcome(150n, 2n, secret)), "BAD_CERTIFICATE");
    }
    assert.equal(keyFor(eras, { slot: 250n, epoch: 1n }), undefined);
  });

  test("whoever knows no link goes by the pinned key alone", () => {
    const pinned = pinnedEras(dealt.config, "relay");
    assert.equal(check(outcome(200n, 2n, zero.secret), pinned), undefined);
    assert.equal(check(outcome(200n, 2n, epoch(2).secret), pinned), "BAD_CERTIFICATE");
  });

  test("checkpoints go by their epoch", () => {
    const checkpoint = (of: bigint): Checkpoint => ({
      version: 3,
      committee: zero.roster.committee,
      generation: 0n,
      epoch: of,
      rules: 5,
      position: 9n,
      head: random(32),
      stateHash: random(32),
      stateBytes: 1,
      guestHash: random(32),
      guestBytes: 1,
    });
    for (const [of, signer, stands] of [
      [1n, 0, true],
      [1n, 2, false],
      [2n, 2, true],
      [2n, 0, false],
      [3n, 2, true],
      [4n, 4, true],
      [9n, 4, true],
      [9n, 2, false],
    ] as const) {
      const body = checkpoint(of);
      const signature = blsSign(epoch(signer).secret, checkpointDigest(body));
      const refusal = checkCheckpoint(dealt.config, "relay", { checkpoint: body, signature, signers: [] }, eras);
      assert.equal(refusal === undefined, stands, `epoch ${of} under the key of epoch ${signer}`);
    }
  });

  test("for every slot and epoch there is one era, and a key only where both name it", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 600n }), fc.bigInt({ min: 0n, max: 6n }), (slot, of) => {
        const bySlot = slot < 200n ? 0 : slot < 400n ? 1 : 2;
        const byEpoch = of < 2n ? 0 : of < 4n ? 1 : 2;
        assert.deepEqual([eraAt(eras, slot).number, eraOfEpoch(eras, of).number], [bySlot, byEpoch]);
        const key = keyFor(eras, { slot, epoch: of });
        assert.deepEqual(key, bySlot === byEpoch ? eras[bySlot]?.key : undefined);
      }),
    );
  });
});

describe("what a chain is made of", () => {
  test("links in their order, none left out, none twice; what was judged reads the same again", () => {
    assert.deepEqual(
      eras.map(({ number, epoch: from, fromSlot }) => [number, from, fromSlot]),
      [
        [0, 0n, 0n],
        [1, 2n, 200n],
        [2, 4n, 400n],
      ],
    );
    assert.deepEqual(erasOf(dealt.config, "relay", links), eras);
    const follow = (some: readonly CertifiedOutcome[]): string => {
      const followed = followLinks(dealt.config, "relay", some);
      return "problem" in followed ? followed.problem : "";
    };
    assert.equal(follow([link(1)]), "");
    assert.match(follow([link(2)]), /link 1: the certificate does not verify/, "skipped");
    assert.match(follow([link(2), link(1)]), /link 1/);
    assert.match(follow([link(1), link(1)]), /link 2: a roster that begins no era/);
    assert.match(follow([epochs[0]?.certified ?? assert.fail()]), /begins no era/);
  });

  test("rosters are certified under the key in force before their epoch", () => {
    const [one, two, three, four] = epochs.map(({ certified }) => certified);
    assert.ok(one !== undefined && two !== undefined && three !== undefined && four !== undefined);
    for (const certified of [one, two, three, four]) assert.equal(problem(certified), "");
    // The old key after its time, in whatever era the roster says that it is.
    const { roster } = epoch(3);
    assert.match(problem(certifyRoster(roster, zero.secret)), /does not verify under the key of era 1/);
    const { era: _, ...bare } = roster;
    assert.match(
      problem(certifyRoster({ ...bare, version: 1 }, zero.secret)),
      /does not verify under the key of era 1/,
    );
    // The new key before its time.
    assert.match(problem(certifyRoster(epoch(1).roster, epoch(2).secret)), /does not verify under the lattice config/);
    assert.match(problem(certifyRoster(epoch(2).roster, epoch(2).secret)), /does not verify under the lattice config/);
  });

  test("a roster goes on in its era or begins the next one; anything else is refused", () => {
    const of = (from: number, change: Partial<Roster>, newEra = false): CertifiedOutcome =>
      nextEpoch(epoch(from), { activationSlot: 500n, newEra, change }).certified;
    assert.equal(problem(of(4, {})), "");
    const begun = checkRoster(dealt.config, "relay", of(4, {}, true), eras);
    assert.ok("begins" in begun && begun.begins?.number === 3);
    const key = epoch(4).roster.era?.certificateKey ?? assert.fail();
    const [other, old] = [random(48), zero.roster.era?.certificateKey ?? eras[0]?.key ?? assert.fail()];
    assert.match(problem(of(4, { era: { number: 2, certificateKey: other } })), /another certificate key/);
    assert.match(problem(of(4, { era: { number: 1, certificateKey: key } })), /era 1 where 2 is in force/);
    assert.match(problem(of(4, { era: { number: 4, certificateKey: other } })), /era 4 where 2 is in force/);
    assert.match(problem(of(4, { era: { number: 3, certificateKey: key } })), /a certificate key of before/);
    assert.match(problem(of(4, { era: { number: 3, certificateKey: old } })), /a certificate key of before/);
    assert.match(problem(of(4, { era: { number: 3, certificateKey: new Uint8Array(48) } })), /not in G1/);
    assert.match(problem(of(4, { activationSlot: 400n }, true)), /begins no later/);
    const bare = { ...epoch(3).roster, epoch: 5n, activationSlot: 500n, version: 1 as const };
    const { era: _, ...without } = bare;
    assert.match(problem(certifyRoster(without, epoch(4).secret)), /era 0 where 2 is in force/);
  });

  test("another beginning of an era that is known is refused, by the true key too", () => {
    const again = nextEpoch(epoch(1), { activationSlot: 200n, newEra: true });
    assert.match(problem(again.certified), /era 1 began otherwise with epoch 2/);
    assert.equal(problem(again.certified, eras.slice(0, 1)), "", "who knows of none cannot tell");
    const elsewhere = nextEpoch(epoch(1), { activationSlot: 200n, change: { epoch: 3n } });
    assert.match(problem(elsewhere.certified), /does not verify/);
    const plain = nextEpoch(epoch(1), { activationSlot: 200n });
    assert.match(problem(plain.certified), /era 1 began otherwise/, "nor a roster that begins none");
    const members = epoch(2).roster.members.map((member) => ({ ...member, boxKey: random(32) }));
    assert.match(problem(certifyRoster({ ...epoch(2).roster, members }, zero.secret)), /began otherwise/);
  });

  test("a foreign committee's link, and bytes that are none", () => {
    const foreign = certifyRoster({ ...epoch(2).roster, committee: dealt.rosters.tally.committee }, zero.secret);
    assert.match(problem(foreign), /another committee/);
    const { outcome: body } = link(1);
    const cut = { ...body, commitment: body.commitment.slice(0, -1) };
    assert.ok(problem({ ...link(1), outcome: cut }) !== "");
    const signed = { outcome: cut, signature: blsSign(zero.secret, outcomeDigest(cut)), signers: [] };
    assert.match(problem(signed), /not a roster/);
  });

  test("a roster of version 3 reads as it was written; an era without a number is none", () => {
    for (const roster of [epoch(2).roster, { ...epoch(2).roster, sealingThreshold: 2 }]) {
      assert.deepEqual(decode(ROSTER, encode(ROSTER, roster)), roster);
    }
    const { era: _, ...bare } = epoch(2).roster;
    assert.throws(() => encode(ROSTER, bare), /names its era/);
  });

  test("whatever links come in whatever order, a chain only grows, and each step is certified under the one before", () => {
    const stray = nextEpoch(epoch(1), { activationSlot: 220n, newEra: true });
    const forged = nextEpoch(epoch(3), { activationSlot: 400n, newEra: true, signer: generateSecret(random) });
    const pool = [...epochs.map(({ certified }) => certified), stray.certified, forged.certified];
    fc.assert(
      fc.property(fc.array(fc.nat({ max: pool.length - 1 }), { maxLength: 8 }), (picks) => {
        let chain: Eras = pinnedEras(dealt.config, "relay");
        for (const pick of picks) {
          const checked = checkRoster(dealt.config, "relay", pool[pick] ?? assert.fail(), chain);
          if (!("begins" in checked) || checked.begins === undefined) continue;
          const before = newestEra(chain);
          const { number, epoch: from, fromSlot } = checked.begins;
          assert.equal(number, before.number + 1);
          assert.ok(from > before.epoch && fromSlot > before.fromSlot);
          chain = [...chain, checked.begins];
        }
        assert.ok(chain.length <= 3);
        assert.equal(new Set(chain.map(({ key }) => Buffer.from(key).toString("hex"))).size, chain.length);
      }),
      { numRuns: 60 },
    );
  });
});

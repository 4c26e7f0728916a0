/** Fraud proofs: each kind, everything that is none, every byte of one changed, and what a committee does about one. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { encode, equalBytes, toHex } from "../codec/codec.ts";
import { initCrypto } from "../crypto/engine.ts";
import { committeeId, slotStartMs } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import { CommitteeDriver, type ScriptedAuthor, type Tampering } from "../testing/committee-driver.ts";
import type { CommitteeCommand } from "./commands.ts";
import { Committee } from "./committee.ts";
import { decodeEntry, encodeEntry } from "./entry.ts";
import { fraudProofHash, proveEntries, proveVotes, verifyFraudProof } from "./fraud.ts";
import type { Outcome } from "./outcome.ts";

type Driver = CommitteeDriver<ProbeState, ProbeCommand, Duty>;

const MEMBERS = 4;
const LIAR = 2;
let dealt: TestCommittee;
let driver: Driver;
let liar: ScriptedAuthor;

before(async () => {
  await initCrypto();
  dealt = dealCommittee(MEMBERS, {}, "third");
});
beforeEach(() => {
  const { config, rosters, secrets } = dealt;
  driver = new CommitteeDriver({ config, roster: rosters.relay, secrets, createMachine: probeMachine });
  driver.nowMs = slotStartMs(config, 10n);
  driver.joinAll();
  liar = driver.author(LIAR);
});

const machine = (command: ProbeCommand): CommitteeCommand => ({
  type: "machine",
  command: encode(probeMachine().command, command),
});
const note = (text: string): CommitteeCommand => machine({ type: "note", text });
const decide = (slot: bigint, commitment = 1): CommitteeCommand =>
  machine({ type: "decide", stage: "first", slot, kind: "result", commitment: new Uint8Array([commitment]) });
const aside = (text: string, tampering: Tampering = {}): Uint8Array =>
  liar.sign(note(text), "ctl", { aside: true, ...tampering });
const join = (): Uint8Array => {
  const raw = driver.committee.author(LIAR)?.join;
  assert.ok(raw !== undefined);
  return raw;
};
const verify = (proof: Uint8Array) => verifyFraudProof(dealt.config, "relay", proof);
function refused(proof: Uint8Array, reason: string, detail: RegExp = /./): void {
  const verdict = verify(proof);
  assert.ok("refusal" in verdict, "fraud" in verdict ? verdict.fraud.detail : "");
  assert.equal(verdict.refusal.reason, reason, verdict.refusal.detail);
  assert.match(verdict.refusal.detail, detail);
}
function proven(proof: Uint8Array) {
  const verdict = verify(proof);
  assert.ok("fraud" in verdict, "refusal" in verdict ? verdict.refusal.detail : "");
  return verdict.fraud;
}
const entries = (one = aside("one"), other = aside("other"), admission = join()): Uint8Array =>
  proveEntries(dealt.certifiedRoster, admission, one, other);

const outcomeOf = (slot: bigint, commitment: number, overrides: Partial<Outcome> = {}): Outcome => ({
  version: 1,
  committee: committeeId(dealt.config, "relay"),
  generation: 0n,
  epoch: 0n,
  slot,
  stage: "first",
  kind: "result",
  commitment: new Uint8Array([commitment]),
  bodyHash: undefined,
  ...overrides,
});
const shareOf = (outcome: Outcome, member = LIAR) => ({ outcome, share: driver.share(member, outcome) });
const votes = (one = shareOf(outcomeOf(10n, 1)), other = shareOf(outcomeOf(10n, 2)), member = LIAR): Uint8Array =>
  proveVotes(dealt.certifiedRoster, member, one, other);

describe("two entries in one place", () => {
  test("are proven to whoever has the config", () => {
    const fraud = proven(entries());
    assert.equal(fraud.kind, "entries");
    assert.equal(fraud.member, LIAR);
    assert.deepEqual(fraud.memberKey, dealt.rosters.relay.members[LIAR]?.memberKey);
    assert.match(fraud.detail, /ctl 2 of incarnation 1/);
  });

  test("make the same proof whichever was seen first", () => {
    const [one, other] = [aside("one"), aside("other")];
    assert.deepEqual(entries(one, other), entries(other, one));
  });

  test("one entry twice is nothing, with whatever signature", () => {
    const one = aside("one");
    refused(entries(one, one), "BAD_PROOF", /the same/);
  });

  test("different places, lanes or incarnations are nothing", () => {
    const first = liar.sign(note("one"));
    const second = liar.sign(note("two"));
    refused(entries(first, second), "BAD_PROOF", /different places/);
    refused(entries(aside("one"), liar.sign(note("x"), "bulk", { aside: true })), "BAD_PROOF", /different places/);
    refused(entries(aside("one"), aside("x", { body: { incarnation: 2n } })), "BAD_PROOF", /incarnation/);
    refused(entries(aside("one"), aside("x", { body: { generation: 1n } })), "BAD_PROOF", /incarnation/);
  });

  test("another member's entry is nothing, also under a Join of one's own that admits its key", () => {
    const honest = driver.author(0);
    const said = [
      honest.sign(note("a"), "ctl", { aside: true }),
      honest.sign(note("b"), "ctl", { aside: true }),
    ] as const;
    refused(entries(...said), "BAD_PROOF", /incarnation/);
    const command: CommitteeCommand = { type: "join", incarnation: 1n, key: honest.incarnationKey.publicKey };
    const opening = { sequence: 1n, previous: new Uint8Array(32), incarnation: 1n };
    const stolen = liar.sign(command, "ctl", { aside: true, signer: liar.memberKey, body: opening });
    refused(entries(...said, stolen), "BAD_PROOF", /incarnation/);
    const claimed = liar.sign(command, "ctl", { aside: true, signer: liar.memberKey, body: { ...opening, author: 0 } });
    refused(entries(...said, claimed), "BAD_PROOF", /member key/);
  });

  test("forged signatures and foreign committees are nothing", () => {
    const forger = driver.author(0).incarnationKey;
    refused(entries(aside("one"), aside("x", { signer: forger })), "BAD_PROOF", /incarnation key/);
    const { bodyBytes, signature } = decodeEntry(aside("x"));
    signature[0] = (signature[0] ?? 0) ^ 1;
    refused(entries(aside("one"), encodeEntry(bodyBytes, signature)), "BAD_PROOF", /incarnation key/);
    const other = committeeId(dealt.config, "tally");
    refused(entries(aside("one"), aside("x", { body: { committee: other } })), "BAD_PROOF", /incarnation/);
    const verdict = verifyFraudProof(dealt.config, "tally", entries());
    assert.ok("refusal" in verdict && verdict.refusal.reason === "ORGANISM_MISMATCH");
    const elsewhere = verifyFraudProof(dealCommittee(MEMBERS, {}, "third").config, "relay", entries());
    assert.ok("refusal" in elsewhere && elsewhere.refusal.reason === "ORGANISM_MISMATCH");
  });

  test("a roster without its certificate, or of another epoch, names nobody", () => {
    const { certifiedRoster } = dealt;
    const forged = { ...certifiedRoster, outcome: { ...certifiedRoster.outcome, slot: 2n } };
    refused(proveEntries(forged, join(), aside("one"), aside("other")), "BAD_CERTIFICATE");
    const later = liar.sign({ type: "join", incarnation: 1n, key: liar.incarnationKey.publicKey }, "ctl", {
      aside: true,
      signer: liar.memberKey,
      body: { epoch: 1n, sequence: 1n, previous: new Uint8Array(32) },
    });
    refused(entries(aside("one"), aside("other"), later), "BAD_PROOF", /epoch/);
  });

  test("what is no join admits nobody", () => {
    const opening = { sequence: 1n, previous: new Uint8Array(32) };
    const key = liar.incarnationKey.publicKey;
    const bySelf = liar.sign({ type: "join", incarnation: 1n, key }, "ctl", { aside: true, body: opening });
    refused(entries(aside("one"), aside("other"), bySelf), "BAD_PROOF", /member key/);
    refused(entries(aside("one"), aside("other"), aside("three")), "BAD_PROOF", /no join/);
    const misplaced = liar.sign({ type: "join", incarnation: 1n, key }, "ctl", { aside: true, signer: liar.memberKey });
    refused(entries(aside("one"), aside("other"), misplaced), "BAD_PROOF", /open/);
  });

  test("two Joins under one number, and what two processes said under them, are nothing", () => {
    // A restored backup takes the number again, with the fresh key of a fresh process.
    const again = driver.author(0).incarnationKey;
    const opening = { sequence: 1n, previous: new Uint8Array(32) };
    const second = liar.sign({ type: "join", incarnation: 1n, key: again.publicKey }, "ctl", {
      aside: true,
      signer: liar.memberKey,
      body: opening,
    });
    refused(entries(join(), second), "BAD_PROOF", /incarnation key/);
    const bySecond = aside("said by the second process", { signer: again });
    refused(entries(aside("said by the first"), bySecond), "BAD_PROOF", /incarnation key/);
    refused(entries(aside("said by the first"), bySecond, second), "BAD_PROOF", /incarnation key/);
  });
});

describe("two shares for one stage of one slot", () => {
  test("are proven, in either order, also over generations", () => {
    const fraud = proven(votes());
    assert.deepEqual({ kind: fraud.kind, member: fraud.member }, { kind: "votes", member: LIAR });
    assert.deepEqual(votes(), votes(shareOf(outcomeOf(10n, 2)), shareOf(outcomeOf(10n, 1))));
    proven(votes(shareOf(outcomeOf(10n, 1)), shareOf(outcomeOf(10n, 1, { generation: 1n }))));
    proven(votes(shareOf(outcomeOf(10n, 1)), shareOf(outcomeOf(10n, 1, { kind: "empty" }))));
  });

  test("the same outcome twice, other slots, stages, epochs or committees are nothing", () => {
    refused(votes(shareOf(outcomeOf(10n, 1)), shareOf(outcomeOf(10n, 1))), "BAD_PROOF", /the same/);
    refused(votes(shareOf(outcomeOf(10n, 1)), shareOf(outcomeOf(11n, 2))), "BAD_PROOF", /different stages or slots/);
    const second = outcomeOf(10n, 2, { stage: "second" });
    refused(votes(shareOf(outcomeOf(10n, 1)), shareOf(second)), "BAD_PROOF", /different stages or slots/);
    refused(votes(shareOf(outcomeOf(10n, 1)), shareOf(outcomeOf(10n, 2, { epoch: 1n }))), "BAD_PROOF", /epoch/);
    const committee = committeeId(dealt.config, "tally");
    refused(votes(shareOf(outcomeOf(10n, 1)), shareOf(outcomeOf(10n, 2, { committee }))), "BAD_PROOF", /committee/);
  });

  test("another member's share accuses nobody", () => {
    refused(votes(shareOf(outcomeOf(10n, 1)), shareOf(outcomeOf(10n, 2), 0)), "BAD_PROOF", /public share/);
    refused(votes(undefined, undefined, 0), "BAD_PROOF", /public share/);
    refused(votes(undefined, undefined, MEMBERS), "BAD_PROOF", /no member/);
    const infinity = new Uint8Array(96);
    infinity[0] = 0xc0;
    refused(votes(shareOf(outcomeOf(10n, 1)), { outcome: outcomeOf(10n, 2), share: infinity }), "BAD_PROOF", /share/);
  });
});

describe("bytes", () => {
  test("a proof with any byte changed, cut or added accuses nobody else, and never throws", () => {
    const kinds = [entries(), votes()];
    fc.assert(
      fc.property(fc.constantFrom(...kinds), fc.nat(), fc.integer({ min: 1, max: 255 }), (proof, at, flip) => {
        const changed = proof.slice();
        const index = at % changed.length;
        changed[index] = (changed[index] ?? 0) ^ flip;
        const verdict = verify(changed);
        // Informative fields (who signed the roster) are under no signature; whom it accuses must not move.
        if ("fraud" in verdict) assert.deepEqual(verdict.fraud, proven(proof));
      }),
      { numRuns: 1500 },
    );
    for (const proof of kinds) {
      for (const length of [0, 1, 100, proof.length - 1]) refused(proof.subarray(0, length), "MALFORMED");
      refused(new Uint8Array([...proof, 0]), "MALFORMED");
      refused(new Uint8Array([2, ...proof.subarray(1)]), "MALFORMED", /version/);
    }
    refused(new Uint8Array(2_000_000), "TOO_LARGE");
  });

  test("random bytes are no proof", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 4096 }), (raw) => {
        assert.ok("refusal" in verify(raw));
      }),
    );
  });
});

describe("a committee that is shown a proof", () => {
  const accuse = (proof: Uint8Array, by = 0) => driver.author(by).say({ type: "fraud", proof });

  test("listens to the key no more, in any incarnation; what it said before still counts", () => {
    assert.equal(driver.author(0).say(decide(10n)).refusal, undefined);
    const outcome = driver.committee.outcome("first", 10n);
    assert.ok(outcome !== undefined);
    const vote = (index: number): CommitteeCommand => ({
      type: "vote",
      votes: [{ stage: "first", slot: 10n, share: driver.share(index, outcome) }],
    });
    assert.equal(liar.say(vote(LIAR)).refusal, undefined);
    const proof = entries();
    assert.equal(liar.say(note("one")).refusal, undefined);
    assert.equal(accuse(proof).refusal, undefined);
    assert.ok(driver.committee.isBlocked(LIAR) && !driver.committee.isBlocked(0));
    const [blocked] = driver.committee.blocked;
    assert.deepEqual(blocked, {
      memberKey: dealt.rosters.relay.members[LIAR]?.memberKey,
      member: LIAR,
      epoch: 0n,
      kind: "entries",
      position: driver.committee.position,
      proof: fraudProofHash(proof),
    });
    for (const applied of [liar.say(note("again")), liar.join(), liar.say(vote(LIAR))]) {
      assert.equal(applied.refusal?.reason, "KEY_BLOCKED");
      assert.equal(applied.landed, false);
    }
    assert.deepEqual(driver.committee.quorum, { members: 4, faults: 1, quorum: 3 });
    assert.deepEqual(driver.author(0).say(vote(0)).certified, []);
    assert.deepEqual(driver.author(1).say(vote(1)).certified, [outcome], "the share given before is one of the three");
    driver.assertAlike();
  });

  test("is told once; a further proof against the same key changes nothing", () => {
    assert.equal(accuse(entries()).refusal, undefined);
    for (const proof of [entries(), entries(aside("third"), aside("fourth")), votes()]) {
      assert.equal(accuse(proof, 1).refusal?.reason, "DUPLICATE");
    }
    assert.equal(driver.committee.blocked.length, 1);
    driver.assertAlike();
  });

  test("refuses what proves nothing, and goes on listening", () => {
    assert.equal(accuse(entries(aside("one"), aside("one"))).refusal?.reason, "BAD_PROOF");
    assert.equal(accuse(new Uint8Array([1, 2, 3])).refusal?.reason, "MALFORMED");
    assert.deepEqual(driver.committee.blocked, []);
    assert.equal(liar.say(note("still here")).refusal, undefined);
  });

  test("reaches the same state from its snapshot and from the log", () => {
    assert.equal(accuse(votes()).refusal, undefined);
    assert.equal(liar.say(note("too late")).refusal?.reason, "KEY_BLOCKED");
    driver.restart(1);
    assert.equal(liar.say(note("still too late")).refusal?.reason, "KEY_BLOCKED");
    driver.assertAlike();
    assert.equal(toHex(driver.replay().stateHash()), toHex(driver.committee.stateHash()));
  });

  test("learns of it in chunks too, when the two entries were large", () => {
    const padding = (fill: number) => new Uint8Array(400_000).fill(fill);
    const proof = entries(
      liar.sign(padding(1), "bulk", { aside: true }),
      liar.sign(padding(2), "bulk", { aside: true }),
    );
    assert.ok(proof.length > 800_000);
    proven(proof);
  });

  test("a proof against one's own key counts too", () => {
    assert.equal(liar.say({ type: "fraud", proof: votes() }).refusal, undefined);
    assert.equal(liar.say(note("?")).refusal?.reason, "KEY_BLOCKED");
  });

  test("of an older generation: the key is the same", () => {
    const { config, rosters } = dealt;
    const next = new Committee({ config, roster: rosters.relay, machine: probeMachine(), generation: 1n });
    const proof = entries();
    const honest = driver.author(0);
    const say = (position: bigint, raw: Uint8Array) => next.apply(position, raw);
    const head = next.head;
    const raw = honest.sign({ type: "join", incarnation: 2n, key: honest.keyOf(2n).publicKey }, "ctl", {
      aside: true,
      signer: honest.memberKey,
      body: {
        generation: 1n,
        incarnation: 2n,
        sequence: 1n,
        previous: new Uint8Array(32),
        seenPosition: 0n,
        seenHead: head,
      },
    });
    const joined = say(1n, raw);
    assert.equal(joined.refusal, undefined);
    const accusation = honest.sign({ type: "fraud", proof }, "ctl", {
      aside: true,
      signer: honest.keyOf(2n),
      body: {
        generation: 1n,
        incarnation: 2n,
        sequence: 2n,
        previous: joined.entry ?? new Uint8Array(32),
        seenPosition: 1n,
        seenHead: next.head,
      },
    });
    assert.equal(say(2n, accusation).refusal, undefined);
    assert.ok(next.isBlocked(LIAR));
    assert.ok(next.blocked.every(({ proof: named }) => equalBytes(named, fraudProofHash(proof))));
  });
});

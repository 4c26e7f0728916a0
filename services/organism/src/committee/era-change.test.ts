/** A committee's certificate key changes: which shares and certificates count where, and what the log tells of eras upstream. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, beforeEach, describe, test } from "node:test";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, random, type TestCommittee } from "../../test/test-lattice.ts";
import { concat, encode, toHex } from "../codec/codec.ts";
import { blsSign } from "../crypto/bls.ts";
import { generateSigningKey } from "../crypto/ed25519.ts";
import { initCrypto } from "../crypto/engine.ts";
import { hashBytes } from "../crypto/hash.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { slotStartMs } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import { CommitteeDriver } from "../testing/committee-driver.ts";
import { type DealtEpoch, firstEpoch, type NextEpoch, nextEpoch } from "../testing/dealt-eras.ts";
import { type Checkpoint, checkCheckpoint, checkpointDigest } from "./checkpoint.ts";
import { type CommitteeCommand, decodeCommand, encodeCommand } from "./commands.ts";
import type { Applied } from "./committee.ts";
import { newestEra } from "./eras.ts";
import { proveEntries, proveVotes, verifyFraudProof } from "./fraud.ts";
import { type CertifiedOutcome, checkOutcome, type Outcome, outcomeDigest, verifyCertificate } from "./outcome.ts";
import { ERAS, PROOFS_BY_SEAT } from "./rules.ts";
import { SLOTS_KEPT, WINDOW_AHEAD } from "./state.ts";

const MEMBERS = 4;
const QUORUM = 3;
const NOW = 3n;
const EARLIEST = NOW + WINDOW_AHEAD + 1n;

let dealt: TestCommittee;
let driver: CommitteeDriver<ProbeState, ProbeCommand, Duty>;
let zero: DealtEpoch;
/** Begins era 1. */
let one: NextEpoch;

before(async () => {
  await initCrypto();
  dealt = dealCommittee(MEMBERS, {}, "third");
  zero = firstEpoch(dealt, "relay", QUORUM);
  one = nextEpoch(zero, { activationSlot: EARLIEST, newEra: true });
});

function begin(highest: number = ERAS): void {
  const { config, rosters, secrets } = dealt;
  driver = new CommitteeDriver({
    config,
    roster: rosters.relay,
    secrets,
    createMachine: probeMachine,
    checkpointEvery: { entries: 8n, slots: 4n },
    activationEntries: 4n,
    rules: { lowest: 1, highest },
  });
  driver.nowMs = slotStartMs(config, NOW);
  driver.joinAll();
  for (const index of [0, 1, 2]) say(index, { type: "rules", highest, build: "test" });
  for (let turn = 0; turn < 6; turn++) say(turn % MEMBERS, note());
  assert.equal(driver.committee.rules.active, highest);
}
beforeEach(() => begin());

const say = (author: number, command: CommitteeCommand): Applied => driver.author(author).say(command);
const announce = (epoch: NextEpoch): Applied => say(0, { type: "roster", certified: epoch.certified });
const machine = (command: ProbeCommand): CommitteeCommand => ({
  type: "machine",
  command: encode(probeMachine().command, command),
});
const note = (): CommitteeCommand => machine({ type: "note", text: "x" });

function decide(slot: bigint, stage = "first"): Outcome {
  const applied = say(0, machine({ type: "decide", stage, slot, kind: "result", commitment: new Uint8Array([1]) }));
  return applied.decided[0] ?? assert.fail(applied.refusal?.detail);
}

function vote(author: number, { secrets }: DealtEpoch, outcome: Outcome): Applied {
  const { certificateShare } = secrets[author] ?? assert.fail();
  const share = blsSign(certificateShare, outcomeDigest(outcome));
  return say(author, { type: "vote", votes: [{ stage: outcome.stage, slot: outcome.slot, share }] });
}

function passTo(slot: bigint): void {
  driver.nowMs = slotStartMs(dealt.config, slot);
  for (const author of [0, 1, 2, 3]) say(author, note());
  for (const stage of ["first", "second"])
    for (const author of [0, 1, 3]) say(author, { type: "skip", stage, toSlot: slot - 1n });
  assert.equal(driver.committee.floor("first"), slot);
}

/** One checkpoint, voted for with these shares; the certificate. */
function certifiedCheckpoint({ secrets }: DealtEpoch): Parameters<typeof checkCheckpoint>[2] {
  let due: Checkpoint | undefined;
  while (due === undefined) due = say(0, note()).checkpoint?.checkpoint;
  const { position, stateHash, stateBytes, guestHash, guestBytes } = due;
  const digest = checkpointDigest(due);
  for (const author of [0, 1, 2]) {
    const share = blsSign(secrets[author]?.certificateShare ?? assert.fail(), digest);
    const applied = say(author, { type: "checkpoint", position, stateHash, stateBytes, guestHash, guestBytes, share });
    assert.equal(applied.refusal, undefined);
  }
  const shares = [...driver.committee.checkpointVotes(position)].slice(0, QUORUM);
  const signature = combineSignatures(
    shares.map(([index, each]) => ({ index, signature: each })),
    QUORUM,
  );
  return { checkpoint: due, signature, signers: [0, 1, 2] };
}

const VECTORS = JSON.parse(readFileSync(new URL("./vectors/eras.json", import.meta.url), "utf8"));

/** A committee whose keys are always the same, for as long as this takes. */
function withDrawnKeys(work: (draw: (length: number) => Uint8Array) => void): void {
  const kept = dealt;
  let drawn = 0;
  const next = (): Uint8Array => hashBytes("lattice/test/rules/v1", new TextEncoder().encode(`${drawn++}`));
  const draw = (length: number): Uint8Array => concat(next(), next()).slice(0, length);
  dealt = dealCommittee(MEMBERS, {}, "third", undefined, draw);
  try {
    work(draw);
  } finally {
    dealt = kept;
  }
}

function standing() {
  const { position, head } = driver.committee;
  return { position: Number(position), head: toHex(head), stateHash: toHex(driver.committee.stateHash()) };
}

describe("an era begins", () => {
  test("not before rules 5: the roster is refused, and the state is that of a build that cannot read it", () => {
    begin(ERAS - 1);
    const before = driver.committee.snapshot();
    assert.equal(before[4], 5, "the state's version");
    assert.match(announce(one).refusal?.detail ?? "", /not before rules 5/);
    const link = nextEpoch(firstEpoch(dealt, "atelier", QUORUM), { activationSlot: EARLIEST, newEra: true });
    const told = say(1, { type: "era", organism: "atelier", certified: link.certified });
    assert.match(told.refusal?.detail ?? "", /no eras before rules 5/);
    assert.deepEqual([driver.committee.rosters.length, driver.committee.eras("atelier").length], [1, 1]);
    assert.equal(driver.committee.snapshot()[4], 5);
  });

  test("by rules 5 its roster is taken up; the chain is part of the state, a restart and a replay have it", () => {
    assert.equal(driver.committee.snapshot()[4], 5);
    const applied = announce(one);
    assert.equal(applied.refusal, undefined);
    assert.deepEqual([applied.era?.organism, applied.era?.era.number], ["relay", 1]);
    assert.equal(driver.committee.snapshot()[4], 6);
    driver.restart(0);
    assert.deepEqual(
      driver.committee.eras().map(({ fromSlot }) => fromSlot),
      [0n, EARLIEST],
    );
    assert.deepEqual(driver.committee.eraLinks(), [one.certified]);
    passTo(EARLIEST + SLOTS_KEPT);
    assert.deepEqual(
      driver.committee.rosters.map(({ epoch }) => epoch),
      [1n],
    );
    assert.deepEqual(driver.committee.eraLinks(), [one.certified], "slots are forgotten, links are not");
    driver.restart(1);
    driver.assertAlike();
    assert.deepEqual(driver.replay().snapshot(), driver.committee.snapshot());
    const guest = driver.fresh();
    guest.restoreGuest(driver.committee.guestView());
    assert.deepEqual(guest.eras(), driver.committee.eras());
  });

  test("votes count by their slot's key, and the certificate is of that key alone", () => {
    announce(one);
    driver.nowMs = slotStartMs(dealt.config, EARLIEST);
    for (const author of [0, 1, 2, 3]) say(author, note());
    const [last, first] = [decide(EARLIEST - 1n), decide(EARLIEST)];
    const { config } = dealt;
    const keys = driver.committee.eras().map(({ key }) => key);
    for (const [outcome, right, wrong, at] of [
      [last, zero, one, 0],
      [first, one, zero, 1],
    ] as const) {
      // Shares are looked at together: two bad ones among three come out with the third.
      vote(0, right, outcome);
      vote(3, wrong, outcome);
      const third = vote(1, right, outcome);
      assert.deepEqual(
        third.badShares?.map(({ author }) => author),
        [3],
      );
      assert.deepEqual(vote(2, right, outcome).certified, [outcome]);
      const signature = driver.committee.signature(outcome) ?? assert.fail();
      assert.deepEqual(
        keys.map((key) => verifyCertificate(key, outcome, signature)),
        [at === 0, at === 1],
      );
      assert.equal(checkOutcome(config, "relay", { outcome, signature }, driver.committee.eras()), undefined);
    }
    driver.assertAlike();
  });

  test("checkpoints go by the epoch that they name; a later generation is not believed under the key that is over", () => {
    announce(one);
    const { config } = dealt;
    const before = certifiedCheckpoint(zero);
    assert.equal(checkCheckpoint(config, "relay", before, driver.committee.eras()), undefined);
    assert.equal(driver.committee.keyIsOver(0n), false);
    passTo(EARLIEST);
    const after = certifiedCheckpoint(one);
    assert.equal(checkCheckpoint(config, "relay", after, driver.committee.eras()), undefined);
    assert.equal(checkCheckpoint(config, "relay", after)?.reason, "BAD_CERTIFICATE", "for whoever lacks the link");
    const forged = { ...after, signature: blsSign(zero.secret, checkpointDigest(after.checkpoint)) };
    assert.equal(checkCheckpoint(config, "relay", forged, driver.committee.eras())?.reason, "BAD_CERTIFICATE");
    assert.deepEqual([driver.committee.keyIsOver(0n), driver.committee.keyIsOver(1n)], [true, false]);
    driver.assertAlike();
  });

  test("the next roster is certified under the new key; by the old one nothing follows any more", () => {
    announce(one);
    passTo(EARLIEST);
    const activationSlot = EARLIEST + WINDOW_AHEAD + 1n;
    const old = nextEpoch(one, { activationSlot, signer: zero.secret });
    assert.equal(announce(old).refusal?.reason, "BAD_CERTIFICATE");
    const back = nextEpoch(zero, { activationSlot, change: { epoch: 2n } });
    assert.equal(announce(back).refusal?.reason, "BAD_CERTIFICATE");
    const other = nextEpoch(one, { activationSlot, change: { era: { number: 1, certificateKey: random(48) } } });
    assert.equal(announce(other).refusal?.reason, "OTHER_ERA");
    const two = nextEpoch(one, { activationSlot });
    assert.equal(announce(two).refusal, undefined);
    assert.equal(newestEra(driver.committee.eras()).number, 1);
    driver.assertAlike();
  });

  test("a second beginning of the same era is refused before it is active and after", () => {
    const second = nextEpoch(zero, { activationSlot: EARLIEST, newEra: true });
    announce(one);
    assert.equal(announce(second).refusal?.reason, "OTHER_ERA");
    passTo(EARLIEST);
    assert.equal(announce(second).refusal?.reason, "OTHER_ERA");
    assert.deepEqual(driver.committee.eraLinks(), [one.certified]);
  });

  /** Two outcomes of one slot of epoch 0, as member 1 of that roster would have signed them with this share. */
  const twoVotes = (roster: CertifiedOutcome, share: Uint8Array): Uint8Array => {
    const signed = (text: number) => {
      const commitment = new Uint8Array([text]);
      const outcome: Outcome = { ...one.certified.outcome, stage: "first", slot: 2n, epoch: 0n, commitment };
      return { outcome, share: blsSign(share, outcomeDigest(outcome)) };
    };
    return proveVotes(roster, 1, signed(1), signed(2));
  };

  test("with a key that is over nobody can be framed", () => {
    // The old key certifies a roster that gives member 1 somebody else's share.
    const framed = nextEpoch(zero, { activationSlot: 1n, change: { epoch: 0n } });
    const forged = twoVotes(framed.certified, framed.secrets[1]?.certificateShare ?? assert.fail());
    assert.ok("fraud" in verifyFraudProof(dealt.config, "relay", forged), "as long as the key is trusted");
    announce(one);
    passTo(EARLIEST);
    assert.equal(say(0, { type: "fraud", proof: forged }).refusal?.reason, "OTHER_ERA");
    assert.equal(driver.committee.isBlockedKey(dealt.rosters.relay.members[1]?.memberKey ?? random(32)), false);
    const real = twoVotes(dealt.certifiedRoster, dealt.secrets[1]?.certificateShare ?? assert.fail());
    assert.equal(say(0, { type: "fraud", proof: real }).refusal, undefined, "the roster of slots still held is known");
    driver.assertAlike();
  });

  describe("and the roster before it is forgotten", () => {
    /** Two entries of the incarnation that member 1 joined with under epoch 0. */
    const twoVoices = (roster: CertifiedOutcome = dealt.certifiedRoster, seat = 1): Uint8Array => {
      const liar = driver.author(seat);
      const raws = [note(), machine({ type: "note", text: "y" })].map((each) =>
        liar.sign(each, "ctl", { aside: true }),
      );
      return proveEntries(
        roster,
        driver.committee.author(seat)?.join ?? assert.fail(),
        ...(raws as [Uint8Array, Uint8Array]),
      );
    };
    const forget = (): void => {
      announce(one);
      passTo(EARLIEST);
      passTo(EARLIEST + SLOTS_KEPT);
      assert.deepEqual(
        driver.committee.rosters.map(({ epoch }) => epoch),
        [1n],
      );
    };
    const key = (index: number): Uint8Array => dealt.rosters.relay.members[index]?.memberKey ?? assert.fail();

    test("two entries of a process that has gone on since count by rules 6, before them not", () => {
      forget();
      assert.equal(say(0, { type: "fraud", proof: twoVoices() }).refusal?.reason, "OTHER_ERA");
      begin(PROOFS_BY_SEAT);
      forget();
      const proof = twoVoices();
      assert.equal(say(0, { type: "fraud", proof }).refusal, undefined);
      assert.ok(driver.committee.isBlocked(1) && driver.committee.isBlockedKey(key(1)));
      assert.equal(say(1, note()).refusal?.reason, "KEY_BLOCKED");
      driver.restart(0);
      driver.assertAlike();
      assert.deepEqual(driver.replay().snapshot(), driver.committee.snapshot());
    });

    test("golden: what rules 5 and rules 6 make of such a proof", () => {
      const [before, beforeOne] = [zero, one];
      withDrawnKeys((draw) => {
        zero = firstEpoch(dealt, "relay", QUORUM);
        one = nextEpoch(zero, { activationSlot: EARLIEST, newEra: true, draw });
        try {
          for (const rules of [ERAS, PROOFS_BY_SEAT]) {
            begin(rules);
            forget();
            say(0, { type: "fraud", proof: twoVoices() });
            assert.deepEqual(standing(), VECTORS.proofs[rules], `rules ${rules}`);
          }
        } finally {
          [zero, one] = [before, beforeOne];
        }
      });
    });

    test("who restarted since is blocked for what it said before", () => {
      begin(PROOFS_BY_SEAT);
      forget();
      const proof = twoVoices();
      driver.author(1).join();
      assert.equal(say(0, { type: "fraud", proof }).refusal, undefined);
    });

    test("nobody is convicted by a roster of a stolen key: not by shares, not in another seat, not one who is no member", () => {
      begin(PROOFS_BY_SEAT);
      forget();
      const framed = nextEpoch(zero, { activationSlot: 1n, change: { epoch: 0n } });
      const votes = twoVotes(framed.certified, framed.secrets[1]?.certificateShare ?? assert.fail());
      assert.equal(say(0, { type: "fraud", proof: votes }).refusal?.reason, "OTHER_ERA");
      // Whoever has the old key seats keys of its own, and signs with them what it likes.
      const strangers = nextEpoch(zero, {
        activationSlot: 1n,
        change: { epoch: 0n },
        seats: [2, 1, 0, 3].map((index) => dealt.secrets[index] ?? assert.fail()),
      });
      const moved = twoVoices(strangers.certified, 2);
      assert.equal(
        say(0, { type: "fraud", proof: moved }).refusal?.reason,
        "BAD_PROOF",
        "it never joined in that seat",
      );
      const seed = random(32);
      const own = generateSigningKey(seed);
      const stranger = nextEpoch(zero, {
        activationSlot: 1n,
        change: { epoch: 0n },
        seats: dealt.secrets.map((each, index) => (index === 2 ? { ...each, memberKey: seed } : each)),
      });
      const liar = driver.author(2);
      const said = (signer: typeof own, command: CommitteeCommand, body: object): Uint8Array =>
        liar.sign(command, "ctl", { aside: true, signer, body });
      const join = said(
        own,
        { type: "join", incarnation: 1n, key: own.publicKey },
        { epoch: 0n, incarnation: 1n, sequence: 1n, previous: new Uint8Array(32) },
      );
      const [first, second] = ["a", "b"].map((text) =>
        said(own, machine({ type: "note", text }), { epoch: 0n, incarnation: 1n }),
      );
      const junk = proveEntries(stranger.certified, join, first ?? assert.fail(), second ?? assert.fail());
      assert.ok("fraud" in verifyFraudProof(dealt.config, "relay", junk), "as long as the old key is trusted");
      const refusal = say(0, { type: "fraud", proof: junk }).refusal;
      assert.deepEqual([refusal?.reason, /nobody sits there/.test(refusal?.detail ?? "")], ["OTHER_ERA", true]);
      assert.deepEqual(driver.committee.blocked, []);
      driver.assertAlike();
    });
  });
});

describe("eras upstream", () => {
  let upstream: NextEpoch;
  let first: DealtEpoch;
  const tell = (author: number, epoch: NextEpoch): Applied =>
    say(author, { type: "era", organism: "atelier", certified: epoch.certified });
  const observe = (slot: bigint, of: DealtEpoch): string | undefined => {
    const outcome: Outcome = {
      version: 1,
      committee: of.roster.committee,
      generation: 0n,
      epoch: of.roster.epoch,
      slot,
      stage: "candidate",
      kind: "empty",
      commitment: new Uint8Array(),
      bodyHash: undefined,
    };
    const certified = { outcome, signature: blsSign(of.secret, outcomeDigest(outcome)), signers: [] };
    return say(0, { type: "observe", organism: "atelier", certified }).refusal?.reason;
  };

  beforeEach(() => {
    first = firstEpoch(dealt, "atelier", QUORUM);
    upstream = nextEpoch(first, { activationSlot: NOW, newEra: true });
  });

  test("f + 1 members tell of one; from then on its key speaks for its slots, and the old one for those before", () => {
    assert.equal(observe(NOW, upstream), "BAD_CERTIFICATE");
    const once = tell(1, upstream);
    assert.deepEqual([once.refusal, once.era], [undefined, undefined]);
    assert.equal(observe(NOW, upstream), "BAD_CERTIFICATE", "one teller is not believed");
    assert.equal(tell(1, upstream).refusal?.reason, "DUPLICATE", "nor is the same one twice");
    driver.restart(0);
    const taken = tell(2, upstream);
    assert.deepEqual([taken.era?.organism, taken.era?.era.number], ["atelier", 1]);
    assert.equal(tell(0, upstream).refusal?.reason, "DUPLICATE");
    assert.equal(observe(NOW, first), "BAD_CERTIFICATE", "the old key");
    assert.equal(observe(NOW, upstream), undefined);
    assert.equal(observe(NOW - 1n, upstream), "BAD_CERTIFICATE", "before its time");
    assert.equal(observe(NOW - 1n, first), undefined);
    driver.restart(1);
    driver.assertAlike();
    assert.deepEqual(driver.replay().snapshot(), driver.committee.snapshot());
  });

  test("a certified link that one corrupt member found does not stand; who changes its word is counted once", () => {
    const stray = nextEpoch(first, { activationSlot: NOW, newEra: true });
    tell(3, stray);
    assert.equal(driver.committee.eras("atelier").length, 1);
    tell(1, stray);
    assert.equal(driver.committee.eras("atelier").length, 2, "two of four are more than f");
    assert.equal(tell(0, upstream).refusal?.reason, "OTHER_ERA", "what stands stays");
    begin();
    tell(3, stray);
    tell(3, upstream);
    tell(1, upstream);
    assert.deepEqual(driver.committee.eraLinks("atelier"), [upstream.certified]);
    driver.assertAlike();
  });

  test("no link, one of a committee that is not upstream, one out of turn: refused, and nothing changes", () => {
    const before = driver.committee.eras("atelier");
    const plain = nextEpoch(first, { activationSlot: NOW });
    assert.equal(tell(1, plain).refusal?.reason, "DUPLICATE");
    const later = nextEpoch(upstream, { activationSlot: NOW + 5n, newEra: true });
    assert.equal(tell(1, later).refusal?.reason, "BAD_CERTIFICATE", "its predecessor is not known");
    const signed = nextEpoch(first, { activationSlot: NOW, newEra: true, signer: upstream.secret });
    assert.equal(tell(1, signed).refusal?.reason, "BAD_CERTIFICATE");
    for (const organism of ["offer", "relay"] as const) {
      const refusal = say(1, { type: "era", organism, certified: one.certified }).refusal;
      assert.match(refusal?.detail ?? "", /is not upstream/);
    }
    assert.deepEqual(driver.committee.eras("atelier"), before);
    assert.equal(driver.committee.snapshot()[4], 5, "no word is kept of what was refused");
  });

  test("one era follows the other, each told of when the one before stands", () => {
    for (const author of [0, 1]) tell(author, upstream);
    const later = nextEpoch(upstream, { activationSlot: NOW + 5n, newEra: true });
    for (const author of [2, 3]) tell(author, later);
    assert.deepEqual(
      driver.committee.eras("atelier").map(({ number }) => number),
      [0, 1, 2],
    );
    assert.equal(observe(NOW + 5n, later), undefined);
    assert.equal(observe(NOW + 6n, upstream), "BAD_CERTIFICATE");
    driver.assertAlike();
  });

  test("golden: a state with a link of its own, one upstream and a word is the same for ever", () => {
    withDrawnKeys((draw) => {
      begin();
      announce(nextEpoch(firstEpoch(dealt, "relay", QUORUM), { activationSlot: EARLIEST, newEra: true, draw }));
      const one = nextEpoch(firstEpoch(dealt, "atelier", QUORUM), { activationSlot: NOW, newEra: true, draw });
      for (const author of [0, 1]) tell(author, one);
      tell(2, nextEpoch(one, { activationSlot: NOW + 5n, newEra: true, draw }));
      assert.deepEqual(standing(), VECTORS.state);
    });
  });

  test("a command of this kind reads as it was written", () => {
    const command: CommitteeCommand = { type: "era", organism: "atelier", certified: upstream.certified };
    assert.deepEqual(decodeCommand(encodeCommand(command)), command);
  });
});

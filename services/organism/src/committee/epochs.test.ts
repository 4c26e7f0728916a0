/** Rosters that follow each other: whose votes count for which slot, who may speak, and which roster is refused. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, random, type TestCommittee } from "../../test/test-lattice.ts";
import { encode } from "../codec/codec.ts";
import { blsSign } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { slotStartMs } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import type { MemberSecrets } from "../service.ts";
import { CommitteeDriver, ScriptedAuthor } from "../testing/committee-driver.ts";
import {
  certifyRoster,
  type DealtEpoch,
  firstEpoch,
  type NextEpoch,
  newcomer,
  nextEpoch,
} from "../testing/dealt-eras.ts";
import type { CommitteeCommand } from "./commands.ts";
import type { Applied } from "./committee.ts";
import { rosterAt, successorProblem } from "./epochs.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest, verifyCertificate } from "./outcome.ts";
import type { Roster } from "./roster.ts";
import { RULES } from "./rules.ts";
import { SLOTS_KEPT, WINDOW_AHEAD } from "./state.ts";

const MEMBERS = 4;
const QUORUM = 3;
const NOW = 3n;
/** The first slot that a roster announced in slot NOW may begin with. */
const EARLIEST = NOW + WINDOW_AHEAD + 1n;

let dealt: TestCommittee;
let driver: CommitteeDriver<ProbeState, ProbeCommand, Duty>;

before(async () => {
  await initCrypto();
  dealt = dealCommittee(MEMBERS, {}, "third");
});

beforeEach(() => {
  const { config, rosters, secrets } = dealt;
  driver = new CommitteeDriver({
    config,
    roster: rosters.relay,
    secrets,
    createMachine: probeMachine,
    checkpointEvery: { entries: 8n, slots: 4n },
  });
  driver.nowMs = slotStartMs(config, NOW);
  driver.joinAll();
});

/** The next epoch: the same key in new shares, with some members replaced. */
function next(
  from: DealtEpoch,
  activationSlot: bigint,
  replace: readonly number[] = [],
  change: Partial<Roster> = {},
): NextEpoch {
  const seats = from.secrets.map((old, index) => (replace.includes(index) ? newcomer() : old));
  return nextEpoch(from, { activationSlot, seats, change });
}

const first = () => firstEpoch(dealt, "relay", QUORUM);
const announce = (epoch: Pick<NextEpoch, "certified">): CommitteeCommand => ({
  type: "roster",
  certified: epoch.certified,
});
const machine = (command: ProbeCommand): CommitteeCommand => ({
  type: "machine",
  command: encode(probeMachine().command, command),
});
const note = (): CommitteeCommand => machine({ type: "note", text: "x" });

function decide(slot: bigint, stage = "first"): Outcome {
  const commitment = new Uint8Array([1]);
  const applied = driver.author(0).say(machine({ type: "decide", stage, slot, kind: "result", commitment }));
  const [outcome] = applied.decided;
  assert.ok(outcome !== undefined, applied.refusal?.detail);
  return outcome;
}

function vote(author: ScriptedAuthor, secrets: MemberSecrets | undefined, outcome: Outcome): Applied {
  assert.ok(secrets !== undefined);
  const share = blsSign(secrets.certificateShare, outcomeDigest(outcome));
  return author.say({ type: "vote", votes: [{ stage: outcome.stage, slot: outcome.slot, share }] });
}

/** Decides and skips everything up to `slot`, so that it is the lowest undecided one. */
function passTo(slot: bigint): void {
  driver.nowMs = slotStartMs(dealt.config, slot);
  for (const author of [0, 1, 2, 3]) driver.author(author).say(note());
  for (const stage of ["first", "second"])
    for (const author of [0, 1, 3]) driver.author(author).say({ type: "skip", stage, toSlot: slot - 1n });
  assert.equal(driver.committee.floor("first"), slot);
}

describe("slots and their epochs", () => {
  test("a slot belongs to the newest roster that is active in it", () => {
    const rosters = [0n, 10n, 20n].map((activationSlot, index) => ({
      ...dealt.rosters.relay,
      epoch: BigInt(index),
      activationSlot,
    }));
    for (const [slot, epoch] of [
      [0n, 0n],
      [9n, 0n],
      [10n, 1n],
      [19n, 1n],
      [20n, 2n],
      [900n, 2n],
    ] as const)
      assert.equal(rosterAt(rosters, slot).epoch, epoch);
    assert.equal(rosterAt(rosters.slice(1), 3n).epoch, 1n, "before the first, the first");
  });

  test("votes count under the shares of their slot's epoch, on both sides of the border", () => {
    const second = next(first(), EARLIEST);
    const applied = driver.author(1).say(announce(second));
    assert.equal(applied.refusal, undefined);
    assert.deepEqual(applied.announced, second.certified);
    assert.equal(driver.committee.roster.epoch, 0n, "not yet");
    driver.nowMs = slotStartMs(dealt.config, EARLIEST);
    for (const author of [0, 1, 2, 3]) driver.author(author).say(note());
    const before = decide(EARLIEST - 1n);
    const after = decide(EARLIEST);
    assert.equal(before.epoch, 0n);
    assert.equal(after.epoch, 1n);
    assert.equal(vote(driver.author(0), second.secrets[0], before).refusal?.reason, "BAD_SHARE");
    assert.equal(vote(driver.author(0), dealt.secrets[0], after).refusal?.reason, "BAD_SHARE");
    for (const [outcome, secrets] of [
      [before, dealt.secrets],
      [after, second.secrets],
    ] as const) {
      for (const index of [0, 1, 2])
        assert.equal(vote(driver.author(index), secrets[index], outcome).refusal, undefined);
      const shares = [...driver.committee.votes(outcome.stage, outcome.slot)];
      const signature = combineSignatures(
        shares.map(([index, share]) => ({ index, signature: share })),
        QUORUM,
      );
      assert.ok(verifyCertificate(dealt.config.relay.policy.certificateKey, outcome, signature), "the key stays");
    }
    driver.assertAlike();
  });

  test("checkpoints are certified under the epoch of the lowest undecided slot", () => {
    const second = next(first(), EARLIEST);
    driver.author(0).say(announce(second));
    const due = (): Applied => {
      for (;;) {
        const applied = driver.author(0).say(note());
        if (applied.checkpoint !== undefined) return applied;
      }
    };
    assert.equal(due().checkpoint?.checkpoint.epoch, 0n);
    passTo(EARLIEST);
    assert.equal(driver.committee.roster.epoch, 1n);
    assert.equal(due().checkpoint?.checkpoint.epoch, 1n);
    driver.assertAlike();
  });

  test("a restart keeps what is known; a roster goes when its slots are forgotten", () => {
    const second = next(first(), EARLIEST);
    driver.author(0).say(announce(second));
    driver.restart(0);
    assert.deepEqual(
      driver.committee.rosters.map(({ epoch }) => epoch),
      [0n, 1n],
    );
    passTo(EARLIEST + SLOTS_KEPT);
    assert.deepEqual(
      driver.committee.rosters.map(({ epoch }) => epoch),
      [1n],
    );
    assert.equal(driver.author(2).say(note()).refusal, undefined, "who stays goes on under the new epoch");
    driver.restart(1);
    driver.assertAlike();
    assert.deepEqual(driver.replay().snapshot(), driver.committee.snapshot());
  });
});

describe("who speaks", () => {
  let second: NextEpoch;
  let newcomer: ScriptedAuthor;

  beforeEach(() => {
    second = next(first(), EARLIEST, [2]);
    assert.equal(driver.author(0).say(announce(second)).refusal, undefined);
    const secrets = second.secrets[2];
    assert.ok(secrets !== undefined);
    newcomer = new ScriptedAuthor(driver, 2, secrets);
  });

  test("the one who leaves speaks until the newcomer has joined, and never again", () => {
    assert.equal(driver.author(2).say(note()).refusal, undefined);
    assert.equal(driver.author(2).join(2n).refusal, undefined, "it may restart meanwhile");
    assert.equal(newcomer.join(3n).refusal, undefined);
    assert.equal(driver.author(2).say(note()).refusal?.reason, "NOT_AUTHOR");
    assert.equal(driver.author(2).join(4n).refusal?.reason, "NOT_AUTHOR");
    assert.equal(newcomer.say(note()).refusal, undefined);
    assert.equal(newcomer.join(4n).refusal, undefined);
    driver.assertAlike();
  });

  test("a newcomer does not speak under an epoch that it is no member of, nor before it has joined", () => {
    assert.equal(newcomer.join(2n, { body: { epoch: 0n } }).refusal?.reason, "NOT_AUTHOR");
    assert.equal(newcomer.say(note()).refusal?.reason, "NOT_AUTHOR");
    assert.equal(newcomer.join(1n).refusal?.reason, "NOT_AUTHOR", "incarnations go on counting");
    assert.equal(newcomer.join(2n).refusal, undefined);
    assert.equal(newcomer.say(note(), "ctl", { body: { epoch: 0n } }).refusal?.reason, "NOT_AUTHOR");
    assert.equal(newcomer.say(note()).refusal, undefined);
  });

  test("the newcomer's share counts from its epoch on only", () => {
    newcomer.join(2n);
    driver.nowMs = slotStartMs(dealt.config, EARLIEST);
    for (const author of [0, 1, 3]) driver.author(author).say(note());
    const before = decide(EARLIEST - 1n);
    const after = decide(EARLIEST);
    assert.equal(vote(newcomer, second.secrets[2], before).refusal?.reason, "BAD_SHARE");
    assert.equal(vote(newcomer, second.secrets[2], after).refusal, undefined);
    assert.equal(driver.committee.votes("first", EARLIEST).has(2), true);
  });

  test("who is replaced twice: the first one's key does not come back", () => {
    newcomer.join(2n);
    passTo(EARLIEST);
    const third = next(second, EARLIEST + WINDOW_AHEAD + 1n, [2]);
    assert.equal(driver.author(0).say(announce(third)).refusal, undefined);
    const again = new ScriptedAuthor(driver, 2, third.secrets[2] ?? ({} as MemberSecrets));
    assert.equal(again.join(3n).refusal, undefined);
    assert.equal(newcomer.join(4n).refusal?.reason, "NOT_AUTHOR");
    assert.equal(driver.author(2).join(5n).refusal?.reason, "NOT_AUTHOR");
    driver.assertAlike();
  });
});

describe("what may follow", () => {
  const refusal = (epoch: Pick<NextEpoch, "certified">): string | undefined =>
    driver.author(0).say(announce(epoch)).refusal?.detail;

  test("beyond the window, and not for ever ahead", () => {
    assert.match(refusal(next(first(), EARLIEST - 1n)) ?? "", /too near/);
    assert.match(refusal(next(first(), EARLIEST + 100_001n)) ?? "", /too far/);
    assert.equal(refusal(next(first(), EARLIEST)), undefined);
  });

  test("the next epoch, once, and only when the newest is active", () => {
    assert.match(refusal(next(first(), EARLIEST, [], { epoch: 2n })) ?? "", /does not follow/);
    const second = next(first(), EARLIEST);
    assert.equal(refusal(second), undefined);
    assert.match(refusal(second) ?? "", /is known/);
    assert.match(refusal(next(second, EARLIEST + 20n)) ?? "", /not active yet/);
    passTo(EARLIEST);
    assert.equal(refusal(next(second, EARLIEST + WINDOW_AHEAD + 1n)), undefined);
  });

  test("one member at a time, the same number of them, with keys of their own", () => {
    assert.match(refusal(next(first(), EARLIEST, [1, 2])) ?? "", /one at a time/);
    const { roster, secret } = next(first(), EARLIEST);
    const signed = (change: Partial<Roster>) => ({ certified: certifyRoster({ ...roster, ...change }, secret) });
    assert.match(refusal(signed({ members: roster.members.slice(0, 3) })) ?? "", /keeps its size before rules 4/);
    const [one] = roster.members;
    assert.ok(one !== undefined);
    const doubled = roster.members.map((member) => ({ ...member, boxKey: one.boxKey }));
    assert.match(refusal(signed({ members: doubled })) ?? "", /share a boxKey/);
    const signer = roster.members.map((member) => ({ ...member, signer: new Uint8Array(20) }));
    assert.match(refusal(signed({ members: signer })) ?? "", /signer/);
    assert.match(refusal(signed({ committee: new Uint8Array(32) as Roster["committee"] })) ?? "", /committee/);
    assert.match(refusal(signed({ sealingKey: new Uint8Array(48) })) ?? "", /sealing key/);
  });

  test("its certificate: by the committee's key, for the slot that it names", () => {
    const good = next(first(), EARLIEST);
    const { outcome, signature } = good.certified;
    const bad: readonly CertifiedOutcome[] = [
      { outcome, signature: blsSign(random(32).fill(1, 0, 1), outcomeDigest(outcome)), signers: [] },
      { outcome: { ...outcome, slot: outcome.slot + 1n }, signature, signers: [] },
      { outcome: { ...outcome, epoch: 2n }, signature, signers: [] },
      { outcome: { ...outcome, stage: "first" }, signature, signers: [] },
      { outcome: { ...outcome, commitment: new Uint8Array(3) }, signature, signers: [] },
    ];
    for (const certified of bad) assert.ok(refusal({ certified }) !== undefined);
    const tooEarly = next(first(), EARLIEST - 1n);
    const renamed = { ...tooEarly.certified.outcome, slot: EARLIEST };
    assert.ok(refusal({ certified: { ...tooEarly.certified, outcome: renamed } }) !== undefined);
    assert.deepEqual(driver.committee.rosters.length, 1);
    assert.equal(refusal(good), undefined);
    driver.assertAlike();
  });

  test("whatever a roster says, it follows or it is refused, alike on all replicas", () => {
    const { roster } = next(first(), EARLIEST);
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 30n }), fc.bigInt({ min: 0n, max: 200_000n }), (epoch, activationSlot) => {
        const problem = successorProblem(
          dealt.rosters.relay,
          { ...roster, epoch, activationSlot },
          { organism: "relay", earliestSlot: EARLIEST, rules: RULES.highest },
        );
        const fits = epoch === 1n && activationSlot >= EARLIEST && activationSlot <= EARLIEST + 100_000n;
        assert.equal(problem === undefined, fits);
      }),
    );
  });
});

/** Checkpoints in the log: when they are due, what their hash covers, whose votes count, and that a restore is the same. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { CodecError, decode, encode, toHex } from "../codec/codec.ts";
import { initCrypto } from "../crypto/engine.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { slotStartMs } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import { CommitteeDriver } from "../testing/committee-driver.ts";
import {
  CERTIFIED_CHECKPOINT,
  type CertifiedCheckpoint,
  type Checkpoint,
  checkCheckpoint,
  STATE_BYTES_MAX,
  stateHash,
} from "./checkpoint.ts";
import type { CommitteeCommand } from "./commands.ts";
import type { Applied } from "./committee.ts";
import { outcomeDigest } from "./outcome.ts";
import { CHECKPOINTS_KEPT } from "./state.ts";

type Driver = CommitteeDriver<ProbeState, ProbeCommand, Duty>;

const MEMBERS = 4;
const EVERY = { entries: 8n, slots: 4n };
let dealt: TestCommittee;
let driver: Driver;

before(async () => {
  await initCrypto();
  dealt = dealCommittee(MEMBERS, {}, "third");
});

function makeDriver(): Driver {
  const { config, rosters, secrets } = dealt;
  return new CommitteeDriver({
    config,
    roster: rosters.relay,
    secrets,
    createMachine: probeMachine,
    replicas: 2,
    checkpointEvery: EVERY,
  });
}

beforeEach(() => {
  driver = makeDriver();
  driver.nowMs = slotStartMs(dealt.config, 3n);
  driver.joinAll();
});

const command = (content: ProbeCommand): CommitteeCommand => ({
  type: "machine",
  command: encode(probeMachine().command, content),
});
const note = (): CommitteeCommand => command({ type: "note", text: "x" });
const decide = (slot: bigint, stage: string): CommitteeCommand =>
  command({ type: "decide", stage, slot, kind: "result", commitment: new Uint8Array([1]) });

/** Notes until a checkpoint is due. */
function reach(): { checkpoint: Checkpoint; state: Uint8Array } {
  for (;;) {
    const { checkpoint } = driver.author(0).say(note());
    if (checkpoint !== undefined) return checkpoint;
  }
}

function vote(index: number, checkpoint: Checkpoint): Applied {
  return driver.author(index).say(driver.checkpointVote(index, checkpoint));
}

describe("when a checkpoint is due", () => {
  test("after so many entries, refused ones too", () => {
    const at: bigint[] = [];
    for (let turn = 0; turn < 30; turn++) {
      const applied = turn % 3 === 0 ? driver.apply(new Uint8Array([turn])) : driver.author(0).say(note());
      if (applied.checkpoint !== undefined) at.push(applied.checkpoint.checkpoint.position);
    }
    assert.deepEqual(at, [8n, 16n, 24n, 32n]);
  });

  test("when the lowest undecided slot has come so far, and not before", () => {
    const due: bigint[] = [];
    driver = makeDriver();
    driver.nowMs = slotStartMs(dealt.config, 8n);
    driver.joinAll(1);
    for (let slot = 1n; slot <= 4n; slot++) {
      for (const stage of ["first", "second"]) {
        const applied = driver.author(0).say(decide(slot, stage));
        if (applied.checkpoint !== undefined) due.push(slot);
      }
    }
    // Slot 3 decided: 4 is the lowest undecided. The eighth entry falls into slot 4 and is too near to be one again.
    assert.deepEqual(due, [3n]);
  });
});

describe("what is hashed", () => {
  test("the state as it is restored: without the checkpoint's own record, with everything else", () => {
    const { checkpoint, state } = reach();
    assert.deepEqual(stateHash(state), checkpoint.stateHash);
    assert.equal(state.length, checkpoint.stateBytes);
    assert.deepEqual(checkpoint.head, driver.committee.head);
    const restored = driver.fresh();
    restored.restore(state);
    assert.deepEqual(restored.snapshot(), driver.committee.snapshot(), "the record is added again");
    assert.notDeepEqual(driver.committee.snapshot(), state);
  });

  test("restart at every position around a checkpoint: the same state and the same later checkpoints", () => {
    const states: Uint8Array[] = [];
    const made: string[] = [];
    const log = (applied: Applied): void => {
      states.push(driver.committee.snapshot());
      made.push(applied.checkpoint === undefined ? "" : toHex(applied.checkpoint.checkpoint.stateHash));
    };
    const { checkpoint } = reach();
    const base = driver.log.length;
    log(vote(1, checkpoint));
    log(vote(2, checkpoint));
    log(driver.author(0).say(note()));
    log(vote(3, checkpoint));
    for (let turn = 0; turn < 10; turn++) log(driver.author(0).say(note()));
    assert.equal(made.filter((each) => each !== "").length, 1);
    for (let cut = 0; cut < states.length; cut++) {
      const again = driver.fresh();
      const from = states[cut];
      assert.ok(from !== undefined);
      again.restore(from);
      for (let next = cut + 1; next < states.length; next++) {
        const raw = driver.log[base + next];
        assert.ok(raw !== undefined);
        const applied = again.apply(BigInt(base + next + 1), raw);
        const hash = applied.checkpoint === undefined ? "" : toHex(applied.checkpoint.checkpoint.stateHash);
        assert.equal(hash, made[next], `cut ${cut}, position ${base + next + 1}`);
      }
      assert.deepEqual(again.snapshot(), driver.committee.snapshot(), `cut at ${cut}`);
    }
  });

  test("a replica that read everything and one that began at a checkpoint are alike", () => {
    const { state } = reach();
    const from = driver.log.length;
    for (let turn = 0; turn < 20; turn++) driver.author(turn % MEMBERS).say(note());
    const joined = driver.fresh();
    joined.restore(state);
    for (let at = from; at < driver.log.length; at++) joined.apply(BigInt(at + 1), driver.log[at] ?? new Uint8Array());
    assert.deepEqual(joined.snapshot(), driver.replay().snapshot());
  });
});

describe("votes", () => {
  test("q shares certify, once, and the certificate verifies under the config's key alone", () => {
    const { checkpoint } = reach();
    const { quorum } = driver.committee.quorum;
    for (let index = 0; index < quorum - 1; index++) {
      const applied = vote(index, checkpoint);
      assert.equal(applied.refusal, undefined);
      assert.equal(applied.certifiedCheckpoint, undefined);
    }
    assert.equal(driver.committee.unvotedCheckpoints(quorum - 1).length, 1);
    assert.equal(driver.committee.unvotedCheckpoints(0).length, 0);
    const applied = vote(quorum - 1, checkpoint);
    assert.deepEqual(applied.certifiedCheckpoint, checkpoint);
    const shares = [...driver.committee.checkpointVotes(checkpoint.position)];
    const certified: CertifiedCheckpoint = {
      checkpoint,
      signature: combineSignatures(
        shares.map(([index, signature]) => ({ index, signature })),
        quorum,
      ),
      signers: shares.map(([index]) => index),
    };
    assert.equal(checkCheckpoint(dealt.config, "relay", certified), undefined);
    const late = vote(3, checkpoint);
    assert.equal(late.refusal, undefined);
    assert.equal(late.certifiedCheckpoint, undefined);
    assert.equal(driver.committee.checkpointVotes(checkpoint.position).size, quorum);
    assert.equal(driver.committee.unvotedCheckpoints(3).length, 0, "nothing more to vote on");
    driver.assertAlike();
  });

  test("twice, for what is not open, with a share that does not verify, with another's share: refused", () => {
    const { checkpoint } = reach();
    assert.equal(vote(0, checkpoint).refusal, undefined);
    assert.equal(vote(0, checkpoint).refusal?.reason, "DUPLICATE");
    assert.equal(vote(1, { ...checkpoint, position: checkpoint.position - 1n }).refusal?.reason, "CHECKPOINT_UNKNOWN");
    assert.equal(vote(1, { ...checkpoint, generation: 1n }).refusal?.reason, "BAD_SHARE");
    assert.equal(vote(1, { ...checkpoint, head: new Uint8Array(32) }).refusal?.reason, "BAD_SHARE");
    assert.equal(driver.author(1).say(driver.checkpointVote(2, checkpoint)).refusal?.reason, "BAD_SHARE");
    assert.equal(driver.committee.checkpointVotes(checkpoint.position).size, 1);
    assert.equal(vote(1, checkpoint).refusal, undefined);
    driver.assertAlike();
  });

  test("a share over an outcome is none over a checkpoint", () => {
    const { checkpoint } = reach();
    driver.author(0).say(decide(3n, "first"));
    const outcome = driver.committee.outcome("first", 3n);
    assert.ok(outcome !== undefined);
    assert.notDeepEqual(outcomeDigest(outcome), checkpoint.stateHash);
    const share = driver.share(1, outcome);
    const said = driver.checkpointVote(1, checkpoint);
    assert.ok(said.type === "checkpoint");
    assert.equal(driver.author(1).say({ ...said, share }).refusal?.reason, "BAD_SHARE");
  });

  test("only the newest are open", () => {
    const all = Array.from({ length: CHECKPOINTS_KEPT + 1 }, () => reach().checkpoint);
    const [oldest, next] = all;
    assert.ok(oldest !== undefined && next !== undefined);
    assert.equal(vote(0, oldest).refusal?.reason, "CHECKPOINT_UNKNOWN");
    assert.equal(vote(0, next).refusal, undefined);
    assert.equal(driver.committee.unvotedCheckpoints(1).length, CHECKPOINTS_KEPT);
  });
});

describe("another state", () => {
  const other = (checkpoint: Checkpoint): Checkpoint => ({ ...checkpoint, stateHash: new Uint8Array(32).fill(9) });

  test("does not count, and is named once its share verifies", () => {
    const { checkpoint } = reach();
    const applied = vote(2, other(checkpoint));
    assert.equal(applied.refusal?.reason, "STATE_DIFFERS");
    assert.deepEqual(applied.dissent?.authors, [2]);
    assert.equal(driver.committee.checkpointVotes(checkpoint.position).size, 0);
    const forged = driver.checkpointVote(3, other(checkpoint));
    assert.ok(forged.type === "checkpoint");
    const claim = driver.author(1).say(forged);
    assert.equal(claim.refusal?.reason, "BAD_SHARE");
    assert.equal(claim.dissent, undefined);
    const length = vote(1, { ...checkpoint, stateBytes: checkpoint.stateBytes + 1 });
    assert.deepEqual(length.dissent?.authors, [1], "another length is another state, not the same dissent");
    driver.assertAlike();
  });

  test("whoever has differed from q members is told so", () => {
    const { checkpoint } = reach();
    const found = [1, 2, 3].map((index) => vote(index, other(checkpoint)).dissent?.authors);
    assert.deepEqual(found, [[1], [1, 2], [1, 2, 3]]);
    assert.ok((found.at(-1)?.length ?? 0) >= driver.committee.quorum.quorum);
  });

  test("after the certificate is complete it is still named", () => {
    const { checkpoint } = reach();
    for (const index of [0, 1, 2]) vote(index, checkpoint);
    assert.deepEqual(vote(3, other(checkpoint)).dissent?.authors, [3]);
  });
});

describe("certificates in other hands", () => {
  test("every field counts", () => {
    const { checkpoint } = reach();
    const good = driver.certifyCheckpoint(checkpoint);
    const judge = (certified: CertifiedCheckpoint): string | undefined =>
      checkCheckpoint(dealt.config, "relay", certified)?.reason;
    assert.equal(judge(good), undefined);
    const changed: readonly Partial<Checkpoint>[] = [
      { generation: 1n },
      { epoch: 1n },
      { position: checkpoint.position + 1n },
      { head: new Uint8Array(32) },
      { stateHash: new Uint8Array(32) },
      { stateBytes: checkpoint.stateBytes + 1 },
    ];
    for (const each of changed)
      assert.equal(judge({ ...good, checkpoint: { ...checkpoint, ...each } }), "BAD_CERTIFICATE");
    assert.equal(checkCheckpoint(dealt.config, "tally", good)?.reason, "ORGANISM_MISMATCH");
    const large = driver.certifyCheckpoint({ ...checkpoint, stateBytes: STATE_BYTES_MAX + 1 });
    assert.equal(judge(large), "TOO_LARGE");
    assert.equal(judge(driver.certifyCheckpoint({ ...checkpoint, stateBytes: STATE_BYTES_MAX })), undefined);
  });

  test("no mutation of the bytes is accepted with another meaning", () => {
    const { checkpoint } = reach();
    const good = driver.certifyCheckpoint(checkpoint);
    const raw = encode(CERTIFIED_CHECKPOINT, good);
    fc.assert(
      fc.property(fc.nat(raw.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const mutated = raw.slice();
        mutated[at] = (mutated[at] ?? 0) ^ flip;
        try {
          const read = decode(CERTIFIED_CHECKPOINT, mutated);
          if (checkCheckpoint(dealt.config, "relay", read) !== undefined) return;
          assert.deepEqual({ ...read, signers: [] }, { ...good, signers: [] }, "only the informative part may differ");
        } catch (error) {
          assert.ok(error instanceof CodecError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

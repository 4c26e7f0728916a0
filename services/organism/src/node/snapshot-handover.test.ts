/** An archive that is silent, or refuses, holds up nothing and keeps at most one snapshot waiting. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { certifyState, dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { type CertifiedCheckpoint, checkpointDigest } from "../committee/checkpoint.ts";
import { blsSign } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { settled } from "../testing/manual-timers.ts";
import { CheckpointKeeper } from "./checkpoint-keeper.ts";
import { SnapshotHandover } from "./snapshot-handover.ts";

const NO_METERS = { count: () => undefined, gauge: () => undefined, record: () => undefined };

describe("snapshots on their way into the archive", () => {
  let dealt: TestCommittee;
  let snapshots: readonly { readonly certified: CertifiedCheckpoint; readonly state: Uint8Array }[];
  before(async () => {
    await initCrypto();
    dealt = dealCommittee(3);
    snapshots = [1, 2, 3, 4].map((value) => {
      const state = new Uint8Array(40).fill(value);
      return { certified: certifyState(dealt, BigInt(value), state), state };
    });
  });
  const errors: string[] = [];
  const logger = {
    debug: () => undefined,
    info: () => undefined,
    warn: () => undefined,
    error: (message: string) => void errors.push(message),
  };

  test("the newest waits, what it makes superfluous is not sent", async () => {
    const sent: bigint[] = [];
    let answer: () => void = () => undefined;
    const store = {
      save: ({ checkpoint }: CertifiedCheckpoint) => {
        sent.push(checkpoint.position);
        return new Promise<void>((resolve) => {
          answer = resolve;
        });
      },
    };
    const handover = new SnapshotHandover(store, logger);
    for (const { certified, state } of snapshots) handover.hand(certified, state);
    await settled();
    assert.deepEqual(sent, [1n]);
    answer();
    await settled();
    assert.deepEqual(sent, [1n, 4n]);
    answer();
    await handover.settled();
    const [first] = snapshots;
    assert.ok(first !== undefined);
    handover.hand(first.certified, first.state);
    await settled();
    assert.deepEqual(sent, [1n, 4n, 1n]);
    answer();
    await handover.settled();
  });

  test("a failure is told of, and the next one is tried", async () => {
    const kept: bigint[] = [];
    const store = {
      save: async ({ checkpoint }: CertifiedCheckpoint) => {
        if (checkpoint.position === 1n) throw new Error("503");
        kept.push(checkpoint.position);
      },
    };
    const handover = new SnapshotHandover(store, logger);
    for (const { certified, state } of snapshots) {
      handover.hand(certified, state);
      await handover.settled();
    }
    assert.deepEqual(kept, [2n, 3n, 4n]);
    assert.deepEqual(errors, ["the archive does not take a snapshot"]);
  });

  test("a member keeps its own snapshots while the archive says nothing", async () => {
    const own: bigint[] = [];
    const sent: bigint[] = [];
    const silent = {
      save: ({ checkpoint }: CertifiedCheckpoint) => {
        sent.push(checkpoint.position);
        return new Promise<void>(() => undefined);
      },
    };
    const shares = new Map<bigint, Map<number, Uint8Array>>();
    const keeper = new CheckpointKeeper(
      {
        quorumOf: () => 2,
        votes: (position) => shares.get(position) ?? new Map(),
        store: { save: async ({ checkpoint }) => void own.push(checkpoint.position) },
        outside: new SnapshotHandover(silent, logger),
        logger,
        meters: NO_METERS,
        onSaved: async () => undefined,
      },
      0n,
    );
    for (const { certified, state } of snapshots) {
      const { checkpoint } = certified;
      const votes = dealt.secrets.map(({ certificateShare }, index) => [
        index,
        blsSign(certificateShare, checkpointDigest(checkpoint)),
      ]) as [number, Uint8Array][];
      shares.set(checkpoint.position, new Map(votes));
      keeper.applied({ checkpoint: { checkpoint, state }, certifiedCheckpoint: checkpoint });
      await keeper.settled();
    }
    assert.deepEqual(own, [1n, 2n, 3n, 4n]);
    assert.deepEqual(sent, [1n]);
    assert.equal(keeper.savedPosition, 4n);
  });
});

/** What a slow disk finishes late does not count where positions have begun again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { certifyState, dealCommittee } from "../../test/test-lattice.ts";
import { type Checkpoint, checkpointDigest } from "../committee/checkpoint.ts";
import { blsSign } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { settled } from "../testing/manual-timers.ts";
import { CheckpointKeeper } from "./checkpoint-keeper.ts";

test("a snapshot that is still on its way to the disk when a generation begins does not stand for that one's", async () => {
  await initCrypto();
  const dealt = dealCommittee(3);
  const quiet = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
  const begun: string[] = [];
  let write: () => void = () => undefined;
  let certifying: Checkpoint | undefined;
  const keeper = new CheckpointKeeper(
    {
      quorumOf: () => 2,
      votes: () => {
        const digest = certifying === undefined ? new Uint8Array() : checkpointDigest(certifying);
        return new Map(dealt.secrets.map((each, index) => [index, blsSign(each.certificateShare, digest)]));
      },
      store: {
        save: ({ checkpoint: { generation, position } }) => {
          begun.push(`${generation}.${position}`);
          return new Promise<void>((resolve) => {
            write = resolve;
          });
        },
      },
      outside: undefined,
      logger: quiet,
      meters: { count: () => undefined, gauge: () => undefined, record: () => undefined },
      onSaved: async () => undefined,
    },
    0n,
  );
  const certify = (generation: bigint, position: bigint): void => {
    const state = new Uint8Array(40).fill(Number(position));
    const { checkpoint } = certifyState(dealt, position, state, { generation });
    certifying = checkpoint;
    keeper.applied({ checkpoint: { checkpoint, state }, certifiedCheckpoint: checkpoint });
  };
  certify(0n, 200n);
  await settled();
  keeper.beginGeneration();
  write();
  await keeper.settled();
  assert.equal(keeper.savedPosition, 0n, "nothing of the new generation is on disk yet");
  certify(1n, 10n);
  await settled();
  assert.deepEqual(begun, ["0.200", "1.10"]);
  write();
  await keeper.settled();
  assert.equal(keeper.savedPosition, 10n);
});

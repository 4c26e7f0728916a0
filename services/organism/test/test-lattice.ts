/** Members for tests of the runtime: dealt in memory, one committee of the smallest organism there is. */
import { type CertifiedCheckpoint, type Checkpoint, checkpointDigest, stateHash } from "../src/committee/checkpoint.ts";
import { blsSign } from "../src/crypto/bls.ts";
import { combineSignatures } from "../src/crypto/threshold.ts";
import { committeeId } from "../src/identity/lattice-config.ts";
import { Member } from "../src/node/member.ts";
import type { TestCommittee } from "../src/testing/dealt-committee.ts";
import { memberOptions, type StartOptions } from "../src/testing/member-options.ts";
import { type ToyDuty, toyDefinition } from "./toy-organism.ts";

export { dealCommittee, random, type TestCommittee, testConfig } from "../src/testing/dealt-committee.ts";
export { memberOptions, SILENT, type StartOptions } from "../src/testing/member-options.ts";

/** A certificate of a quorum of `relay` over any bytes. */
export function certifyState(
  { config, secrets }: TestCommittee,
  position: bigint,
  state: Uint8Array,
  changes: Partial<Checkpoint> = {},
): CertifiedCheckpoint {
  const checkpoint: Checkpoint = {
    version: 3,
    committee: committeeId(config, "relay"),
    generation: 0n,
    epoch: 0n,
    rules: 1,
    position,
    head: new Uint8Array(32).fill(7),
    stateHash: stateHash(state),
    stateBytes: state.length,
    guestHash: new Uint8Array(32).fill(8),
    guestBytes: state.length,
    ...changes,
  };
  const digest = checkpointDigest(checkpoint);
  const threshold = Math.floor(secrets.length / 2) + 1;
  const signers = Array.from({ length: threshold }, (_, index) => index);
  const shares = secrets
    .slice(0, threshold)
    .map(({ certificateShare }, index) => ({ index, signature: blsSign(certificateShare, digest) }));
  return { checkpoint, signature: combineSignatures(shares, threshold), signers };
}

export async function startToyMember(options: StartOptions) {
  const filled = await memberOptions(options);
  const starting = Member.start<
    ReturnType<ReturnType<typeof toyDefinition.createMachine>["genesis"]>,
    { readonly type: "add"; readonly slot: bigint; readonly amount: number; readonly padding: Uint8Array },
    ToyDuty,
    Record<string, never>
  >({ definition: toyDefinition, settings: {}, ...filled });
  const member = await starting.catch(async (error: unknown) => {
    await filled.journal.close();
    throw error;
  });
  options.calls?.serve(`relay-${options.index}`, member.services);
  return member;
}

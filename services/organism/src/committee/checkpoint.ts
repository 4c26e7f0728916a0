/**
 * Certified checkpoints: q members say what the state was at a position of the log (log.md §6).
 *
 * The certificate is a threshold BLS signature under the same key as outcomes', over a digest of another domain. Who has
 * the lattice config can judge a snapshot with it, whoever hands it over.
 */
import { type Codec, count, fixed, type Infer, list, literal, struct, u64 } from "../codec/codec.ts";
import { blsVerify } from "../crypto/bls.ts";
import { hash, hashBytes } from "../crypto/hash.ts";
import { committeeId, G1_BYTES, G2_BYTES, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import { type Refusal, refuse } from "../machine.ts";
import { type Eras, eraOfEpoch, pinnedEras } from "./eras.ts";

/** The largest state that is checkpointed and handed from member to member. */
export const STATE_BYTES_MAX = 512 * 1024 * 1024;

/** What is certified. */
export const CHECKPOINT = struct({
  version: literal(3),
  committee: UNIQUE_ID,
  generation: u64,
  epoch: u64,
  /** The rules that govern at this position: who cannot follow them needs another build (rules.ts). */
  rules: count,
  /** The state is the one after the entry at this position. */
  position: u64,
  /** Chain head at that position. */
  head: fixed(32),
  /** `stateHash` of the canonical state as it will be restored. */
  stateHash: fixed(32),
  /** Length of that state: nobody can be made to fetch more. */
  stateBytes: count,
  /** `guestHash` of the same state as guests are given it, and its length. */
  guestHash: fixed(32),
  guestBytes: count,
});
export type Checkpoint = Infer<typeof CHECKPOINT>;

/** A checkpoint, its threshold signature, and who signed (informative). */
export const CERTIFIED_CHECKPOINT = struct({
  checkpoint: CHECKPOINT as Codec<Checkpoint>,
  signature: fixed(G2_BYTES),
  signers: list(count, 16),
});
export type CertifiedCheckpoint = Infer<typeof CERTIFIED_CHECKPOINT>;

/** H/"lattice/state/v1"(canonical state). */
export function stateHash(state: Uint8Array): Uint8Array {
  return hashBytes("lattice/state/v1", state);
}

/** H/"lattice/state/guest/v1"(canonical state for guests). */
export function guestHash(state: Uint8Array): Uint8Array {
  return hashBytes("lattice/state/guest/v1", state);
}

/** H/"lattice/checkpoint/v1"(checkpoint): what members sign. */
export function checkpointDigest(checkpoint: Checkpoint): Uint8Array {
  return hash("lattice/checkpoint/v1", CHECKPOINT, checkpoint);
}

/**
 * What is wrong with a checkpoint, judged by the lattice config and the eras known; undefined when it stands. It is its
 * epoch that says whose key certifies it.
 */
export function checkCheckpoint(
  config: LatticeConfig,
  organism: Organism,
  certified: CertifiedCheckpoint,
  eras: Eras = pinnedEras(config, organism),
): Refusal | undefined {
  const { checkpoint, signature } = certified;
  const certificateKey = eraOfEpoch(eras, checkpoint.epoch).key;
  if (Buffer.compare(checkpoint.committee, committeeId(config, organism)) !== 0) {
    return refuse("ORGANISM_MISMATCH", `the checkpoint is not of this lattice's ${organism}`);
  }
  const { stateBytes, guestBytes } = checkpoint;
  if (stateBytes > STATE_BYTES_MAX || guestBytes > STATE_BYTES_MAX) {
    return refuse("TOO_LARGE", `a state of ${stateBytes} bytes, ${guestBytes} for guests`);
  }
  if (certificateKey.length !== G1_BYTES || !blsVerify(certificateKey, checkpointDigest(checkpoint), signature)) {
    return refuse("BAD_CERTIFICATE", `the certificate of position ${checkpoint.position} does not verify`);
  }
  return undefined;
}

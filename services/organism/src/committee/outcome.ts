/**
 * Outcomes and their certificates: what one organism tells the world about one slot.
 *
 * The certificate is one threshold BLS signature in Ethereum's ciphersuite (48-byte key, 96-byte signature) over a
 * 32-byte digest, so any language checks it with a stock library and the lattice config alone.
 */
import {
  bytes,
  type Codec,
  count,
  equalBytes,
  fixed,
  type Infer,
  list,
  literal,
  oneOf,
  optional,
  struct,
  text,
  u64,
} from "../codec/codec.ts";
import { blsVerify } from "../crypto/bls.ts";
import { hash } from "../crypto/hash.ts";
import { committeeId, G1_BYTES, G2_BYTES, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import { type Refusal, refuse } from "../machine.ts";
import { type Eras, keyFor, pinnedEras } from "./eras.ts";

/** A slot's stage ends in exactly one of these. */
export type OutcomeKind = "result" | "empty" | "skipped";

/** The largest commitment that is passed around whole; bodies go separately. */
export const COMMITMENT_BYTES_MAX = 256 * 1024;

/** What is certified. `commitment` is the organism's own canonical encoding; empty for `skipped`. */
export const OUTCOME = struct({
  version: literal(1),
  committee: UNIQUE_ID,
  generation: u64,
  epoch: u64,
  slot: u64,
  /** Which decision of the slot: `header`, `broadcast`, `unsealed`, `blind`, `auction`, `candidate`, … */
  stage: text(32),
  kind: oneOf("result", "empty", "skipped"),
  commitment: bytes(COMMITMENT_BYTES_MAX),
  /** blake3 of the body, where there is one. */
  bodyHash: optional(fixed(32)),
});
export type Outcome = Infer<typeof OUTCOME>;

/** An outcome, its threshold signature, and who signed (informative: the signature does not depend on who). */
export const CERTIFIED = struct({
  outcome: OUTCOME as Codec<Outcome>,
  signature: fixed(G2_BYTES),
  signers: list(count, 16),
});
export type CertifiedOutcome = Infer<typeof CERTIFIED>;

const DIGEST = struct({
  committee: UNIQUE_ID,
  generation: u64,
  epoch: u64,
  slot: u64,
  kind: text(48),
  commitment: bytes(COMMITMENT_BYTES_MAX),
  bodyHash: optional(fixed(32)),
});

/** H/"lattice/outcome/v1"(committee, generation, epoch, slot, "stage/kind", commitment, body hash): what members sign. */
export function outcomeDigest(outcome: Outcome): Uint8Array {
  const kind = `${outcome.stage}/${outcome.kind}`;
  return hash("lattice/outcome/v1", DIGEST, { ...outcome, kind });
}

/**
 * What is wrong with an outcome of one of the lattice's committees, judged by the config and the eras known; undefined
 * when it stands. Rosters are judged by `checkRoster`.
 */
export function checkOutcome(
  config: LatticeConfig,
  organism: Organism,
  { outcome, signature }: Pick<CertifiedOutcome, "outcome" | "signature">,
  eras: Eras = pinnedEras(config, organism),
): Refusal | undefined {
  if (!equalBytes(outcome.committee, committeeId(config, organism))) {
    return refuse("ORGANISM_MISMATCH", `the outcome is not from this lattice's ${organism}`);
  }
  const named = `${organism}/${outcome.stage} of slot ${outcome.slot}`;
  const key = keyFor(eras, outcome);
  if (key === undefined) return refuse("BAD_CERTIFICATE", `${named} is not of epoch ${outcome.epoch}`);
  if (!verifyCertificate(key, outcome, signature)) {
    return refuse("BAD_CERTIFICATE", `the certificate of ${named} does not verify`);
  }
  return undefined;
}

/** True when `signature` is the group's over this outcome. Total: malformed keys or signatures are just false. */
export function verifyCertificate(certificateKey: Uint8Array, outcome: Outcome, signature: Uint8Array): boolean {
  if (certificateKey.length !== G1_BYTES || signature.length !== G2_BYTES) return false;
  return blsVerify(certificateKey, outcomeDigest(outcome), signature);
}

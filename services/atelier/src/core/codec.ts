/** Canonical bytes of atelier's commands, facts and state. */
import {
  bytes,
  type Codec,
  count,
  encode,
  fixed,
  type Infer,
  list,
  map,
  optional,
  struct,
  u64,
  union,
} from "@lattice/organism/codec/codec.ts";
import { COMMITMENT_BYTES_MAX } from "@lattice/organism/committee/outcome.ts";
import { hash } from "@lattice/organism/crypto/hash.ts";
import { SEQUENCER_ATTRIBUTES, type SequencerAttributes } from "@lattice/organism/outcomes/sequencer.ts";
import type { AtelierCommand, AtelierState, Evidence, Proposal, SlotRecord } from "./types.ts";

/** The largest sealed body: half of what a command may be. */
export const SEALED_BODY_BYTES_MAX = 8 * 1024 * 1024;

const HASH = fixed(32);
const COMMITMENT = bytes(COMMITMENT_BYTES_MAX);
const SEALED_BODY = bytes(SEALED_BODY_BYTES_MAX);

export const COMMAND: Codec<AtelierCommand> = union({
  proposal: struct({
    slot: u64,
    parentHash: HASH,
    candidateVersion: count,
    commitment: COMMITMENT,
    bodyHash: HASH,
    sealedBody: SEALED_BODY,
  }),
});

const PROPOSAL: Codec<Proposal> = struct({
  author: count,
  position: u64,
  parentHash: HASH,
  candidateVersion: count,
  commitment: COMMITMENT,
  sealedBody: SEALED_BODY,
});
const EVIDENCE: Codec<Evidence> = struct({
  member: count,
  parentHash: HASH,
  candidateVersion: count,
  first: u64,
  second: u64,
});
const SLOT: Codec<SlotRecord> = struct({
  attributes: list(SEQUENCER_ATTRIBUTES as Codec<SequencerAttributes>, 8),
  readyMs: optional(count),
  proposals: list(PROPOSAL, 128),
  evidence: list(EVIDENCE, 16),
});
export const STATE: Codec<AtelierState> = struct({ slots: map(u64, SLOT, 100_000) });

/** The fact under `attributesTopic`: signed bytes, so that `apply` judges them without asking anybody. */
export const SIGNED_ATTRIBUTES = struct({
  attributes: SEQUENCER_ATTRIBUTES as Codec<SequencerAttributes>,
  signature: fixed(65),
});
export type SignedAttributes = Infer<typeof SIGNED_ATTRIBUTES>;

/** The fact under `CANDIDATE_TOPIC`: H/"lattice/atelier/candidate/v1"(commitment), 32 bytes. */
export function candidateFact(commitment: Uint8Array): Uint8Array {
  return hash("lattice/atelier/candidate/v1", COMMITMENT, commitment);
}

const BODY_AAD = struct({
  committee: HASH,
  slot: u64,
  parentHash: HASH,
  candidateVersion: count,
  author: count,
  bodyHash: HASH,
});

/** HPKE info of proposed bodies. */
export const BODY_BOX_INFO = new TextEncoder().encode("lattice/atelier/body/v1");

/** Binds a sealed body to its proposal. */
export function bodyAad(of: Infer<typeof BODY_AAD>): Uint8Array {
  return encode(BODY_AAD, of);
}

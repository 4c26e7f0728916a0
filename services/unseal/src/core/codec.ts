/** Canonical encodings of state, commands and facts. */
import {
  bool,
  bytes,
  type Codec,
  count,
  encode,
  fixed,
  type Infer,
  list,
  literal,
  map,
  oneOf,
  optional,
  struct,
  u64,
  union,
} from "@lattice/organism/codec/codec.ts";
import { COMMITMENT_BYTES_MAX } from "@lattice/organism/committee/outcome.ts";
import { hashBytes } from "@lattice/organism/crypto/hash.ts";
import { G2_BYTES } from "@lattice/organism/identity/lattice-config.ts";
import type { Evidence, SlotRecord, UnsealCommand, UnsealState } from "./types.ts";

const MEMBERS_MAX = 16;
const MESSAGES_MAX = 65_536;
const SEALED_SHARE_BYTES_MAX = 4096;

/** Bytes of one share boxed to `members` members (crypto/box.ts): anything else is malformed. */
export function sealedShareBytes(members: number): number {
  return G2_BYTES + 56 + 88 * members;
}

const FREEZE = struct({ position: u64, broadcast: fixed(32), blind: optional(fixed(32)) });
const EVIDENCE: Codec<Evidence> = struct({
  member: count,
  kind: oneOf("share-before-freeze", "share-conflict"),
  position: u64,
  digest: fixed(32),
});
const SLOT_RECORD: Codec<SlotRecord> = struct({
  freeze: optional(FREEZE),
  noBlind: bool,
  shares: map(count, bytes(SEALED_SHARE_BYTES_MAX), MEMBERS_MAX),
  evidence: list(EVIDENCE, 2 * MEMBERS_MAX),
  landed: list(fixed(16), MESSAGES_MAX),
});

export const STATE: Codec<UnsealState> = struct({
  version: literal(1),
  retainedFrom: u64,
  candidateSlot: optional(u64),
  slots: map(u64, SLOT_RECORD, 100_000),
});

export const COMMAND: Codec<UnsealCommand> = union({
  freeze: struct({ slot: u64, epoch: u64, broadcast: fixed(32), blind: optional(fixed(32)) }),
  share: struct({ slot: u64, epoch: u64, sealed: bytes(SEALED_SHARE_BYTES_MAX) }),
});

/** H/"lattice/unseal/evidence/v1"(command). */
export function evidenceDigest(command: UnsealCommand): Uint8Array {
  return hashBytes("lattice/unseal/evidence/v1", encode(COMMAND, command));
}

/** The fact of topic `no-blind`: there is nothing to say but that. */
export const NO_BLIND_FACT: Uint8Array = Uint8Array.of(1);

/** The fact of topic `opened`: what the slot's messages say. */
export const OPENED_FACT = struct({
  version: literal(1),
  /** Canonical UNSEALED. */
  commitment: bytes(COMMITMENT_BYTES_MAX),
  /** blake3 of the canonical UNSEALED_BODY; absent when no message opened. */
  bodyHash: optional(fixed(32)),
});
export type OpenedFact = Infer<typeof OPENED_FACT>;

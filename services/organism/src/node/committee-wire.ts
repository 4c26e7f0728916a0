/** Protobuf outcomes and checkpoints ↔ canonical ones. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  CertifiedCheckpointSchema,
  CertifiedCheckpoint as WireCheckpoint,
} from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import {
  type CertifiedOutcomeSchema,
  OutcomeKind as WireKind,
  type CertifiedOutcome as WireOutcome,
} from "@lattice/proto/lattice/committee/v1/outcome_pb.ts";
import { CodecError, decode, encode } from "../codec/codec.ts";
import { CERTIFIED_CHECKPOINT, type CertifiedCheckpoint } from "../committee/checkpoint.ts";
import { ERAS_MAX } from "../committee/eras.ts";
import { CERTIFIED, type CertifiedOutcome, type OutcomeKind } from "../committee/outcome.ts";
import { ROSTERS_MAX } from "../committee/state.ts";

const TO_WIRE: Readonly<Record<OutcomeKind, WireKind>> = {
  result: WireKind.RESULT,
  empty: WireKind.EMPTY,
  skipped: WireKind.SKIPPED,
};
const FROM_WIRE = new Map<WireKind, OutcomeKind>(
  (Object.entries(TO_WIRE) as [OutcomeKind, WireKind][]).map(([kind, wire]) => [wire, kind]),
);

export function toWireOutcome(certified: CertifiedOutcome): MessageInitShape<typeof CertifiedOutcomeSchema> {
  const { outcome, signature, signers } = certified;
  return {
    committeeId: outcome.committee,
    generation: outcome.generation,
    epoch: outcome.epoch,
    slot: outcome.slot,
    stage: outcome.stage,
    kind: TO_WIRE[outcome.kind],
    commitment: outcome.commitment,
    bodyHash: outcome.bodyHash ?? new Uint8Array(),
    signature,
    signers: [...signers],
  };
}

/**
 * Rosters as a member tells of them, of which those that are malformed are left out, and whatever is more than a committee
 * can have: those of its eras and those of its slots. Each costs a pairing to judge.
 */
export function rostersTold(wire: readonly WireOutcome[]): CertifiedOutcome[] {
  return wire.slice(0, ERAS_MAX + ROSTERS_MAX).flatMap((each) => fromWireOutcome(each) ?? []);
}

/** So many rosters that do not stand, and whoever tells of them is not listened to any further. */
export const BAD_ROSTERS_MAX = 16;

/** Undefined when a length or a value is out of range; the certificate itself is not checked here. */
export function fromWireOutcome(wire: WireOutcome): CertifiedOutcome | undefined {
  const kind = FROM_WIRE.get(wire.kind);
  if (kind === undefined) return undefined;
  const candidate: CertifiedOutcome = {
    outcome: {
      version: 1,
      committee: wire.committeeId,
      generation: wire.generation,
      epoch: wire.epoch,
      slot: wire.slot,
      stage: wire.stage,
      kind,
      commitment: wire.commitment,
      bodyHash: wire.bodyHash.length === 0 ? undefined : wire.bodyHash,
    },
    signature: wire.signature,
    signers: [...wire.signers],
  };
  try {
    // The canonical codec knows every length and range; the round trip also copies out of the transport's buffers.
    return decode(CERTIFIED, encode(CERTIFIED, candidate));
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

export function toWireCheckpoint({
  checkpoint,
  signature,
  signers,
}: CertifiedCheckpoint): MessageInitShape<typeof CertifiedCheckpointSchema> {
  return {
    committeeId: checkpoint.committee,
    generation: checkpoint.generation,
    epoch: checkpoint.epoch,
    rules: checkpoint.rules,
    position: checkpoint.position,
    chainHead: checkpoint.head,
    stateHash: checkpoint.stateHash,
    stateBytes: BigInt(checkpoint.stateBytes),
    guestHash: checkpoint.guestHash,
    guestBytes: BigInt(checkpoint.guestBytes),
    signature,
    signers: [...signers],
  };
}

/** Undefined when a length or a value is out of range; the certificate itself is not checked here. */
export function fromWireCheckpoint(wire: WireCheckpoint): CertifiedCheckpoint | undefined {
  const candidate: CertifiedCheckpoint = {
    checkpoint: {
      version: 3,
      committee: wire.committeeId,
      generation: wire.generation,
      epoch: wire.epoch,
      rules: wire.rules,
      position: wire.position,
      head: wire.chainHead,
      stateHash: wire.stateHash,
      stateBytes: Number(wire.stateBytes),
      guestHash: wire.guestHash,
      guestBytes: Number(wire.guestBytes),
    },
    signature: wire.signature,
    signers: [...wire.signers],
  };
  try {
    return decode(CERTIFIED_CHECKPOINT, encode(CERTIFIED_CHECKPOINT, candidate));
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

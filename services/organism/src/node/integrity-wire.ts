/** Protobuf heads and votes ↔ canonical ones. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  DecisionVotesSchema,
  GetHeadResponse,
  GetHeadResponseSchema,
  DecisionVotes as WireDecision,
} from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { CodecError, decode, encode } from "../codec/codec.ts";
import { HEAD_STATEMENT, type SignedHead } from "../committee/heads.ts";
import { G2_BYTES } from "../identity/lattice-config.ts";
import { fromWireOutcome, toWireOutcome } from "./committee-wire.ts";
import type { DecisionVotes } from "./fraud-collector.ts";

export function toWireHead({ statement, signature }: SignedHead): MessageInitShape<typeof GetHeadResponseSchema> {
  const { committee, generation, member, position, head, newest } = statement;
  return { committeeId: committee, generation, memberIndex: member, position, head, newestPosition: newest, signature };
}

/** Undefined when a length or a value is out of range; the signature itself is not checked here. */
export function fromWireHead(wire: GetHeadResponse): SignedHead | undefined {
  const statement = {
    version: 1 as const,
    committee: wire.committeeId,
    generation: wire.generation,
    member: wire.memberIndex,
    position: wire.position,
    head: wire.head,
    newest: wire.newestPosition,
  };
  try {
    return { statement: decode(HEAD_STATEMENT, encode(HEAD_STATEMENT, statement)), signature: wire.signature.slice() };
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

/** Stands where a certificate would: there is none yet, or it is not what is asked for. */
const NO_SIGNATURE = new Uint8Array(G2_BYTES);

export function toWireDecision({ outcome, votes }: DecisionVotes): MessageInitShape<typeof DecisionVotesSchema> {
  return {
    outcome: { ...toWireOutcome({ outcome, signature: NO_SIGNATURE, signers: [] }), signature: new Uint8Array() },
    votes: [...votes].sort(([a], [b]) => a - b).map(([memberIndex, share]) => ({ memberIndex, share })),
  };
}

/** Undefined when it is malformed; no share is checked here. */
export function fromWireDecision(wire: WireDecision): DecisionVotes | undefined {
  if (wire.outcome === undefined) return undefined;
  const certified = fromWireOutcome({ ...wire.outcome, signature: NO_SIGNATURE });
  if (certified === undefined || wire.votes.some(({ share }) => share.length !== G2_BYTES)) return undefined;
  return {
    outcome: certified.outcome,
    votes: new Map(wire.votes.map(({ memberIndex, share }) => [memberIndex, share.slice()])),
  };
}

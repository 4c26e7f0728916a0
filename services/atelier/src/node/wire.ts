/** atelier's protobuf ↔ canonical. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { decode, encode, u256 } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { CANDIDATE } from "@lattice/organism/outcomes/atelier.ts";
import type { CandidateSchema } from "@lattice/proto/lattice/atelier/v1/atelier_service_pb.ts";

/** A certified candidate with its commitment decoded beside it; a skipped slot has nothing but the certificate. */
export function toWireCandidate(certified: CertifiedOutcome): MessageInitShape<typeof CandidateSchema> {
  const { slot, kind, commitment } = certified.outcome;
  const base = { certified: toWireOutcome(certified), slot };
  if (kind !== "result") return base;
  const candidate = decode(CANDIDATE, commitment);
  return {
    ...base,
    candidateVersion: candidate.candidateVersion,
    parentHash: candidate.parentHash,
    blockHash: candidate.blockHash,
    blockNumber: candidate.blockNumber,
    stateRoot: candidate.stateRoot,
    gasUsed: candidate.gasUsed,
    transactions: candidate.transactions,
    tableRoot: candidate.tableRoot,
    feesWei: encode(u256, candidate.feesWei),
    paymentsWei: encode(u256, candidate.paymentsWei),
    ...(candidate.unsealed === undefined ? {} : { unsealed: candidate.unsealed }),
    ...(candidate.auction === undefined ? {} : { auction: candidate.auction }),
  };
}

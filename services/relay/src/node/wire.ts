/** relay's protobuf ↔ core types. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { decode } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { ACCEPTED, NOT_TAKEN } from "@lattice/organism/outcomes/relay.ts";
import type { AcceptanceSchema } from "@lattice/proto/lattice/relay/v1/relay_service_pb.ts";

export function toWireAcceptance(certified: CertifiedOutcome): MessageInitShape<typeof AcceptanceSchema> {
  const { slot, kind, commitment } = certified.outcome;
  const outcome = toWireOutcome(certified);
  switch (kind) {
    case "result": {
      const { parentHash, blockHash, blockNumber, sequencer, signature } = decode(ACCEPTED, commitment);
      return { slot, accepted: true, parentHash, blockHash, blockNumber, sequencer, signature, outcome };
    }
    case "empty": {
      const { parentHash, blockHash, reason } = decode(NOT_TAKEN, commitment);
      return { slot, accepted: false, parentHash, blockHash, reason, outcome };
    }
    case "skipped":
      return { slot, accepted: false, reason: "skipped", outcome };
  }
}

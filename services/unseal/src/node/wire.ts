/** Protobuf ↔ canonical. Requests are checked for sizes before anything else looks at them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { tryDecode } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { COMMON_FAULTS, faultsOf } from "@lattice/organism/fault.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { UNSEALED, type UnsealedCommitment } from "@lattice/organism/outcomes/unseal.ts";
import { MESSAGE_ID_BYTES } from "@lattice/organism/outcomes/zipnet.ts";
import { FailureReason, type UnsealedRoundSchema } from "@lattice/proto/lattice/unseal/v1/unseal_service_pb.ts";

const fault = faultsOf("unseal", COMMON_FAULTS);

const REASONS: Readonly<Record<UnsealedCommitment["failures"][number]["reason"], FailureReason>> = {
  malformed: FailureReason.MALFORMED,
  duplicate: FailureReason.DUPLICATE,
  "not-content": FailureReason.NOT_CONTENT,
  "too-large": FailureReason.TOO_LARGE,
};

/** @throws Fault MALFORMED */
export function messageIdFromWire(bytes: Uint8Array): Uint8Array {
  if (bytes.length !== MESSAGE_ID_BYTES) {
    throw fault("MALFORMED", `message_id: ${MESSAGE_ID_BYTES} bytes expected`, { length: bytes.length.toString() });
  }
  return bytes.slice();
}

/** A certified round with its commitment decoded beside it; a skipped slot has nothing but the certificate. */
export function toWireRound(certified: CertifiedOutcome): MessageInitShape<typeof UnsealedRoundSchema> {
  const commitment = tryDecode(UNSEALED, certified.outcome.commitment);
  return {
    certified: toWireOutcome(certified),
    ...(commitment === undefined ? {} : { broadcast: commitment.broadcast }),
    ...(commitment?.blind === undefined ? {} : { blind: commitment.blind }),
    messages: (commitment?.messages ?? []).map(({ messageId, contentHash, disclosed }) => ({
      messageId,
      contentHash,
      ...(disclosed.hash === undefined ? {} : { transactionHash: disclosed.hash }),
      ...(disclosed.to === undefined ? {} : { to: disclosed.to }),
      ...(disclosed.selector === undefined ? {} : { selector: disclosed.selector }),
      ...(disclosed.rawTransaction === undefined ? {} : { rawTransaction: disclosed.rawTransaction }),
    })),
    failures: (commitment?.failures ?? []).map(({ messageId, reason }) => ({ messageId, reason: REASONS[reason] })),
  };
}

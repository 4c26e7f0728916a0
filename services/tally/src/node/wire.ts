/** tally's protobuf ↔ core types. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { decode } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { ATTRIBUTION, type AttributionCommitment, type Charge, type Credit } from "@lattice/organism/outcomes/tally.ts";
import {
  type AttestationSchema,
  type AttributionSchema,
  BatchStatus,
  type ChargeSchema,
  type CollectedChargeSchema,
  type CreditSchema,
  RecipientKind,
} from "@lattice/proto/lattice/tally/v1/tally_service_pb.ts";
import { ADDRESS_BYTES, uintWord } from "../core/eip712.ts";
import { type CollectedCharge, notLanded } from "../core/slot-attribution.ts";
import type { Batch } from "../core/types.ts";

const KINDS: Readonly<Record<Credit["kind"], RecipientKind>> = {
  "order-flow-provider": RecipientKind.ORDER_FLOW_PROVIDER,
  "bid-winner": RecipientKind.BID_WINNER,
  "co-builder": RecipientKind.CO_BUILDER,
  proposer: RecipientKind.PROPOSER,
};

/** 32 bytes big-endian. */
export const weiToWire = uintWord;

/** Undefined for anything but 20 bytes. */
export function addressFromWire(wire: Uint8Array): Uint8Array | undefined {
  // Copied: the transport reuses its buffers.
  return wire.length === ADDRESS_BYTES ? Uint8Array.from(wire) : undefined;
}

export function toWireCollected({ bidId, wei }: CollectedCharge): MessageInitShape<typeof CollectedChargeSchema> {
  return { bidId, wei: weiToWire(wei) };
}

export function toWireAttribution(certified: CertifiedOutcome): MessageInitShape<typeof AttributionSchema> {
  const { slot, kind, commitment } = certified.outcome;
  const attribution: AttributionCommitment =
    kind === "skipped" ? notLanded(undefined) : decode(ATTRIBUTION, commitment);
  const { landed, parentHash, blockNumber, blockHash, landedMessages, credits, charges } = attribution;
  return {
    slot,
    landed,
    parentHash,
    block: { number: blockNumber, hash: blockHash },
    landedMessages,
    credits: credits.map(toWireCredit),
    charges: charges.map(toWireCharge),
    refundableWei: weiToWire(attribution.refundableWei),
    remainderWei: weiToWire(attribution.remainderWei),
    outcome: toWireOutcome(certified),
  };
}

function toWireCredit({ recipient, kind, wei }: Credit): MessageInitShape<typeof CreditSchema> {
  return { amount: { account: recipient, wei: weiToWire(wei) }, kind: KINDS[kind] };
}

function toWireCharge({ bidId, account, wei }: Charge): MessageInitShape<typeof ChargeSchema> {
  return { bidId, amount: { account, wei: weiToWire(wei) } };
}

export function statusOf(batch: Batch): BatchStatus {
  if (batch.postedIn > 0n) return BatchStatus.POSTED;
  return batch.signedAtMs > 0 ? BatchStatus.SIGNED : BatchStatus.OPEN;
}

/** @param signatures what `post` takes; empty while there are too few */
export function toWireAttestation(
  batch: Batch,
  digest: Uint8Array,
  signatures: readonly Uint8Array[],
): MessageInitShape<typeof AttestationSchema> {
  const { attestation, slot, postedIn } = batch;
  return {
    latticeId: attestation.latticeId,
    batch: attestation.batch,
    lastBlock: { number: attestation.lastBlockNumber, hash: attestation.lastBlockHash },
    root: attestation.root,
    totalWei: weiToWire(attestation.total),
    charges: attestation.charges.map(toWireCharge),
    reimbursement: { account: attestation.poster, wei: weiToWire(attestation.posterReimbursement) },
    status: statusOf(batch),
    signatures: [...signatures],
    digest,
    slot,
    postedInBlock: postedIn,
  };
}

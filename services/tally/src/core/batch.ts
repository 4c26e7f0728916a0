/**
 * Batches: when one closes, what it says, who has signed it, and when the contract has it. One is open at a time,
 * because the contract takes batch n + 1 only after batch n; what is credited meanwhile goes into the next.
 */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { recoverAddress } from "@lattice/organism/crypto/secp256k1.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { latticeRoot } from "@lattice/organism/identity/unique-id.ts";
import { type Refusal, refuse } from "@lattice/organism/machine.ts";
import type { Charge } from "@lattice/organism/outcomes/tally.ts";
import {
  type Attestation,
  assembleSignatures,
  attestationDigest,
  CHARGES_MAX,
  settlementDomain,
} from "./attestation.ts";
import { BATCHES_KEPT, CHARGED_MAX, CHARGES_WAITING_MAX } from "./codec.ts";
import { ADDRESS_BYTES } from "./eip712.ts";
import { type Ledger, ledgerTree } from "./ledger.ts";
import { merkleRoot } from "./merkle.ts";
import type { AttestationShareCommand, Batch, PostedEvent, TallyState } from "./types.ts";

/** The batch that members sign and post now. */
export function openBatch(state: Pick<TallyState, "batches" | "openLedger">): Batch | undefined {
  return state.openLedger === undefined ? undefined : state.batches.at(-1);
}

/** 32 bytes that members sign. */
export function batchDigest(config: LatticeConfig, attestation: Attestation): Uint8Array {
  return attestationDigest(settlementDomain(config.chainId, config.tally.content.settlement), attestation);
}

/** What `post` takes: as many as the threshold, ascending by signer; undefined while there are too few. */
export function signaturesOf(config: LatticeConfig, roster: Roster, batch: Batch): Uint8Array[] | undefined {
  const signers = roster.members.flatMap(({ signer }) => (signer === undefined ? [] : [signer]));
  const { threshold } = config.tally.content;
  return assembleSignatures(batchDigest(config, batch.attestation), [...batch.signatures.values()], {
    signers,
    threshold,
  });
}

/** Queues charges; one that was queued before, for whatever slot, is left out: the contract refuses it. */
export function queueCharges(state: TallyState, slot: bigint, charges: readonly Charge[]): void {
  for (const charge of charges) {
    const key = toHex(charge.bidId);
    if (state.charged.has(key) || state.charges.length >= CHARGES_WAITING_MAX) continue;
    if (state.charged.size >= CHARGED_MAX) forgetOldest(state.charged);
    state.charged.set(key, slot);
    state.charges.push(charge);
  }
}

/** The lowest slot's, ties by bid id: the same on a member that was restored from a snapshot. */
function forgetOldest(charged: Map<string, bigint>): void {
  let oldest: { readonly key: string; readonly slot: bigint } | undefined;
  for (const [key, slot] of charged) {
    if (oldest === undefined || slot < oldest.slot || (slot === oldest.slot && key < oldest.key)) {
      oldest = { key, slot };
    }
  }
  if (oldest !== undefined) charged.delete(oldest.key);
}

/** Closes a batch when one is due: enough slots, none open, and something the contract does not have yet. */
export function closeBatchWhenDue(state: TallyState, config: LatticeConfig, slot: bigint): void {
  if (state.sinceBatch < config.tally.content.attestEverySlots || state.scanned === undefined) return;
  const news = state.ledger.total !== (state.postedLedger?.total ?? 0n) || state.charges.length > 0;
  if (state.openLedger !== undefined || !news) return;
  const openLedger: Ledger = { ...state.ledger, totals: new Map(state.ledger.totals) };
  const attestation: Attestation = {
    latticeId: latticeRoot(config.name, config.chainId),
    batch: state.postedBatch + 1n,
    lastBlockNumber: state.scanned.number,
    lastBlockHash: state.scanned.hash,
    root: merkleRoot(ledgerTree(openLedger)),
    total: openLedger.total,
    charges: state.charges.splice(0, CHARGES_MAX),
    // Posters are not roster members, so nobody can be named in advance; they are paid by their operators.
    poster: new Uint8Array(ADDRESS_BYTES),
    posterReimbursement: 0n,
  };
  state.batches.push({ attestation, slot, signatures: new Map(), signedAtMs: 0, postedIn: 0n });
  if (state.batches.length > BATCHES_KEPT) state.batches.shift();
  state.openLedger = openLedger;
  state.sinceBatch = 0;
}

/** Takes a member's signature over the open batch. */
export function takeShare(
  state: TallyState,
  config: LatticeConfig,
  signer: Uint8Array | undefined,
  author: number,
  { batch, signature }: AttestationShareCommand,
  nowMs: number,
): Refusal | undefined {
  const open = openBatch(state);
  if (open?.attestation.batch !== batch) return refuse("NO_BATCH", `batch ${batch} is not open`);
  if (open.signatures.has(author)) return refuse("DUPLICATE", `member ${author} has signed batch ${batch}`);
  const recovered = recoverAddress(batchDigest(config, open.attestation), signature);
  if (signer === undefined || recovered === undefined || !equalBytes(recovered, signer)) {
    return refuse("BAD_ATTESTATION_SHARE", `not member ${author}'s signature over batch ${batch}`);
  }
  open.signatures.set(author, signature);
  if (open.signatures.size === config.tally.content.threshold) open.signedAtMs = nowMs;
  return undefined;
}

/**
 * The contract has a batch. When it is not the one that this committee closed (its signers signed outside this log),
 * what can be claimed is unknown here until the next one; charges that went with ours are asked for again unless they
 * have been collected.
 */
export function notePosted(state: TallyState, event: PostedEvent): void {
  if (event.batch <= state.postedBatch) return;
  state.postedBatch = event.batch;
  const open = openBatch(state);
  if (open === undefined || state.openLedger === undefined) {
    state.postedLedger = undefined;
    return;
  }
  const { attestation } = open;
  const ours =
    attestation.batch === event.batch && attestation.total === event.total && equalBytes(attestation.root, event.root);
  if (ours) {
    open.postedIn = event.blockNumber;
    state.postedLedger = state.openLedger;
  } else {
    const collected = new Set(state.collected.map(({ bidId }) => toHex(bidId)));
    state.charges.unshift(...attestation.charges.filter(({ bidId }) => !collected.has(toHex(bidId))));
    state.charges.splice(CHARGES_WAITING_MAX);
    state.postedLedger = undefined;
    state.batches.pop();
  }
  state.openLedger = undefined;
}

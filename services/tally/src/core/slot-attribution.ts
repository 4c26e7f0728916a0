/**
 * From what was certified for a slot to the commitment of stage `attribution`: the same bytes for members, for
 * `builder recompute`, and for whoever else asks. Pure and total: inputs that contradict each other give nothing to
 * anybody, and say so.
 */
import { encode, equalBytes, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { COMMITMENT_BYTES_MAX, type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import {
  CANDIDATE,
  type CandidateBody,
  type CandidateCommitment,
  candidateOf,
  type Entry,
} from "@lattice/organism/outcomes/atelier.ts";
import { AUCTION, type AuctionCommitment } from "@lattice/organism/outcomes/offer.ts";
import type { AttributionCommitment } from "@lattice/organism/outcomes/tally.ts";
import { settlementDomain } from "./attestation.ts";
import {
  AttributionError,
  type AttributionProblem,
  type AttributionRule,
  attribute,
  creditsOf,
  DEFAULT_RULE,
  type LandedMessage,
} from "./attribution.ts";
import { attributionInput } from "./attribution-input.ts";
import { refundRecipient } from "./refund-authorisation.ts";
import { sentTransaction } from "./transaction-sender.ts";

/** A charge that the settlement contract has taken from escrow: income. */
export interface CollectedCharge {
  /** 32 bytes. */
  readonly bidId: Uint8Array;
  readonly wei: bigint;
}

export interface LandedInputs {
  readonly config: LatticeConfig;
  readonly slot: bigint;
  readonly candidate: CandidateCommitment;
  readonly body: CandidateBody;
  /** The outcome of stage `auction`; absent when the candidate names none. */
  readonly auction: Outcome | undefined;
  /** Charges collected since the last landed slot. */
  readonly collected: readonly CollectedCharge[];
}

/** Why a landed slot's income went to the remainder whole. */
export type SlotProblem = AttributionProblem | "BODY_DIFFERS" | "AUCTION_DIFFERS" | "TOO_MANY";

export interface SlotAttribution {
  readonly commitment: AttributionCommitment;
  readonly problem: SlotProblem | undefined;
}

const NO_AUCTION: Pick<AuctionCommitment, "winners" | "rivals" | "voids"> = { winners: [], rivals: [], voids: [] };
const ZERO_HASH: Uint8Array = new Uint8Array(32);
/**
 * A commitment is passed around whole, so its lists are bounded: half of it for messages, a quarter for charges, the
 * rest for credits. Of more credits or charges the largest count; credits left out go to the remainder, charges left
 * out are forgone. Far above what a block of 60 M gas can hold.
 */
const MESSAGES_FIT = Math.floor(COMMITMENT_BYTES_MAX / 2 / 17);
const CHARGES_FIT = Math.floor(COMMITMENT_BYTES_MAX / 4 / 88);
const CREDITS_FIT = Math.floor(COMMITMENT_BYTES_MAX / 4 / 56);

/** The rule with this lattice's parameters. */
export function ruleOf(config: LatticeConfig): AttributionRule {
  return { ...DEFAULT_RULE, refundShareBps: config.tally.content.refundShareBps };
}

/** Certified candidate of an outcome of stage `candidate`; undefined when there is none. */
export function candidateIn(outcome: Outcome | undefined): CandidateCommitment | undefined {
  return outcome?.kind === "result" ? tryDecode(CANDIDATE, outcome.commitment) : undefined;
}

/** The commitment of a slot whose candidate is not on chain, or that had none. */
export function notLanded(candidate: CandidateCommitment | undefined): AttributionCommitment {
  return {
    version: 1,
    landed: false,
    parentHash: candidate?.parentHash ?? ZERO_HASH,
    blockHash: candidate?.blockHash ?? ZERO_HASH,
    blockNumber: candidate?.blockNumber ?? 0n,
    landedMessages: [],
    credits: [],
    charges: [],
    refundableWei: 0n,
    remainderWei: 0n,
  };
}

/** Result when it moves money, Empty otherwise. */
export function kindOf(commitment: AttributionCommitment): "result" | "empty" {
  return commitment.credits.length + commitment.charges.length > 0 ? "result" : "empty";
}

/** What the block's orders paid, and what was collected since the last one, wei. */
export function incomeOf(candidate: CandidateCommitment, collected: readonly CollectedCharge[]): bigint {
  return collected.reduce((total, charge) => total + charge.wei, candidate.paymentsWei);
}

/** The commitment of a slot whose candidate is final on chain. */
export function attributeLanded(inputs: LandedInputs): SlotAttribution {
  const { candidate, body, collected } = inputs;
  const differs = candidateDiffers(candidate, body);
  const messages = differs ? [] : messageEntries(body.entries);
  const income = incomeOf(candidate, collected);
  const base: AttributionCommitment = {
    ...notLanded(candidate),
    landed: true,
    landedMessages: messages.map((entry) => entry.messageId).slice(0, MESSAGES_FIT),
    refundableWei: income,
    remainderWei: income,
  };
  if (differs) return { commitment: base, problem: "BODY_DIFFERS" };
  const auction = auctionOf(candidate, inputs.auction);
  if (auction === undefined) return { commitment: base, problem: "AUCTION_DIFFERS" };
  try {
    const attribution = attribute(
      attributionInput({
        slot: inputs.slot,
        blockHash: candidate.blockHash,
        table: body.table,
        auction,
        messages: referenced(inputs.config, messages, body),
        collected,
        ...proposerOf(inputs.config, body),
      }),
      ruleOf(inputs.config),
    );
    const all = creditsOf(attribution);
    const credits = largest(all, CREDITS_FIT);
    const charges = largest(attribution.charges, CHARGES_FIT);
    const cut = credits.length < all.length || charges.length < attribution.charges.length;
    return {
      commitment: { ...base, credits, charges, remainderWei: income - credits.reduce((sum, { wei }) => sum + wei, 0n) },
      problem: cut ? "TOO_MANY" : undefined,
    };
  } catch (error) {
    if (!(error instanceof AttributionError)) throw error;
    return { commitment: base, problem: error.reason };
  }
}

/** The body follows the commitment: fetching checks the hash, this checks that the commitment describes it. */
function candidateDiffers(candidate: CandidateCommitment, body: CandidateBody): boolean {
  return !equalBytes(encode(CANDIDATE, candidateOf(body)), encode(CANDIDATE, candidate));
}

/** The auction the candidate was built from; undefined when another one is given. */
function auctionOf(
  candidate: CandidateCommitment,
  outcome: Outcome | undefined,
): Pick<AuctionCommitment, "winners" | "rivals" | "voids"> | undefined {
  if (candidate.auction === undefined) return NO_AUCTION;
  if (outcome === undefined || !equalBytes(outcomeDigest(outcome), candidate.auction)) return undefined;
  if (outcome.kind !== "result") return NO_AUCTION;
  return tryDecode(AUCTION, outcome.commitment);
}

type MessageEntry = Extract<Entry, { readonly messageId: Uint8Array }>;

function messageEntries(entries: readonly Entry[]): MessageEntry[] {
  return entries.filter((entry) => entry.type === "carried" || entry.type === "pool");
}

/** Only messages that a landed seen bundle declared can be owed anything: only their senders are recovered. */
function referenced(config: LatticeConfig, messages: readonly MessageEntry[], body: CandidateBody): LandedMessage[] {
  const domain = settlementDomain(config.chainId, config.tally.content.settlement);
  const declared = new Set(
    body.table.flatMap((row) => (row.class === "seen" && row.status === "landed" ? row.references.map(toHex) : [])),
  );
  return messages
    .filter((entry) => declared.has(toHex(entry.messageId)))
    .map(({ messageId, raw, refund }) => {
      const sent = sentTransaction(raw);
      if (sent === undefined) throw new AttributionError("MALFORMED", `message ${toHex(messageId)}: no sender`);
      return { messageId, txHash: sent.hash, ...refundRecipient(domain, sent, refund) };
    });
}

/** On L2 the block's fee recipient is the sequencer; where it is the contract, the proposer is paid inside the block. */
function proposerOf(config: LatticeConfig, body: CandidateBody): { readonly proposer?: Uint8Array } {
  const { feeRecipient } = body.attributes;
  return equalBytes(feeRecipient, config.tally.content.settlement) ? {} : { proposer: feeRecipient };
}

/** The largest `most`, in their order. */
function largest<T extends { readonly wei: bigint }>(items: readonly T[], most: number): T[] {
  if (items.length <= most) return [...items];
  const ranked = [...items].sort((a, b) => (a.wei > b.wei ? -1 : a.wei < b.wei ? 1 : 0));
  const kept = new Set(ranked.slice(0, most));
  return items.filter((item) => kept.has(item));
}

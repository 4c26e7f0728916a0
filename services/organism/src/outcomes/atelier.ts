/**
 * What atelier publishes: one candidate block a slot. Canonical formats.
 *
 * The commitment is public at once and holds nothing from which a transaction could be learnt. The body is the block
 * and everything needed to check it; it is for atelier and relay until the block is on chain, then for everyone.
 */
import {
  bytes,
  type Codec,
  count,
  encode,
  fixed,
  type Infer,
  list,
  literal,
  oneOf,
  optional,
  struct,
  u64,
  u256,
  union,
} from "../codec/codec.ts";
import { blake3, hash } from "../crypto/hash.ts";
import { RAW_TRANSACTION_BYTES_MAX, REFUND_AUTHORISATION, type RefundAuthorisation } from "./unseal.ts";

export const ATELIER_STAGES = ["candidate"] as const;

const HASH = fixed(32);
const ADDRESS = fixed(20);
const MESSAGE_ID = fixed(16);
const BID_ID = fixed(32);
const MESSAGES_MAX = 65_536;
const TRANSACTIONS_MAX = 65_536;
const WINNERS_MAX = 64;

/** Amount in Gwei, as the consensus layer counts (EIP-4895). */
export const WITHDRAWAL = struct({ index: u64, validatorIndex: u64, address: ADDRESS, amountGwei: u64 });
export type Withdrawal = Infer<typeof WITHDRAWAL>;

/** What whoever asks for the block dictates: the sequencer, or the beacon chain. Taken over exactly. */
export const BLOCK_ATTRIBUTES = struct({
  parentHash: HASH,
  /** Unix time in seconds. */
  timestamp: u64,
  prevRandao: HASH,
  feeRecipient: ADDRESS,
  gasLimit: u64,
  parentBeaconBlockRoot: HASH,
  extraData: bytes(32),
  withdrawals: list(WITHDRAWAL as Codec<Withdrawal>, 1024),
});
export type BlockAttributes = Infer<typeof BLOCK_ATTRIBUTES>;

/** The five classes of protocols.md §4, in the order in which they stand in the block. */
export const ORDER_CLASSES = ["carried", "blind", "pool", "seen", "tail"] as const;
export type OrderClass = (typeof ORDER_CLASSES)[number];

const MESSAGE_ENTRY = struct({
  messageId: MESSAGE_ID,
  raw: bytes(RAW_TRANSACTION_BYTES_MAX),
  /** As the message's sender sealed it; whether it is worth anything is tally's to judge. */
  refund: optional(REFUND_AUTHORISATION as Codec<RefundAuthorisation>),
});
type MessageEntry = Infer<typeof MESSAGE_ENTRY>;

/** One transaction of the block, with its class and the message or bid it came with. */
export const ENTRY = union({
  carried: MESSAGE_ENTRY as Codec<MessageEntry>,
  blind: struct({ bidId: BID_ID, raw: bytes(RAW_TRANSACTION_BYTES_MAX) }),
  pool: MESSAGE_ENTRY as Codec<MessageEntry>,
  seen: struct({ bidId: BID_ID, raw: bytes(RAW_TRANSACTION_BYTES_MAX) }),
  tail: struct({ bidId: BID_ID, raw: bytes(RAW_TRANSACTION_BYTES_MAX) }),
});
export type Entry = Infer<typeof ENTRY>;

/** Why a message is not in the block, checked in this order at its position. Append only. */
export const EXCLUSION_REASONS = [
  "undecodable",
  "unsupported-type",
  "wrong-chain",
  "duplicate",
  "gas-limit-above-block",
  "gas-below-intrinsic",
  "sender-has-code",
  "nonce-too-low",
  "nonce-too-high",
  "fee-below-base",
  "underfunded",
  "block-full",
  "not-executable",
] as const;
export type ExclusionReason = (typeof EXCLUSION_REASONS)[number];

export const EXCLUSION = struct({
  messageId: MESSAGE_ID,
  class: oneOf("carried", "pool"),
  reason: oneOf(...EXCLUSION_REASONS),
});
export type Exclusion = Infer<typeof EXCLUSION>;

/** Why a winning bundle is not in the block. Append only. */
export const BUNDLE_REASONS = [
  /** Blind, but not under the BlindClosed that the freeze names. */
  "not-in-blind-set",
  "malformed",
  "empty",
  /** References in a blind or tail bundle. */
  "reference-not-allowed",
  /** A list of transactions that may revert outside the seen class. */
  "may-revert-not-allowed",
  /** A reference to something that is not a pool message of this slot. */
  "unknown-reference",
  /** Holds the raw bytes of a pool or carried message. */
  "holds-pool-transaction",
  /** Somebody else's transaction, or a reference, after the searcher's own; or none of the searcher's own at the end. */
  "others-after-own",
  /** Blind: its gas limits alone exceed the share of the block that blind bundles may claim. */
  "above-share",
  /** Blind: earlier blind bundles have left too little of that share. */
  "share-used",
  "no-room",
  "invalid-transaction",
  "reverted",
  /** A referenced message is not in the block. */
  "reference-excluded",
  /** Does not succeed when executed after its declared references alone. */
  "failed-alone",
  /** Succeeds after its declared references alone, but pays less than its bid. */
  "paid-short",
  /** Pays its bid alone, but no longer in its place. */
  "paid-short-in-sequence",
] as const;
export type BundleReason = (typeof BUNDLE_REASONS)[number];

/**
 * One row of the table order → (payment, value) that attribution takes as input; one per winner, in class order and
 * within a class in the auction's.
 *
 * - `landed`: all its transactions are in the block; value = clearing price.
 * - `failed`: blind, and did not execute; nothing of it is in the block, value = clearing price: what is not paid is
 *   charged to escrow (a blind bid is a commitment, not an option).
 * - `void`: broke a rule; value = clearing price when the fault is the searcher's own, else 0.
 * - `dropped`: not the searcher's fault; value 0.
 */
export const ORDER_ROW = struct({
  bidId: BID_ID,
  class: oneOf("blind", "seen", "tail"),
  status: oneOf("landed", "failed", "void", "dropped"),
  reason: optional(oneOf(...BUNDLE_REASONS)),
  searcher: ADDRESS,
  escrowAccount: ADDRESS,
  references: list(MESSAGE_ID, 64),
  /** What reached the settlement contract under (slot, bid id) when the block was executed. */
  paymentWei: u256,
  /** What it owes. */
  valueWei: u256,
  gasUsed: u64,
});
export type OrderRow = Infer<typeof ORDER_ROW>;
const ORDER_TABLE = list(ORDER_ROW as Codec<OrderRow>, WINNERS_MAX);

/** The header fields that follow from execution; with the attributes they are the whole header. */
export const DERIVED_HEADER = struct({
  number: u64,
  stateRoot: HASH,
  transactionsRoot: HASH,
  receiptsRoot: HASH,
  logsBloom: fixed(256),
  gasUsed: u64,
  baseFeePerGas: u256,
  withdrawalsRoot: HASH,
  blobGasUsed: u64,
  excessBlobGas: u64,
  /** EIP-7685; absent before Prague. */
  requestsHash: optional(HASH),
});
export type DerivedHeader = Infer<typeof DERIVED_HEADER>;

/** Body of stage `candidate`. */
export const CANDIDATE_BODY = struct({
  version: literal(1),
  slot: u64,
  /** Grows with every better version under one (slot, parent). */
  candidateVersion: count,
  attributes: BLOCK_ATTRIBUTES as Codec<BlockAttributes>,
  /** Digests of the outcomes it was built from; absent when the slot has none. */
  unsealed: optional(HASH),
  auction: optional(HASH),
  entries: list(ENTRY as Codec<Entry>, TRANSACTIONS_MAX),
  exclusions: list(EXCLUSION as Codec<Exclusion>, MESSAGES_MAX),
  table: ORDER_TABLE,
  /** Messages that are not in the block and go ahead of every bid in the next slot. */
  carry: list(MESSAGE_ID, MESSAGES_MAX),
  /** Co-builder hints that were applied (none in this version). */
  appliedHints: list(HASH, 4096),
  header: DERIVED_HEADER as Codec<DerivedHeader>,
  /** EIP-7685: type byte ‖ data, without empty ones. */
  executionRequests: list(bytes(1 << 20), 16),
  blockHash: HASH,
  /** Priority fees to the fee recipient. */
  feesWei: u256,
});
export type CandidateBody = Infer<typeof CANDIDATE_BODY>;

/** Commitment of stage `candidate`. */
export const CANDIDATE = struct({
  version: literal(1),
  slot: u64,
  candidateVersion: count,
  parentHash: HASH,
  blockHash: HASH,
  blockNumber: u64,
  stateRoot: HASH,
  gasUsed: u64,
  transactions: count,
  /** blake3 of the encoded body. */
  bodyHash: HASH,
  /** H/"lattice/atelier/table/v1"(table). */
  tableRoot: HASH,
  feesWei: u256,
  /** Bids paid to the settlement contract in this block. */
  paymentsWei: u256,
  unsealed: optional(HASH),
  auction: optional(HASH),
});
export type CandidateCommitment = Infer<typeof CANDIDATE>;

/** H/"lattice/atelier/table/v1"(table). */
export function tableRoot(table: OrderRow[]): Uint8Array {
  return hash("lattice/atelier/table/v1", ORDER_TABLE, table);
}

/** The commitment follows from the body. `bodyBytes` is the body's canonical encoding, made here when absent. */
export function candidateOf(body: CandidateBody, bodyBytes?: Uint8Array): CandidateCommitment {
  return {
    version: 1,
    slot: body.slot,
    candidateVersion: body.candidateVersion,
    parentHash: body.attributes.parentHash,
    blockHash: body.blockHash,
    blockNumber: body.header.number,
    stateRoot: body.header.stateRoot,
    gasUsed: body.header.gasUsed,
    transactions: body.entries.length,
    bodyHash: blake3(bodyBytes ?? encode(CANDIDATE_BODY, body)),
    tableRoot: tableRoot(body.table),
    feesWei: body.feesWei,
    paymentsWei: body.table.reduce((total, row) => total + row.paymentWei, 0n),
    unsealed: body.unsealed,
    auction: body.auction,
  };
}

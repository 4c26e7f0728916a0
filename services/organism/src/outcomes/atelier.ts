/** What atelier publishes: one certified candidate block a slot, and how it came about. Canonical formats. */
import {
  bool,
  bytes,
  type Codec,
  count,
  fixed,
  type Infer,
  list,
  literal,
  oneOf,
  optional,
  struct,
  u64,
  u256,
} from "../codec/codec.ts";
import { RAW_TRANSACTION_BYTES_MAX } from "./unseal.ts";

export const ATELIER_STAGES = ["candidate"] as const;

/** Commitment of stage `candidate`, kind `result`. */
export const CANDIDATE = struct({
  version: literal(1),
  parentHash: fixed(32),
  parentNumber: u64,
  /** Better candidates for the same slot and parent count up; the first is 0. */
  candidateVersion: u64,
  blockNumber: u64,
  blockHash: fixed(32),
  timestampS: u64,
  stateRoot: fixed(32),
  gasUsed: u64,
  transactions: count,
  /** Digest of the UnsealedRound and AuctionOutcome it was built from; absent when that slot was skipped. */
  unsealed: optional(fixed(32)),
  auction: optional(fixed(32)),
  /** H/"lattice/atelier/table/v1" of the body's table. */
  tableHash: fixed(32),
  /** What the block brings to the settlement contract. */
  incomeWei: u256,
});
export type CandidateCommitment = Infer<typeof CANDIDATE>;

/** Where in the block's order a transaction stands, and why. */
export const ORDER_CLASSES = ["carried", "blind", "pool", "seen", "tail", "public"] as const;

const ENTRY = struct({
  class: oneOf(...ORDER_CLASSES),
  /** Message id (16) of carried and pool entries, bid id (32) of bundles; empty for public ones. */
  origin: bytes(32),
  rawTransaction: bytes(RAW_TRANSACTION_BYTES_MAX),
});
export type CandidateEntry = Infer<typeof ENTRY>;

/** Why a pool message or a winner is not in the block. `verify` derives every one again. */
export const EXCLUSION_REASONS = [
  "undecodable",
  "unsupported-type",
  "wrong-chain",
  "bad-signature",
  "nonce-too-low",
  "nonce-too-high",
  "underfunded",
  "fee-below-base",
  "gas-above-limit",
  "block-full",
  "duplicate",
  "init-code-too-large",
  "intrinsic-gas",
  "sender-has-code",
  "bundle-failed",
  "bundle-underpaid",
  "bundle-copies-pool",
  "bundle-order",
  "bundle-reference-missing",
  "bundle-empty",
  "blind-gas-share",
  "bundle-not-blind",
] as const;
export type ExclusionReason = (typeof EXCLUSION_REASONS)[number];

const EXCLUSION = struct({ origin: bytes(32), reason: oneOf(...EXCLUSION_REASONS) });
export type CandidateExclusion = Infer<typeof EXCLUSION>;

/** A pool message that is in the block, as tally needs it. */
const TABLE_MESSAGE = struct({
  messageId: fixed(16),
  txHash: fixed(32),
  /** The recovered sender, or whom the sender's EIP-712 authorisation names. */
  refundTo: fixed(20),
  authorised: bool,
});
export type TableMessage = Infer<typeof TABLE_MESSAGE>;

/** An auction winner and what became of it. */
const TABLE_ORDER = struct({
  bidId: fixed(32),
  class: oneOf("blind", "seen", "tail"),
  /** `charged`: a blind winner whose transactions are not in the block; it owes its amount all the same. */
  status: oneOf("executed", "charged", "void"),
  /** What reached the settlement contract when the order was executed. */
  paymentWei: u256,
  /** What it owes: the auction's clearing price. */
  valueWei: u256,
});
export type TableOrder = Infer<typeof TABLE_ORDER>;

export const TABLE = struct({
  messages: list(TABLE_MESSAGE as Codec<TableMessage>, 65_536),
  orders: list(TABLE_ORDER as Codec<TableOrder>, 4096),
});
export type CandidateTable = Infer<typeof TABLE>;

/** What the sequencer or proposer dictated. */
export const ATTRIBUTES = struct({
  timestampS: u64,
  prevRandao: fixed(32),
  feeRecipient: fixed(20),
  gasLimit: u64,
  parentBeaconBlockRoot: fixed(32),
  extraData: bytes(32),
});
export type CandidateAttributes = Infer<typeof ATTRIBUTES>;

/** Header fields that execution determines; with the attributes and the parent they give the block hash. */
export const EXECUTED_HEADER = struct({
  stateRoot: fixed(32),
  receiptsRoot: fixed(32),
  transactionsRoot: fixed(32),
  logsBloom: fixed(256),
  gasUsed: u64,
  baseFeePerGas: u256,
  blobGasUsed: u64,
  excessBlobGas: u64,
  requestsHash: fixed(32),
});
export type ExecutedHeader = Infer<typeof EXECUTED_HEADER>;

/** Body of stage `candidate`: all that re-execution and the Engine API need. For atelier, relay and tally until landed. */
export const CANDIDATE_BODY = struct({
  version: literal(1),
  slot: u64,
  parentHash: fixed(32),
  parentNumber: u64,
  candidateVersion: u64,
  attributes: ATTRIBUTES as Codec<CandidateAttributes>,
  entries: list(ENTRY as Codec<CandidateEntry>, 65_536),
  exclusions: list(EXCLUSION as Codec<CandidateExclusion>, 65_536),
  table: TABLE as Codec<CandidateTable>,
  header: EXECUTED_HEADER as Codec<ExecutedHeader>,
  blockHash: fixed(32),
  /** EIP-7685 requests, type byte first, empty ones left out. */
  executionRequests: list(bytes(1 << 20), 16),
});
export type CandidateBody = Infer<typeof CANDIDATE_BODY>;

/**
 * Who is owed what for one landed block: the default rule of protocols.md §6, as a pure function of certified inputs.
 *
 * 1. What an order owes is the smaller of its payment and its value. Of a seen bundle's, `refundShareBps` is shared
 *    among the senders of the pool transactions it declared, with weight = winning bid − highest bid that does not
 *    reference that transaction. Nobody gets more than the weight; when the weights exceed the share, it is split in
 *    proportion to them.
 * 2. What an order paid above its value goes back to the bidder (second price, overpayment).
 * 3. Both come before all else, and out of what remains after `reserved` (on L1, the proposer's payment). When that is
 *    too little they shrink alike.
 * 4. Of the rest, co-builders share `coBuilderShareBps` by the weight of the hints that were applied; of what is then
 *    left, the proposer gets `proposerShareBps`.
 * 5. All divisions round down. What nobody got is `remainder`; shares + reserved + remainder = income, to the wei.
 *
 * Attacks it answers: sending one transaction twice (duplicates by hash collapse to one), referencing a transaction
 * that had nothing to do with the profit (its weight is 0 if a rival bid as much without it). Known residue: with a
 * single bidder a dummy reference has the full weight and dilutes the others, in proportion; never beyond the share.
 */
import {
  bool,
  type Codec,
  CodecError,
  compareBytes,
  encode,
  fixed,
  type Infer,
  list,
  oneOf,
  optional,
  struct,
  toHex,
  u64,
  u256,
} from "@lattice/organism/codec/codec.ts";
import { hash } from "@lattice/organism/crypto/hash.ts";
import { CHARGE, type Charge, CREDIT, type Credit } from "@lattice/organism/outcomes/tally.ts";
import { ADDRESS_BYTES, WORD_BYTES } from "./eip712.ts";

const ORDERS_MAX = 4096;
const MESSAGES_MAX = 65_536;
const REFERENCES_MAX = 64;
const CHARGES_MAX = 4096;
const BPS = 10_000n;

const messageId = fixed(16);
const address = fixed(ADDRESS_BYTES);
const digest = fixed(WORD_BYTES);

/** A pool message that is in the block. */
export const LANDED_MESSAGE = struct({
  messageId,
  txHash: digest,
  /** The transaction's recovered sender, or whom that sender's EIP-712 authorisation names. */
  refundTo: address,
  /** True when `refundTo` comes from an authorisation: it wins over a duplicate without one. */
  authorised: bool,
});
export type LandedMessage = Infer<typeof LANDED_MESSAGE>;

/** A bundle in the block: its row of the candidate's table order → (payment, value), and what the auction says of it. */
export const PAYING_ORDER = struct({
  bidId: digest,
  class: oneOf("blind", "seen", "tail"),
  /** What reached the settlement contract when the block was executed. */
  paymentWei: u256,
  /** What it owes: the clearing price. */
  valueWei: u256,
  /** What it bid; at first price the same. */
  bidWei: u256,
  /** The escrow account that answers for it. */
  account: address,
  /** Who gets back what it paid too much. */
  rebateTo: address,
  /** Ids of the pool messages it declared; seen bundles only. */
  references: list(messageId, REFERENCES_MAX),
});
export type PayingOrder = Infer<typeof PAYING_ORDER>;

/** A co-builder hint that the candidate applied. */
export const APPLIED_HINT = struct({ hintId: digest, recipient: address, weight: u64 });
export type AppliedHint = Infer<typeof APPLIED_HINT>;

/** Everything attribution depends on; lists in any order. */
export const ATTRIBUTION_INPUT = struct({
  slot: u64,
  blockHash: digest,
  messages: list(LANDED_MESSAGE, MESSAGES_MAX),
  orders: list(PAYING_ORDER, ORDERS_MAX),
  /** Per declared message: the highest valid bid that does not reference it. */
  rivals: list(struct({ messageId, highestOtherWei: u256 }), MESSAGES_MAX),
  hints: list(APPLIED_HINT, ORDERS_MAX),
  /** Absent where the proposer is paid inside the block (L1). */
  proposer: optional(address),
  /** Winning bids void by the rules of the auction, with the escrow that pays for them. */
  voids: list(CHARGE as Codec<Charge>, CHARGES_MAX),
  /** Charges that the settlement contract has collected since the last slot (`EscrowCharged`, amount taken). */
  collected: list(struct({ bidId: digest, wei: u256 }), ORDERS_MAX),
  /** Income that is not ours to share: what the proposer was paid out of it. 0 on L2. */
  reservedWei: u256,
});
export type AttributionInput = Infer<typeof ATTRIBUTION_INPUT>;

/** The rule's parameters, in basis points; `refundShareBps` is in the lattice config. */
export interface AttributionRule {
  readonly refundShareBps: number;
  readonly coBuilderShareBps: number;
  readonly proposerShareBps: number;
}

export const DEFAULT_RULE: AttributionRule = {
  refundShareBps: 9_000,
  coBuilderShareBps: 2_000,
  proposerShareBps: 5_000,
};

/** Why a recipient is owed: `reference` is a transaction hash, a bid id, a hint id or the block hash, in this order. */
export const RECIPIENT_KINDS = ["order-flow-provider", "bid-winner", "co-builder", "proposer"] as const;
export type RecipientKind = (typeof RECIPIENT_KINDS)[number];

export const SHARE = struct({
  kind: oneOf(...RECIPIENT_KINDS),
  recipient: address,
  reference: digest,
  wei: u256,
});
export type Share = Infer<typeof SHARE>;

/** `incomeWei` = sum of `shares` + `reservedWei` + `remainderWei`, exactly. Canonical order, nothing with 0 wei. */
export const ATTRIBUTION = struct({
  slot: u64,
  blockHash: digest,
  incomeWei: u256,
  shares: list(SHARE as Codec<Share>, MESSAGES_MAX),
  reservedWei: u256,
  remainderWei: u256,
  /** To be collected from escrow; becomes income only when the contract has done so. */
  charges: list(CHARGE as Codec<Charge>, CHARGES_MAX),
});
export type Attribution = Infer<typeof ATTRIBUTION>;

export type AttributionProblem =
  | "DUPLICATE_MESSAGE"
  | "DUPLICATE_ORDER"
  | "DUPLICATE_HINT"
  | "DUPLICATE_RIVAL"
  | "DUPLICATE_CHARGE"
  | "MISSING_WINNER"
  | "MISSING_RIVAL"
  | "UNEXPECTED_REFERENCE"
  | "MALFORMED";

/** Inputs that do not fit together. They are certified, so this means that a table and an auction disagree. */
export class AttributionError extends Error {
  override readonly name = "AttributionError";
  readonly reason: AttributionProblem;
  constructor(reason: AttributionProblem, detail: string) {
    super(`${reason}: ${detail}`);
    this.reason = reason;
  }
}

/** H/"lattice/tally/attribution/v1": what recomputation is compared by. */
export function attributionHash(attribution: Attribution): Uint8Array {
  return hash("lattice/tally/attribution/v1", ATTRIBUTION, attribution);
}

/** What the outcome's commitment says of the shares: one credit per (recipient, kind), sorted by their encoding. */
export function creditsOf(attribution: Attribution): Credit[] {
  const merged = new Map<string, Credit>();
  for (const { recipient, kind, wei } of attribution.shares) {
    const key = toHex(encode(CREDIT, { recipient, kind, wei: 0n }));
    merged.set(key, { recipient, kind, wei: wei + (merged.get(key)?.wei ?? 0n) });
  }
  return [...merged].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, credit]) => credit);
}

/**
 * Applies the rule.
 * @throws AttributionError when the inputs contradict each other or do not encode.
 */
export function attribute(input: AttributionInput, rule: AttributionRule = DEFAULT_RULE): Attribution {
  checkInput(input, rule);
  const income = sum(input.orders, (order) => order.paymentWei) + sum(input.collected, (charge) => charge.wei);
  const reserved = smaller(input.reservedWei, income);
  const claims = [...input.orders.flatMap((order) => refunds(input, order, rule)), ...input.orders.flatMap(rebate)];
  const paidFirst = scaleTo(claims, income - reserved);

  const rest = income - reserved - sum(paidFirst, weiOf);
  const forHints = scaleTo(
    input.hints.map((hint) => share("co-builder", hint.recipient, hint.hintId, hint.weight)),
    portion(rest, rule.coBuilderShareBps),
    true,
  );
  const left = rest - sum(forHints, weiOf);
  const forProposer =
    input.proposer === undefined
      ? []
      : [share("proposer", input.proposer, input.blockHash, portion(left, rule.proposerShareBps))];

  const shares = canonical([...paidFirst, ...forHints, ...forProposer]);
  return checked({
    slot: input.slot,
    blockHash: input.blockHash,
    incomeWei: income,
    shares,
    reservedWei: reserved,
    remainderWei: income - reserved - sum(shares, weiOf),
    charges: charges(input),
  });
}

/** Step 1: a seen bundle's refunds, one per referenced transaction. */
function refunds(input: AttributionInput, order: PayingOrder, rule: AttributionRule): Share[] {
  if (order.class !== "seen") return [];
  const landed = new Map(input.messages.map((message) => [toHex(message.messageId), message]));
  const rivals = new Map(input.rivals.map((rival) => [toHex(rival.messageId), rival.highestOtherWei]));

  const byTransaction = new Map<string, { readonly message: LandedMessage; readonly rival: bigint }>();
  for (const id of order.references) {
    const rival = rivals.get(toHex(id));
    if (rival === undefined) throw new AttributionError("MISSING_RIVAL", toHex(order.bidId));
    const message = landed.get(toHex(id));
    if (message === undefined) continue;
    const known = byTransaction.get(toHex(message.txHash));
    // A bid without the transaction is without every duplicate of it: the smallest of the maxima bounds it best.
    byTransaction.set(toHex(message.txHash), {
      message,
      rival: known === undefined ? rival : smaller(known.rival, rival),
    });
  }

  const weighted: Share[] = [];
  for (const { message, rival } of byTransaction.values()) {
    if (order.bidWei <= rival) continue;
    const weight = order.bidWei - rival;
    weighted.push(
      share("order-flow-provider", refundRecipient(input.messages, message.txHash), message.txHash, weight),
    );
  }
  return scaleTo(weighted, portion(smaller(order.paymentWei, order.valueWei), rule.refundShareBps));
}

/** Step 2. */
function rebate(order: PayingOrder): Share[] {
  if (order.paymentWei <= order.valueWei) return [];
  return [share("bid-winner", order.rebateTo, order.bidId, order.paymentWei - order.valueWei)];
}

/** Among duplicates of a transaction: an authorised recipient before the sender, then the lowest message id. */
function refundRecipient(messages: readonly LandedMessage[], txHash: Uint8Array): Uint8Array {
  const [first] = messages
    .filter((message) => equal(message.txHash, txHash))
    .sort((a, b) => Number(b.authorised) - Number(a.authorised) || compareBytes(a.messageId, b.messageId));
  if (first === undefined) throw new AttributionError("MALFORMED", "no message for a transaction");
  return first.refundTo;
}

/** Void bids, and what an order in the block paid short of its value: a blind bid is a commitment, not an option. */
function charges(input: AttributionInput): Charge[] {
  const short = input.orders.filter((order) => order.paymentWei < order.valueWei);
  const all = [
    ...input.voids.filter((charge) => charge.wei > 0n),
    ...short.map((order) => ({ bidId: order.bidId, account: order.account, wei: order.valueWei - order.paymentWei })),
  ];
  return all.sort((a, b) => compareBytes(a.bidId, b.bidId));
}

/** Shrinks amounts in proportion, rounding down, so that they sum to at most `limit`; `stretch` also lets them grow. */
function scaleTo(shares: readonly Share[], limit: bigint, stretch = false): Share[] {
  const total = sum(shares, weiOf);
  if (total === 0n || (total <= limit && !stretch)) return [...shares];
  return shares.map((entry) => ({ ...entry, wei: (entry.wei * limit) / total }));
}

/** One share per (kind, recipient, reference), sorted by their encoding, none of 0 wei. */
function canonical(shares: readonly Share[]): Share[] {
  const merged = new Map<string, Share>();
  for (const entry of shares) {
    const key = toHex(encode(SHARE, { ...entry, wei: 0n }));
    merged.set(key, { ...entry, wei: entry.wei + (merged.get(key)?.wei ?? 0n) });
  }
  const sorted = [...merged].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
  return sorted.filter((entry) => entry.wei > 0n);
}

function checkInput(input: AttributionInput, rule: AttributionRule): void {
  for (const bps of [rule.refundShareBps, rule.coBuilderShareBps, rule.proposerShareBps]) {
    if (!Number.isInteger(bps) || bps < 0 || BigInt(bps) > BPS) throw new AttributionError("MALFORMED", "basis points");
  }
  try {
    encode(ATTRIBUTION_INPUT, input);
  } catch (error) {
    if (error instanceof CodecError) throw new AttributionError("MALFORMED", error.message);
    throw error;
  }
  unique(
    "DUPLICATE_MESSAGE",
    input.messages.map((message) => message.messageId),
  );
  unique(
    "DUPLICATE_ORDER",
    input.orders.map((order) => order.bidId),
  );
  unique(
    "DUPLICATE_HINT",
    input.hints.map((hint) => hint.hintId),
  );
  unique(
    "DUPLICATE_CHARGE",
    [...input.voids, ...input.orders].map((entry) => entry.bidId),
  );
  unique(
    "DUPLICATE_CHARGE",
    input.collected.map((charge) => charge.bidId),
  );
  unique(
    "DUPLICATE_RIVAL",
    input.rivals.map((rival) => rival.messageId),
  );
  for (const order of input.orders) {
    if (order.class !== "seen" && order.references.length > 0) {
      throw new AttributionError("UNEXPECTED_REFERENCE", toHex(order.bidId));
    }
  }
}

/** The attribution must itself encode: more charges or more wei than a batch can carry is refused here, not later. */
function checked(attribution: Attribution): Attribution {
  try {
    encode(ATTRIBUTION, attribution);
    return attribution;
  } catch (error) {
    if (error instanceof CodecError) throw new AttributionError("MALFORMED", error.message);
    throw error;
  }
}

function unique(reason: AttributionProblem, ids: readonly Uint8Array[]): void {
  const seen = new Set<string>();
  for (const id of ids) {
    const key = toHex(id);
    if (seen.has(key)) throw new AttributionError(reason, key);
    seen.add(key);
  }
}

function share(kind: RecipientKind, recipient: Uint8Array, reference: Uint8Array, wei: bigint): Share {
  return { kind, recipient, reference, wei };
}

const weiOf = (entry: Share): bigint => entry.wei;

function sum<T>(items: readonly T[], amount: (item: T) => bigint): bigint {
  return items.reduce((total, item) => total + amount(item), 0n);
}

function portion(amount: bigint, bps: number): bigint {
  return (amount * BigInt(bps)) / BPS;
}

function smaller(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return compareBytes(a, b) === 0;
}

/**
 * The rules that a winning bundle must keep before and beyond execution (protocols.md §3). They are checked here, not
 * in the auction, because only atelier sees the bundles and the pool together.
 */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { BundleReason, OrderRow } from "./candidate.ts";
import type { TransactionFacts, WinningBundle } from "./order.ts";

/** What is known of the slot's messages when bundles are looked at. */
export interface MessagesKnown {
  /** Hex of keccak256 of the raw bytes of every pool and carried message. */
  readonly transactionHashes: ReadonlySet<string>;
  /** Hex of the ids of this slot's pool messages. */
  readonly poolIds: ReadonlySet<string>;
}

/** Limits that follow from the block. */
export interface BlindShare {
  /** Gas that all blind bundles together may claim. */
  readonly gas: bigint;
  /** What earlier ones have used of it. */
  readonly used: bigint;
}

/** The share of the block that blind winners may claim. */
export function blindShareGas(blockGasLimit: bigint, blindGasBps: number): bigint {
  return (blockGasLimit * BigInt(blindGasBps)) / 10_000n;
}

/**
 * The first rule a bundle breaks as it is written. `facts` are its own raw transactions' in order; undefined stands
 * for one that does not decode.
 */
export function bundleViolation(
  bundle: WinningBundle,
  facts: readonly (TransactionFacts | undefined)[],
  known: MessagesKnown,
  share: BlindShare,
): BundleReason | undefined {
  if (bundle.problem !== undefined) return bundle.problem;
  if (facts.length === 0) return "empty";
  const decoded = facts.filter((entry) => entry !== undefined);
  if (decoded.length !== facts.length) return "malformed";
  if (bundle.class !== "seen") {
    if (bundle.references.length > 0 || bundle.items.some((item) => item.type === "reference"))
      return "reference-not-allowed";
    if (bundle.mayRevert.length > 0) return "may-revert-not-allowed";
  }
  if (referencesOf(bundle).some((id) => !known.poolIds.has(toHex(id)))) return "unknown-reference";
  if (decoded.some((entry) => known.transactionHashes.has(toHex(entry.hash)))) return "holds-pool-transaction";
  if (!othersPrecede(bundle, decoded)) return "others-after-own";
  if (bundle.class === "blind") {
    const claimed = decoded.reduce((total, entry) => total + entry.gasLimit, 0n);
    if (claimed > share.gas) return "above-share";
    if (claimed + share.used > share.gas) return "share-used";
  }
  return undefined;
}

/** Every message id that the certified winner or its items name, once each, in that order. */
export function referencesOf(bundle: WinningBundle): Uint8Array[] {
  const ids = new Map<string, Uint8Array>();
  for (const id of bundle.references) ids.set(toHex(id), id);
  for (const item of bundle.items) if (item.type === "reference") ids.set(toHex(item.messageId), item.messageId);
  return [...ids.values()];
}

/**
 * References and transactions of others first, then at least one of the searcher's own and nothing else: nobody's
 * transaction can be put between two of the searcher's or behind one.
 */
function othersPrecede(bundle: WinningBundle, facts: readonly TransactionFacts[]): boolean {
  let next = 0;
  let ownSeen = false;
  for (const item of bundle.items) {
    const sender = item.type === "transaction" ? facts[next++]?.sender : undefined;
    const own =
      sender !== undefined && (equalBytes(sender, bundle.searcher) || equalBytes(sender, bundle.escrowAccount));
    if (ownSeen && !own) return false;
    ownSeen ||= own;
  }
  return ownSeen;
}

/** Rules whose breach is the searcher's own doing: the bid is charged to escrow. */
const CHARGED: ReadonlySet<BundleReason> = new Set([
  "malformed",
  "empty",
  "reference-not-allowed",
  "may-revert-not-allowed",
  "unknown-reference",
  "others-after-own",
  "above-share",
  "paid-short",
]);
/**
 * Rules that void a bundle without charging it. A transaction may reach a searcher from elsewhere and the pool too;
 * charging for that would let anyone who knows it fine a rival by sending it through zipnet.
 */
const VOID_UNCHARGED: ReadonlySet<BundleReason> = new Set(["holds-pool-transaction", "not-in-blind-set"]);
/** What turns a blind bundle into a failed one, charged in full. */
const FAILED_IF_BLIND: ReadonlySet<BundleReason> = new Set(["invalid-transaction", "reverted"]);

/** What a bundle did in its place. */
export interface BundleResult {
  readonly paymentWei: bigint;
  readonly gasUsed: bigint;
}

/** The table's row of a bundle that is in the block. */
export function landedRow(bundle: WinningBundle, result: BundleResult): OrderRow {
  return { ...rowBase(bundle), status: "landed", reason: undefined, valueWei: bundle.clearingWei, ...result };
}

/** The table's row of a bundle of which nothing is in the block. */
export function absentRow(bundle: WinningBundle, reason: BundleReason): OrderRow {
  const base = { ...rowBase(bundle), reason, paymentWei: 0n, gasUsed: 0n };
  if (bundle.class === "blind" && FAILED_IF_BLIND.has(reason)) {
    return { ...base, status: "failed", valueWei: bundle.clearingWei };
  }
  if (CHARGED.has(reason)) return { ...base, status: "void", valueWei: bundle.clearingWei };
  return { ...base, status: VOID_UNCHARGED.has(reason) ? "void" : "dropped", valueWei: 0n };
}

function rowBase(bundle: WinningBundle) {
  return {
    bidId: bundle.bidId,
    class: bundle.class,
    searcher: bundle.searcher,
    escrowAccount: bundle.escrowAccount,
    references: referencesOf(bundle),
  };
}

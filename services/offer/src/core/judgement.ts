/**
 * What an opened value or bundle is worth: valid, or void with a reason and a charge. Void bids never win and never
 * set a price.
 *
 * The charge answers for what the committee was made to do: a value layer that says nothing costs the bid's cap, the
 * only amount known; a winner whose bundle is not what it promised costs its amount. A value that merely breaks a
 * limit (reserve, cap, a reference that is not of this round) costs nothing: it takes nothing from anybody.
 */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import type { Bundle } from "@lattice/organism/outcomes/offer.ts";
import type { Disclosed } from "@lattice/organism/outcomes/unseal.ts";
import type { AuctionRules, ValidBid, Void, VoidReason } from "./auction.ts";
import { paymentId } from "./bid.ts";
import { bundleCommitment, decodeBundleLayer, decodeValue } from "./layers.ts";
import type { LiveBid } from "./types.ts";

/** The messages that were opened this slot, by hex id, with what their senders disclosed. */
export type Pool = ReadonlyMap<string, Disclosed>;

export type Judged<T> = { readonly valid: T } | { readonly void: Void };

function voided(bid: LiveBid, reason: VoidReason, chargeWei: bigint): { readonly void: Void } {
  return { void: { bidId: bid.id, account: bid.escrowAccount, chargeWei, reason } };
}

/** @param plain what the value layer opened to; undefined when it does not open */
export function judgeValue(
  bid: LiveBid,
  plain: Uint8Array | undefined,
  pool: Pool,
  rules: AuctionRules,
): Judged<Omit<ValidBid, "tie">> {
  const value = plain === undefined ? undefined : decodeValue(plain);
  if (value === undefined) return voided(bid, "value-malformed", bid.capWei);
  const { amountWei, references } = value;
  if (amountWei > bid.capWei) return voided(bid, "above-cap", 0n);
  if (amountWei < rules.reserveWei) return voided(bid, "below-reserve", 0n);
  const known = bid.context.class === "seen" ? references.every((id) => pool.has(toHex(id))) : references.length === 0;
  if (!known) return voided(bid, "unknown-reference", 0n);
  return {
    valid: {
      bidId: bid.id,
      paymentId: paymentId(bid.context),
      class: bid.context.class,
      searcher: bid.context.searcher,
      escrowAccount: bid.escrowAccount,
      amountWei,
      references,
      bundleCommitment: value.bundleCommitment,
    },
  };
}

/** A winner's opened bundle: its canonical bytes, or why the bid is void. */
export function judgeBundle(
  bid: LiveBid,
  promised: Pick<ValidBid, "amountWei" | "references" | "bundleCommitment">,
  plain: Uint8Array | undefined,
  pool: Pool,
  bundleBytes: number,
): Judged<Uint8Array> {
  const opened = plain === undefined ? undefined : decodeBundleLayer(plain, bundleBytes);
  if (opened === undefined) return voided(bid, "bundle-malformed", promised.amountWei);
  if (!equalBytes(bundleCommitment(opened.salt, opened.bundleBytes), promised.bundleCommitment)) {
    return voided(bid, "commitment-mismatch", promised.amountWei);
  }
  const broken = !followsDialect(opened.bundle, bid, promised.references) || copiesPool(opened.bundle, pool);
  return broken ? voided(bid, "bundle-malformed", promised.amountWei) : { valid: opened.bundleBytes };
}

/** Something to execute; exactly the declared references; only seen bundles may let transactions revert. */
function followsDialect(bundle: Bundle, bid: LiveBid, declared: readonly Uint8Array[]): boolean {
  if (bundle.items.length === 0) return false;
  if (bid.context.class !== "seen" && bundle.mayRevert.length > 0) return false;
  const used = bundle.items.flatMap((item) => (item.type === "reference" ? [toHex(item.messageId)] : []));
  if (new Set(used).size !== used.length || used.length !== declared.length) return false;
  const promised = new Set(declared.map(toHex));
  return used.every((id) => promised.has(id));
}

/** True when the bundle carries a pool transaction's own bytes, as far as their sender disclosed them. */
function copiesPool(bundle: Bundle, pool: Pool): boolean {
  const hashes = new Set<string>();
  for (const { hash, rawTransaction } of pool.values()) {
    if (hash !== undefined) hashes.add(toHex(hash));
    if (rawTransaction !== undefined) hashes.add(toHex(keccak256(rawTransaction)));
  }
  if (hashes.size === 0) return false;
  return bundle.items.some((item) => item.type === "transaction" && hashes.has(toHex(keccak256(item.raw))));
}

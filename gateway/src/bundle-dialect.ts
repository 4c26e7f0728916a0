/**
 * `eth_sendBundle` as searchers know it, and what a sealed-bid auction needs besides. What a bundle asks for and this
 * lattice does not give is refused by name, never ignored.
 */
import { fromHex } from "@lattice/organism/codec/codec.ts";
import type { Bundle } from "@lattice/organism/outcomes/offer.ts";
import { decodeFunctionData, parseAbi, parseTransaction, type TransactionSerialized } from "viem";
import { z } from "zod";

export const BYTES = z.string().regex(/^0x(?:[0-9a-fA-F]{2})*$/, "0x-prefixed hex expected");
export const HASH = z.string().regex(/^0x[0-9a-fA-F]{64}$/, "0x-prefixed 32 bytes expected");
/** Numbers, decimal and hex: clients in use send all three. */
export const QUANTITY = z.union(
  [
    z.string().regex(/^0x[0-9a-fA-F]{1,64}$/),
    z.string().regex(/^[0-9]{1,78}$/),
    z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  ],
  { error: "a quantity expected" },
);
/** A quantity that fits the encoding of slots and nonces. */
export const U64 = QUANTITY.refine((value) => BigInt(value) < 1n << 64n, "at most 2^64 - 1");
export const BID_CLASS = z.enum(["blind", "seen", "tail"]);

export const BUNDLE_REQUEST = z.strictObject({
  txs: z
    .array(z.union([BYTES, z.strictObject({ messageId: z.string().regex(/^0x[0-9a-fA-F]{32}$/) })]))
    .min(1)
    .max(64),
  blockNumber: QUANTITY.optional(),
  revertingTxHashes: z.array(HASH).max(64).optional(),
  lattice: z
    .strictObject({
      class: BID_CLASS,
      amountWei: QUANTITY,
      capWei: QUANTITY.optional(),
      slot: U64.optional(),
      nonce: U64.optional(),
    })
    .optional(),
});
export type BundleRequest = z.infer<typeof BUNDLE_REQUEST>;

export function bundleItems(txs: BundleRequest["txs"]): Bundle["items"] {
  return txs.map((tx) =>
    typeof tx === "string"
      ? { type: "transaction", raw: fromHex(tx) }
      : { type: "reference", messageId: fromHex(tx.messageId) },
  );
}

/** What a bundle pays by itself: the call that a bid is paid with. */
export interface BundlePayment {
  readonly slot: bigint;
  /** 32 bytes. */
  readonly paymentId: Uint8Array;
  readonly amountWei: bigint;
}

const PAY_BID = parseAbi(["function payBid(uint64 slot, bytes32 bidId) payable"]);

/** The one `payBid` to the settlement contract among a bundle's transactions; undefined when there is none, or several. */
export function paymentOf(items: Bundle["items"], settlement: Uint8Array): BundlePayment | undefined {
  const payments = items.flatMap((item) => {
    const payment = item.type === "transaction" ? readPayment(item.raw, settlement) : undefined;
    return payment === undefined ? [] : [payment];
  });
  return payments.length === 1 ? payments[0] : undefined;
}

function readPayment(raw: Uint8Array, settlement: Uint8Array): BundlePayment | undefined {
  try {
    const { to, data, value } = parseTransaction(`0x${Buffer.from(raw).toString("hex")}` as TransactionSerialized);
    if (to?.toLowerCase() !== `0x${Buffer.from(settlement).toString("hex")}` || data === undefined) return undefined;
    const { args } = decodeFunctionData({ abi: PAY_BID, data });
    return { slot: args[0], paymentId: fromHex(args[1]), amountWei: value ?? 0n };
  } catch {
    // Not a transaction, or another call: whether the bundle pays is for the auction to find.
    return undefined;
  }
}

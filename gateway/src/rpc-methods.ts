/** The JSON-RPC methods that the gateway serves itself; everything else is a forwarded read. */
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { type LatticeConfig, latticeId, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import type { Bundle } from "@lattice/organism/outcomes/offer.ts";
import type { DisclosurePolicy } from "@lattice/organism/outcomes/unseal.ts";
import type { Clock } from "@lattice/organism/ports.ts";
import { keccak256 } from "viem";
import { z } from "zod";
import type { Bidder } from "./bids.ts";
import { gatewayFault } from "./faults.ts";
import { RpcError, type RpcHandler } from "./json-rpc.ts";
import { disclosureOf, type SubmissionBook } from "./submissions.ts";

const BYTES = z.string().regex(/^0x(?:[0-9a-fA-F]{2})*$/, "0x-prefixed hex expected");
const QUANTITY = z.union([
  z.string().regex(/^0x[0-9a-fA-F]{1,64}$/),
  z.string().regex(/^[0-9]{1,78}$/),
  z.number().int().min(0),
]);
const DISCLOSURE = z.enum(["nothing", "hash", "target", "everything"]);

/** `eth_sendBundle` as searchers know it, and in `lattice` what a sealed-bid auction needs besides. */
const BUNDLE = z.object({
  txs: z
    .array(z.union([BYTES, z.strictObject({ messageId: z.string().regex(/^0x[0-9a-fA-F]{32}$/) })]))
    .min(1)
    .max(64),
  blockNumber: QUANTITY.optional(),
  revertingTxHashes: z
    .array(z.string().regex(/^0x[0-9a-fA-F]{64}$/))
    .max(64)
    .optional(),
  lattice: z.strictObject({
    class: z.enum(["blind", "seen", "tail"]),
    amountWei: QUANTITY,
    capWei: QUANTITY.optional(),
    slot: QUANTITY.optional(),
    nonce: QUANTITY.optional(),
  }),
});

const RESERVATION = z.strictObject({ class: z.enum(["blind", "seen", "tail"]), slot: QUANTITY.optional() });

export interface MethodOptions {
  readonly config: LatticeConfig;
  readonly clock: Clock;
  readonly submissions: SubmissionBook;
  readonly bidder: Bidder | undefined;
  readonly disclosure: DisclosurePolicy;
  /** The next block number the chain expects. */
  readonly nextBlock: () => Promise<bigint>;
}

function parse<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new RpcError(-32_602, `${[what, ...(issue?.path ?? [])].join(".")}: ${issue?.message ?? "malformed"}`);
}

export function latticeMethods(options: MethodOptions): ReadonlyMap<string, RpcHandler> {
  const { config, clock, submissions, bidder } = options;

  const send = async (params: readonly unknown[]): Promise<string> => {
    const raw = fromHex(parse(BYTES, params[0], "transaction"));
    const settings = parse(z.object({ disclosure: DISCLOSURE.optional() }).default({}), params[1] ?? {}, "settings");
    const disclosure = settings.disclosure === undefined ? options.disclosure : disclosureOf(settings.disclosure);
    return `0x${toHex(await submissions.take(raw, disclosure))}`;
  };

  const sendBundle = async (params: readonly unknown[]): Promise<{ bundleHash: string; slot: string }> => {
    if (bidder === undefined) throw gatewayFault("NO_SEARCHER");
    const { txs, blockNumber, revertingTxHashes = [], lattice } = parse(BUNDLE, params[0], "bundle");
    const items: Bundle["items"] = txs.map((tx) =>
      typeof tx === "string"
        ? { type: "transaction", raw: fromHex(tx) }
        : { type: "reference", messageId: fromHex(tx.messageId) },
    );
    let slot = lattice.slot === undefined ? undefined : BigInt(lattice.slot);
    if (slot === undefined && blockNumber !== undefined) {
      // A block number is a guess at a slot: one block a slot from the next one on.
      const ahead = BigInt(blockNumber) - (await options.nextBlock());
      if (ahead < 0n) throw new RpcError(-32_602, "bundle.blockNumber: that block exists already");
      slot = bidder.openSlot(lattice.class) + ahead;
    }
    const { bidId, slot: sealedFor } = await bidder.bid({
      slot,
      class: lattice.class,
      amountWei: BigInt(lattice.amountWei),
      capWei: lattice.capWei === undefined ? undefined : BigInt(lattice.capWei),
      items,
      mayRevert: revertingTxHashes.map(fromHex),
      ...(lattice.nonce === undefined ? {} : { nonce: BigInt(lattice.nonce) }),
    });
    return { bundleHash: `0x${toHex(bidId)}`, slot: `0x${sealedFor.toString(16)}` };
  };

  const reserve = async (params: readonly unknown[]): Promise<{ slot: string; nonce: string; paymentId: string }> => {
    if (bidder === undefined) throw gatewayFault("NO_SEARCHER");
    const { class: bidClass, slot: wanted } = parse(RESERVATION, params[0], "bid");
    const { slot, nonce, paymentId } = bidder.reserve(bidClass, wanted === undefined ? undefined : BigInt(wanted));
    return { slot: `0x${slot.toString(16)}`, nonce: nonce.toString(), paymentId: `0x${toHex(paymentId)}` };
  };

  const submission = async (params: readonly unknown[]): Promise<unknown> => {
    const hash = parse(z.string().regex(/^0x[0-9a-fA-F]{64}$/), params[0], "hash");
    const found = submissions.get(hash.slice(2).toLowerCase());
    if (found === undefined) throw gatewayFault("SUBMISSION_UNKNOWN");
    const { status, slot, reason, blockHash } = found;
    return {
      status,
      slot: `0x${slot.toString(16)}`,
      reason,
      blockHash: blockHash === undefined ? null : `0x${toHex(blockHash)}`,
    };
  };

  return new Map<string, RpcHandler>([
    ["eth_sendRawTransaction", send],
    ["eth_sendBundle", sendBundle],
    ["lattice_reserveBid", reserve],
    ["lattice_getSubmission", submission],
    [
      "lattice_getLattice",
      async () => ({
        name: config.name,
        chainId: `0x${config.chainId.toString(16)}`,
        latticeId: `0x${toHex(latticeId(config))}`,
        keys: config.keys,
        throwAway: config.throwAway,
        slot: `0x${slotAt(config, clock.nowMs()).toString(16)}`,
        slotMs: config.slotMs,
        settlement: `0x${toHex(config.tally.content.settlement)}`,
        transactionBytesMax: submissions.transactionBytesMax,
      }),
    ],
    ["web3_sha3", async (params) => keccak256(fromHex(parse(BYTES, params[0], "data")))],
  ]);
}

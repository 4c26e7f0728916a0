/** The JSON-RPC methods that the gateway serves itself; everything else is a forwarded read. */
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { type LatticeConfig, latticeId, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import type { DisclosurePolicy } from "@lattice/organism/outcomes/unseal.ts";
import type { Clock } from "@lattice/organism/ports.ts";
import { keccak256 } from "viem";
import { z } from "zod";
import type { Bidder } from "./bids.ts";
import {
  BID_CLASS,
  BUNDLE_REQUEST,
  type BundleRequest,
  BYTES,
  bundleItems,
  HASH,
  paymentOf,
  QUANTITY,
  U64,
} from "./bundle-dialect.ts";
import type { ChainReads } from "./chain-reads.ts";
import { gatewayFault } from "./faults.ts";
import { type Caller, RpcError, type RpcHandler } from "./json-rpc.ts";
import { DISCLOSURES, disclosureOf, type SubmissionBook, type Wishes } from "./submissions.ts";

export interface MethodOptions {
  readonly config: LatticeConfig;
  readonly clock: Clock;
  readonly submissions: SubmissionBook;
  readonly chain: Pick<ChainReads, "call" | "forward">;
  readonly bidder: Bidder | undefined;
  readonly disclosure: DisclosurePolicy;
  /** The slot whose block is expected to have this number. @throws Fault when that block exists, or the chain is away */
  readonly slotOfNumber: (blockNumber: bigint) => bigint;
  /** Resolves once every block that the node showed before the call is known here. */
  readonly catchUp: () => Promise<void>;
  /** @throws Fault ORIGIN_REFUSED for web pages that may not spend the searcher's escrow */
  readonly checkBidder: (caller: Caller) => void;
}

const SEND_SETTINGS = z.strictObject({
  disclosure: z.enum(DISCLOSURES).optional(),
  refund: z
    .strictObject({
      recipient: z.string().regex(/^0x[0-9a-fA-F]{40}$/, "0x-prefixed 20 bytes expected"),
      signature: z.string().regex(/^0x[0-9a-fA-F]{130}$/, "0x-prefixed 65 bytes expected"),
    })
    .transform(({ recipient, signature }) => ({ recipient: fromHex(recipient), signature: fromHex(signature) }))
    .optional(),
});
/** As the Flashbots and mev-share clients send it; `maxBlockNumber` is a number in one, hex in the other. */
const PRIVATE_TRANSACTION = z.object({
  tx: BYTES,
  maxBlockNumber: QUANTITY.optional(),
  preferences: z
    .object({ privacy: z.object({ hints: z.array(z.string().max(32)).max(16).optional() }).optional() })
    .optional(),
});
const RESERVATION = z.strictObject({ class: BID_CLASS, slot: U64.optional() });
const ADDRESS = z.string().regex(/^0x[0-9a-fA-F]{40}$/, "0x-prefixed 20 bytes expected");

function parse<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new RpcError(-32_602, `${[what, ...(issue?.path ?? [])].join(".")}: ${issue?.message ?? "malformed"}`);
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const optionalBigInt = (value: string | number | undefined): bigint | undefined =>
  value === undefined ? undefined : BigInt(value);

export function latticeMethods(options: MethodOptions): ReadonlyMap<string, RpcHandler> {
  const { config, clock, submissions, chain, bidder } = options;

  const take = async (raw: string, wishes: Wishes): Promise<string> =>
    `0x${toHex(await submissions.take(fromHex(raw), wishes))}`;

  const send: RpcHandler = async (params) => {
    const raw = parse(BYTES, params[0], "transaction");
    const { disclosure, refund } = parse(SEND_SETTINGS, params[1] ?? {}, "settings");
    return take(raw, { disclosure: disclosure === undefined ? options.disclosure : disclosureOf(disclosure), refund });
  };

  const sendPrivate: RpcHandler = async (params) => {
    const { tx, maxBlockNumber, preferences } = parse(PRIVATE_TRANSACTION, params[0], "transaction");
    const hints = preferences?.privacy?.hints;
    const disclosure = hints === undefined ? options.disclosure : disclosureOfHints(hints);
    return take(tx, { disclosure, untilSlot: untilSlotOf(optionalBigInt(maxBlockNumber)) });
  };

  /** A message may be carried for some slots after its round, so the round must lie that much before the last block. */
  const untilSlotOf = (maxBlockNumber: bigint | undefined): bigint | undefined => {
    if (maxBlockNumber === undefined) return undefined;
    const untilSlot = options.slotOfNumber(maxBlockNumber);
    const earliest = slotAt(config, clock.nowMs()) + 1n + BigInt(config.atelier.content.carrySlots);
    if (untilSlot >= earliest) return untilSlot;
    const nearest = maxBlockNumber + (earliest - untilSlot);
    throw gatewayFault("BAD_REQUEST", `maxBlockNumber: too near, at least ${nearest}`, { limit: nearest.toString() });
  };

  const searcher = (caller: Caller): Bidder => {
    if (bidder === undefined) throw gatewayFault("NO_SEARCHER");
    options.checkBidder(caller);
    return bidder;
  };

  /** The terms of a bid: said outright, or read from the payment that the bundle makes under a reserved id. */
  const termsOf = (own: Bidder, request: BundleRequest): NonNullable<BundleRequest["lattice"]> => {
    if (request.lattice !== undefined) return request.lattice;
    const payment = paymentOf(bundleItems(request.txs), config.tally.content.settlement);
    const reserved = payment === undefined ? undefined : own.reservationOf(payment.paymentId);
    if (payment === undefined || reserved === undefined || reserved.slot !== payment.slot) {
      throw gatewayFault(
        "BAD_BID",
        "bundle: say in `lattice` what is bid, or pay under an id that lattice_reserveBid gave",
      );
    }
    const { slot, nonce } = reserved;
    return { class: reserved.class, amountWei: payment.amountWei.toString(), slot: hex(slot), nonce: nonce.toString() };
  };

  const sendBundle: RpcHandler = async (params, caller) => {
    const own = searcher(caller);
    const request = parse(BUNDLE_REQUEST, params[0], "bundle");
    const terms = termsOf(own, request);
    const wanted = optionalBigInt(request.blockNumber);
    const mapped = wanted === undefined ? undefined : options.slotOfNumber(wanted);
    const slot = optionalBigInt(terms.slot) ?? mapped;
    if (slot !== undefined && slot < own.openSlot(terms.class)) {
      throw gatewayFault("BAD_BID", `bidding of class ${terms.class} is over for slot ${slot}`);
    }
    const nonce = optionalBigInt(terms.nonce);
    const { bidId, slot: sealedFor } = await own.bid({
      slot,
      class: terms.class,
      amountWei: BigInt(terms.amountWei),
      capWei: optionalBigInt(terms.capWei),
      items: bundleItems(request.txs),
      mayRevert: (request.revertingTxHashes ?? []).map(fromHex),
      ...(nonce === undefined ? {} : { nonce }),
    });
    return { bundleHash: `0x${toHex(bidId)}`, slot: hex(sealedFor) };
  };

  const reserve: RpcHandler = async (params, caller) => {
    const own = searcher(caller);
    const { class: bidClass, slot: wanted } = parse(RESERVATION, params[0], "bid");
    const { slot, nonce, paymentId } = own.reserve(bidClass, optionalBigInt(wanted));
    return { slot: hex(slot), nonce: nonce.toString(), paymentId: `0x${toHex(paymentId)}` };
  };

  const submission: RpcHandler = async (params) => {
    const hash = parse(HASH, params[0], "hash");
    const found = submissions.get(hash.slice(2).toLowerCase());
    if (found === undefined) throw gatewayFault("SUBMISSION_UNKNOWN");
    const { status, slot, reason, blockHash } = found;
    return {
      status,
      slot: hex(slot),
      reason,
      blockHash: blockHash === undefined ? null : `0x${toHex(blockHash)}`,
    };
  };

  /** Wallets that send several in a row count from here. */
  const transactionCount: RpcHandler = async (params) => {
    const [address, block] = params;
    if (block !== "pending") return chain.forward("eth_getTransactionCount", params);
    const account = parse(ADDRESS, address, "address");
    const count = parse(z.string().regex(/^0x[0-9a-fA-F]{1,64}$/), await pendingCount(account), "node");
    return hex(submissions.pendingNonce(account.slice(2).toLowerCase(), BigInt(count)));
  };

  /** What the node itself knows to be pending counts too, when it can say. */
  const pendingCount = async (address: string): Promise<unknown> => {
    try {
      return await chain.call("eth_getTransactionCount", [address, "pending"]);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      return chain.call("eth_getTransactionCount", [address, "latest"]);
    }
  };

  /** Of what is not public nobody else is asked: the node would learn the hash. */
  const byHash =
    (method: string): RpcHandler =>
    async (params) => {
      const hash = parse(HASH, params[0], "hash");
      const bare = hash.slice(2).toLowerCase();
      // A wallet that has seen a block expects its receipts to be there.
      if (submissions.isPrivate(bare)) await options.catchUp();
      return submissions.isPrivate(bare) ? null : chain.forward(method, params);
    };

  return new Map<string, RpcHandler>([
    ["eth_accounts", async () => []],
    ["eth_chainId", async () => hex(config.chainId)],
    ["eth_getTransactionByHash", byHash("eth_getTransactionByHash")],
    ["eth_getTransactionCount", transactionCount],
    ["eth_getTransactionReceipt", byHash("eth_getTransactionReceipt")],
    ["eth_sendBundle", sendBundle],
    ["eth_sendPrivateTransaction", sendPrivate],
    ["eth_sendRawTransaction", send],
    ["lattice_getSubmission", submission],
    ["lattice_reserveBid", reserve],
    [
      "lattice_getLattice",
      async () => ({
        name: config.name,
        chainId: hex(config.chainId),
        latticeId: `0x${toHex(latticeId(config))}`,
        keys: config.keys,
        throwAway: config.throwAway,
        slot: hex(slotAt(config, clock.nowMs())),
        slotMs: config.slotMs,
        settlement: `0x${toHex(config.tally.content.settlement)}`,
        transactionBytesMax: submissions.transactionBytesMax,
      }),
    ],
    ["net_version", async () => config.chainId.toString()],
    ["web3_sha3", async (params) => keccak256(fromHex(parse(BYTES, params[0], "data")))],
  ]);
}

/** mev-share's hints: calldata and logs are not disclosed in part here, so they stay undisclosed. */
function disclosureOfHints(hints: readonly string[]): DisclosurePolicy {
  const has = (hint: string): boolean => hints.includes(hint);
  const target = has("contract_address") && has("function_selector");
  return { hash: has("hash") || has("tx_hash") || target, target, everything: false };
}

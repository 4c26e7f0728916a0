/** Users of a lattice, as scenarios play them: accounts that sign, JSON-RPC as wallets speak it, and searchers. */

import { readFileSync } from "node:fs";
import type { SampleAccount } from "@lattice/deploy/local/accounts.ts";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import { Bidder } from "@lattice/gateway/bids.ts";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { signTicket } from "@lattice/organism/committee/ticket.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import { readEndpoints } from "@lattice/organism/node/kit.ts";
import { lastingRosters } from "@lattice/organism/node/roster-book.ts";
import { SETTLEMENT_ABI } from "@lattice/tally/contract/settlement-abi.ts";
import { encodeFunctionData, type Hex } from "viem";
import { type PrivateKeyAccount, privateKeyToAccount } from "viem/accounts";

export interface RpcError {
  readonly code: number;
  readonly message: string;
  readonly data?: { readonly reason?: string };
}

export interface RpcAnswer {
  readonly id: unknown;
  readonly result?: unknown;
  readonly error?: RpcError;
}

/** Posts a body as it is. @returns the HTTP status and the text */
export async function post(url: string, body: string | Uint8Array): Promise<{ status: number; text: string }> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
    signal: AbortSignal.timeout(15_000),
  });
  return { status: response.status, text: await response.text() };
}

let lastId = 0;

/** One JSON-RPC call; an error is an answer. */
export async function ask(url: string, method: string, params: readonly unknown[]): Promise<RpcAnswer> {
  lastId += 1;
  const { text } = await post(url, JSON.stringify({ jsonrpc: "2.0", id: lastId, method, params }));
  return JSON.parse(text) as RpcAnswer;
}

/** @throws Error with the answer's message */
export async function call<T>(url: string, method: string, params: readonly unknown[]): Promise<T> {
  const { result, error } = await ask(url, method, params);
  if (error !== undefined) throw new Error(`${method}: ${error.data?.reason ?? error.code} ${error.message}`);
  return result as T;
}

export const PRIORITY_WEI = 2_000_000_000n;
const DEPOSIT_WEI = 10n ** 18n;

export interface Transfer {
  readonly to: Hex;
  readonly valueWei?: bigint;
  readonly data?: Hex;
  readonly gas?: bigint;
  readonly nonce?: number;
  readonly chainId?: number;
  readonly priorityWei?: bigint;
}

/** One account that talks to the lattice through its gateway. */
export class User {
  readonly account: PrivateKeyAccount;
  readonly #lattice: LocalLattice;

  constructor(lattice: LocalLattice, sample: SampleAccount) {
    this.#lattice = lattice;
    this.account = privateKeyToAccount(`0x${sample.secret}`);
  }

  async nonce(): Promise<number> {
    return Number(
      await call<string>(this.#lattice.gatewayUrl, "eth_getTransactionCount", [this.account.address, "latest"]),
    );
  }

  /** Signs a transaction for the next block; the nonce is the chain's unless given. */
  async sign(transfer: Transfer): Promise<Hex> {
    const block = await call<{ baseFeePerGas: Hex }>(this.#lattice.gatewayUrl, "eth_getBlockByNumber", [
      "latest",
      false,
    ]);
    const priority = transfer.priorityWei ?? PRIORITY_WEI;
    return this.account.signTransaction({
      type: "eip1559",
      chainId: transfer.chainId ?? Number(this.#lattice.config.chainId),
      nonce: transfer.nonce ?? (await this.nonce()),
      to: transfer.to,
      value: transfer.valueWei ?? 0n,
      gas: transfer.gas ?? 60_000n,
      maxPriorityFeePerGas: priority,
      maxFeePerGas: BigInt(block.baseFeePerGas) * 2n + priority,
      ...(transfer.data === undefined ? {} : { data: transfer.data }),
    });
  }

  /** @returns the transaction hash that the gateway acknowledged */
  send(raw: Hex, disclosure: "nothing" | "hash" | "target" | "everything"): Promise<Hex> {
    return call(this.#lattice.gatewayUrl, "eth_sendRawTransaction", [raw, { disclosure }]);
  }

  /** Escrow for this account, by a transaction like any other. */
  async deposit(): Promise<Hex> {
    const data = encodeFunctionData({ abi: SETTLEMENT_ABI, functionName: "deposit" });
    return this.send(
      await this.sign({ to: settlementOf(this.#lattice), valueWei: DEPOSIT_WEI, data, gas: 120_000n }),
      "nothing",
    );
  }

  /** A transaction that pays a bid. */
  pay(slot: bigint, paymentId: Uint8Array, wei: bigint): Promise<Hex> {
    const data = encodeFunctionData({
      abi: SETTLEMENT_ABI,
      functionName: "payBid",
      args: [slot, `0x${toHex(paymentId)}`],
    });
    return this.sign({ to: settlementOf(this.#lattice), valueWei: wei, data, gas: 90_000n });
  }
}

export function settlementOf(lattice: LocalLattice): Hex {
  return `0x${toHex(lattice.config.tally.content.settlement)}`;
}

/** A searcher that bids with this account's key and escrow. */
export function bidderOf(lattice: LocalLattice, sample: SampleAccount): Bidder {
  const { config, rosters, layout } = lattice;
  const file = JSON.parse(readFileSync(layout.path("admission", "issuer.json"), "utf8")) as { seed: string };
  const issuer = generateSigningKey(fromHex(file.seed));
  return new Bidder({
    config,
    rosters: lastingRosters(rosters),
    endpoints: () => readEndpoints(layout.endpoints),
    clock: { nowMs: () => Date.now() },
    searcherKey: fromHex(sample.secret),
    tickets: (searcher) => [
      signTicket(issuer, { audience: committeeId(config, "offer"), subject: searcher, expSlot: 1n << 40n }),
    ],
  });
}

/** What the contract holds for an account, in wei. */
export async function escrowOf(lattice: LocalLattice, address: Hex): Promise<bigint> {
  const data = encodeFunctionData({ abi: SETTLEMENT_ABI, functionName: "escrowOf", args: [address] });
  return BigInt(await call<Hex>(lattice.gatewayUrl, "eth_call", [{ to: settlementOf(lattice), data }, "latest"]));
}

export interface Landed {
  readonly blockHash: string;
  readonly blockNumber: bigint;
  readonly index: number;
}

/** Where a transaction stands on chain; undefined while it does not. */
export async function landed(lattice: LocalLattice, hash: string): Promise<Landed | undefined> {
  const { result } = await ask(lattice.chainRpc, "eth_getTransactionReceipt", [hash]);
  const receipt = result as { blockHash?: string; blockNumber?: string; transactionIndex?: string } | null | undefined;
  if (typeof receipt?.blockHash !== "string") return undefined;
  return {
    blockHash: receipt.blockHash,
    blockNumber: BigInt(receipt.blockNumber ?? "0x0"),
    index: Number(receipt.transactionIndex ?? "0x0"),
  };
}

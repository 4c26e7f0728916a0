/** Reads that viem and ethers need, forwarded to an execution node; writes never leave through here. */
import { z } from "zod";
import { gatewayFault } from "./faults.ts";
import { RpcError } from "./json-rpc.ts";

const DEADLINE_MS = 5000;

/** Read-only methods of the standard (execution-apis) and what wallets ask first. */
const FORWARDED = new Set([
  "eth_blockNumber",
  "eth_call",
  "eth_chainId",
  "eth_createAccessList",
  "eth_estimateGas",
  "eth_feeHistory",
  "eth_gasPrice",
  "eth_getBalance",
  "eth_getBlockByHash",
  "eth_getBlockByNumber",
  "eth_getBlockReceipts",
  "eth_getBlockTransactionCountByHash",
  "eth_getBlockTransactionCountByNumber",
  "eth_getCode",
  "eth_getLogs",
  "eth_getProof",
  "eth_getStorageAt",
  "eth_getTransactionByBlockHashAndIndex",
  "eth_getTransactionByBlockNumberAndIndex",
  "eth_getTransactionByHash",
  "eth_getTransactionCount",
  "eth_getTransactionReceipt",
  "eth_maxPriorityFeePerGas",
  "eth_syncing",
  "net_version",
  "net_listening",
  "web3_clientVersion",
  "web3_sha3",
]);

const ANSWER = z.object({
  result: z.unknown(),
  error: z.object({ code: z.number(), message: z.string(), data: z.unknown() }).partial().optional(),
});

export class ChainReads {
  readonly #url: string;
  #id = 0;

  constructor(url: string) {
    this.#url = url;
  }

  /** Forwards a method from the list. @throws RpcError as the node gave it, Fault METHOD_NOT_FORWARDED, CHAIN_UNREACHABLE */
  async forward(method: string, params: readonly unknown[]): Promise<unknown> {
    if (!FORWARDED.has(method)) throw gatewayFault("METHOD_NOT_FORWARDED", `${method} is not served here`);
    try {
      return await this.call(method, params);
    } catch (error) {
      // A receipt of a transaction that is not public yet is "none", not an error: wallets poll for it.
      const notYet = method === "eth_getTransactionReceipt" || method === "eth_getTransactionByHash";
      if (notYet && error instanceof RpcError) return null;
      throw error;
    }
  }

  /** One call to the node. @throws RpcError, Fault CHAIN_UNREACHABLE */
  async call(method: string, params: readonly unknown[]): Promise<unknown> {
    this.#id += 1;
    let body: unknown;
    try {
      const response = await fetch(this.#url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ jsonrpc: "2.0", id: this.#id, method, params }),
        signal: AbortSignal.timeout(DEADLINE_MS),
      });
      body = await response.json();
    } catch {
      throw gatewayFault("CHAIN_UNREACHABLE");
    }
    const answer = ANSWER.safeParse(body);
    if (!answer.success) throw gatewayFault("CHAIN_UNREACHABLE", "the execution node's answer is not JSON-RPC");
    const { error, result } = answer.data;
    if (error !== undefined) throw new RpcError(error.code ?? -32_603, error.message ?? "the node refused", error.data);
    return result;
  }

  /** The account's next nonce and balance at the head. */
  async account(address: string): Promise<{ readonly nonce: bigint; readonly balanceWei: bigint }> {
    const [nonce, balance] = await Promise.all([
      this.call("eth_getTransactionCount", [address, "latest"]),
      this.call("eth_getBalance", [address, "latest"]),
    ]);
    return { nonce: BigInt(String(nonce)), balanceWei: BigInt(String(balance)) };
  }

  /** The block a transaction is in, when it is in one. */
  async landedIn(transactionHash: string): Promise<string | undefined> {
    const receipt = (await this.forward("eth_getTransactionReceipt", [transactionHash])) as {
      blockHash?: unknown;
    } | null;
    return typeof receipt?.blockHash === "string" ? receipt.blockHash : undefined;
  }
}

/** The execution node behind the gateway: reads that wallets need, forwarded; writes never leave through here. */
import { z } from "zod";
import { gatewayFault } from "./faults.ts";
import { RpcError } from "./json-rpc.ts";

const DEADLINE_MS = 5000;
const ANSWER_BYTES_MAX = 32 << 20;
const MESSAGE_CHARS_MAX = 1024;

/**
 * Read-only methods of the standard (execution-apis) and what wallets ask first. `eth_fillTransaction` is not among
 * them: a node would fill in a nonce without counting what this gateway holds; clients fall back to single reads.
 */
const FORWARDED = new Set([
  "eth_blobBaseFee",
  "eth_blockNumber",
  "eth_call",
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
  "net_listening",
  "web3_clientVersion",
]);

/** True for the reads that the node answers. */
export function isForwarded(method: string): boolean {
  return FORWARDED.has(method);
}

/** Reads of state at a block. */
const STATE_READS = new Set([
  "eth_call",
  "eth_createAccessList",
  "eth_estimateGas",
  "eth_getBalance",
  "eth_getCode",
  "eth_getProof",
  "eth_getStorageAt",
]);
/** Reads of state by a transaction that is not sent. */
const TRIALS = new Set(["eth_call", "eth_createAccessList", "eth_estimateGas"]);

/** Clients leave the type to be understood from the fee fields; not every node understands. */
function withType(method: string, params: readonly unknown[]): readonly unknown[] {
  const [transaction, ...rest] = params;
  if (!TRIALS.has(method) || typeof transaction !== "object" || transaction === null || "type" in transaction)
    return params;
  return "maxFeePerGas" in transaction || "maxPriorityFeePerGas" in transaction
    ? [{ ...transaction, type: "0x2" }, ...rest]
    : params;
}

const ANSWER = z.object({
  result: z.unknown().optional(),
  error: z.looseObject({ code: z.unknown(), message: z.unknown(), data: z.unknown() }).partial().optional(),
});

const HASH = z.string().regex(/^0x[0-9a-fA-F]{64}$/);
const QUANTITY = z.string().regex(/^0x[0-9a-fA-F]{1,64}$/);
const BLOCK = z.object({ number: QUANTITY, hash: HASH, parentHash: HASH, transactions: z.array(HASH) });

/** A block as far as the gateway looks: lower-case hex without prefix. */
export interface ChainBlock {
  readonly number: bigint;
  readonly hash: string;
  readonly parentHash: string;
  /** Transaction hashes in order. */
  readonly transactions: readonly string[];
}

/** An account at the head. */
export interface Account {
  /** Next nonce. */
  readonly nonce: bigint;
  readonly balanceWei: bigint;
}

const bare = (hex: string): string => hex.slice(2).toLowerCase();

export class ChainReads {
  readonly #url: string;
  #id = 0;

  constructor(url: string) {
    this.#url = url;
  }

  /** Forwards a method from the list. @throws RpcError as the node gave it, Fault METHOD_NOT_FORWARDED, CHAIN_UNREACHABLE */
  async forward(method: string, params: readonly unknown[]): Promise<unknown> {
    if (!FORWARDED.has(method)) {
      // Only what looks like a method's name is repeated to the caller.
      const name = /^[a-z0-9]{1,32}_[a-zA-Z0-9_]{1,64}$/.test(method) ? method : "this method";
      throw gatewayFault("METHOD_NOT_FORWARDED", `${name} is not served here`);
    }
    const meant = withType(method, params);
    try {
      return await this.call(method, meant);
    } catch (error) {
      // Nothing of this gateway's is in a node's pending state, so one that keeps none is asked for its latest.
      const at = meant.indexOf("pending");
      if (!(error instanceof RpcError) || at < 1 || !STATE_READS.has(method)) throw error;
      return this.call(method, meant.with(at, "latest"));
    }
  }

  /** One call to the node. @throws RpcError, Fault CHAIN_UNREACHABLE */
  async call(method: string, params: readonly unknown[]): Promise<unknown> {
    this.#id += 1;
    let request: string;
    try {
      request = JSON.stringify({ jsonrpc: "2.0", id: this.#id, method, params });
    } catch {
      throw new RpcError(-32_602, "parameters are nested too deeply");
    }
    let body: unknown;
    try {
      const response = await fetch(this.#url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: request,
        redirect: "error",
        signal: AbortSignal.timeout(DEADLINE_MS),
      });
      body = JSON.parse(await limitedText(response));
    } catch {
      throw gatewayFault("CHAIN_UNREACHABLE");
    }
    const answer = ANSWER.safeParse(body);
    if (!answer.success) throw gatewayFault("CHAIN_UNREACHABLE", "the execution node's answer is not JSON-RPC");
    const { error, result } = answer.data;
    if (error !== undefined) {
      const { code, message, data } = error;
      throw new RpcError(
        typeof code === "number" ? code : -32_603,
        typeof message === "string" ? message.slice(0, MESSAGE_CHARS_MAX) : "the node refused",
        data,
      );
    }
    return result;
  }

  /** @param address 0x-prefixed; read at the head */
  async account(address: string): Promise<Account> {
    const [nonce, balance] = await Promise.all([
      this.call("eth_getTransactionCount", [address, "latest"]),
      this.call("eth_getBalance", [address, "latest"]),
    ]);
    return { nonce: quantity(nonce), balanceWei: quantity(balance) };
  }

  /** The block a transaction is in, bare hex; undefined when in none. 0x-prefixed hash. */
  async landedIn(transactionHash: string): Promise<string | undefined> {
    const receipt = z
      .looseObject({ blockHash: HASH })
      .nullable()
      .safeParse(await this.call("eth_getTransactionReceipt", [transactionHash]));
    if (!receipt.success) throw gatewayFault("CHAIN_UNREACHABLE", "the execution node's receipt has no block");
    return receipt.data === null ? undefined : bare(receipt.data.blockHash);
  }

  /** @param which "latest", or a block's bare hash; undefined when the node has it not */
  async block(which: string): Promise<ChainBlock | undefined> {
    const found =
      which === "latest"
        ? await this.call("eth_getBlockByNumber", ["latest", false])
        : await this.call("eth_getBlockByHash", [`0x${which}`, false]);
    if (found === null || found === undefined) return undefined;
    const block = BLOCK.safeParse(found);
    if (!block.success) throw gatewayFault("CHAIN_UNREACHABLE", "the execution node's block is not one");
    const { number, hash, parentHash, transactions } = block.data;
    return {
      number: BigInt(number),
      hash: bare(hash),
      parentHash: bare(parentHash),
      transactions: transactions.map(bare),
    };
  }
}

function quantity(value: unknown): bigint {
  const parsed = QUANTITY.safeParse(value);
  if (!parsed.success) throw gatewayFault("CHAIN_UNREACHABLE", "the execution node's answer is not a quantity");
  return BigInt(parsed.data);
}

/** The body, unless it is larger than anything this gateway asks for. */
async function limitedText(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of response.body ?? []) {
    length += part.length;
    if (length > ANSWER_BYTES_MAX) throw new RangeError("the answer is too large");
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

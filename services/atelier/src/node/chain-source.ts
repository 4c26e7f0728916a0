/**
 * Blocks from an execution client's JSON-RPC. The client is asked for fields, never believed: the block is put
 * together from them, and its hash must be the one that was asked for or stated.
 */
import { type Block, createBlockFromRLP, createBlockFromRPC, type JSONRPCBlock } from "@ethereumjs/block";
import type { Common } from "@ethereumjs/common";
import { equalBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import type { ChainSource } from "../evm/chain-state.ts";

/** Why the client could not be asked, or its answer not used. All but the last may be tried again. */
export type ChainSourceProblem =
  | "UNREACHABLE"
  | "DEADLINE"
  | "HTTP_STATUS"
  | "RPC_ERROR"
  | "MALFORMED"
  | "HASH_MISMATCH";

export class ChainSourceError extends Error {
  override readonly name = "ChainSourceError";
  readonly reason: ChainSourceProblem;
  readonly method: string;
  constructor(reason: ChainSourceProblem, method: string, detail: string, options?: ErrorOptions) {
    super(`${reason}: ${method}: ${detail}`, options);
    this.reason = reason;
    this.method = method;
  }
}

export interface JsonRpcChainOptions {
  readonly url: string;
  /** The chain's rules: `genesisFrom(file).common`. */
  readonly common: Common;
  /** For each call, connection and answer together. */
  readonly deadlineMs: number;
  /** Ends every call in flight. */
  readonly signal?: AbortSignal;
}

export class JsonRpcChain implements ChainSource {
  readonly #options: JsonRpcChainOptions;
  #calls = 0;

  constructor(options: JsonRpcChainOptions) {
    this.#options = options;
  }

  async head(): Promise<{ readonly number: bigint; readonly hash: Uint8Array }> {
    const method = "eth_getBlockByNumber";
    const block = await this.#call(method, ["latest", false]);
    if (!isRecord(block)) throw new ChainSourceError("MALFORMED", method, "no latest block");
    return { number: quantity(method, block["number"]), hash: word(method, block["hash"]) };
  }

  async blockByNumber(number: bigint): Promise<Uint8Array | undefined> {
    const method = "eth_getBlockByNumber";
    const answer = await this.#call(method, [`0x${number.toString(16)}`, true]);
    if (answer === null) return undefined;
    const block = await this.#blockFrom(method, answer);
    if (block.header.number !== number) throw new ChainSourceError("MALFORMED", method, `block ${block.header.number}`);
    return block.serialize();
  }

  async blockByHash(hash: Uint8Array): Promise<Uint8Array | undefined> {
    const method = "eth_getBlockByHash";
    const answer = await this.#call(method, [`0x${toHex(hash)}`, true]);
    if (answer === null) return undefined;
    const block = await this.#blockFrom(method, answer);
    if (!equalBytes(block.hash(), hash)) throw new ChainSourceError("HASH_MISMATCH", method, toHex(block.hash()));
    return block.serialize();
  }

  /** Not every client shows all fields of every transaction type; then the raw block is asked for. */
  async #blockFrom(method: string, answer: unknown): Promise<Block> {
    if (!isBlock(answer)) throw new ChainSourceError("MALFORMED", method, "not a block with its transactions");
    const stated = word(method, answer.hash);
    const options = { common: this.#options.common.copy(), setHardfork: true } as const;
    let problem: ChainSourceError;
    try {
      const rebuilt = createBlockFromRPC(answer, [], options);
      if (equalBytes(rebuilt.hash(), stated)) return rebuilt;
      problem = new ChainSourceError("HASH_MISMATCH", method, toHex(stated));
    } catch (error) {
      problem = new ChainSourceError("MALFORMED", method, "not a block of this chain", { cause: error });
    }
    const raw = await this.#rawBlock(answer.number);
    if (raw === undefined) throw problem;
    try {
      const decoded = createBlockFromRLP(raw, options);
      if (equalBytes(decoded.hash(), stated)) return decoded;
    } catch {
      // What the first answer was refused for says more.
    }
    throw problem;
  }

  async #rawBlock(number: unknown): Promise<Uint8Array | undefined> {
    try {
      const raw = await this.#call("debug_getRawBlock", [number]);
      return typeof raw === "string" && /^0x(?:[0-9a-f]{2})+$/i.test(raw) ? fromHex(raw) : undefined;
    } catch (error) {
      // Most public endpoints do not offer it.
      if (error instanceof ChainSourceError && error.reason === "RPC_ERROR") return undefined;
      throw error;
    }
  }

  async #call(method: string, params: readonly unknown[]): Promise<unknown> {
    const { url, deadlineMs, signal } = this.#options;
    const deadline = AbortSignal.timeout(deadlineMs);
    const id = ++this.#calls;
    let answer: unknown;
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ jsonrpc: "2.0", id, method, params }),
        signal: signal === undefined ? deadline : AbortSignal.any([deadline, signal]),
      });
      if (!response.ok) throw new ChainSourceError("HTTP_STATUS", method, `${response.status}`);
      answer = await response.json();
    } catch (error) {
      if (error instanceof ChainSourceError) throw error;
      if (deadline.aborted) throw new ChainSourceError("DEADLINE", method, `${deadlineMs} ms`, { cause: error });
      if (error instanceof SyntaxError) throw new ChainSourceError("MALFORMED", method, "not JSON", { cause: error });
      throw new ChainSourceError("UNREACHABLE", method, "no answer", { cause: error });
    }
    if (!isRecord(answer) || answer["id"] !== id) throw new ChainSourceError("MALFORMED", method, "not JSON-RPC");
    const failure = answer["error"];
    if (isRecord(failure)) throw new ChainSourceError("RPC_ERROR", method, `${failure["code"]} ${failure["message"]}`);
    if (!("result" in answer)) throw new ChainSourceError("MALFORMED", method, "neither result nor error");
    return answer["result"];
  }
}

function isRecord(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === "object" && value !== null;
}

/** The shape only; the hash decides about the content. */
function isBlock(value: unknown): value is JSONRPCBlock {
  if (!isRecord(value) || !Array.isArray(value["transactions"])) return false;
  return value["transactions"].every(isRecord);
}

function quantity(method: string, value: unknown): bigint {
  if (typeof value !== "string" || !/^0x[0-9a-f]{1,16}$/i.test(value)) {
    throw new ChainSourceError("MALFORMED", method, "not a block number");
  }
  return BigInt(value);
}

function word(method: string, value: unknown): Uint8Array {
  if (typeof value !== "string" || !/^0x[0-9a-f]{64}$/i.test(value)) {
    throw new ChainSourceError("MALFORMED", method, "not a 32-byte hash");
  }
  return fromHex(value);
}

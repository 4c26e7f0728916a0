/**
 * Blocks from an execution client's JSON-RPC. The client is asked for fields, never believed: the block is put
 * together from them, and its hash must be the one that was asked for or stated.
 */
import { createBlockFromRPC, type JSONRPCBlock } from "@ethereumjs/block";
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
    const rebuilt = this.#rebuild(method, answer);
    if (rebuilt.number !== number) throw new ChainSourceError("MALFORMED", method, `block ${rebuilt.number}`);
    return rebuilt.rlp;
  }

  async blockByHash(hash: Uint8Array): Promise<Uint8Array | undefined> {
    const method = "eth_getBlockByHash";
    const answer = await this.#call(method, [`0x${toHex(hash)}`, true]);
    if (answer === null) return undefined;
    const rebuilt = this.#rebuild(method, answer);
    if (!equalBytes(rebuilt.hash, hash)) throw new ChainSourceError("HASH_MISMATCH", method, toHex(rebuilt.hash));
    return rebuilt.rlp;
  }

  #rebuild(method: string, answer: unknown) {
    if (!isBlock(answer)) throw new ChainSourceError("MALFORMED", method, "not a block with its transactions");
    const stated = word(method, answer.hash);
    let rebuilt: ReturnType<typeof createBlockFromRPC>;
    try {
      rebuilt = createBlockFromRPC(answer, [], { common: this.#options.common.copy(), setHardfork: true });
    } catch (error) {
      throw new ChainSourceError("MALFORMED", method, "not a block of this chain", { cause: error });
    }
    const hash = rebuilt.hash();
    if (!equalBytes(hash, stated)) throw new ChainSourceError("HASH_MISMATCH", method, toHex(stated));
    return { number: rebuilt.header.number, hash, rlp: rebuilt.serialize() };
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

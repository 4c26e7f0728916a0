/**
 * The execution client's JSON-RPC, as tally asks it. Every call has a deadline and a size limit, every answer is
 * checked; whatever the endpoint does, the caller gets an answer or `ChainUnavailable`.
 */
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { z } from "zod";
import type { ChainHead } from "../core/chain-fact.ts";
import type { BlockReference } from "../core/types.ts";

/** The endpoint gave no usable answer. The message names the call and the problem, never the endpoint. */
export class ChainUnavailable extends Error {
  override readonly name = "ChainUnavailable";
  readonly reason: "CHAIN_TIMEOUT" | "CHAIN_UNREACHABLE" | "CHAIN_ANSWER";
  constructor(reason: ChainUnavailable["reason"], message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.reason = reason;
  }
}

/** The endpoint executed the call and it failed: a revert with its data, or a refused request. */
export class CallRefused extends Error {
  override readonly name = "CallRefused";
  readonly reason = "CALL_REFUSED";
  /** ABI-encoded error, when the endpoint gives it. */
  readonly data: `0x${string}` | undefined;
  constructor(message: string, data: `0x${string}` | undefined) {
    super(message);
    this.data = data;
  }
}

/** An event of the settlement contract, undecoded. */
export interface ContractLog {
  readonly blockNumber: bigint;
  readonly topics: [`0x${string}`, ...`0x${string}`[]];
  readonly data: `0x${string}`;
}

export interface Block extends BlockReference {
  readonly parentHash: Uint8Array;
  readonly baseFeeWei: bigint;
}

const ANSWER_BYTES_MAX = 16 * 1024 * 1024;

const HEX = z
  .string()
  .regex(/^0x(?:[0-9a-fA-F]{2})*$/)
  .transform((value) => value.toLowerCase() as `0x${string}`);
const HASH = z
  .string()
  .regex(/^0x[0-9a-fA-F]{64}$/)
  .transform((value) => fromHex(value.slice(2).toLowerCase()));
const QUANTITY = z
  .string()
  .regex(/^0x[0-9a-fA-F]{1,64}$/)
  .transform((value) => BigInt(value));
const BLOCK = z
  .object({ number: QUANTITY, hash: HASH, parentHash: HASH, baseFeePerGas: QUANTITY.optional() })
  .transform(({ number, hash, parentHash, baseFeePerGas }): Block => {
    return { number, hash, parentHash, baseFeeWei: baseFeePerGas ?? 0n };
  });
const LOG = z
  .object({ blockNumber: QUANTITY, topics: z.tuple([HEX], HEX), data: HEX, removed: z.boolean().optional() })
  .refine(({ removed }) => removed !== true);
const ANSWER = z.union([
  z.object({ error: z.object({ message: z.string().optional(), data: z.unknown().optional() }) }),
  z.object({ result: z.unknown() }),
]);

const quantity = (value: bigint): `0x${string}` => `0x${value.toString(16)}`;

export interface EndpointOptions {
  readonly url: string;
  /** Deadline of one call, ms. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** One method of one endpoint. @throws ChainUnavailable, CallRefused */
export async function callMethod<T>(
  { url, timeoutMs, signal }: EndpointOptions,
  method: string,
  params: readonly unknown[],
  shape: z.ZodType<T>,
): Promise<T> {
  let text: string;
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
      redirect: "error",
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    });
    text = await bounded(response, method);
  } catch (error) {
    if (error instanceof ChainUnavailable) throw error;
    const timedOut = error instanceof Error && error.name === "TimeoutError";
    throw timedOut
      ? new ChainUnavailable("CHAIN_TIMEOUT", `${method}: no answer within ${timeoutMs} ms`, { cause: error })
      : new ChainUnavailable("CHAIN_UNREACHABLE", `${method}: the endpoint cannot be reached`, { cause: error });
  }
  return resultOf(text, method, shape);
}

async function bounded(response: Response, method: string): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > ANSWER_BYTES_MAX)
      throw new ChainUnavailable("CHAIN_ANSWER", `${method}: the answer is too large`);
  }
  return text + decoder.decode();
}

function resultOf<T>(text: string, method: string, shape: z.ZodType<T>): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new ChainUnavailable("CHAIN_ANSWER", `${method}: the answer is not JSON`, { cause: error });
  }
  const answer = ANSWER.safeParse(json);
  if (!answer.success) throw new ChainUnavailable("CHAIN_ANSWER", `${method}: the answer is not JSON-RPC`);
  if ("error" in answer.data) {
    const { message, data } = answer.data.error;
    throw new CallRefused(`${method}: ${(message ?? "refused").slice(0, 200)}`, HEX.safeParse(data).data);
  }
  const result = shape.safeParse(answer.data.result);
  if (!result.success) throw new ChainUnavailable("CHAIN_ANSWER", `${method}: the answer has another shape`);
  return result.data;
}

/** The chain as one endpoint shows it. All methods throw ChainUnavailable; the ones that execute, CallRefused. */
export class ChainClient {
  readonly #options: EndpointOptions;
  /** The settlement contract. */
  readonly settlement: `0x${string}`;

  /** @param settlement 20 bytes */
  constructor(options: EndpointOptions, settlement: Uint8Array) {
    this.#options = options;
    this.settlement = `0x${toHex(settlement)}`;
  }

  async head(): Promise<ChainHead> {
    const latest = await callMethod(this.#options, "eth_blockNumber", [], QUANTITY);
    return { latest, finalized: await this.#finalized() };
  }

  /** Undefined where the chain has no such notion, or nothing is finalized yet. */
  async #finalized(): Promise<bigint | undefined> {
    try {
      const block = await callMethod(this.#options, "eth_getBlockByNumber", ["finalized", false], BLOCK.nullable());
      return block?.number;
    } catch (error) {
      if (error instanceof CallRefused) return undefined;
      throw error;
    }
  }

  /** Undefined when there is none. */
  async block(number: bigint | "latest"): Promise<Block | undefined> {
    const option = number === "latest" ? number : quantity(number);
    try {
      const block = await callMethod(this.#options, "eth_getBlockByNumber", [option, false], BLOCK.nullable());
      return block ?? undefined;
    } catch (error) {
      if (error instanceof CallRefused) return undefined;
      throw error;
    }
  }

  /** Events of the settlement contract with one of `topics`, in order, from `first` to `last`. */
  async logs(first: bigint, last: bigint, topics: readonly `0x${string}`[]): Promise<ContractLog[]> {
    const filter = {
      address: this.settlement,
      fromBlock: quantity(first),
      toBlock: quantity(last),
      topics: [topics],
    };
    const logs = await callMethod(this.#options, "eth_getLogs", [filter], z.array(LOG));
    if (logs.some(({ blockNumber }) => blockNumber < first || blockNumber > last)) {
      throw new ChainUnavailable("CHAIN_ANSWER", "eth_getLogs: events outside of what was asked for");
    }
    return logs;
  }

  /** Calls the settlement contract on the newest block. */
  call(data: `0x${string}`, from?: `0x${string}`): Promise<`0x${string}`> {
    const call = { to: this.settlement, data, ...(from === undefined ? {} : { from }) };
    return callMethod(this.#options, "eth_call", [call, "latest"], HEX);
  }

  nonce(address: `0x${string}`): Promise<bigint> {
    return callMethod(this.#options, "eth_getTransactionCount", [address, "latest"], QUANTITY);
  }
}

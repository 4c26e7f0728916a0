/**
 * The chain, as far as offer needs it: escrow and collected charges, read from the settlement contract at one block.
 * Every call has a deadline and a size limit; whatever the endpoint does, the caller gets a reading or
 * `ChainUnavailable`.
 */
import { concat, toHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import type { EscrowQuery } from "../core/types.ts";

/** The endpoint gave no usable answer. The message names the problem, never the endpoint. */
export class ChainUnavailable extends Error {
  override readonly name = "ChainUnavailable";
  readonly reason: "CHAIN_TIMEOUT" | "CHAIN_UNREACHABLE" | "CHAIN_ANSWER";
  constructor(reason: ChainUnavailable["reason"], message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.reason = reason;
  }
}

export interface EscrowReading {
  readonly block: bigint;
  /** In the query's order. */
  readonly wei: readonly bigint[];
  /** Ascending, of the query's charges. */
  readonly taken: readonly Uint8Array[];
}

export interface EscrowReader {
  /** @throws ChainUnavailable */
  read(query: EscrowQuery, signal: AbortSignal): Promise<EscrowReading>;
}

export interface EscrowReaderOptions {
  readonly url: string;
  /** The settlement contract, 20 bytes. */
  readonly settlement: Uint8Array;
  /** Blocks below the head. */
  readonly depth: number;
  /** Deadline of one HTTP exchange, ms. */
  readonly timeoutMs: number;
}

/** Calls of one JSON-RPC batch; clients commonly allow 1000. */
const BATCH_CALLS = 256;
const ANSWER_BYTES_MAX = 4 * 1024 * 1024;

const ESCROW_OF = selector("escrowOf(address)");
const CHARGED = selector("charged(bytes32)");

export function createEscrowReader(options: EscrowReaderOptions): EscrowReader {
  const { settlement, depth } = options;
  const to = `0x${toHex(settlement)}`;

  async function callAll(inputs: readonly Uint8Array[], block: bigint, signal: AbortSignal): Promise<bigint[]> {
    const words: bigint[] = [];
    for (let from = 0; from < inputs.length; from += BATCH_CALLS) {
      const calls = inputs.slice(from, from + BATCH_CALLS).map((data) => ({
        method: "eth_call",
        params: [{ to, data: `0x${toHex(data)}` }, `0x${block.toString(16)}`],
      }));
      for (const result of await exchange(options, calls, signal)) words.push(word(result));
    }
    return words;
  }

  return {
    async read(query, signal) {
      const [head] = await exchange(options, [{ method: "eth_blockNumber", params: [] }], signal);
      const latest = quantity(head);
      const block = latest > BigInt(depth) ? latest - BigInt(depth) : 0n;
      const escrowCalls = query.accounts.map((account) => concat(ESCROW_OF, new Uint8Array(12), account));
      const chargeCalls = query.charges.map((bidId) => concat(CHARGED, bidId));
      const words = await callAll([...escrowCalls, ...chargeCalls], block, signal);
      const taken = query.charges.filter((_, index) => words[query.accounts.length + index] === 1n);
      return { block, wei: words.slice(0, query.accounts.length), taken };
    },
  };
}

interface Call {
  readonly method: string;
  readonly params: readonly unknown[];
}

/** One JSON-RPC batch; results in the order of the calls. */
async function exchange(
  { url, timeoutMs }: EscrowReaderOptions,
  calls: readonly Call[],
  signal: AbortSignal,
): Promise<unknown[]> {
  if (calls.length === 0) return [];
  const body = JSON.stringify(calls.map((call, id) => ({ jsonrpc: "2.0", id, ...call })));
  let text: string;
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      redirect: "error",
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    });
    if (!response.ok) throw new ChainUnavailable("CHAIN_ANSWER", `HTTP status ${response.status}`);
    text = await bounded(response);
  } catch (error) {
    if (error instanceof ChainUnavailable) throw error;
    const timedOut = error instanceof Error && error.name === "TimeoutError";
    throw timedOut
      ? new ChainUnavailable("CHAIN_TIMEOUT", `no answer within ${timeoutMs} ms`, { cause: error })
      : new ChainUnavailable("CHAIN_UNREACHABLE", "the endpoint cannot be reached", { cause: error });
  }
  return results(text, calls.length);
}

async function bounded(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > ANSWER_BYTES_MAX) throw new ChainUnavailable("CHAIN_ANSWER", "the answer is too large");
  }
  return text + decoder.decode();
}

function results(text: string, expected: number): unknown[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new ChainUnavailable("CHAIN_ANSWER", "the answer is not JSON", { cause: error });
  }
  if (!Array.isArray(parsed)) throw new ChainUnavailable("CHAIN_ANSWER", "a batch of answers expected");
  const byId = new Map<unknown, unknown>();
  for (const answer of parsed as unknown[]) {
    if (typeof answer === "object" && answer !== null && "id" in answer && "result" in answer) {
      byId.set(answer.id, answer.result);
    }
  }
  return Array.from({ length: expected }, (_, id) => {
    if (!byId.has(id)) throw new ChainUnavailable("CHAIN_ANSWER", `call ${id} was not answered`);
    return byId.get(id);
  });
}

function quantity(value: unknown): bigint {
  if (typeof value !== "string" || !/^0x[0-9a-f]{1,16}$/i.test(value)) {
    throw new ChainUnavailable("CHAIN_ANSWER", "a block number expected");
  }
  return BigInt(value);
}

/** A 32-byte word: anything else means that there is no such contract or function. */
function word(value: unknown): bigint {
  if (typeof value !== "string" || !/^0x[0-9a-f]{64}$/i.test(value)) {
    throw new ChainUnavailable("CHAIN_ANSWER", "a 32-byte word expected: is the settlement contract there?");
  }
  return BigInt(value);
}

function selector(signature: string): Uint8Array {
  return keccak256(new TextEncoder().encode(signature)).slice(0, 4);
}

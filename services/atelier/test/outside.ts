/** The world outside a committee: a chain behind an execution client's JSON-RPC, and the sequencer's attributes. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createBlockFromRLP } from "@ethereumjs/block";
import type { TypedTransaction } from "@ethereumjs/tx";
import { decode, encode, toHex } from "@lattice/organism/codec/codec.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { CANDIDATE_BODY } from "@lattice/organism/outcomes/atelier.ts";
import { enginePayload } from "@lattice/organism/outcomes/execution-payload.ts";
import { SEQUENCER_ATTRIBUTES } from "@lattice/organism/outcomes/sequencer.ts";
import type { SignedAttributes } from "../src/core/codec.ts";
import type { ChainState } from "../src/evm/chain-state.ts";
import { attributesOn, devnet, devnetGenesis } from "./devnet.ts";
import { signedAttributes } from "./lattice.ts";

const hex = (bytes: Uint8Array): string => `0x${toHex(bytes)}`;
const { common } = devnetGenesis();

export interface Outside {
  readonly url: string;
  /** The chain as its client has it. */
  readonly chain: ChainState;
  /** Signs attributes of the slot on the present head and lets members have them. */
  offerAttributes(slot: bigint): SignedAttributes;
  /** Takes a candidate over as the chain's next block, after executing it. */
  accept(body: Uint8Array): Promise<void>;
  /** Puts a block of its own, without transactions, on the head. */
  fallback(timestampS: bigint): Promise<void>;
  /** Puts a block of its own in the place of the head. */
  replaceHead(): Promise<void>;
  close(): void;
}

export async function startOutside(config: LatticeConfig): Promise<Outside> {
  const chain = await devnet();
  const blocks = new Map<string, Uint8Array>();
  const numbers = new Map<bigint, string>();
  const attributes = new Map<bigint, SignedAttributes>();

  const add = async (rlp: Uint8Array): Promise<void> => {
    const info = await chain.importBlock(rlp);
    await chain.setHead(info.hash);
    blocks.set(toHex(info.hash), rlp);
    numbers.set(info.number, toHex(info.hash));
  };

  const methods: Record<string, (params: readonly string[]) => unknown> = {
    eth_getBlockByNumber: ([number = "latest"]) => {
      if (number === "latest") return shown(blocks.get(toHex(chain.head().hash)), chain);
      return shown(blocks.get(numbers.get(BigInt(number)) ?? ""), chain);
    },
    eth_getBlockByHash: ([hash = ""]) => shown(blocks.get(hash.slice(2)), chain),
    lattice_attributes: ([slot = "0x0"]) => {
      const signed = attributes.get(BigInt(slot));
      if (signed === undefined) return undefined;
      return { attributes: hex(encode(SEQUENCER_ATTRIBUTES, signed.attributes)), signature: hex(signed.signature) };
    },
  };
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => {
      body += chunk.toString("utf8");
    });
    request.on("end", () => {
      const { id, method, params } = JSON.parse(body) as { id: number; method: string; params: string[] };
      const result = methods[method]?.(params);
      const answer = result === undefined ? { error: { code: -32_001, message: "NOT_YET" } } : { result };
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ jsonrpc: "2.0", id, ...answer }));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    chain,
    offerAttributes(slot) {
      const signed = signedAttributes(config, slot, chain.head());
      attributes.set(slot, signed);
      return signed;
    },
    async accept(body) {
      const info = await chain.importPayload(enginePayload(decode(CANDIDATE_BODY, body)));
      await chain.setHead(info.hash);
      const sealed = await chain.begin(decode(CANDIDATE_BODY, body).attributes);
      for (const { raw } of decode(CANDIDATE_BODY, body).entries) {
        const decoding = sealed.decoder.decode(raw);
        if ("transaction" in decoding) await sealed.run(decoding.transaction);
      }
      const { rlp, hash } = await sealed.seal();
      blocks.set(toHex(hash), rlp);
      numbers.set(info.number, toHex(hash));
    },
    async fallback(timestamp) {
      await add((await (await chain.begin(attributesOn(chain, { timestamp }))).seal()).rlp);
    },
    async replaceHead() {
      const head = chain.head();
      await chain.setHead(head.parentHash);
      const prevRandao = head.hash;
      await add((await (await chain.begin(attributesOn(chain, { timestamp: head.timestamp, prevRandao }))).seal()).rlp);
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** A block as an execution client shows it; the genesis has no bytes here and shows its number and hash alone. */
function shown(rlp: Uint8Array | undefined, chain: ChainState): unknown {
  if (rlp === undefined) {
    const head = chain.head();
    return head.number === 0n ? { number: "0x0", hash: hex(head.hash), transactions: [] } : null;
  }
  const block = createBlockFromRLP(rlp, { common, setHardfork: true });
  const { uncleHash, coinbase, receiptTrie, transactionsTrie, ...rest } = block.toJSON().header ?? {};
  return {
    ...rest,
    sha3Uncles: uncleHash,
    miner: coinbase,
    receiptsRoot: receiptTrie,
    transactionsRoot: transactionsTrie,
    hash: hex(block.hash()),
    transactions: block.transactions.map(shownTransaction),
    withdrawals: [],
    uncles: [],
  };
}

function shownTransaction(tx: TypedTransaction): unknown {
  const { data, gasLimit, ...rest } = tx.toJSON();
  return { ...rest, input: data, gas: gasLimit, from: tx.getSenderAddress().toString(), hash: hex(tx.hash()) };
}

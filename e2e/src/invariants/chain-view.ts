/** The chain as its own execution client tells it: every block, and everything the settlement contract logged. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { SETTLEMENT_ABI } from "@lattice/tally/contract/settlement-abi.ts";
import { type Log, parseEventLogs } from "viem";

/** Hashes and addresses are lower-case hex without a prefix. */
export interface ChainBlock {
  readonly number: bigint;
  readonly hash: string;
  readonly parentHash: string;
  readonly timestampS: bigint;
  readonly feeRecipient: string;
  readonly transactions: readonly string[];
}

export type SettlementEvent = { readonly blockHash: string; readonly transactionHash: string } & (
  | { readonly type: "bid-paid"; readonly slot: bigint; readonly paymentId: string; readonly wei: bigint }
  | { readonly type: "deposited"; readonly wei: bigint }
  | { readonly type: "withdrawn"; readonly wei: bigint }
  | { readonly type: "charged"; readonly wei: bigint }
  | { readonly type: "reimbursed"; readonly wei: bigint }
  | { readonly type: "claimed"; readonly recipient: string; readonly wei: bigint }
  | { readonly type: "proposer-paid"; readonly wei: bigint }
);

export interface ChainView {
  readonly client: string;
  readonly genesisHash: string;
  /** Blocks 1 to head, linked to one another and to genesis. */
  readonly blocks: readonly ChainBlock[];
  readonly events: readonly SettlementEvent[];
  /** What the settlement contract held at genesis and holds at the head. */
  readonly genesisWei: bigint;
  readonly headWei: bigint;
}

/** The client did not answer, or its chain does not hang together. */
export class ChainProblem extends Error {
  override readonly name = "ChainProblem";
}

const CALL_DEADLINE_MS = 20_000;

async function call(url: string, method: string, params: readonly unknown[]): Promise<unknown> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
    signal: AbortSignal.timeout(CALL_DEADLINE_MS),
  });
  const answer = (await response.json()) as { result?: unknown; error?: { message?: string } };
  if (answer.error !== undefined) throw new ChainProblem(`${method}: ${answer.error.message ?? "refused"}`);
  return answer.result;
}

const plain = (hex: unknown): string => {
  if (typeof hex !== "string" || !/^0x[0-9a-fA-F]*$/.test(hex)) throw new ChainProblem("hex was expected");
  return hex.slice(2).toLowerCase();
};
const quantity = (value: unknown): string => `0x${BigInt(value as string | bigint).toString(16)}`;

function blockOf(value: unknown): ChainBlock {
  if (typeof value !== "object" || value === null) throw new ChainProblem("a block is missing");
  const block = value as Readonly<Record<string, unknown>>;
  const transactions = block["transactions"] as readonly (string | { hash: string })[];
  return {
    number: BigInt(block["number"] as string),
    hash: plain(block["hash"]),
    parentHash: plain(block["parentHash"]),
    timestampS: BigInt(block["timestamp"] as string),
    feeRecipient: plain(block["miner"]),
    transactions: transactions.map((each) => plain(typeof each === "string" ? each : each.hash)),
  };
}

/** Reads the whole chain. @throws ChainProblem, TypeError when nobody answers */
export async function readChain(url: string, settlement: Uint8Array): Promise<ChainView> {
  const client = String(await call(url, "web3_clientVersion", []));
  const genesis = blockOf(await call(url, "eth_getBlockByNumber", ["0x0", false]));
  const head = blockOf(await call(url, "eth_getBlockByNumber", ["latest", false]));
  // From the head down by hash: what is read is one chain, whatever moves meanwhile.
  const blocks: ChainBlock[] = [];
  for (let block = head; block.number > 0n; ) {
    blocks.unshift(block);
    const parent = blockOf(await call(url, "eth_getBlockByHash", [`0x${block.parentHash}`, false]));
    if (parent.hash !== block.parentHash || parent.number !== block.number - 1n)
      throw new ChainProblem(`block ${block.number} is not on top of block ${parent.number}`);
    block = parent;
  }
  const lowest = blocks[0]?.parentHash ?? head.hash;
  if (lowest !== genesis.hash) throw new ChainProblem("the head does not descend from genesis");
  const address = `0x${toHex(settlement)}`;
  const logs = (await call(url, "eth_getLogs", [
    { address, fromBlock: "0x0", toBlock: quantity(head.number) },
  ])) as Log[];
  const canonical = new Set(blocks.map(({ hash }) => hash));
  const events = settlementEvents(logs).filter(({ blockHash }) => canonical.has(blockHash));
  const balance = async (at: string): Promise<bigint> =>
    BigInt((await call(url, "eth_getBalance", [address, at])) as string);
  return {
    client,
    genesisHash: genesis.hash,
    blocks,
    events,
    genesisWei: await balance("0x0").catch(() => 0n),
    headWei: await balance(quantity(head.number)),
  };
}

/** The events that move money, decoded with the contract's own interface. */
export function settlementEvents(logs: readonly Log[]): SettlementEvent[] {
  return parseEventLogs({ abi: SETTLEMENT_ABI, logs: [...logs] }).flatMap((log): SettlementEvent[] => {
    const where = { blockHash: plain(log.blockHash), transactionHash: plain(log.transactionHash) };
    switch (log.eventName) {
      case "BidPaid":
        return [
          { ...where, type: "bid-paid", slot: log.args.slot, paymentId: plain(log.args.bidId), wei: log.args.amount },
        ];
      case "EscrowDeposited":
        return [{ ...where, type: "deposited", wei: log.args.amount }];
      case "EscrowWithdrawn":
        return [{ ...where, type: "withdrawn", wei: log.args.amount }];
      case "EscrowCharged":
        return [{ ...where, type: "charged", wei: log.args.taken }];
      case "AttestationPosted":
        return [{ ...where, type: "reimbursed", wei: log.args.reimbursed }];
      case "Claimed":
        return [{ ...where, type: "claimed", recipient: plain(log.args.recipient), wei: log.args.amount }];
      case "ProposerPaid":
        return [{ ...where, type: "proposer-paid", wei: log.args.amount }];
      default:
        return [];
    }
  });
}

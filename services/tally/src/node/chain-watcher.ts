/**
 * Reads what `core/chain-fact.ts` wants to know of a slot, from final blocks only: two honest members get the same
 * bytes whenever they ask, and a reorg of what is not final yet changes nothing.
 */
import { encode, fromHex } from "@lattice/organism/codec/codec.ts";
import type { CandidateCommitment } from "@lattice/organism/outcomes/atelier.ts";
import { decodeEventLog, toEventSelector } from "viem";
import { SETTLEMENT_ABI } from "../contract/settlement-abi.ts";
import { isFinal, rangeToScan } from "../core/chain-fact.ts";
import { CHAIN_FACT, COLLECTED_MAX, POSTED_MAX } from "../core/codec.ts";
import type { CollectedCharge } from "../core/slot-attribution.ts";
import type { BlockReference, PostedEvent } from "../core/types.ts";
import { type ChainClient, ChainUnavailable, type ContractLog } from "./clients.ts";

/** Blocks asked for at once: execution clients refuse more than some thousands. */
const BLOCKS_AT_ONCE = 1000n;

const ABI = SETTLEMENT_ABI.filter((item) => item.type === "event");
const TOPICS = (["EscrowCharged", "AttestationPosted"] as const).map((name) => {
  const event = ABI.find((item) => item.name === name);
  if (event === undefined) throw new Error(`no event ${name}`);
  return toEventSelector(event);
});

interface Events {
  readonly collected: CollectedCharge[];
  readonly posted: PostedEvent[];
}

/**
 * The fact about a slot's candidate, encoded; undefined while its height is not final.
 * @throws ChainUnavailable
 */
export async function readChainFact(
  chain: ChainClient,
  scanned: BlockReference | undefined,
  candidate: Pick<CandidateCommitment, "blockNumber">,
  finalityDepth: number,
): Promise<Uint8Array | undefined> {
  const height = candidate.blockNumber;
  if (!isFinal(height, await chain.head(), finalityDepth)) return undefined;
  const standing = await chain.block(height);
  if (standing === undefined) return undefined;
  const { first, last } = rangeToScan({ scanned }, height);
  const read = await readEvents(chain, first, last);
  const end = read.last < first ? scanned : read.last === height ? standing : await chain.block(read.last);
  if (end === undefined) return undefined;
  return encode(CHAIN_FACT, {
    version: 1,
    standing: { number: standing.number, hash: standing.hash, parentHash: standing.parentHash },
    fromBlock: first,
    scanned: { number: end.number, hash: end.hash },
    collected: read.collected,
    posted: read.posted,
  });
}

/** Events of whole blocks from `first` on, up to `last` or as many as a fact holds. */
async function readEvents(
  chain: ChainClient,
  first: bigint,
  last: bigint,
): Promise<Events & { readonly last: bigint }> {
  const all: Events = { collected: [], posted: [] };
  for (let from = first; from <= last; from += BLOCKS_AT_ONCE) {
    const to = from + BLOCKS_AT_ONCE - 1n < last ? from + BLOCKS_AT_ONCE - 1n : last;
    const byBlock = Map.groupBy(await chain.logs(from, to, TOPICS), ({ blockNumber }) => blockNumber);
    for (const number of [...byBlock.keys()].sort((a, b) => (a < b ? -1 : 1))) {
      const block = decodeEvents(byBlock.get(number) ?? []);
      const full =
        all.collected.length + block.collected.length > COLLECTED_MAX ||
        all.posted.length + block.posted.length > POSTED_MAX;
      if (full) return { ...all, last: number - 1n };
      all.collected.push(...block.collected);
      all.posted.push(...block.posted);
    }
  }
  return { ...all, last: last < first ? first - 1n : last };
}

function decodeEvents(logs: readonly ContractLog[]): Events {
  const events: Events = { collected: [], posted: [] };
  for (const { topics, data, blockNumber } of logs) {
    const event = decoded(topics, data);
    if (event.eventName === "EscrowCharged") {
      events.collected.push({ bidId: fromHex(event.args.bidId.slice(2)), wei: event.args.taken });
    } else if (event.eventName === "AttestationPosted") {
      const { batch, root, total } = event.args;
      events.posted.push({ batch, root: fromHex(root.slice(2)), total, blockNumber });
    }
  }
  return events;
}

function decoded(topics: ContractLog["topics"], data: `0x${string}`) {
  try {
    return decodeEventLog({ abi: ABI, topics, data, strict: true });
  } catch (error) {
    throw new ChainUnavailable("CHAIN_ANSWER", "eth_getLogs: not an event of the settlement contract", {
      cause: error,
    });
  }
}

/** What the chain may say of a slot, and when it may say it. */
import { equalBytes, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { CandidateCommitment } from "@lattice/organism/outcomes/atelier.ts";
import { CHAIN_FACT } from "./codec.ts";
import type { BlockReference, ChainFact, TallyState } from "./types.ts";

/** Blocks that one fact looks at, at most; a longer gap is closed over several slots. */
export const BLOCKS_SCANNED_MAX = 4096n;

/** The chain's own view of its end. */
export interface ChainHead {
  readonly latest: bigint;
  /** The block it calls finalized; absent when it does not know one. */
  readonly finalized: bigint | undefined;
}

/** True when nothing at `height` can change: finalized by the chain itself, or with `depth` blocks on top. */
export function isFinal(height: bigint, head: ChainHead, depth: number): boolean {
  return height + BigInt(depth) <= head.latest || (head.finalized !== undefined && height <= head.finalized);
}

/**
 * The blocks whose events the fact about a candidate at `height` lists, first to last; empty when last < first. They
 * follow on what was scanned before, and the very first fact begins at its own height.
 */
export function rangeToScan(
  state: Pick<TallyState, "scanned">,
  height: bigint,
): { readonly first: bigint; readonly last: bigint } {
  const first = state.scanned === undefined ? height : state.scanned.number + 1n;
  const last = height < first + BLOCKS_SCANNED_MAX ? height : first + BLOCKS_SCANNED_MAX - 1n;
  return { first, last: last < first ? first - 1n : last };
}

/** The fact, when it fits the certified candidate and follows on what was scanned before. */
export function judgeChainFact(
  state: Pick<TallyState, "scanned">,
  candidate: CandidateCommitment,
  fact: Uint8Array,
): ChainFact | undefined {
  const seen = tryDecode(CHAIN_FACT, fact);
  if (seen === undefined || seen.standing.number !== candidate.blockNumber) return undefined;
  const { first, last } = rangeToScan(state, candidate.blockNumber);
  if (seen.fromBlock !== first || seen.scanned.number > last) return undefined;
  return followsOn(state.scanned, first, last, seen) ? seen : undefined;
}

/** An empty range repeats what was scanned; any other ends in it, and at the candidate's height in the standing block. */
function followsOn(before: BlockReference | undefined, first: bigint, last: bigint, seen: ChainFact): boolean {
  const { scanned, standing, collected, posted } = seen;
  if (last < first) {
    const same = before !== undefined && scanned.number === before.number && equalBytes(scanned.hash, before.hash);
    return same && collected.length === 0 && posted.length === 0;
  }
  if (scanned.number < first) return false;
  if (posted.some(({ blockNumber }) => blockNumber < first || blockNumber > scanned.number)) return false;
  return scanned.number !== standing.number || equalBytes(scanned.hash, standing.hash);
}

/** True when the certified candidate's block stands; a second certificate over a block that was counted is not another block. */
export function hasLanded(
  state: Pick<TallyState, "landedNumber">,
  candidate: CandidateCommitment,
  { standing }: ChainFact,
): boolean {
  return equalBytes(standing.hash, candidate.blockHash) && standing.number > state.landedNumber;
}

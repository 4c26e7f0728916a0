/**
 * Follows the chain's head block by block, through reorgs, so that the gateway sees what has landed without asking the
 * node about a transaction that is not public yet.
 */
import type { ChainBlock } from "./chain-reads.ts";
import { gatewayFault } from "./faults.ts";

/** Blocks remembered; a deeper reorg, or a longer absence, leaves a hole. */
const BLOCKS_KEPT = 64;

export interface ChainHeadOptions {
  /** A block by bare hash, or "latest". */
  readonly block: (which: string) => Promise<ChainBlock | undefined>;
  /** Blocks of the canonical chain, ascending. */
  readonly onBlock: (block: ChainBlock) => void;
  /** A block that is not in the canonical chain any more; comes before what replaced it. */
  readonly onDropped: (block: ChainBlock) => void;
}

export class ChainHead {
  readonly #options: ChainHeadOptions;
  /** Canonical, ascending, linked by parent hash. */
  #blocks: ChainBlock[] = [];
  /** One reading at a time. */
  #turn: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(options: ChainHeadOptions) {
    this.#options = options;
  }

  /** The newest block seen. */
  get head(): ChainBlock | undefined {
    return this.#blocks.at(-1);
  }

  /**
   * Catches up with the node's head: whatever the node showed before this call has been seen when it resolves.
   * @throws Fault CHAIN_UNREACHABLE, RpcError
   */
  poll(): Promise<void> {
    // A reading that has not begun yet serves everybody who asks meanwhile.
    if (this.#next !== undefined) return this.#next;
    const run = this.#turn.then(() => {
      this.#next = undefined;
      return this.#catchUp();
    });
    this.#next = run;
    this.#turn = run.catch(() => undefined);
    return run;
  }

  async #catchUp(): Promise<void> {
    const { block, onBlock, onDropped } = this.#options;
    const latest = await block("latest");
    if (latest === undefined) throw gatewayFault("CHAIN_UNREACHABLE", "the execution node has no head");
    const fresh: ChainBlock[] = [];
    let next: ChainBlock | undefined = latest;
    let kept = -1;
    while (next !== undefined && fresh.length < BLOCKS_KEPT) {
      const { hash } = next;
      kept = this.#blocks.findLastIndex((known) => known.hash === hash);
      if (kept >= 0) break;
      fresh.unshift(next);
      next = next.number === 0n ? undefined : await block(next.parentHash);
    }
    const lowest = fresh[0]?.number;
    for (const gone of this.#blocks.splice(kept + 1).reverse()) {
      // Below a hole nobody knows: only another block at its height shows that one was dropped.
      if (kept >= 0 || (lowest !== undefined && gone.number >= lowest)) onDropped(gone);
    }
    this.#blocks = [...this.#blocks, ...fresh].slice(-BLOCKS_KEPT);
    for (const added of fresh) onBlock(added);
  }
}

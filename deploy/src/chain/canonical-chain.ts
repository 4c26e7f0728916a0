/** The chain as the sequencer decided it, from genesis to head. */
import type { RecordPosition, StoredBlock } from "./block-store.ts";
import type { ForkchoiceState, Hex } from "./execution-payload.ts";
import type { BlockReference } from "./slot-attributes.ts";

/** The store holds blocks that do not follow from this genesis. */
export class ForeignChain extends Error {
  override readonly name = "ForeignChain";
}

interface Entry extends BlockReference {
  /** Undefined for genesis only. */
  readonly position: RecordPosition | undefined;
}

const ZERO_HASH: Hex = `0x${"0".repeat(64)}`;

export class CanonicalChain {
  readonly #entries: Entry[];
  readonly #finalityDepth: number;
  #finalized = 0;

  /** @param finalityDepth how many blocks below the head are safe and final */
  constructor(genesis: BlockReference, finalityDepth: number) {
    this.#entries = [{ ...genesis, position: undefined }];
    this.#finalityDepth = finalityDepth;
  }

  get head(): BlockReference {
    return this.#at(this.#entries.length - 1);
  }

  get finalized(): BlockReference {
    return this.#at(this.#finalized);
  }

  /** @throws RangeError when there is no such block */
  block(number: bigint): BlockReference {
    return this.#at(Number(number));
  }

  position(number: bigint): RecordPosition | undefined {
    return this.#at(Number(number)).position;
  }

  #at(index: number): Entry {
    const entry = this.#entries[index];
    if (entry === undefined) throw new RangeError(`no block ${index}`);
    return entry;
  }

  /** Puts a block on its parent, dropping whatever stood there. @throws ForeignChain when the parent is unknown or final history would change */
  push({ parentHash, block: { executionPayload } }: StoredBlock, position: RecordPosition): void {
    const number = Number(BigInt(executionPayload.blockNumber));
    const parent = this.#entries[number - 1];
    if (parent === undefined || parent.hash !== parentHash || number <= this.#finalized) {
      throw new ForeignChain(`block ${number} ${executionPayload.blockHash} does not follow from this chain`);
    }
    this.#entries.length = number;
    this.#entries.push({
      number: BigInt(number),
      hash: executionPayload.blockHash,
      timestampS: BigInt(executionPayload.timestamp),
      gasLimit: BigInt(executionPayload.gasLimit),
      position,
    });
    this.#finalized = Math.max(this.#finalized, number - this.#finalityDepth);
  }

  /** What the execution client is told about `head`; zero stands for "nothing final yet". */
  forkchoice(head: BlockReference): ForkchoiceState {
    const final = this.#finalized === 0 ? ZERO_HASH : this.finalized.hash;
    return { headBlockHash: head.hash, safeBlockHash: final, finalizedBlockHash: final };
  }
}

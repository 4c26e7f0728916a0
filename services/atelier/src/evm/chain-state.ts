/**
 * The chain's state, followed block by block from its genesis: each block is executed here before it is believed, and
 * its state root, receipts root, gas and everything else its header says must come out. Any recent block can be built
 * on; a reorganisation moves the head and costs nothing, because trie nodes are immutable and shared.
 *
 * In memory. A restarted member follows again from genesis.
 */
import { type Block, type BlockHeader, createBlockFromExecutionPayload, createBlockFromRLP } from "@ethereumjs/block";
import type { Common } from "@ethereumjs/common";
import type { PrefixedHexString } from "@ethereumjs/util";
import { concat, equalBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import type { EnginePayload } from "@lattice/organism/outcomes/execution-payload.ts";
import { sha256 } from "@noble/hashes/sha2.js";
import type { BlockAttributes } from "../core/candidate.ts";
import { derivedHeader, type InProcessExecution, openBlock } from "./block-execution.ts";
import { type BlockExecution, type Executor, NotExecutable } from "./executor.ts";
import { type Genesis, genesisBlock, writeGenesis } from "./genesis.ts";
import { type NodeOverlay, NodeStore } from "./node-store.ts";
import { SystemCallFailed } from "./system-calls.ts";
import { TransactionDecoder } from "./transaction.ts";

/** What a block says that did not come out, or that nobody can build on. */
export type ChainProblem =
  | "UNKNOWN_PARENT"
  | "UNKNOWN_BLOCK"
  | "BAD_ATTRIBUTES"
  | "MALFORMED_BLOCK"
  | "BLOCK_HASH"
  | "NUMBER"
  | "TIMESTAMP"
  | "GAS_LIMIT"
  | "BASE_FEE"
  | "EXCESS_BLOB_GAS"
  | "INVALID_TRANSACTION"
  | "SYSTEM_CALL"
  | "TRANSACTIONS_ROOT"
  | "WITHDRAWALS_ROOT"
  | "GAS_USED"
  | "LOGS_BLOOM"
  | "RECEIPTS_ROOT"
  | "REQUESTS_HASH"
  | "STATE_ROOT"
  | "HEADER"
  | "TOO_FAR_BEHIND"
  | "GENESIS_MISMATCH";

/** A block that is refused, with the first thing that is wrong with it. */
export class ChainError extends Error {
  override readonly name = "ChainError";
  readonly reason: ChainProblem;
  constructor(reason: ChainProblem, detail: string, options?: ErrorOptions) {
    super(`${reason}: ${detail}`, options);
    this.reason = reason;
  }
}

/** Where blocks come from: an execution client (`node/chain-source.ts`). */
export interface ChainSource {
  head(): Promise<{ readonly number: bigint; readonly hash: Uint8Array }>;
  /** RLP of a block of the canonical chain; undefined when there is none yet. */
  blockByNumber(number: bigint): Promise<Uint8Array | undefined>;
  /** RLP of a block, canonical or not; undefined when it is not known. */
  blockByHash(hash: Uint8Array): Promise<Uint8Array | undefined>;
}

/** What is told about a block. */
export interface BlockInfo {
  readonly number: bigint;
  readonly hash: Uint8Array;
  readonly parentHash: Uint8Array;
  readonly stateRoot: Uint8Array;
  /** Unix time in seconds. */
  readonly timestamp: bigint;
  readonly gasLimit: bigint;
  readonly gasUsed: bigint;
  readonly baseFeePerGas: bigint;
  /** keccak256 of each raw transaction. */
  readonly transactionHashes: readonly Uint8Array[];
}

/** How the head moved. Both lists oldest first. */
export interface HeadChange {
  readonly removed: readonly BlockInfo[];
  readonly added: readonly BlockInfo[];
}

/** A block that can be built on. */
interface Known {
  readonly header: BlockHeader;
  readonly info: BlockInfo;
  readonly stateRoot: Uint8Array;
}

/** What is left of one that cannot any more: BLOCKHASH looks further back than anybody builds. */
type Link = Pick<BlockInfo, "number" | "hash" | "parentHash">;

export interface ChainOptions {
  /** Blocks behind the head that can still be built on and rolled back to. */
  readonly retain?: number;
  /** Refuses a chain that begins otherwise. */
  readonly genesisHash?: Uint8Array;
}

const RETAIN = 64;
/** BLOCKHASH looks back this far. */
const ANCESTORS = 256n;
/** Sealed blocks kept until the chain says whether one of them is its next. */
const SEALED_MAX = 8;

/** One at a time for what changes the chain; building on it may go on meanwhile. */
export class ChainState implements Executor {
  readonly chainId: bigint;
  readonly genesisHash: Uint8Array;
  readonly decoder: TransactionDecoder;
  readonly #genesis: Genesis;
  readonly #store: NodeStore;
  readonly #blocks = new Map<string, Known>();
  readonly #links = new Map<string, Link>();
  readonly #sealed = new Map<string, { readonly block: Block; readonly overlay: NodeOverlay }>();
  readonly #retain: bigint;
  #head: Known;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(genesis: Genesis, store: NodeStore, block: Block, stateRoot: Uint8Array, options: ChainOptions) {
    this.#genesis = genesis;
    this.#store = store;
    this.#retain = BigInt(options.retain ?? RETAIN);
    this.chainId = genesis.common.chainId();
    this.decoder = new TransactionDecoder(genesis.common);
    // Not always the header's own root: anvil's genesis header commits to no state.
    this.#head = this.#remember(block, stateRoot);
    this.genesisHash = this.#head.info.hash;
  }

  /** @throws ChainError GENESIS_MISMATCH */
  static async open(genesis: Genesis, options: ChainOptions = {}): Promise<ChainState> {
    const store = new NodeStore();
    const overlay = store.overlay();
    const stateRoot = await writeGenesis(genesis, overlay);
    store.absorb(overlay);
    const block = genesisBlock(genesis, stateRoot);
    if (options.genesisHash !== undefined && !equalBytes(block.hash(), options.genesisHash)) {
      throw new ChainError("GENESIS_MISMATCH", `the chain begins with ${toHex(block.hash())}`);
    }
    return new ChainState(genesis, store, block, stateRoot, options);
  }

  head(): BlockInfo {
    return this.#head.info;
  }

  /** True when the block has been executed and can be built on. */
  has(hash: Uint8Array): boolean {
    return this.#blocks.has(toHex(hash));
  }

  info(hash: Uint8Array): BlockInfo | undefined {
    return this.#blocks.get(toHex(hash))?.info;
  }

  /** How many trie nodes are held: for metrics. */
  get nodes(): number {
    return this.#store.size;
  }

  /** Opens a block on any recent one. @throws ChainError UNKNOWN_PARENT, BAD_ATTRIBUTES */
  begin(attributes: BlockAttributes): Promise<BlockExecution> {
    return this.#begin(attributes, (block, overlay) => this.#keepSealed(block, overlay));
  }

  /**
   * Executes a block and takes it over; the head stays where it is. A block that was built or verified here is not
   * executed again. @throws ChainError
   */
  importBlock(rlp: Uint8Array): Promise<BlockInfo> {
    return this.#inTurn(() => this.#import(this.#decodeBlock(rlp)));
  }

  /** The same for what the Engine API names. @throws ChainError */
  importPayload(payload: EnginePayload): Promise<BlockInfo> {
    return this.#inTurn(async () => this.#import(await this.#decodePayload(payload)));
  }

  /** Moves the head to a block that is held, forward, sideways or back. @throws ChainError UNKNOWN_BLOCK */
  setHead(hash: Uint8Array): Promise<HeadChange> {
    return this.#inTurn(async () => this.#moveTo(hash));
  }

  /**
   * Imports what the source has and this state lacks, then takes over its head.
   * @throws ChainError for a block that does not hold; whatever the source throws
   */
  follow(source: ChainSource): Promise<HeadChange> {
    return this.#inTurn(async () => {
      const target = await source.head();
      const steps: HeadChange[] = [];
      for (let next = this.#head.info.number + 1n; !this.has(target.hash) && next <= target.number; next++) {
        const rlp = await source.blockByNumber(next);
        if (rlp === undefined) break;
        const block = this.#decodeBlock(rlp);
        // The source's chain has left ours: find out below where.
        if (!equalBytes(block.header.parentHash, this.#head.info.hash)) break;
        const info = await this.#import(block);
        steps.push(this.#moveTo(info.hash));
      }
      if (!this.has(target.hash)) await this.#importBranch(source, target.hash);
      steps.push(this.#moveTo(target.hash));
      return joined(steps);
    });
  }

  async #importBranch(source: ChainSource, tip: Uint8Array): Promise<void> {
    const branch: Block[] = [];
    for (let hash = tip; !this.has(hash); ) {
      if (BigInt(branch.length) > this.#retain) {
        throw new ChainError("TOO_FAR_BEHIND", `no common block within ${this.#retain} blocks`);
      }
      const rlp = await source.blockByHash(hash);
      if (rlp === undefined) throw new ChainError("UNKNOWN_BLOCK", toHex(hash));
      const block = this.#decodeBlock(rlp);
      if (!equalBytes(block.hash(), hash)) throw new ChainError("BLOCK_HASH", toHex(hash));
      branch.push(block);
      hash = block.header.parentHash;
    }
    for (const block of branch.reverse()) await this.#import(block);
  }

  async #import(block: Block): Promise<BlockInfo> {
    const key = toHex(block.hash());
    const known = this.#blocks.get(key);
    if (known !== undefined) return known.info;
    const parent = this.#parent(block.header.parentHash);
    const sealed = this.#sealed.get(key);
    // The header's hash covers every root: what was computed here for it needs no second execution.
    const overlay = sealed?.overlay ?? (await this.#execute(parent, block));
    this.#store.absorb(overlay);
    this.#sealed.delete(key);
    return this.#remember(sealed?.block ?? block, block.header.stateRoot).info;
  }

  async #execute(parent: Known, block: Block): Promise<NodeOverlay> {
    checkHeader(parent.header, block.header, this.#commonAt(block.header.number, block.header.timestamp));
    let written: NodeOverlay | undefined;
    let result: Block | undefined;
    const execution = await this.#begin(attributesOf(block), (sealed, overlay) => {
      written = overlay;
      result = sealed;
    });
    for (const tx of block.transactions) {
      try {
        await execution.runTyped(this.decoder.known(tx));
      } catch (error) {
        if (!(error instanceof NotExecutable)) throw error;
        throw new ChainError("INVALID_TRANSACTION", error.message, { cause: error });
      }
    }
    await execution.seal().catch((error: unknown) => {
      if (!(error instanceof SystemCallFailed)) throw error;
      throw new ChainError("SYSTEM_CALL", error.message, { cause: error });
    });
    if (written === undefined || result === undefined) throw new Error("a sealed block was not handed over");
    compareHeaders(block, result);
    return written;
  }

  async #begin(
    attributes: BlockAttributes,
    sealed: (block: Block, overlay: NodeOverlay) => void,
  ): Promise<InProcessExecution> {
    const parent = this.#parent(attributes.parentHash);
    const { header } = parent;
    if (attributes.timestamp <= header.timestamp) {
      throw new ChainError("BAD_ATTRIBUTES", "the timestamp does not lie after the parent's");
    }
    const number = header.number + 1n;
    const common = this.#commonAt(number, attributes.timestamp);
    const overlay = this.#store.overlay();
    const place = {
      common,
      stateRoot: parent.stateRoot,
      number,
      baseFeePerGas: header.calcNextBaseFee(),
      excessBlobGas: common.isActivatedEIP(4844) ? header.calcNextExcessBlobGas(common) : 0n,
      attributes,
      overlay,
      decoder: this.decoder,
      ancestor: (ancestor: bigint) => this.#ancestor(parent.info, ancestor),
      sealed: (block: Block) => sealed(block, overlay),
    };
    try {
      return await openBlock(place);
    } catch (error) {
      throw new ChainError("BAD_ATTRIBUTES", error instanceof Error ? error.message : "refused", { cause: error });
    }
  }

  #parent(hash: Uint8Array): Known {
    const parent = this.#blocks.get(toHex(hash));
    if (parent === undefined) {
      throw new ChainError("UNKNOWN_PARENT", toHex(hash));
    }
    return parent;
  }

  #ancestor(from: Link, number: bigint): Uint8Array | undefined {
    let at: Link | undefined = from;
    while (at !== undefined && at.number > number) at = this.#links.get(toHex(at.parentHash));
    return at?.number === number ? at.hash : undefined;
  }

  #commonAt(blockNumber: bigint, timestamp: bigint): Common {
    const common = this.#genesis.common.copy();
    common.setHardforkBy({ blockNumber, timestamp });
    return common;
  }

  #keepSealed(block: Block, overlay: NodeOverlay): void {
    this.#sealed.set(toHex(block.hash()), { block, overlay });
    for (const key of this.#sealed.keys()) {
      if (this.#sealed.size <= SEALED_MAX) break;
      this.#sealed.delete(key);
    }
  }

  #remember(block: Block, stateRoot: Uint8Array): Known {
    const { header } = block;
    const info: BlockInfo = {
      number: header.number,
      hash: block.hash(),
      parentHash: header.parentHash,
      stateRoot: header.stateRoot,
      timestamp: header.timestamp,
      gasLimit: header.gasLimit,
      gasUsed: header.gasUsed,
      baseFeePerGas: header.baseFeePerGas ?? 0n,
      transactionHashes: block.transactions.map((tx) => tx.hash()),
    };
    const known = { header, info, stateRoot };
    const key = toHex(info.hash);
    this.#blocks.set(key, known);
    this.#links.set(key, { number: info.number, hash: info.hash, parentHash: info.parentHash });
    return known;
  }

  #moveTo(hash: Uint8Array): HeadChange {
    const next = this.#blocks.get(toHex(hash));
    if (next === undefined) throw new ChainError("UNKNOWN_BLOCK", toHex(hash));
    const before = this.#head;
    this.#head = next;
    this.#forget();
    return this.#change(before, next);
  }

  #change(before: Known, after: Known): HeadChange {
    const removed: BlockInfo[] = [];
    const added: BlockInfo[] = [];
    let old: Known | undefined = before;
    let now: Known | undefined = after;
    while (old !== now && (old !== undefined || now !== undefined)) {
      const stepNew = old === undefined || (now !== undefined && now.info.number >= old.info.number);
      if (stepNew && now !== undefined) {
        added.push(now.info);
        now = this.#blocks.get(toHex(now.info.parentHash));
      } else if (old !== undefined) {
        removed.push(old.info);
        old = this.#blocks.get(toHex(old.info.parentHash));
      }
    }
    return { removed: removed.reverse(), added: added.reverse() };
  }

  #forget(): void {
    const { number } = this.#head.info;
    for (const [key, { info }] of this.#blocks) if (info.number + this.#retain < number) this.#blocks.delete(key);
    for (const [key, link] of this.#links) {
      if (link.number + this.#retain + ANCESTORS < number) this.#links.delete(key);
    }
    this.#store.sweep(Array.from(this.#blocks.values(), (known) => known.stateRoot));
  }

  #decodeBlock(rlp: Uint8Array): Block {
    try {
      return createBlockFromRLP(rlp, { common: this.#genesis.common.copy(), setHardfork: true });
    } catch (error) {
      throw new ChainError("MALFORMED_BLOCK", error instanceof Error ? error.message : "not a block", { cause: error });
    }
  }

  async #decodePayload({ executionPayload, parentBeaconBlockRoot, executionRequests }: EnginePayload): Promise<Block> {
    const common = this.#commonAt(BigInt(executionPayload.blockNumber), BigInt(executionPayload.timestamp));
    try {
      return await createBlockFromExecutionPayload(
        {
          ...executionPayload,
          transactions: [...executionPayload.transactions],
          withdrawals: [...executionPayload.withdrawals],
          parentBeaconBlockRoot,
          ...(common.isActivatedEIP(7685) ? { requestsHash: requestsHash(executionRequests) } : {}),
        },
        { common },
      );
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      throw new ChainError(detail.includes("blockHash") ? "BLOCK_HASH" : "MALFORMED_BLOCK", detail, { cause: error });
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work, work);
    this.#turn = result.catch(() => {});
    return result;
  }
}

/** Several moves as one: what was added and then removed does not show. */
function joined(steps: readonly HeadChange[]): HeadChange {
  const removed: BlockInfo[] = [];
  const added: BlockInfo[] = [];
  for (const step of steps) {
    for (const info of [...step.removed].reverse()) {
      if (added.at(-1)?.number === info.number) added.pop();
      else removed.unshift(info);
    }
    added.push(...step.added);
  }
  return { removed, added };
}

/** What the maker of a block was given. */
function attributesOf({ header, withdrawals }: Block): BlockAttributes {
  return {
    parentHash: header.parentHash,
    timestamp: header.timestamp,
    prevRandao: header.mixHash,
    feeRecipient: header.coinbase.bytes,
    gasLimit: header.gasLimit,
    parentBeaconBlockRoot: header.parentBeaconBlockRoot ?? new Uint8Array(32),
    extraData: header.extraData,
    withdrawals: (withdrawals ?? []).map((withdrawal) => ({
      index: withdrawal.index,
      validatorIndex: withdrawal.validatorIndex,
      address: withdrawal.address.bytes,
      amountGwei: withdrawal.amount,
    })),
  };
}

/** What can be said of a header before anything is executed. */
function checkHeader(parent: BlockHeader, header: BlockHeader, common: Common): void {
  const number = `block ${header.number}`;
  if (header.number !== parent.number + 1n) throw new ChainError("NUMBER", number);
  if (header.timestamp <= parent.timestamp) throw new ChainError("TIMESTAMP", number);
  try {
    header.validateGasLimit(parent);
  } catch (error) {
    throw new ChainError("GAS_LIMIT", number, { cause: error });
  }
  if (header.baseFeePerGas !== parent.calcNextBaseFee()) throw new ChainError("BASE_FEE", number);
  if (common.isActivatedEIP(4844) && header.excessBlobGas !== parent.calcNextExcessBlobGas(common)) {
    throw new ChainError("EXCESS_BLOB_GAS", number);
  }
}

/** The block's header against the one that our own execution gives. */
function compareHeaders(block: Block, own: Block): void {
  const number = `block ${block.header.number}`;
  const theirs = derivedHeader(block);
  const ours = derivedHeader(own);
  const agree = (reason: ChainProblem, holds: boolean): void => {
    if (!holds) throw new ChainError(reason, number);
  };
  agree("TRANSACTIONS_ROOT", equalBytes(theirs.transactionsRoot, ours.transactionsRoot));
  agree("WITHDRAWALS_ROOT", equalBytes(theirs.withdrawalsRoot, ours.withdrawalsRoot));
  agree("GAS_USED", theirs.gasUsed === ours.gasUsed);
  agree("LOGS_BLOOM", equalBytes(theirs.logsBloom, ours.logsBloom));
  agree("RECEIPTS_ROOT", equalBytes(theirs.receiptsRoot, ours.receiptsRoot));
  agree(
    "REQUESTS_HASH",
    toHex(theirs.requestsHash ?? new Uint8Array()) === toHex(ours.requestsHash ?? new Uint8Array()),
  );
  agree("STATE_ROOT", equalBytes(theirs.stateRoot, ours.stateRoot));
  agree("HEADER", equalBytes(block.hash(), own.hash()));
}

/** EIP-7685. */
function requestsHash(requests: readonly PrefixedHexString[]): PrefixedHexString {
  const hashes = requests.map((request) => sha256(fromHex(request)));
  return `0x${toHex(sha256(concat(...hashes)))}`;
}

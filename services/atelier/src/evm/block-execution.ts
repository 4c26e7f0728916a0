/**
 * One block on ethereumjs' VM: our own packing loop over `runTx`, with checkpoints that undo whole bundles. The shipped
 * block builder makes a block of all earlier transactions for each new one (quadratic) and cannot take one back.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import {
  Block,
  createBlock,
  createBlockHeader,
  genRequestsRoot,
  genTransactionsTrieRoot,
  genWithdrawalsTrieRoot,
} from "@ethereumjs/block";
import type { Common } from "@ethereumjs/common";
import { createEVM, type EVMMockBlockchainInterface } from "@ethereumjs/evm";
import { MerklePatriciaTrie } from "@ethereumjs/mpt";
import { RLP } from "@ethereumjs/rlp";
import { Caches, MerkleStateManager } from "@ethereumjs/statemanager";
import { isBlob4844Tx, type TypedTransaction } from "@ethereumjs/tx";
import { Account, Address, createWithdrawal, KECCAK256_RLP, ValueEncoding, type Withdrawal } from "@ethereumjs/util";
import { Bloom, createVM, encodeReceipt, type RunTxResult, runTx, type VM } from "@ethereumjs/vm";
import { sha256 } from "@noble/hashes/sha2.js";
import type { BlockAttributes, DerivedHeader } from "../core/candidate.ts";
import type { SenderAccount } from "../core/order.ts";
import type { ExecutionLog } from "../core/payment.ts";
import { type BlockExecution, NotExecutable, type SealedBlock, type TransactionResult } from "./executor.ts";
import type { NodeOverlay } from "./node-store.ts";
import { beginBlock, endBlock } from "./system-calls.ts";
import type { DecodedTransaction, TransactionDecoder } from "./transaction.ts";

const GWEI = 1_000_000_000n;
const DELEGATION = [0xef, 0x01, 0x00] as const;
/** Transactions run before other work of the process gets a turn. */
const BATCH = 16;

/** Where a block stands. */
export interface BlockPlace {
  readonly common: Common;
  readonly stateRoot: Uint8Array;
  readonly number: bigint;
  readonly baseFeePerGas: bigint;
  readonly excessBlobGas: bigint;
  readonly attributes: BlockAttributes;
  readonly overlay: NodeOverlay;
  readonly decoder: TransactionDecoder;
  /** Hash of an ancestor by number, for BLOCKHASH. */
  ancestor(number: bigint): Uint8Array | undefined;
  /** Told of the sealed block before `seal` returns. */
  sealed(block: Block): void;
}

interface Included {
  readonly tx: TypedTransaction;
  readonly result: RunTxResult;
}

/** @throws Error when the parent's state is not in the store */
export async function openBlock(place: BlockPlace): Promise<InProcessExecution> {
  const { common, attributes } = place;
  const trie = new MerklePatriciaTrie({
    useKeyHashing: true,
    common,
    db: place.overlay,
    root: place.stateRoot,
    valueEncoding: ValueEncoding.Bytes,
  });
  const stateManager = new MerkleStateManager({ common, trie, caches: new Caches() });
  const evm = await createEVM({ common, stateManager, blockchain: ancestors(place) });
  const vm = await createVM({ common, stateManager, evm, blockchain: ancestors(place) });
  // Without an outer checkpoint every transaction's commit would write its accounts to the trie.
  await vm.evm.journal.checkpoint();
  const context = createBlock({ header: dictated(place) }, { common });
  await beginBlock(vm, { number: place.number, ...attributes });
  return new InProcessExecution(place, vm, context);
}

function ancestors(place: BlockPlace): EVMMockBlockchainInterface {
  const blockchain: EVMMockBlockchainInterface = {
    getBlock: async (number) => {
      const hash = place.ancestor(BigInt(number));
      if (hash === undefined) throw new Error(`block ${number} is not an ancestor`);
      return { hash: () => hash };
    },
    putBlock: async () => {},
    shallowCopy: () => blockchain,
  };
  return blockchain;
}

/** The header fields known before anything ran. */
function dictated({ attributes, number, baseFeePerGas, excessBlobGas, common }: BlockPlace) {
  return {
    parentHash: attributes.parentHash,
    number,
    timestamp: attributes.timestamp,
    gasLimit: attributes.gasLimit,
    coinbase: new Address(attributes.feeRecipient),
    mixHash: attributes.prevRandao,
    extraData: attributes.extraData,
    baseFeePerGas,
    ...(common.isActivatedEIP(4788) ? { parentBeaconBlockRoot: attributes.parentBeaconBlockRoot } : {}),
    ...(common.isActivatedEIP(4844) ? { excessBlobGas } : {}),
  };
}

export class InProcessExecution implements BlockExecution {
  readonly #place: BlockPlace;
  readonly #vm: VM;
  readonly #context: Block;
  readonly #included: Included[] = [];
  readonly #marks: { readonly count: number; readonly gasUsed: bigint; readonly blobGas: bigint }[] = [];
  #gasUsed = 0n;
  #blobGas = 0n;
  #runs = 0;
  #sealed = false;

  constructor(place: BlockPlace, vm: VM, context: Block) {
    this.#place = place;
    this.#vm = vm;
    this.#context = context;
  }

  get number(): bigint {
    return this.#place.number;
  }
  get baseFeePerGas(): bigint {
    return this.#place.baseFeePerGas;
  }
  get gasLimit(): bigint {
    return this.#place.attributes.gasLimit;
  }
  get gasUsed(): bigint {
    return this.#gasUsed;
  }
  get decoder(): TransactionDecoder {
    return this.#place.decoder;
  }

  async sender(address: Uint8Array): Promise<SenderAccount> {
    const at = new Address(address);
    const account = (await this.#vm.stateManager.getAccount(at)) ?? new Account();
    return { nonce: account.nonce, balance: account.balance, hasCode: await this.#hasCode(at, account) };
  }

  async #hasCode(address: Address, account: Account): Promise<boolean> {
    if (!account.isContract()) return false;
    const code = await this.#vm.stateManager.getCode(address);
    return !(this.#vm.common.isActivatedEIP(7702) && DELEGATION.every((byte, index) => code[index] === byte));
  }

  run(transaction: DecodedTransaction): Promise<TransactionResult> {
    return this.runTyped(transaction.tx);
  }

  /** For blocks of the chain, whose transactions come decoded. @throws NotExecutable */
  async runTyped(tx: TypedTransaction): Promise<TransactionResult> {
    if (++this.#runs % BATCH === 0) await nextTurn();
    if (tx.gasLimit > this.gasLimit - this.#gasUsed) throw new NotExecutable("does not fit in the block");
    const blobGas = this.#blobGasOf(tx);
    let result: RunTxResult;
    try {
      result = await runTx(this.#vm, { tx, block: this.#context, blockGasUsed: this.#gasUsed });
    } catch (error) {
      throw new NotExecutable(error instanceof Error ? error.message : "refused by the engine", { cause: error });
    }
    this.#included.push({ tx, result });
    this.#gasUsed += result.totalGasSpent;
    this.#blobGas += blobGas;
    return {
      reverted: result.execResult.exceptionError !== undefined,
      gasUsed: result.totalGasSpent,
      feeWei: result.minerValue,
      logs: logsOf(result),
    };
  }

  #blobGasOf(tx: TypedTransaction): bigint {
    if (!isBlob4844Tx(tx)) return 0n;
    const { common } = this.#vm;
    const gas = common.param("blobGasPerBlob") * BigInt(tx.numBlobs());
    if (this.#blobGas + gas > common.getBlobGasSchedule().maxBlobGasPerBlock) {
      throw new NotExecutable("more blobs than a block takes");
    }
    return gas;
  }

  async checkpoint(): Promise<void> {
    this.#marks.push({ count: this.#included.length, gasUsed: this.#gasUsed, blobGas: this.#blobGas });
    await this.#vm.evm.journal.checkpoint();
  }

  async commit(): Promise<void> {
    if (this.#marks.pop() === undefined) throw new Error("no checkpoint is open");
    await this.#vm.evm.journal.commit();
  }

  async revert(): Promise<void> {
    const mark = this.#marks.pop();
    if (mark === undefined) throw new Error("no checkpoint is open");
    await this.#vm.evm.journal.revert();
    this.#included.length = mark.count;
    this.#gasUsed = mark.gasUsed;
    this.#blobGas = mark.blobGas;
  }

  async seal(): Promise<SealedBlock> {
    if (this.#sealed || this.#marks.length > 0) throw new Error("sealed already, or a checkpoint is open");
    this.#sealed = true;
    const { common, evm, stateManager } = this.#vm;
    const withdrawals = this.#place.attributes.withdrawals.map(toWithdrawal);
    for (const withdrawal of withdrawals) await this.#credit(withdrawal);
    await evm.journal.cleanup();
    const requests = await endBlock(
      this.#vm,
      this.#included.flatMap((entry) => logsOf(entry.result)),
    );
    // The only flush of the whole block: a revert after it would leave stale caches behind.
    const stateRoot = await stateManager.getStateRoot();
    await evm.journal.commit();
    const transactions = this.#included.map((entry) => entry.tx);
    const header = createBlockHeader(
      {
        ...dictated(this.#place),
        stateRoot,
        transactionsTrie: await genTransactionsTrieRoot(transactions, new MerklePatriciaTrie({ common })),
        receiptTrie: await this.#receiptsRoot(),
        logsBloom: this.#bloom(),
        gasUsed: this.#gasUsed,
        ...(common.isActivatedEIP(4895) ? { withdrawalsRoot: await this.#withdrawalsRoot(withdrawals) } : {}),
        ...(common.isActivatedEIP(4844) ? { blobGasUsed: this.#blobGas } : {}),
        ...(common.isActivatedEIP(7685) ? { requestsHash: genRequestsRoot(requests, sha256) } : {}),
      },
      { common },
    );
    // Not `createBlock`, which makes every transaction anew and forgets its sender and hash.
    const block = new Block(header, transactions, [], common.isActivatedEIP(4895) ? withdrawals : undefined, {
      common,
    });
    this.#place.sealed(block);
    return {
      hash: block.hash(),
      header: derivedHeader(block),
      executionRequests: requests.filter((request) => request.bytes.length > 1).map((request) => request.bytes),
      rlp: block.serialize(),
    };
  }

  async #credit({ address, amount }: Withdrawal): Promise<void> {
    if (amount === 0n) return;
    const account = (await this.#vm.stateManager.getAccount(address)) ?? new Account();
    account.balance += amount * GWEI;
    await this.#vm.evm.journal.putAccount(address, account);
  }

  async #receiptsRoot(): Promise<Uint8Array> {
    if (this.#included.length === 0) return KECCAK256_RLP;
    const trie = new MerklePatriciaTrie({ common: this.#vm.common });
    for (const [index, { tx, result }] of this.#included.entries()) {
      await trie.put(RLP.encode(index), encodeReceipt(result.receipt, tx.type));
    }
    return trie.root();
  }

  #bloom(): Uint8Array {
    const bloom = new Bloom(undefined, this.#vm.common);
    for (const { result } of this.#included) bloom.or(result.bloom);
    return bloom.bitvector;
  }

  #withdrawalsRoot(withdrawals: Withdrawal[]): Promise<Uint8Array> {
    return genWithdrawalsTrieRoot(withdrawals, new MerklePatriciaTrie({ common: this.#vm.common }));
  }
}

function toWithdrawal(withdrawal: BlockAttributes["withdrawals"][number]): Withdrawal {
  return createWithdrawal({
    index: withdrawal.index,
    validatorIndex: withdrawal.validatorIndex,
    address: new Address(withdrawal.address),
    amount: withdrawal.amountGwei,
  });
}

function logsOf(result: RunTxResult): ExecutionLog[] {
  return result.receipt.logs.map(([address, topics, data]) => ({ address, topics, data }));
}

/** The fields that follow from execution. */
export function derivedHeader({ header }: Block): DerivedHeader {
  return {
    number: header.number,
    stateRoot: header.stateRoot,
    transactionsRoot: header.transactionsTrie,
    receiptsRoot: header.receiptTrie,
    logsBloom: header.logsBloom,
    gasUsed: header.gasUsed,
    baseFeePerGas: header.baseFeePerGas ?? 0n,
    withdrawalsRoot: header.withdrawalsRoot ?? KECCAK256_RLP,
    blobGasUsed: header.blobGasUsed ?? 0n,
    excessBlobGas: header.excessBlobGas ?? 0n,
    requestsHash: header.requestsHash,
  };
}

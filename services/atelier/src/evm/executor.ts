/**
 * The port between the rules of a block and an engine that executes transactions. In-process for devnets and small
 * L2s (`block-execution.ts`); where blocks are large, an execution client can stand behind it.
 */
import type { BlockAttributes, DerivedHeader } from "../core/candidate.ts";
import type { SenderAccount } from "../core/order.ts";
import type { ExecutionLog } from "../core/payment.ts";
import type { DecodedTransaction, TransactionDecoder } from "./transaction.ts";

/** What a transaction did. */
export interface TransactionResult {
  /** True when execution failed and only the fee was taken. */
  readonly reverted: boolean;
  readonly gasUsed: bigint;
  /** Priority fee to the fee recipient, wei. */
  readonly feeWei: bigint;
  readonly logs: readonly ExecutionLog[];
}

/** A finished block. */
export interface SealedBlock {
  readonly hash: Uint8Array;
  readonly header: DerivedHeader;
  /** EIP-7685: type byte ‖ data, without empty ones. */
  readonly executionRequests: Uint8Array[];
  /** The whole block, RLP. */
  readonly rlp: Uint8Array;
}

/** The engine will not run this transaction here; the block is as it was before. */
export class NotExecutable extends Error {
  override readonly name = "NotExecutable";
}

/** A block that is being filled. One caller at a time; every method leaves it usable. */
export interface BlockExecution {
  readonly number: bigint;
  readonly baseFeePerGas: bigint;
  readonly gasLimit: bigint;
  readonly gasUsed: bigint;
  readonly decoder: Pick<TransactionDecoder, "decode" | "prepare">;
  /** @param address 20 bytes */
  sender(address: Uint8Array): Promise<SenderAccount>;
  /** Appends the transaction. @throws NotExecutable */
  run(transaction: DecodedTransaction): Promise<TransactionResult>;
  /** Nested; `revert` also forgets transactions run since the checkpoint. */
  checkpoint(): Promise<void>;
  commit(): Promise<void>;
  revert(): Promise<void>;
  /** Withdrawals, requests, roots and header. Once, with no checkpoint open. */
  seal(): Promise<SealedBlock>;
}

export interface Executor {
  /** Opens a block on `attributes.parentHash`. @throws ChainError UNKNOWN_PARENT, BAD_ATTRIBUTES */
  begin(attributes: BlockAttributes): Promise<BlockExecution>;
}

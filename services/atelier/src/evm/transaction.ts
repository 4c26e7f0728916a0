/**
 * Raw transactions, decoded once. Recovering a sender costs more than executing a transfer, and the same bytes are met
 * when a member builds, when it checks a peer's candidate and when the block comes back from the chain.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Common } from "@ethereumjs/common";
import { RLP } from "@ethereumjs/rlp";
import {
  createTxFromRLP,
  getMinimumGasLimit,
  isEOACode7702Tx,
  isFeeMarket1559Tx,
  type TypedTransaction,
} from "@ethereumjs/tx";
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import type { ExclusionReason } from "../core/candidate.ts";
import type { TransactionFacts } from "../core/order.ts";

/** A transaction that decodes, is for this chain and is signed. */
export interface DecodedTransaction {
  readonly raw: Uint8Array;
  readonly facts: TransactionFacts;
  /** What the in-process engine runs; its sender is cached inside. */
  readonly tx: TypedTransaction;
}

/** Undecodable, of a type we do not build with, or for another chain. */
export type StaticExclusion = Extract<ExclusionReason, "undecodable" | "unsupported-type" | "wrong-chain">;
export type Decoding = { readonly transaction: DecodedTransaction } | { readonly problem: StaticExclusion };

const ACCESS_LIST = 1;
const FEE_MARKET = 2;
const SET_CODE = 4;
/** Blob transactions (3) need sidecars, which no message carries. */
const TYPES: ReadonlySet<number> = new Set([ACCESS_LIST, FEE_MARKET, SET_CODE]);
const FIRST_LEGACY_BYTE = 0xc0;
const LAST_TYPE_BYTE = 0x7f;

/** How many decoded transactions are kept: several full blocks. */
const KEPT_MAX = 8192;
/** Transactions decoded before other work of the process gets a turn. */
const BATCH = 16;

/** Decodes for one chain and remembers, oldest out first. */
export class TransactionDecoder {
  readonly #common: Common;
  readonly #chainId: bigint;
  readonly #known = new Map<string, Decoding>();
  #shared: Common | undefined;

  /** @param common of the chain, at the hard fork transactions are decoded for */
  constructor(common: Common) {
    this.#common = common;
    this.#chainId = common.chainId();
  }

  decode(raw: Uint8Array): Decoding {
    const key = toHex(keccak256(raw));
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const decoding = this.#decode(raw);
    this.#remember(key, decoding);
    return decoding;
  }

  /** Decodes ahead of need, giving way to other work in between. */
  async prepare(raws: Iterable<Uint8Array>): Promise<void> {
    let done = 0;
    for (const raw of raws) {
      this.decode(raw);
      if (++done % BATCH === 0) await nextTurn();
    }
  }

  /** The remembered object for a transaction of a foreign block, so that its sender is not recovered again. */
  known(tx: TypedTransaction): TypedTransaction {
    const decoding = this.#known.get(toHex(tx.hash()));
    return decoding !== undefined && "transaction" in decoding ? decoding.transaction.tx : tx;
  }

  #remember(key: string, decoding: Decoding): void {
    if (this.#known.size >= KEPT_MAX) {
      const [oldest] = this.#known.keys();
      if (oldest !== undefined) this.#known.delete(oldest);
    }
    this.#known.set(key, decoding);
  }

  /**
   * Every transaction of ethereumjs carries a copy of the chain's parameters, ten times its own size; thousands are
   * kept here, so they share one. Frozen, because only then does ethereumjs remember hash and sender.
   */
  #lean(tx: TypedTransaction): TypedTransaction {
    this.#shared ??= tx.common;
    Object.defineProperty(tx, "common", { value: this.#shared, enumerable: true });
    Object.freeze(tx);
    return tx;
  }

  #decode(raw: Uint8Array): Decoding {
    const [first] = raw;
    if (first === undefined) return { problem: "undecodable" };
    if (first <= LAST_TYPE_BYTE && !TYPES.has(first)) return { problem: "unsupported-type" };
    try {
      const chainId = claimedChainId(raw, first);
      if (chainId === "malformed") return { problem: "undecodable" };
      if (chainId !== undefined && chainId !== this.#chainId) return { problem: "wrong-chain" };
      const tx = this.#lean(createTxFromRLP(raw, { common: this.#common, freeze: false }));
      // Two spellings of one transaction would have two hashes here and one on chain.
      if (!tx.isSigned() || !equalBytes(tx.serialize(), raw)) return { problem: "undecodable" };
      return { transaction: { raw, tx, facts: factsOf(tx) } };
    } catch {
      return { problem: "undecodable" };
    }
  }
}

/** Undefined: valid on any chain (legacy before EIP-155). */
function claimedChainId(raw: Uint8Array, first: number): bigint | undefined | "malformed" {
  const fields = RLP.decode(first < FIRST_LEGACY_BYTE ? raw.subarray(1) : raw);
  if (!Array.isArray(fields)) return "malformed";
  const claimed = first < FIRST_LEGACY_BYTE ? fields[0] : fields[6];
  if (!(claimed instanceof Uint8Array) || claimed.length > 32) return "malformed";
  const value = claimed.length === 0 ? 0n : BigInt(`0x${toHex(claimed)}`);
  if (first < FIRST_LEGACY_BYTE) return value;
  return value >= 35n ? (value - 35n) / 2n : undefined;
}

function factsOf(tx: TypedTransaction): TransactionFacts {
  const sender = tx.getSenderAddress();
  const market = isFeeMarket1559Tx(tx) || isEOACode7702Tx(tx);
  const maxFeePerGas = market ? tx.maxFeePerGas : "gasPrice" in tx ? tx.gasPrice : 0n;
  return {
    hash: tx.hash(),
    sender: sender.bytes,
    nonce: tx.nonce,
    gasLimit: tx.gasLimit,
    minimumGas: getMinimumGasLimit(tx, sender),
    maxFeePerGas,
    maxPriorityFeePerGas: market ? tx.maxPriorityFeePerGas : maxFeePerGas,
    balanceNeeded: tx.value + tx.gasLimit * maxFeePerGas,
  };
}

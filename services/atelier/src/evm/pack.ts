/**
 * The rules of a block, carried out: which transaction comes next, and what becomes of it. Building and verifying are
 * both this function; they differ in the `Ledger` that is told of each decision.
 */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import {
  absentRow,
  blindShareGas,
  bundleViolation,
  landedRow,
  type MessagesKnown,
  referencesOf,
} from "../core/bundle.ts";
import type { BundleReason, Entry, Exclusion, ExclusionReason, OrderRow } from "../core/candidate.ts";
import type { BuildInputs } from "../core/inputs.ts";
import {
  carriedOrder,
  distinctMessages,
  exclusionAt,
  isCarried,
  type PoolMessage,
  poolOrder,
  type QueuedMessage,
  type WinningBundle,
} from "../core/order.ts";
import { bidPaymentWei } from "../core/payment.ts";
import { type BlockExecution, NotExecutable, type TransactionResult } from "./executor.ts";
import type { DecodedTransaction } from "./transaction.ts";

/** Told of every decision in the order in which it is made. */
export interface Ledger {
  include(entry: Entry): void;
  exclude(exclusion: Exclusion): void;
  row(row: OrderRow): void;
}

/** What is known when the last decision has been made. */
export interface Packed {
  /** Messages for the next slot. */
  readonly carry: Uint8Array[];
  readonly feesWei: bigint;
}

type MessageClass = Exclusion["class"];

interface Queued extends QueuedMessage {
  readonly transaction: DecodedTransaction;
}

/** Fills the block; does not seal it. */
export async function pack(execution: BlockExecution, inputs: BuildInputs, ledger: Ledger): Promise<Packed> {
  return new Packing(execution, inputs, ledger).run();
}

class Packing {
  readonly #execution: BlockExecution;
  readonly #inputs: BuildInputs;
  readonly #ledger: Ledger;
  readonly #carriedIn: readonly PoolMessage[];
  readonly #poolIn: readonly PoolMessage[];
  readonly #known: MessagesKnown;
  /** Hex hashes of transactions in the block. */
  readonly #inBlock = new Set<string>();
  readonly #carry: Uint8Array[] = [];
  /** This slot's pool in its order. */
  #pool: readonly Queued[] = [];
  #blindGasUsed = 0n;
  #feesWei = 0n;

  constructor(execution: BlockExecution, inputs: BuildInputs, ledger: Ledger) {
    this.#execution = execution;
    this.#inputs = inputs;
    this.#ledger = ledger;
    this.#carriedIn = distinctMessages(inputs.carried);
    this.#poolIn = distinctMessages(inputs.pool);
    const messages = [...this.#carriedIn, ...this.#poolIn];
    this.#known = {
      transactionHashes: new Set(messages.map((message) => toHex(keccak256(message.rawTransaction)))),
      poolIds: new Set(this.#poolIn.map((message) => toHex(message.messageId))),
    };
  }

  async run(): Promise<Packed> {
    const { bundles } = this.#inputs;
    const ofClass = (wanted: WinningBundle["class"]) => bundles.filter((bundle) => bundle.class === wanted);

    await this.#execution.decoder.prepare(this.#raws());
    await this.#messages("carried", carriedOrder(this.#decodable("carried", this.#carriedIn)));
    for (const bundle of ofClass("blind")) await this.#bundle(bundle);

    this.#pool = poolOrder(this.#decodable("pool", this.#poolIn), this.#execution.baseFeePerGas);
    // Here the pool has not run yet: the one place where a bundle can be tried after its references alone.
    const seen: { readonly bundle: WinningBundle; readonly problem: BundleReason | undefined }[] = [];
    for (const bundle of ofClass("seen")) seen.push({ bundle, problem: await this.#problemAlone(bundle) });
    await this.#messages("pool", this.#pool);

    for (const { bundle, problem } of seen) {
      if (problem === undefined) await this.#bundle(bundle);
      else this.#ledger.row(absentRow(bundle, problem));
    }
    for (const bundle of ofClass("tail")) await this.#bundle(bundle);
    return { carry: this.#carry, feesWei: this.#feesWei };
  }

  /** Every transaction there is, so that their senders are recovered without holding up the process. */
  *#raws(): Iterable<Uint8Array> {
    for (const message of [...this.#carriedIn, ...this.#poolIn]) yield message.rawTransaction;
    for (const { items } of this.#inputs.bundles)
      for (const item of items) if (item.type === "transaction") yield item.raw;
  }

  #decodable(messageClass: MessageClass, messages: readonly PoolMessage[]): Queued[] {
    const queued: Queued[] = [];
    for (const message of messages) {
      const decoding = this.#execution.decoder.decode(message.rawTransaction);
      if ("problem" in decoding) this.#exclude(messageClass, message, decoding.problem);
      else queued.push({ message, facts: decoding.transaction.facts, transaction: decoding.transaction });
    }
    return queued;
  }

  async #messages(messageClass: MessageClass, ordered: readonly Queued[]): Promise<void> {
    for (const item of ordered) {
      const result = await this.#run(item.transaction);
      if (typeof result === "string") {
        this.#exclude(messageClass, item.message, result);
        continue;
      }
      const { messageId, refund } = item.message;
      this.#include({ type: messageClass, messageId, raw: item.transaction.raw, refund }, item.transaction, result);
    }
  }

  /** Runs the transaction where the block stands, or says why it cannot. */
  async #run(transaction: DecodedTransaction): Promise<TransactionResult | ExclusionReason> {
    const { facts } = transaction;
    if (this.#inBlock.has(toHex(facts.hash))) return "duplicate";
    const { baseFeePerGas, gasLimit, gasUsed } = this.#execution;
    const position = { baseFeePerGas, blockGasLimit: gasLimit, gasLeft: gasLimit - gasUsed };
    const reason = exclusionAt(facts, await this.#execution.sender(facts.sender), position);
    if (reason !== undefined) return reason;
    try {
      return await this.#execution.run(transaction);
    } catch (error) {
      if (error instanceof NotExecutable) return "not-executable";
      throw error;
    }
  }

  #include(entry: Entry, transaction: DecodedTransaction, result: TransactionResult): void {
    this.#inBlock.add(toHex(transaction.facts.hash));
    this.#feesWei += result.feeWei;
    this.#ledger.include(entry);
  }

  #exclude(messageClass: MessageClass, message: PoolMessage, reason: ExclusionReason): void {
    const { slot, rules } = this.#inputs;
    if (isCarried(message, reason, slot, rules.carrySlots)) this.#carry.push(message.messageId);
    this.#ledger.exclude({ messageId: message.messageId, class: messageClass, reason });
  }

  #transactionsOf(bundle: WinningBundle): (DecodedTransaction | undefined)[] {
    return bundle.items
      .filter((item) => item.type === "transaction")
      .map((item) => {
        const decoding = this.#execution.decoder.decode(item.raw);
        return "transaction" in decoding ? decoding.transaction : undefined;
      });
  }

  #violation(bundle: WinningBundle): BundleReason | undefined {
    const facts = this.#transactionsOf(bundle).map((transaction) => transaction?.facts);
    const gas = blindShareGas(this.#execution.gasLimit, this.#inputs.rules.blindGasBps);
    return bundleViolation(bundle, facts, this.#known, { gas, used: this.#blindGasUsed });
  }

  /** A bundle in its place: all of it, or nothing and the reason. */
  async #bundle(bundle: WinningBundle): Promise<void> {
    const problem = this.#violation(bundle) ?? this.#missingReference(bundle);
    if (problem !== undefined) {
      this.#ledger.row(absentRow(bundle, problem));
      return;
    }
    await this.#execution.checkpoint();
    const outcome = await this.#attempt(bundle);
    const short = typeof outcome !== "string" && bundle.class !== "blind" && outcome.paymentWei < bundle.amountWei;
    if (typeof outcome === "string" || short) {
      await this.#execution.revert();
      const reason =
        typeof outcome === "string" ? outcome : bundle.class === "tail" ? "paid-short" : "paid-short-in-sequence";
      this.#ledger.row(absentRow(bundle, reason));
      return;
    }
    await this.#execution.commit();
    for (const { transaction, result } of outcome.ran) {
      this.#include({ type: bundle.class, bidId: bundle.bidId, raw: transaction.raw }, transaction, result);
    }
    if (bundle.class === "blind") this.#blindGasUsed += outcome.gasUsed;
    this.#ledger.row(landedRow(bundle, { paymentWei: outcome.paymentWei, gasUsed: outcome.gasUsed }));
  }

  #missingReference(bundle: WinningBundle): BundleReason | undefined {
    // By transaction: of two messages with the same one, either stands for it.
    const landed = new Set(this.#pool.filter(({ facts }) => this.#inBlock.has(toHex(facts.hash))).map(messageKey));
    return referencesOf(bundle).every((id) => landed.has(toHex(id))) ? undefined : "reference-excluded";
  }

  /**
   * What a seen bundle does after its declared references alone: on the state before the pool, the references in
   * pool order, each with what its own sender queued before it, then the bundle. Nothing of it stays.
   */
  async #problemAlone(bundle: WinningBundle): Promise<BundleReason | undefined> {
    const violation = this.#violation(bundle);
    if (violation !== undefined) return violation;
    await this.#execution.checkpoint();
    try {
      const ran = new Set<string>();
      for (const item of this.#withReferences(bundle)) {
        const hash = toHex(item.facts.hash);
        if (ran.has(hash)) continue;
        const result = await this.#run(item.transaction);
        if (typeof result !== "string") ran.add(hash);
        // One that carried messages brought into the block already has been executed before everything else.
        else if (isReferenced(bundle, item) && result !== "duplicate") return "failed-alone";
      }
      const outcome = await this.#attempt(bundle);
      if (typeof outcome === "string") return "failed-alone";
      return outcome.paymentWei < bundle.amountWei ? "paid-short" : undefined;
    } finally {
      await this.#execution.revert();
    }
  }

  #withReferences(bundle: WinningBundle): readonly Queued[] {
    const needed = new Set<Queued>();
    for (const [at, item] of this.#pool.entries()) {
      if (!isReferenced(bundle, item)) continue;
      const sender = toHex(item.facts.sender);
      for (const earlier of this.#pool.slice(0, at)) if (toHex(earlier.facts.sender) === sender) needed.add(earlier);
      needed.add(item);
    }
    return this.#pool.filter((item) => needed.has(item));
  }

  async #attempt(bundle: WinningBundle): Promise<
    | {
        readonly ran: readonly { readonly transaction: DecodedTransaction; readonly result: TransactionResult }[];
        readonly paymentWei: bigint;
        readonly gasUsed: bigint;
      }
    | BundleReason
  > {
    const mayRevert = new Set(bundle.mayRevert.map(toHex));
    const bid = { settlement: this.#inputs.rules.settlement, slot: this.#inputs.slot, paymentId: bundle.paymentId };
    const ran: { readonly transaction: DecodedTransaction; readonly result: TransactionResult }[] = [];
    let paymentWei = 0n;
    let gasUsed = 0n;
    for (const transaction of this.#transactionsOf(bundle)) {
      if (transaction === undefined) return "malformed";
      const result = await this.#run(transaction);
      if (typeof result === "string") return result === "block-full" ? "no-room" : "invalid-transaction";
      if (result.reverted && !mayRevert.has(toHex(transaction.facts.hash))) return "reverted";
      ran.push({ transaction, result });
      paymentWei += bidPaymentWei(result.logs, bid);
      gasUsed += result.gasUsed;
    }
    return { ran, paymentWei, gasUsed };
  }
}

function messageKey({ message }: Queued): string {
  return toHex(message.messageId);
}

function isReferenced(bundle: WinningBundle, item: Queued): boolean {
  const id = messageKey(item);
  return referencesOf(bundle).some((reference) => toHex(reference) === id);
}

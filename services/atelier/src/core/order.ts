/**
 * The order of a block (protocols.md §4): carried messages · blind winners · pool by effective priority fee · seen
 * winners · tail. Positions follow from the messages and the base fee alone, never from what execution returns, so
 * that whoever holds the unsealed round can say where a message had to stand.
 */
import { toHex } from "@lattice/organism/codec/codec.ts";
import type { RefundAuthorisation } from "@lattice/organism/outcomes/unseal.ts";
import type { BidClass, BundleReason, ExclusionReason } from "./candidate.ts";

/** An opened message. */
export interface PoolMessage {
  /** 16 bytes. */
  readonly messageId: Uint8Array;
  /** The slot it was unsealed in. */
  readonly slot: bigint;
  /** Its position in that slot's unseal order. */
  readonly unsealIndex: number;
  readonly rawTransaction: Uint8Array;
  /** Whom its sender lets be refunded instead; passed on unjudged. */
  readonly refund?: RefundAuthorisation | undefined;
}

export type BundleItem =
  | { readonly type: "transaction"; readonly raw: Uint8Array }
  /** A pool message that must have been executed before what follows. */
  | { readonly type: "reference"; readonly messageId: Uint8Array };

/** An auction's winner with its bundle. */
export interface WinningBundle {
  /** 32 bytes. */
  readonly bidId: Uint8Array;
  /** What its transactions name when they pay, 32 bytes. */
  readonly paymentId: Uint8Array;
  readonly class: BidClass;
  /** 20 bytes each; transactions sent by either count as the searcher's own. */
  readonly searcher: Uint8Array;
  readonly escrowAccount: Uint8Array;
  /** What was bid, and what the auction's rule charges, wei. */
  readonly amountWei: bigint;
  readonly clearingWei: bigint;
  /** Message ids of the certified winner. */
  readonly references: readonly Uint8Array[];
  readonly items: readonly BundleItem[];
  /** Hashes of transactions whose revert does not undo the bundle (seen class). */
  readonly mayRevert: readonly Uint8Array[];
  /** Set when it was found unusable before any execution. */
  readonly problem?: BundleReason;
}

/** Everything about a transaction that the rules ask for; sender recovered. */
export interface TransactionFacts {
  /** keccak256 of the raw bytes, 32 bytes. */
  readonly hash: Uint8Array;
  /** 20 bytes. */
  readonly sender: Uint8Array;
  readonly nonce: bigint;
  readonly gasLimit: bigint;
  /** The least gas limit that its own size allows (EIP-2028, 2930, 3860, 7623, 7702). */
  readonly minimumGas: bigint;
  /** For legacy transactions both are the gas price. */
  readonly maxFeePerGas: bigint;
  readonly maxPriorityFeePerGas: bigint;
  /** The balance that must be there before it runs: value + gas limit × max fee per gas (+ blob gas). */
  readonly balanceNeeded: bigint;
}

/** The first message of every id: its sender chose it, and may have chosen one twice. */
export function distinctMessages(messages: readonly PoolMessage[]): PoolMessage[] {
  const first = new Map<string, PoolMessage>();
  for (const message of messages) {
    const id = toHex(message.messageId);
    if (!first.has(id)) first.set(id, message);
  }
  return [...first.values()];
}

/** A message whose transaction decodes. */
export interface QueuedMessage {
  readonly message: PoolMessage;
  readonly facts: TransactionFacts;
}

/** What the proposer earns per gas; negative when the fee cap lies below the base fee. */
export function effectivePriorityFee(facts: TransactionFacts, baseFeePerGas: bigint): bigint {
  const room = facts.maxFeePerGas - baseFeePerGas;
  return room < facts.maxPriorityFeePerGas ? room : facts.maxPriorityFeePerGas;
}

/** By effective priority fee, highest first; ties by unseal order; each sender's in nonce order. */
export function poolOrder<M extends QueuedMessage>(messages: readonly M[], baseFeePerGas: bigint): M[] {
  const fee = (item: M): bigint => effectivePriorityFee(item.facts, baseFeePerGas);
  return merge(messages, (a, b) => compare(fee(b), fee(a)) || arrival(a, b));
}

/** Oldest slot first, then unseal order; each sender's in nonce order. */
export function carriedOrder<M extends QueuedMessage>(messages: readonly M[]): M[] {
  return merge(messages, arrival);
}

/** One queue a sender, in nonce order; the best head goes next, whatever becomes of it. */
function merge<M extends QueuedMessage>(messages: readonly M[], better: (a: M, b: M) => number): M[] {
  const queues = new Map<string, M[]>();
  for (const item of messages) {
    const sender = toHex(item.facts.sender);
    const queue = queues.get(sender);
    if (queue === undefined) queues.set(sender, [item]);
    else queue.push(item);
  }
  const heap = new Heap<{ readonly queue: readonly M[]; readonly at: number; readonly head: M }>((a, b) =>
    better(a.head, b.head),
  );
  const offer = (queue: readonly M[], at: number): void => {
    const head = queue[at];
    if (head !== undefined) heap.push({ queue, at, head });
  };
  for (const queue of queues.values()) {
    queue.sort((a, b) => compare(a.facts.nonce, b.facts.nonce) || better(a, b));
    offer(queue, 0);
  }
  const ordered: M[] = [];
  for (let best = heap.pop(); best !== undefined; best = heap.pop()) {
    ordered.push(best.head);
    offer(best.queue, best.at + 1);
  }
  return ordered;
}

function arrival(a: QueuedMessage, b: QueuedMessage): number {
  return compare(a.message.slot, b.message.slot) || a.message.unsealIndex - b.message.unsealIndex;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Binary min-heap: O(log n) a step, where sorted insertion would be quadratic on a full pool. */
class Heap<T> {
  readonly #items: T[] = [];
  readonly #order: (a: T, b: T) => number;

  constructor(order: (a: T, b: T) => number) {
    this.#order = order;
  }

  push(item: T): void {
    let at = this.#items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(at, parent)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  pop(): T | undefined {
    const top = this.#items[0];
    const last = this.#items.pop();
    if (top === undefined || last === undefined || this.#items.length === 0) return top;
    this.#items[0] = last;
    for (let at = 0; ; ) {
      const left = 2 * at + 1;
      const child = this.#before(left + 1, left) ? left + 1 : left;
      if (!this.#before(child, at)) return top;
      this.#swap(at, child);
      at = child;
    }
  }

  /** False when either index is outside the heap. */
  #before(a: number, b: number): boolean {
    const first = this.#items[a];
    const second = this.#items[b];
    return first !== undefined && second !== undefined && this.#order(first, second) < 0;
  }

  #swap(a: number, b: number): void {
    const first = this.#items[a];
    const second = this.#items[b];
    if (first === undefined || second === undefined) return;
    this.#items[a] = second;
    this.#items[b] = first;
  }
}

/** The sender's account where the transaction would run. */
export interface SenderAccount {
  readonly nonce: bigint;
  readonly balance: bigint;
  /** True for contracts (EIP-3607); an EIP-7702 delegation does not count. */
  readonly hasCode: boolean;
}

/** What a position offers. */
export interface Position {
  readonly baseFeePerGas: bigint;
  readonly blockGasLimit: bigint;
  readonly gasLeft: bigint;
}

/** Why the transaction cannot run at this position, first reason first; undefined: it must be included. */
export function exclusionAt(
  facts: TransactionFacts,
  account: SenderAccount,
  position: Position,
): ExclusionReason | undefined {
  if (facts.gasLimit > position.blockGasLimit) return "gas-limit-above-block";
  if (facts.gasLimit < facts.minimumGas) return "gas-below-intrinsic";
  if (account.hasCode) return "sender-has-code";
  if (facts.nonce < account.nonce) return "nonce-too-low";
  if (facts.nonce > account.nonce) return "nonce-too-high";
  if (facts.maxFeePerGas < position.baseFeePerGas) return "fee-below-base";
  if (account.balance < facts.balanceNeeded) return "underfunded";
  if (facts.gasLimit > position.gasLeft) return "block-full";
  return undefined;
}

/** Reasons that may be gone in a later slot: such messages are carried. */
const PASSING: ReadonlySet<ExclusionReason> = new Set([
  "nonce-too-high",
  "fee-below-base",
  "underfunded",
  "block-full",
]);

/** May an excluded message go ahead of every bid in slot + 1? For `carrySlots` slots after its own. */
export function isCarried(message: PoolMessage, reason: ExclusionReason, slot: bigint, carrySlots: bigint): boolean {
  return PASSING.has(reason) && slot < message.slot + carrySlots;
}

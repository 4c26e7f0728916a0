/**
 * Transactions entrusted to this gateway, from "journaled" to "in a block" or "given up, because".
 *
 * A submission is journaled before its hash is answered; then it is sealed freshly for each round it goes out with,
 * under a new message id, until a certified broadcast holds it and a block after that. What is lost on the way goes
 * again; what a reorg takes out of the chain as well.
 */
import { toHex } from "@lattice/organism/codec/codec.ts";
import type { OutcomeKind } from "@lattice/organism/committee/outcome.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { RosterView } from "@lattice/organism/node/roster-book.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import {
  type DisclosurePolicy,
  RAW_TRANSACTION_BYTES_MAX,
  type RefundAuthorisation,
  type UnsealedCommitment,
} from "@lattice/organism/outcomes/unseal.ts";
import { MESSAGE_ID_BYTES } from "@lattice/organism/outcomes/zipnet.ts";
import type { Journal, Random } from "@lattice/organism/ports.ts";
import { settlementDomain } from "@lattice/tally/core/attestation.ts";
import { refundRecipient } from "@lattice/tally/core/refund-authorisation.ts";
import type { SentTransaction } from "@lattice/tally/core/transaction-sender.ts";
import { contentSize, sealedSize, sealMessage } from "@lattice/unseal/client/seal.ts";
import { maxPayloadBytes, type OutgoingMessage, type Settled } from "@lattice/zipnet/client/zipnet-client.ts";
import { keccak256 } from "viem";
import type { Account, ChainBlock } from "./chain-reads.ts";
import { gatewayFault } from "./faults.ts";
import { problemFields } from "./problem.ts";
import { type Submission, SubmissionStore } from "./submission-store.ts";
import { checkTransaction } from "./transaction-check.ts";

export type { Submission } from "./submission-store.ts";

/** Broadcasts that a submission gets before it is given up. */
export const PASSES_MAX = 3;
/** Settled submissions that are remembered for `GetSubmission`. */
const SETTLED_KEPT = 10_000;
/** Transactions of one account that may be missing before the one submitted. */
export const NONCES_AHEAD_MAX = 256n;

/** What the book asks of the chain. */
export interface ChainView {
  /** At the head; 0x-prefixed address. */
  account(address: string): Promise<Account>;
  /** The block (bare hex) that a transaction (0x-prefixed hash) is in. */
  landedIn(transactionHash: string): Promise<string | undefined>;
}

export interface SubmissionBookOptions {
  readonly config: LatticeConfig;
  /** Of unseal, whose sealing key changes with the epoch. */
  readonly rosters: RosterView;
  readonly journal: Journal;
  readonly chain: ChainView;
  readonly random: Random;
  readonly log: Logger;
  /** Submissions that may wait for a broadcast. */
  readonly pendingMax: number;
  /** Settled ones that are remembered; 10,000 unless a test says otherwise. */
  readonly settledKept?: number;
}

/** What a sender may ask for besides. Of one transaction the first wishes stand while it is on its way. */
export interface Wishes {
  readonly disclosure: DisclosurePolicy;
  /** Whom refunds go to instead of to the transaction's sender. */
  readonly refund?: RefundAuthorisation | undefined;
  /** The last slot in whose block it may be: it is not sealed for a round after which it might land later. */
  readonly untilSlot?: bigint | undefined;
}

/** One submission and where it lies. */
interface Entry {
  /** keccak256 of the raw transaction, bare hex. */
  readonly hash: string;
  readonly place: number;
  submission: Submission;
}

export class SubmissionBook {
  readonly #options: SubmissionBookOptions;
  readonly #store: SubmissionStore;
  readonly #entries = new Map<string, Entry>();
  /** Not settled: pending, sent or broadcast. In the order in which they were taken. */
  readonly #live = new Map<string, Entry>();
  /** Being checked and journaled: whoever sends the same again waits for the first. */
  readonly #taking = new Map<string, Promise<Uint8Array>>();
  /** Submissions that are being journaled at this moment. */
  #reserved = 0;
  readonly #freePlaces: number[] = [];
  #places = 0;
  #order = 0n;

  /** @throws KitProblem when the journal holds what this version cannot read */
  constructor(options: SubmissionBookOptions) {
    this.#options = options;
    this.#store = new SubmissionStore(options.journal);
    const used = new Set<number>();
    for (const { place, submission } of this.#store.load()) {
      this.#keep({ hash: keccak256(submission.raw).slice(2), place, submission });
      used.add(place);
      this.#order = submission.order;
      this.#places = Math.max(this.#places, place + 1);
    }
    for (let place = 0; place < this.#places; place++) if (!used.has(place)) this.#freePlaces.push(place);
  }

  /** The largest raw transaction that fits a message. */
  get transactionBytesMax(): number {
    return this.#bytesMax(undefined);
  }

  #bytesMax(refund: RefundAuthorisation | undefined): number {
    const empty = contentSize({ version: 1, rawTransaction: new Uint8Array(), refund, disclosure: NOTHING });
    return Math.min(maxPayloadBytes(this.#options.config) - sealedSize(empty), RAW_TRANSACTION_BYTES_MAX);
  }

  /** @param hash bare lower-case hex */
  get(hash: string): Submission | undefined {
    return this.#entries.get(hash)?.submission;
  }

  /** True while a transaction is known here and not public: its hash is nobody else's business yet. */
  isPrivate(hash: string): boolean {
    return this.#live.has(hash);
  }

  counts(): Readonly<Record<Submission["status"], number>> {
    const counts = { pending: 0, sent: 0, broadcast: 0, landed: 0, failed: 0 };
    for (const { submission } of this.#entries.values()) counts[submission.status] += 1;
    return counts;
  }

  /** The account's next nonce when what waits here has gone out. @param from its next nonce at the head */
  pendingNonce(sender: string, from: bigint): bigint {
    const waiting = new Set<bigint>();
    for (const { submission } of this.#live.values()) {
      if (toHex(submission.sender) === sender) waiting.add(submission.nonce);
    }
    let next = from;
    while (waiting.has(next)) next += 1n;
    return next;
  }

  /**
   * Takes a transaction over: checks it, journals it, and only then answers its hash. The same one again is the same.
   * @throws Fault TRANSACTION_…, BAD_AUTHORISATION, WRONG_CHAIN, NONCE_TOO_LOW, NONCE_TOO_HIGH, UNDERFUNDED, QUEUE_FULL, CHAIN_UNREACHABLE
   */
  async take(raw: Uint8Array, wishes: Wishes): Promise<Uint8Array> {
    const limit = this.#bytesMax(wishes.refund);
    if (raw.length > limit) {
      throw gatewayFault("TRANSACTION_TOO_LARGE", `${raw.length} bytes, at most ${limit}`, { limit: String(limit) });
    }
    const hash = keccak256(raw).slice(2);
    const known = this.#entries.get(hash);
    if (known !== undefined && known.submission.status !== "failed") return fromHash(hash);
    let taking = this.#taking.get(hash);
    if (taking === undefined) {
      taking = this.#takeOver(hash, raw.slice(), wishes).finally(() => this.#taking.delete(hash));
      this.#taking.set(hash, taking);
    }
    return taking;
  }

  async #takeOver(hash: string, raw: Uint8Array, wishes: Wishes): Promise<Uint8Array> {
    const { disclosure, refund, untilSlot } = wishes;
    if (this.#waiting() >= this.#options.pendingMax) throw gatewayFault("QUEUE_FULL");
    const { sender, nonce } = await this.#check(raw);
    this.#checkAuthorisation({ hash: fromHash(hash), sender }, refund);
    if (this.#waiting() >= this.#options.pendingMax) throw gatewayFault("QUEUE_FULL");
    const place = this.#entries.get(hash)?.place ?? this.#freePlace();
    this.#order += 1n;
    const submission: Submission = {
      version: 2,
      order: this.#order,
      raw,
      sender,
      nonce,
      disclosure,
      refund,
      untilSlot,
      status: "pending",
      slot: 0n,
      messageId: undefined,
      passes: 0,
      blockHash: undefined,
      reason: "",
    };
    this.#reserved += 1;
    try {
      await this.#store.put(place, submission);
    } catch (error) {
      if (!this.#entries.has(hash)) this.#freePlaces.push(place);
      throw error;
    } finally {
      this.#reserved -= 1;
    }
    this.#replace(submission);
    this.#entries.delete(hash);
    this.#keep({ hash, place, submission });
    return fromHash(hash);
  }

  #waiting(): number {
    let waiting = this.#reserved;
    for (const { submission } of this.#live.values()) if (submission.status !== "broadcast") waiting += 1;
    return waiting;
  }

  async #check(raw: Uint8Array): Promise<{ sender: Uint8Array; nonce: bigint }> {
    const { config, chain } = this.#options;
    const { sender, nonce, neededWei } = await checkTransaction(raw, config.chainId);
    const account = await chain.account(`0x${toHex(sender)}`);
    if (nonce < account.nonce) {
      throw gatewayFault("NONCE_TOO_LOW", `nonce too low: next nonce ${account.nonce}, tx nonce ${nonce}`);
    }
    const ahead = this.pendingNonce(toHex(sender), account.nonce) + NONCES_AHEAD_MAX;
    if (nonce > ahead) {
      throw gatewayFault("NONCE_TOO_HIGH", `nonce too high: at most ${ahead}, tx nonce ${nonce}`, {
        limit: ahead.toString(),
      });
    }
    if (account.balanceWei < neededWei) throw gatewayFault("UNDERFUNDED");
    return { sender, nonce };
  }

  /** Refused here rather than ignored by tally, when nobody can change it any more. */
  #checkAuthorisation(transaction: SentTransaction, refund: RefundAuthorisation | undefined): void {
    const { chainId, tally } = this.#options.config;
    const domain = settlementDomain(chainId, tally.content.settlement);
    if (refund !== undefined && !refundRecipient(domain, transaction, refund).authorised) {
      throw gatewayFault("BAD_AUTHORISATION");
    }
  }

  /** A transaction that has never left this gateway gives way to a newer one with its nonce. */
  #replace(by: Submission): void {
    for (const entry of this.#live.values()) {
      const { submission } = entry;
      if (submission.slot !== 0n || submission.status !== "pending" || submission.nonce !== by.nonce) continue;
      if (toHex(submission.sender) === toHex(by.sender))
        void this.#change(entry, { status: "failed", reason: "replaced by a newer transaction with its nonce" });
    }
  }

  /** A place that is free, or that of the settled submission which was taken first. @throws Fault QUEUE_FULL */
  #freePlace(): number {
    const { pendingMax, settledKept = SETTLED_KEPT } = this.#options;
    if (this.#entries.size - this.#live.size >= settledKept) {
      for (const [hash, { place }] of this.#entries) {
        if (this.#live.has(hash) || this.#taking.has(hash)) continue;
        this.#entries.delete(hash);
        this.#freePlaces.push(place);
        break;
      }
    }
    const free = this.#freePlaces.pop();
    if (free !== undefined) return free;
    // What is in a broadcast waits for a block and holds a place as well.
    if (this.#places >= settledKept + 2 * pendingMax) throw gatewayFault("QUEUE_FULL");
    this.#places += 1;
    return this.#places - 1;
  }

  #keep(entry: Entry): void {
    this.#entries.set(entry.hash, entry);
    if (isLive(entry.submission)) this.#live.set(entry.hash, entry);
  }

  /** Changes a submission in memory at once, and on disk soon after: a crash between repeats a step, and loses none. */
  #change(entry: Entry, change: Partial<Submission>): Promise<void> {
    entry.submission = { ...entry.submission, ...change };
    if (isLive(entry.submission)) this.#live.set(entry.hash, entry);
    else this.#live.delete(entry.hash);
    return this.#store
      .put(entry.place, entry.submission)
      .catch((error: unknown) => this.#options.log.error("the journal failed", problemFields(error)));
  }

  /**
   * The next message for a client that may talk in the round of `slot`, sealed for it; undefined: send cover. Never
   * throws: whatever happens here, the client must answer the round.
   */
  async next(slot: bigint): Promise<OutgoingMessage | undefined> {
    const { config, rosters, random, log } = this.#options;
    const { sealingKey, epoch } = rosters.at("unseal", slot);
    if (sealingKey === undefined) return undefined;
    this.#expire(slot);
    for (let entry = this.#pick(slot); entry !== undefined; entry = this.#pick(slot)) {
      const { raw, disclosure, refund } = entry.submission;
      const messageId = random(MESSAGE_ID_BYTES);
      try {
        const content = { version: 1, rawTransaction: raw, refund, disclosure } as const;
        const sealed = sealMessage({ config, sealingKey, epoch, slot, messageId, content, random });
        await this.#change(entry, { status: "sent", slot, messageId });
        return { messageId, receiptKey: random(32), token: new Uint8Array(), sealed };
      } catch (error) {
        log.error("a submission could not be sealed", problemFields(error));
        await this.#change(entry, { status: "failed", reason: "it could not be sealed" });
      }
    }
    return undefined;
  }

  /** Gives up what, sealed for the round of `slot`, might be carried beyond the last slot its sender allows. */
  #expire(slot: bigint): void {
    const latest = slot + BigInt(this.#options.config.atelier.content.carrySlots);
    for (const entry of this.#live.values()) {
      const { status, untilSlot } = entry.submission;
      if (status !== "pending" || untilSlot === undefined || latest <= untilSlot) continue;
      void this.#change(entry, { status: "failed", reason: "its maximum block number came too near" });
    }
  }

  /**
   * Who goes next: first come, first served; but of one account the lowest nonce first, and never in an earlier round
   * than a nonce before it.
   */
  #pick(slot: bigint): Entry | undefined {
    const senders = new Map<string, { lowest: Entry | undefined; sent: Submission[] }>();
    for (const entry of this.#live.values()) {
      const { submission } = entry;
      const key = toHex(submission.sender);
      const sender = senders.get(key) ?? { lowest: undefined, sent: [] };
      if (submission.status !== "pending") sender.sent.push(submission);
      else if (sender.lowest === undefined || submission.nonce < sender.lowest.submission.nonce) sender.lowest = entry;
      senders.set(key, sender);
    }
    // Maps keep the order of first insertion: the sender whose oldest live submission is oldest.
    let first: Entry | undefined;
    for (const { lowest, sent } of senders.values()) {
      if (lowest === undefined) continue;
      if (sent.some((earlier) => earlier.nonce < lowest.submission.nonce && earlier.slot > slot)) continue;
      if (first === undefined || lowest.submission.order < first.submission.order) first = lowest;
    }
    return first;
  }

  /** What became of an answer that one of this gateway's clients gave. */
  settled({ messageId, fate }: Settled): void {
    const entry = messageId === undefined ? undefined : this.#byMessage(messageId);
    if (entry?.submission.status !== "sent") return;
    void this.#change(entry, { status: fate === "delivered" ? "broadcast" : "pending" });
  }

  /** A certified Broadcast, with the ids of its messages: tells also what went out before this process started. */
  broadcast(slot: bigint, messageIds: readonly Uint8Array[]): void {
    const held = new Set(messageIds.map(toHex));
    for (const entry of this.#live.values()) {
      const { status, messageId, slot: sealedFor } = entry.submission;
      if (status !== "sent" || sealedFor !== slot || messageId === undefined) continue;
      void this.#change(entry, { status: held.has(toHex(messageId)) ? "broadcast" : "pending" });
    }
  }

  /**
   * A certified UnsealedRound. Messages that failed to open are told to their sender; a slot that was skipped is never
   * opened, so what was in it goes again.
   */
  unsealed(slot: bigint, kind: OutcomeKind, commitment: UnsealedCommitment | undefined): void {
    if (kind === "skipped") {
      for (const entry of this.#live.values()) {
        const { status, slot: sealedFor } = entry.submission;
        if (sealedFor === slot && status !== "pending") void this.#change(entry, { status: "pending" });
      }
      return;
    }
    for (const { messageId } of commitment?.messages ?? []) {
      const entry = this.#byMessage(messageId);
      if (entry?.submission.status === "sent") void this.#change(entry, { status: "broadcast" });
    }
    for (const { messageId, reason } of commitment?.failures ?? []) {
      const entry = this.#byMessage(messageId);
      if (entry !== undefined) void this.#change(entry, { status: "failed", reason: `the message was ${reason}` });
    }
  }

  #byMessage(messageId: Uint8Array): Entry | undefined {
    const wanted = toHex(messageId);
    for (const entry of this.#live.values()) {
      const { messageId: own } = entry.submission;
      if (own !== undefined && toHex(own) === wanted) return entry;
    }
    return undefined;
  }

  /** A block of the canonical chain. */
  landed(block: Pick<ChainBlock, "hash" | "transactions">): void {
    for (const hash of block.transactions) {
      const entry = this.#entries.get(hash);
      if (entry !== undefined) this.#land(entry, block.hash);
    }
  }

  #land(entry: Entry, blockHash: string): void {
    void this.#change(entry, { status: "landed", blockHash: fromHash(blockHash), passes: 0, reason: "" });
  }

  /** A block that a reorg took out of the chain: what was in it waits again, and goes again if it does not come back. */
  dropped(block: Pick<ChainBlock, "hash" | "transactions">): void {
    for (const hash of block.transactions) {
      const entry = this.#entries.get(hash);
      const { status, blockHash } = entry?.submission ?? {};
      if (entry === undefined || status !== "landed" || blockHash === undefined) continue;
      if (toHex(blockHash) === block.hash) void this.#change(entry, { status: "broadcast", blockHash: undefined });
    }
  }

  /**
   * What has not landed in time goes again, or is given up with a reason.
   * @param catchUp resolves once every block that the chain view showed before the call has been passed to `landed`
   * @throws Fault CHAIN_UNREACHABLE, RpcError; whatever was not decided is decided next time
   */
  async reconcile(currentSlot: bigint, catchUp: () => Promise<void>): Promise<void> {
    const { chain, config } = this.#options;
    const patience = BigInt(config.atelier.content.carrySlots) + 2n;
    const overdue = [...this.#live.values()].filter(
      ({ submission: { status, slot } }) => status !== "pending" && slot + patience < currentSlot,
    );
    const accounts = new Map<string, Account>();
    for (const { submission } of overdue) {
      const sender = toHex(submission.sender);
      if (!accounts.has(sender)) accounts.set(sender, await chain.account(`0x${sender}`));
    }
    if (overdue.length > 0) await catchUp();
    for (const entry of overdue) {
      const { submission } = entry;
      const account = accounts.get(toHex(submission.sender));
      if (account === undefined || !isOverdue(submission, currentSlot, patience)) continue;
      if (account.nonce > submission.nonce) await this.#nonceUsed(entry);
      else if (submission.status === "sent") await this.#change(entry, { status: "pending" });
      else if (submission.passes + 1 < PASSES_MAX)
        await this.#change(entry, { status: "pending", passes: submission.passes + 1 });
      else {
        const gap = account.nonce < submission.nonce ? `; the account's next nonce is ${account.nonce}` : "";
        await this.#change(entry, { status: "failed", reason: `not included after ${PASSES_MAX} broadcasts${gap}` });
      }
    }
    await this.#store.compact();
  }

  /** By this transaction, in a block that was not seen, or by another. */
  async #nonceUsed(entry: Entry): Promise<void> {
    const before = entry.submission;
    const blockHash = await this.#options.chain.landedIn(`0x${entry.hash}`);
    if (entry.submission !== before) return;
    if (blockHash !== undefined) this.#land(entry, blockHash);
    else await this.#change(entry, { status: "failed", reason: "another transaction used its nonce" });
  }
}

function isLive({ status }: Submission): boolean {
  return status === "pending" || status === "sent" || status === "broadcast";
}

function isOverdue({ status, slot }: Submission, currentSlot: bigint, patience: bigint): boolean {
  return (status === "sent" || status === "broadcast") && slot + patience < currentSlot;
}

const NOTHING: DisclosurePolicy = { hash: false, target: false, everything: false };

export const DISCLOSURES = ["nothing", "hash", "target", "everything"] as const;

/** The disclosure setting as words. */
export function disclosureOf(word: (typeof DISCLOSURES)[number]): DisclosurePolicy {
  switch (word) {
    case "nothing":
      return NOTHING;
    case "hash":
      return { ...NOTHING, hash: true };
    case "target":
      return { hash: true, target: true, everything: false };
    case "everything":
      return { hash: true, target: true, everything: true };
  }
}

/** @param hex 32 bytes, bare */
function fromHash(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, "hex"));
}

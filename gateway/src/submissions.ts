/**
 * Transactions entrusted to this gateway, from "journaled" to "in a block" or "given up, because".
 *
 * A submission is journaled before its hash is answered; then it is sealed freshly for each round it goes out with,
 * under a new message id, until a certified broadcast holds it and a block after that.
 */
import {
  bytes,
  type Codec,
  count,
  decode,
  encode,
  equalBytes,
  fixed,
  type Infer,
  literal,
  oneOf,
  optional,
  struct,
  text,
  toHex,
  u64,
} from "@lattice/organism/codec/codec.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Rosters } from "@lattice/organism/node/kit.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import { errorFields } from "@lattice/organism/observe/logger.ts";
import {
  DISCLOSURE_POLICY,
  type DisclosurePolicy,
  RAW_TRANSACTION_BYTES_MAX,
  type UnsealedCommitment,
} from "@lattice/organism/outcomes/unseal.ts";
import { MESSAGE_ID_BYTES } from "@lattice/organism/outcomes/zipnet.ts";
import type { Journal, Random } from "@lattice/organism/ports.ts";
import { contentSize, sealedSize, sealMessage } from "@lattice/unseal/client/seal.ts";
import { maxPayloadBytes, type OutgoingMessage, type Settled } from "@lattice/zipnet/client/zipnet-client.ts";
import { keccak256, parseTransaction, recoverTransactionAddress, type TransactionSerialized } from "viem";
import type { ChainReads } from "./chain-reads.ts";
import { gatewayFault } from "./faults.ts";

const SUBMISSION = struct({
  version: literal(1),
  raw: bytes(RAW_TRANSACTION_BYTES_MAX),
  sender: fixed(20),
  nonce: u64,
  disclosure: DISCLOSURE_POLICY as Codec<DisclosurePolicy>,
  status: oneOf("pending", "sent", "broadcast", "landed", "failed"),
  /** The slot it was last sealed for; 0 before. */
  slot: u64,
  messageId: optional(fixed(MESSAGE_ID_BYTES)),
  /** Times it was broadcast without landing. */
  passes: count,
  blockHash: optional(fixed(32)),
  reason: text(128),
});
export type Submission = Infer<typeof SUBMISSION>;

/** Broadcasts that a submission gets before it is given up. */
const PASSES_MAX = 3;
/** Settled submissions that are remembered for `GetSubmission`. */
const SETTLED_KEPT = 10_000;

export interface SubmissionBookOptions {
  readonly config: LatticeConfig;
  readonly rosters: Rosters;
  readonly journal: Journal;
  readonly chain: ChainReads;
  readonly random: Random;
  readonly log: Logger;
  readonly pendingMax: number;
}

export class SubmissionBook {
  readonly #options: SubmissionBookOptions;
  readonly #submissions = new Map<string, Submission>();

  constructor(options: SubmissionBookOptions) {
    this.#options = options;
    const index = options.journal.get("submissions");
    if (index === undefined) return;
    for (const hash of new TextDecoder().decode(index).split("\n")) {
      const stored = options.journal.get(`submission/${hash}`);
      if (stored === undefined) continue;
      const submission = decode(SUBMISSION, stored);
      // What was in flight when the process ended: sealed for a round whose fate this process will not learn.
      this.#submissions.set(hash, submission.status === "sent" ? { ...submission, status: "pending" } : submission);
    }
  }

  /** The largest raw transaction that fits a message. */
  get transactionBytesMax(): number {
    const empty = contentSize({ version: 1, rawTransaction: new Uint8Array(), refund: undefined, disclosure: NOTHING });
    return Math.min(maxPayloadBytes(this.#options.config) - sealedSize(empty), RAW_TRANSACTION_BYTES_MAX);
  }

  get(hash: string): Submission | undefined {
    return this.#submissions.get(hash);
  }

  counts(): Readonly<Record<Submission["status"], number>> {
    const counts = { pending: 0, sent: 0, broadcast: 0, landed: 0, failed: 0 };
    for (const { status } of this.#submissions.values()) counts[status] += 1;
    return counts;
  }

  /**
   * Takes a transaction over: checks it, journals it, and only then answers its hash.
   * @throws Fault TRANSACTION_…, WRONG_CHAIN, NONCE_TOO_LOW, UNDERFUNDED, QUEUE_FULL, CHAIN_UNREACHABLE
   */
  async take(raw: Uint8Array, disclosure: DisclosurePolicy): Promise<Uint8Array> {
    const limit = this.transactionBytesMax;
    if (raw.length > limit) {
      throw gatewayFault("TRANSACTION_TOO_LARGE", `${raw.length} bytes, at most ${limit}`, { limit: String(limit) });
    }
    const hash = keccak256(raw).slice(2);
    const known = this.#submissions.get(hash);
    if (known !== undefined && known.status !== "failed") return fromHash(hash);
    const { sender, nonce } = await this.#check(raw);
    const waiting = this.counts();
    if (waiting.pending + waiting.sent >= this.#options.pendingMax) throw gatewayFault("QUEUE_FULL");
    const submission: Submission = {
      version: 1,
      raw,
      sender,
      nonce,
      disclosure,
      status: "pending",
      slot: 0n,
      messageId: undefined,
      passes: 0,
      blockHash: undefined,
      reason: "",
    };
    await this.#save(hash, submission, true);
    return fromHash(hash);
  }

  async #check(raw: Uint8Array): Promise<{ sender: Uint8Array; nonce: bigint }> {
    const { config, chain } = this.#options;
    const serialized = `0x${toHex(raw)}` as TransactionSerialized;
    let parsed: ReturnType<typeof parseTransaction>;
    let sender: `0x${string}`;
    try {
      parsed = parseTransaction(serialized);
      sender = await recoverTransactionAddress({ serializedTransaction: serialized });
    } catch {
      throw gatewayFault("TRANSACTION_UNDECODABLE");
    }
    if (parsed.type === "eip4844" || parsed.type === "eip7702")
      throw gatewayFault("TRANSACTION_TYPE", `type ${parsed.type} is not carried`);
    if (parsed.chainId === undefined || BigInt(parsed.chainId) !== config.chainId) {
      throw gatewayFault("WRONG_CHAIN", `signed for chain ${parsed.chainId ?? "any"}`, {
        chain_id: config.chainId.toString(),
      });
    }
    const account = await chain.account(sender);
    const nonce = BigInt(parsed.nonce ?? 0);
    if (nonce < account.nonce)
      throw gatewayFault("NONCE_TOO_LOW", `nonce ${nonce}, the account is at ${account.nonce}`);
    const gasPrice = parsed.maxFeePerGas ?? parsed.gasPrice ?? 0n;
    const needed = (parsed.value ?? 0n) + (parsed.gas ?? 0n) * gasPrice;
    if (account.balanceWei < needed) throw gatewayFault("UNDERFUNDED");
    return { sender: fromHash(sender.slice(2)), nonce };
  }

  /** Journals one submission, and the list of all when it is new. */
  async #save(hash: string, submission: Submission, isNew = false): Promise<void> {
    this.#submissions.set(hash, submission);
    const { journal } = this.#options;
    if (isNew) this.#forgetOldest();
    await journal.put(`submission/${hash}`, encode(SUBMISSION, submission));
    if (isNew) await journal.put("submissions", new TextEncoder().encode([...this.#submissions.keys()].join("\n")));
  }

  #forgetOldest(): void {
    if (this.#submissions.size <= SETTLED_KEPT) return;
    for (const [hash, { status }] of this.#submissions) {
      if (status !== "landed" && status !== "failed") continue;
      this.#submissions.delete(hash);
      return;
    }
  }

  /** The next message for a client that may talk in the round of `slot`, sealed for it; undefined: send cover. */
  async next(slot: bigint): Promise<OutgoingMessage | undefined> {
    const { config, rosters, random } = this.#options;
    const sealingKey = rosters.unseal.sealingKey;
    if (sealingKey === undefined) return undefined;
    for (const [hash, submission] of this.#submissions) {
      if (submission.status !== "pending") continue;
      const messageId = random(MESSAGE_ID_BYTES);
      const sent: Submission = { ...submission, status: "sent", slot, messageId };
      this.#submissions.set(hash, sent);
      const sealed = sealMessage({
        config,
        sealingKey,
        epoch: rosters.unseal.epoch,
        slot,
        messageId,
        content: { version: 1, rawTransaction: submission.raw, refund: undefined, disclosure: submission.disclosure },
        random,
      });
      await this.#save(hash, sent);
      return { messageId, receiptKey: random(32), token: new Uint8Array(), sealed };
    }
    return undefined;
  }

  /** What became of an answer that one of this gateway's clients gave. */
  settled({ messageId, slot, fate }: Settled): void {
    if (messageId === undefined) return;
    const found = this.#byMessage(messageId);
    if (found === undefined || found.submission.status !== "sent") return;
    const status = fate === "delivered" ? "broadcast" : "pending";
    this.#saveSoon(found.hash, { ...found.submission, status, slot });
  }

  /** A certified UnsealedRound: messages that failed to open are told to their sender. */
  unsealed(commitment: UnsealedCommitment): void {
    for (const { messageId, reason } of commitment.failures) {
      const found = this.#byMessage(messageId);
      if (found !== undefined)
        this.#saveSoon(found.hash, { ...found.submission, status: "failed", reason: `message ${reason}` });
    }
  }

  #byMessage(messageId: Uint8Array): { hash: string; submission: Submission } | undefined {
    for (const [hash, submission] of this.#submissions) {
      if (submission.messageId !== undefined && equalBytes(submission.messageId, messageId))
        return { hash, submission };
    }
    return undefined;
  }

  #saveSoon(hash: string, submission: Submission): void {
    this.#save(hash, submission).catch((error: unknown) =>
      this.#options.log.error("the journal failed", errorFields(error)),
    );
  }

  /** Looks on the chain for what was broadcast; what has not landed in time goes again, or is given up with a reason. */
  async reconcile(currentSlot: bigint): Promise<void> {
    const { chain, config } = this.#options;
    const patience = BigInt(config.atelier.content.carrySlots) + 2n;
    for (const [hash, submission] of this.#submissions) {
      const stale = submission.status === "sent" && submission.slot + patience < currentSlot;
      if (submission.status !== "broadcast" && !stale) continue;
      const blockHash = await chain.landedIn(`0x${hash}`);
      if (blockHash !== undefined) {
        await this.#save(hash, { ...submission, status: "landed", blockHash: fromHash(blockHash.slice(2)) });
        continue;
      }
      if (submission.slot + patience >= currentSlot) continue;
      const { nonce } = await chain.account(`0x${toHex(submission.sender)}`);
      if (nonce > submission.nonce)
        await this.#save(hash, { ...submission, status: "failed", reason: "another transaction used its nonce" });
      else if (submission.passes + 1 >= PASSES_MAX) {
        await this.#save(hash, {
          ...submission,
          status: "failed",
          reason: `not included after ${PASSES_MAX} broadcasts`,
        });
      } else await this.#save(hash, { ...submission, status: "pending", passes: submission.passes + 1 });
    }
  }
}

const NOTHING: DisclosurePolicy = { hash: false, target: false, everything: false };

/** The disclosure setting as words. */
export function disclosureOf(word: "nothing" | "hash" | "target" | "everything"): DisclosurePolicy {
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

function fromHash(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, "hex"));
}

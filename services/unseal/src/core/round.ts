/**
 * From a Broadcast body and what its messages opened to, the slot's unsealed round: which message counts where the
 * same one stands twice, the order inside the slot, what is disclosed, and why a message failed.
 *
 * Deterministic: the slot key is unique, so honest members come to the same bytes.
 */
import { compareBytes, encode, fixed, struct, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { COMMITMENT_BYTES_MAX } from "@lattice/organism/committee/outcome.ts";
import { blake3, hash } from "@lattice/organism/crypto/hash.ts";
import { G1_BYTES, G2_BYTES } from "@lattice/organism/identity/lattice-config.ts";
import {
  contentHash,
  DISCLOSED,
  type Disclosed,
  MESSAGE_CONTENT,
  type MessageContent,
  RAW_TRANSACTION_BYTES_MAX,
  UNSEALED,
  UNSEALED_BODY,
  type UnsealedCommitment,
  type UnsealedMessage,
} from "@lattice/organism/outcomes/unseal.ts";
import { type BroadcastMessage, MESSAGE_ID_BYTES } from "@lattice/organism/outcomes/zipnet.ts";
import type { OpenedFact } from "./codec.ts";
import { transactionFacts } from "./transaction.ts";
import type { Freeze } from "./types.ts";

/** The largest content a body carries. */
const CONTENT_BYTES_MAX = RAW_TRANSACTION_BYTES_MAX + 512;
/** Leaves the fact, which carries the commitment and a hash, below its own limit. */
const COMMITMENT_BUDGET = COMMITMENT_BYTES_MAX - 1024;
const HEAD_BYTES = 128;
const DISCLOSED_NOTHING: Disclosed = {
  hash: undefined,
  to: undefined,
  selector: undefined,
  rawTransaction: undefined,
};
const MESSAGE_BYTES = MESSAGE_ID_BYTES + 32 + encode(DISCLOSED, DISCLOSED_NOTHING).length;
const FAILURE_BYTES = MESSAGE_ID_BYTES + 1;

type Failure = UnsealedCommitment["failures"][number];

/** Where the ciphertext point U stands in a sealed payload: after the version byte. */
function headOf(sealed: Uint8Array): Uint8Array {
  return sealed.subarray(1, 1 + G1_BYTES);
}

/** The messages to open, by ascending cell, and those that only repeat one (same message id and U). */
export function distinctMessages(body: readonly BroadcastMessage[]): {
  readonly messages: readonly BroadcastMessage[];
  readonly repeats: readonly BroadcastMessage[];
} {
  const seen = new Set<string>();
  const messages: BroadcastMessage[] = [];
  const repeats: BroadcastMessage[] = [];
  for (const message of [...body].sort((a, b) => a.cell - b.cell)) {
    const key = toHex(message.messageId) + toHex(headOf(message.sealed));
    (seen.has(key) ? repeats : messages).push(message);
    seen.add(key);
  }
  return { messages, repeats };
}

const ORDER = struct({ slotKey: fixed(G2_BYTES), messageId: fixed(MESSAGE_ID_BYTES) });

/** H/"lattice/unseal/order/v1"(slot key, message id): messages of a slot stand in ascending order of this. */
export function orderKey(slotKey: Uint8Array, messageId: Uint8Array): Uint8Array {
  return hash("lattice/unseal/order/v1", ORDER, { slotKey, messageId });
}

/** One message and what it opened to; no content when it is not a valid ciphertext of this slot and id. */
export interface OpenedMessage {
  readonly message: BroadcastMessage;
  readonly content: Uint8Array | undefined;
}

export interface UnsealedRound {
  readonly commitment: UnsealedCommitment;
  /** Canonical UNSEALED_BODY; absent when no message opened. */
  readonly body: Uint8Array | undefined;
  /** The cells of the commitment's messages, in their order. */
  readonly cells: readonly number[];
  readonly fact: OpenedFact;
}

/** What the sender allows, of what his bytes say. */
export function disclosedOf(content: MessageContent): Disclosed {
  const { disclosure, rawTransaction } = content;
  const { everything } = disclosure;
  if (!everything && !disclosure.hash && !disclosure.target) return DISCLOSED_NOTHING;
  const facts = transactionFacts(rawTransaction);
  return {
    hash: everything || disclosure.hash ? facts.hash : undefined,
    to: everything || disclosure.target ? facts.to : undefined,
    selector: everything || disclosure.target ? facts.selector : undefined,
    rawTransaction: everything ? rawTransaction : undefined,
  };
}

/** Puts the slot's round together. `opened` and `repeats` as `distinctMessages` gave them. */
export function assembleRound(
  freeze: Pick<Freeze, "broadcast" | "blind">,
  slotKey: Uint8Array,
  opened: readonly OpenedMessage[],
  repeats: readonly BroadcastMessage[],
): UnsealedRound {
  const valid = new Map<
    string,
    { messageId: Uint8Array; content: Uint8Array; cell: number; disclosed: Disclosed; order: Uint8Array }
  >();
  const failed: { cell: number; failure: Failure }[] = [];
  const fail = ({ cell, messageId }: BroadcastMessage, reason: Failure["reason"]): void => {
    failed.push({ cell, failure: { messageId, reason } });
  };
  for (const message of repeats) fail(message, "duplicate");
  const byCell = [...opened].sort((a, b) => a.message.cell - b.message.cell);
  for (const { message, content } of byCell) {
    const { messageId, cell } = message;
    if (content === undefined) {
      fail(message, "malformed");
      continue;
    }
    if (content.length > CONTENT_BYTES_MAX) {
      fail(message, "too-large");
      continue;
    }
    const parsed = tryDecode(MESSAGE_CONTENT, content);
    if (parsed === undefined) {
      fail(message, "not-content");
      continue;
    }
    const key = toHex(messageId);
    // A message id names one message of the slot: bids refer to it. The lowest cell has it.
    if (valid.has(key)) fail(message, "duplicate");
    else {
      const order = orderKey(slotKey, messageId);
      valid.set(key, { messageId, content, cell, disclosed: disclosedOf(parsed), order });
    }
  }
  const ordered = [...valid.values()].sort((a, b) => compareBytes(a.order, b.order));

  // What does not fit into a commitment: first disclosures go, from the end; then messages fail, from the end.
  let left = COMMITMENT_BUDGET - HEAD_BYTES;
  const kept = ordered.slice(0, Math.floor(left / MESSAGE_BYTES));
  left -= kept.length * MESSAGE_BYTES;
  failed.sort((a, b) => a.cell - b.cell);
  const failures = failed.map(({ failure }) => failure);
  for (const { messageId } of ordered.slice(kept.length)) failures.push({ messageId, reason: "too-large" });
  failures.length = Math.min(failures.length, Math.floor(left / FAILURE_BYTES));
  left -= failures.length * FAILURE_BYTES;
  const messages = kept.map(({ messageId, content, disclosed }): UnsealedMessage => {
    const fitting = [disclosed, { ...disclosed, rawTransaction: undefined }, DISCLOSED_NOTHING];
    for (const candidate of fitting) {
      const extra = MESSAGE_ID_BYTES + 32 + encode(DISCLOSED, candidate).length - MESSAGE_BYTES;
      if (extra > left) continue;
      left -= extra;
      return { messageId, contentHash: contentHash(messageId, content), disclosed: candidate };
    }
    return { messageId, contentHash: contentHash(messageId, content), disclosed: DISCLOSED_NOTHING };
  });

  const commitment: UnsealedCommitment = {
    version: 1,
    broadcast: freeze.broadcast,
    blind: freeze.blind,
    messages,
    failures,
  };
  const body =
    kept.length === 0
      ? undefined
      : encode(
          UNSEALED_BODY,
          kept.map(({ messageId, content }) => ({ messageId, content })),
        );
  const bodyHash = body === undefined ? undefined : blake3(body);
  return {
    commitment,
    body,
    cells: kept.map(({ cell }) => cell),
    fact: { version: 1, commitment: encode(UNSEALED, commitment), bodyHash },
  };
}

/** The commitment of a slot in which nobody broadcast anything. */
export function emptyRound(broadcast: Uint8Array, blind: Uint8Array | undefined): Uint8Array {
  return encode(UNSEALED, { version: 1, broadcast, blind, messages: [], failures: [] });
}

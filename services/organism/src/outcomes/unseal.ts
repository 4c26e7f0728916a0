/** What unseal publishes: one unsealed round a slot, and for landed messages how to check them. Canonical formats. */
import {
  bool,
  bytes,
  type Codec,
  fixed,
  type Infer,
  list,
  literal,
  oneOf,
  optional,
  struct,
  u64,
} from "../codec/codec.ts";
import { hash } from "../crypto/hash.ts";

export const UNSEAL_STAGES = ["unsealed"] as const;

/** The largest raw transaction a message may carry: the public pool's own limit. */
export const RAW_TRANSACTION_BYTES_MAX = 128 * 1024;

/** What a sender lets searchers know about his transaction before it is on chain. */
export const DISCLOSURE_POLICY = struct({
  hash: bool,
  /** Recipient and four-byte selector. */
  target: bool,
  everything: bool,
});
export type DisclosurePolicy = Infer<typeof DISCLOSURE_POLICY>;

/** Where refunds go instead of to the transaction's recovered sender, when the signature is that sender's (EIP-712). */
export const REFUND_AUTHORISATION = struct({
  recipient: fixed(20),
  /** r ‖ s ‖ v over `RefundAuthorisation(bytes32 transactionHash,address recipient)`. */
  signature: fixed(65),
});
export type RefundAuthorisation = Infer<typeof REFUND_AUTHORISATION>;

/** The plaintext inside a sealed payload. */
export const MESSAGE_CONTENT = struct({
  version: literal(1),
  rawTransaction: bytes(RAW_TRANSACTION_BYTES_MAX),
  refund: optional(REFUND_AUTHORISATION as Codec<RefundAuthorisation>),
  disclosure: DISCLOSURE_POLICY as Codec<DisclosurePolicy>,
});
export type MessageContent = Infer<typeof MESSAGE_CONTENT>;

/** What was in fact disclosed of one message. */
export const DISCLOSED = struct({
  hash: optional(fixed(32)),
  to: optional(fixed(20)),
  selector: optional(fixed(4)),
  rawTransaction: optional(bytes(RAW_TRANSACTION_BYTES_MAX)),
});
export type Disclosed = Infer<typeof DISCLOSED>;

export const UNSEALED_MESSAGE = struct({
  messageId: fixed(16),
  /** H/"lattice/unseal/content/v1"(message id, content bytes). */
  contentHash: fixed(32),
  disclosed: DISCLOSED as Codec<Disclosed>,
});
export type UnsealedMessage = Infer<typeof UNSEALED_MESSAGE>;

/** Commitment of stage `unsealed`. Messages in the slot's order: ascending H(slot key ‖ message id). */
export const UNSEALED = struct({
  version: literal(1),
  /** Digest of the Broadcast outcome that was opened. */
  broadcast: fixed(32),
  /** Digest of the BlindClosed outcome that stood before the freeze; absent after q NoBlind. Only bids under it are blind. */
  blind: optional(fixed(32)),
  messages: list(UNSEALED_MESSAGE as Codec<UnsealedMessage>, 65_536),
  failures: list(
    struct({ messageId: fixed(16), reason: oneOf("malformed", "duplicate", "not-content", "too-large") }),
    65_536,
  ),
});
export type UnsealedCommitment = Infer<typeof UNSEALED>;

/** Body of stage `unsealed`, in the same order as the commitment's messages. For admitted atelier members only. */
export const UNSEALED_BODY = list(
  struct({ messageId: fixed(16), content: bytes(RAW_TRANSACTION_BYTES_MAX + 512) }),
  65_536,
);

const CONTENT = struct({ messageId: fixed(16), content: bytes(RAW_TRANSACTION_BYTES_MAX + 512) });

export function contentHash(messageId: Uint8Array, content: Uint8Array): Uint8Array {
  return hash("lattice/unseal/content/v1", CONTENT, { messageId, content });
}

const IDENTITY = struct({ committee: fixed(32), epoch: u64, slot: u64 });

/** H/"lattice/unseal/id/v1"(committee, epoch, slot): the identity that the slot's messages are sealed to. */
export function unsealIdentity(committee: Uint8Array, epoch: bigint, slot: bigint): Uint8Array {
  return hash("lattice/unseal/id/v1", IDENTITY, { committee, epoch, slot });
}

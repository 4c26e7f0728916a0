/**
 * What wallets do with unseal: seal a message to a slot, and check afterwards what a landed ciphertext held. Pure but
 * for the randomness passed in. `initCrypto()` (`@lattice/organism/crypto/engine.ts`) must have resolved.
 */
import { concat, encode, equalBytes, tryDecode } from "@lattice/organism/codec/codec.ts";
import { IBE_OVERHEAD_BYTES, type IbeFailure, openWithSigma, sealIbe } from "@lattice/organism/crypto/ibe.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import {
  contentHash,
  MESSAGE_CONTENT,
  type MessageContent,
  unsealIdentity,
} from "@lattice/organism/outcomes/unseal.ts";
import { MESSAGE_ID_BYTES } from "@lattice/organism/outcomes/zipnet.ts";
import type { Random } from "@lattice/organism/ports.ts";

/** The identity suite of slot keys: hash to G2 under DST `LATTICE-UNSEAL-SLOT-V1_…`. */
export const SUITE = "unseal-slot";

/** Where a message belongs. A payload opens there and nowhere else. */
export interface MessagePlace {
  readonly config: LatticeConfig;
  /** 48 bytes, from `sealingKeyOf`. */
  readonly sealingKey: Uint8Array;
  readonly epoch: bigint;
  readonly slot: bigint;
  /** 16 fresh random bytes; clear in the cell beside the payload. */
  readonly messageId: Uint8Array;
}

/** Bytes of the payload of a message whose encoded content has `contentLength` bytes. */
export function sealedSize(contentLength: number): number {
  return contentLength + IBE_OVERHEAD_BYTES;
}

/** Bytes of an encoded content: what `sealedSize` wants. @throws CodecError when a field is out of its range */
export function contentSize(content: MessageContent): number {
  return encode(MESSAGE_CONTENT, content).length;
}

/** What a payload is bound to beside its identity: identity ‖ message id, 48 bytes. */
export function messageAad(identity: Uint8Array, messageId: Uint8Array): Uint8Array {
  if (messageId.length !== MESSAGE_ID_BYTES) throw new RangeError(`message id: ${MESSAGE_ID_BYTES} bytes expected`);
  return concat(identity, messageId);
}

/**
 * The sealed payload: version ‖ U ‖ V ‖ ciphertext. Fresh every time; never seal one message twice to one slot.
 * @throws CodecError when a field of the content is out of its range, RangeError for a key that is none
 */
export function sealMessage(
  options: MessagePlace & { readonly content: MessageContent; readonly random: Random },
): Uint8Array {
  const { config, sealingKey, epoch, slot, messageId, content, random } = options;
  const identity = unsealIdentity(committeeId(config, "unseal"), epoch, slot);
  const aad = messageAad(identity, messageId);
  return sealIbe({ suite: SUITE, sealingKey, identity, aad, content: encode(MESSAGE_CONTENT, content), random });
}

export type VerifiedOpening =
  /** `message` is absent when the content is not a MESSAGE_CONTENT. */
  | { readonly content: Uint8Array; readonly message: MessageContent | undefined }
  /** `other-content`: σ opens the payload, but to something else than the certified commitment says. */
  | { readonly failure: IbeFailure | "other-content" };

/**
 * Checks what a ciphertext held, by σ alone: anybody can, with the Broadcast body (`sealed`), the certified
 * commitment (`contentHash`) and `GetOpening` (`sigma`). A σ can only be right or refused.
 */
export function verifyOpening(
  options: MessagePlace & {
    readonly sealed: Uint8Array;
    readonly sigma: Uint8Array;
    /** H(content) of the certified commitment, 32 bytes. */
    readonly contentHash: Uint8Array;
  },
): VerifiedOpening {
  const { config, sealingKey, epoch, slot, messageId, sealed, sigma } = options;
  const identity = unsealIdentity(committeeId(config, "unseal"), epoch, slot);
  const aad = messageAad(identity, messageId);
  const opened = openWithSigma({ suite: SUITE, sealingKey, identity, aad, sigma, sealed });
  if ("failure" in opened) return opened;
  const { content } = opened;
  if (!equalBytes(contentHash(messageId, content), options.contentHash)) return { failure: "other-content" };
  return { content, message: tryDecode(MESSAGE_CONTENT, content) };
}

/**
 * What participants say in a ceremony: one message of a kind, attempt and author, signed over its exact bytes under the
 * member key. A second, different one is a fault that anybody can prove with the two of them.
 */
import {
  bytes,
  type Codec,
  count,
  decode,
  encode,
  fixed,
  type Infer,
  list,
  literal,
  oneOf,
  optional,
  struct,
  text,
  union,
} from "../codec/codec.ts";
import { type SigningKey, signTagged, verifyTagged } from "../crypto/ed25519.ts";
import { hashBytes } from "../crypto/hash.ts";
import { G1_BYTES, G2_BYTES } from "../identity/lattice-config.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import { PROOF_BYTES } from "./commitments.ts";
import { KEYS_MAX, PARTICIPANTS_MAX } from "./plan.ts";
import { BOX_POINT_BYTES, BOX_PROOF_BYTES, BOX_TAG_BYTES } from "./share-box.ts";

export const CEREMONY_TAG = "lattice/ceremony/message/v1";
/** The phases that participants go through together. */
export const PHASES = ["enrol", "deal", "judge", "confirm"] as const;
export type Phase = (typeof PHASES)[number];

/** Opens: the key that shares are sealed to, and a hash of the commitments that this author will deal. */
const ENROL = struct({ boxKey: fixed(BOX_POINT_BYTES), commitment: fixed(32) });

const PART = struct({
  /** Position of the key in the plan. */
  key: count,
  /** The polynomial's coefficients times the generator, constant term first; as many as the key's threshold. */
  commitments: list(fixed(G1_BYTES), PARTICIPANTS_MAX),
  /** Knowledge of the constant term. */
  proof: fixed(PROOF_BYTES),
});
const BOX = struct({
  participant: count,
  /** 32 bytes a share, in the plan's order of keys, sealed. */
  sealed: bytes(KEYS_MAX * 32 + BOX_TAG_BYTES),
});
const DEAL = struct({
  parts: list(PART, KEYS_MAX),
  ephemeral: fixed(BOX_POINT_BYTES),
  ephemeralProof: fixed(BOX_PROOF_BYTES),
  boxes: list(BOX, PARTICIPANTS_MAX),
});
export type Deal = Infer<typeof DEAL>;

/** Opens one box to everybody. */
const COMPLAINT = struct({ dealer: count, shared: fixed(BOX_POINT_BYTES), proof: fixed(BOX_PROOF_BYTES) });
export type Complaint = Infer<typeof COMPLAINT>;

const CONFIRM = struct({
  transcript: fixed(32),
  /** Knowledge of this receiver's share of every key that it gets one of, in the plan's order. */
  holdings: list(struct({ key: count, proof: fixed(PROOF_BYTES) }), KEYS_MAX),
  /** The share of the signature by which the result is published. */
  publication: optional(fixed(G2_BYTES)),
});

export const COMMAND = union({
  enrol: ENROL,
  deal: DEAL as Codec<Deal>,
  /** Every box that was sealed to this author has been opened; these are bad. */
  verdict: struct({ complaints: list(COMPLAINT as Codec<Complaint>, PARTICIPANTS_MAX) }),
  confirm: CONFIRM,
  /** Nobody should wait longer in this phase. */
  close: struct({ phase: oneOf(...PHASES) }),
  /** This author takes no further part in the attempt. */
  abort: struct({ reason: text(200) }),
  /** Asks for the attempt that the message names, after the one before has failed. */
  retry: struct({}),
});
export type CeremonyCommand = Infer<typeof COMMAND>;

const BODY = struct({
  version: literal(1),
  ceremony: UNIQUE_ID,
  attempt: count,
  author: count,
  command: COMMAND as Codec<CeremonyCommand>,
});
export type CeremonyBody = Infer<typeof BODY>;

export const MESSAGE_BYTES_MAX = 64 * 1024;
const SIGNED = struct({ body: bytes(MESSAGE_BYTES_MAX), signature: fixed(64) });

export interface CeremonyMessage {
  readonly raw: Uint8Array;
  readonly bodyBytes: Uint8Array;
  readonly body: CeremonyBody;
  readonly signature: Uint8Array;
}

/** The signed message, ready for the log. */
export function signMessage(key: SigningKey, body: CeremonyBody): Uint8Array {
  const bodyBytes = encode(BODY as Codec<CeremonyBody>, body);
  return encode(SIGNED, { body: bodyBytes, signature: signTagged(key, CEREMONY_TAG, bodyBytes) });
}

/** @throws CodecError for anything but exactly one message */
export function decodeMessage(raw: Uint8Array): CeremonyMessage {
  const { body: bodyBytes, signature } = decode(SIGNED, raw);
  return { raw, bodyBytes, signature, body: decode(BODY as Codec<CeremonyBody>, bodyBytes) };
}

/** Total. */
export function isSignedBy(message: CeremonyMessage, memberKey: Uint8Array): boolean {
  return verifyTagged(memberKey, CEREMONY_TAG, message.bodyBytes, message.signature);
}

/** Identifies a message, whatever its signature bytes. */
export function messageHash(message: CeremonyMessage): Uint8Array {
  return hashBytes("lattice/ceremony/message-hash/v1", message.bodyBytes);
}

/** One of a kind: `enrol`, `deal`, `verdict`, `confirm`, `close/judge`, `abort`, `retry`. */
export function kindOf(command: CeremonyCommand): string {
  return command.type === "close" ? `close/${command.phase}` : command.type;
}

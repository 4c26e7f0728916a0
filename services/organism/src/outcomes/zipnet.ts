/** What zipnet publishes: certified round headers, and one broadcast (or abort) a slot. Canonical formats. */
import { bytes, type Codec, count, fixed, type Infer, list, literal, oneOf, struct, u64 } from "../codec/codec.ts";
import { hash } from "../crypto/hash.ts";

/** Stages of a slot, in order. */
export const ZIPNET_STAGES = ["header", "broadcast"] as const;

export const MESSAGE_ID_BYTES = 16;

/** A server's key for clients, signed by its operator's root key with a serial and a slot range. */
export const SERVER_KEY = struct({
  member: count,
  /** The operator's Ed25519 root key; must be the one pinned in the config at this member index. */
  operator: fixed(32),
  /** X25519. */
  key: fixed(32),
  serial: u64,
  fromSlot: u64,
  toSlot: u64,
  /** Ed25519 by the operator over H/"lattice/zipnet/server-key/v1"(committee, member, key, serial, range). */
  signature: fixed(64),
});
export type ServerKey = Infer<typeof SERVER_KEY>;

/** Commitment of stage `header`: all a client needs to decide whether and what to answer. */
export const ROUND_HEADER = struct({
  version: literal(1),
  /** Counts opened headers; the ratchet index of everybody in the round. */
  rho: u64,
  slot: u64,
  subround: count,
  cells: count,
  cellBytes: count,
  segments: count,
  mode: oneOf("one-shot", "scheduled"),
  /** Hash over the sorted client roster, and its size. */
  clientsRoot: fixed(32),
  clientsCount: count,
  servers: list(SERVER_KEY as Codec<ServerKey>, 16),
  openMs: u64,
  closeMs: u64,
});
export type RoundHeader = Infer<typeof ROUND_HEADER>;

/** The salt of every pad of the round: binds pads to the whole header. */
export function headerDigest(committee: Uint8Array, header: RoundHeader): Uint8Array {
  return hash(
    "lattice/zipnet/header/v1",
    struct({ committee: fixed(32), header: ROUND_HEADER as Codec<RoundHeader> }),
    {
      committee,
      header,
    },
  );
}

/** Commitment of stage `broadcast`. */
export const BROADCAST = struct({
  version: literal(1),
  rho: u64,
  headerDigest: fixed(32),
  participants: count,
  messages: count,
});
export type BroadcastCommitment = Infer<typeof BROADCAST>;

/** The largest sealed payload that fits any cell run. */
export const SEALED_BYTES_MAX = 132 * 1024;

/** One anonymous message as it came out of its cell. */
export const BROADCAST_MESSAGE = struct({
  cell: count,
  messageId: fixed(MESSAGE_ID_BYTES),
  receiptKey: fixed(32),
  token: bytes(512),
  /** Sealed payload (protocols.md §2). */
  sealed: bytes(SEALED_BYTES_MAX),
});
export type BroadcastMessage = Infer<typeof BROADCAST_MESSAGE>;

/** Body of stage `broadcast`: messages by ascending cell. Public at once: everything in it is sealed. */
export const BROADCAST_BODY = list(BROADCAST_MESSAGE as Codec<BroadcastMessage>, 65_536);

/**
 * The key that a client shares with one server, as a ratchet (protocols.md §1, "Keys").
 *
 * `ratchet(0) = HKDF-SHA256(dh; committee id; client id, operator, serial)` belongs to the first round header opened
 * after the registration; every opened header takes it one step on. The step is one-way, so that what a server or a
 * client holds today says nothing about pads of yesterday. A round key hangs on the digest of the whole certified
 * header: whoever was shown another header has other pads, and the round gives noise.
 */
import { encode, fixed, struct, u64 } from "@lattice/organism/codec/codec.ts";
import { hkdf } from "@lattice/organism/crypto/hkdf.ts";
import { hmacSha256 } from "./hmac.ts";

/** Length of ratchet values and round keys. */
export const RATCHET_BYTES = 32;
/** How far a ratchet is taken on at once: half a second of work. Whoever is further behind registers again. */
export const STEPS_MAX = 100_000n;

/** Whom a ratchet belongs to. */
export interface Relation {
  /** COMMITTEE id, 32 bytes. */
  readonly committee: Uint8Array;
  /** Client id, 32 bytes. */
  readonly client: Uint8Array;
  /** The server operator's Ed25519 root key, 32 bytes. */
  readonly operator: Uint8Array;
  /** Serial of the server key that was used. */
  readonly serial: bigint;
}

const INFO = struct({ client: fixed(32), operator: fixed(32), serial: u64 });
const STEP = Buffer.from("zipnet/ratchet/v1");
const ROUND = Buffer.from("zipnet/round/v1");

/** ratchet(0) from the 32-byte X25519 secret. */
export function initialRatchet(secret: Uint8Array, { committee, client, operator, serial }: Relation): Uint8Array {
  return hkdf(committee, secret, encode(INFO, { client, operator, serial }), RATCHET_BYTES);
}

/** One step on: HMAC-SHA256(ratchet, "zipnet/ratchet/v1"). */
export function nextRatchet(ratchet: Uint8Array): Uint8Array {
  return hmacSha256(ratchet, STEP);
}

/** `steps` steps on; undefined when that is backwards or beyond STEPS_MAX. */
export function advanceRatchet(ratchet: Uint8Array, steps: bigint): Uint8Array | undefined {
  if (steps < 0n || steps > STEPS_MAX) return undefined;
  let value: Uint8Array = new Uint8Array(ratchet);
  for (let step = 0n; step < steps; step++) value = nextRatchet(value);
  return value;
}

/** The key of one round: HMAC-SHA256(ratchet_ρ, "zipnet/round/v1" ‖ header digest), 32 bytes. */
export function roundKey(ratchet: Uint8Array, headerDigest: Uint8Array): Uint8Array {
  return hmacSha256(ratchet, ROUND, headerDigest);
}

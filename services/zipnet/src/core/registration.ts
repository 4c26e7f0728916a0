/** How a client becomes part of the roster: its keys, its id, and the check of what it sends (protocols.md §1, §7). */
import { bytes, count, encode, fixed, type Infer, list, literal, struct, u64 } from "@lattice/organism/codec/codec.ts";
import { TICKET_BYTES_MAX } from "@lattice/organism/committee/ticket.ts";
import { isSigningPublicKey, type SigningKey, signTagged, verifyTagged } from "@lattice/organism/crypto/ed25519.ts";
import { hash } from "@lattice/organism/crypto/hash.ts";
import { agreementKey, BadPublicKey, dh } from "@lattice/organism/crypto/x25519.ts";
import { type Refusal, refuse } from "@lattice/organism/machine.ts";

/** A client's public keys: Ed25519 for envelopes, and one fresh X25519 key per server, in member order. */
export const CLIENT_KEYS = struct({ envelopeKey: fixed(32), agreementKeys: list(fixed(32), 16) });
export type ClientKeys = Infer<typeof CLIENT_KEYS>;

export const REGISTRATION = struct({
  version: literal(1),
  envelopeKey: fixed(32),
  agreementKeys: list(fixed(32), 16),
  /** Serials of the server keys that the client agreed with, in member order. */
  serials: list(u64, 16),
  /** One ticket per admission rule of the lattice, in the config's order. */
  tickets: list(bytes(TICKET_BYTES_MAX), 16),
  /** By the envelope key over everything above and the committee. */
  signature: fixed(64),
});
export type Registration = Infer<typeof REGISTRATION>;

const ID = struct({ committee: fixed(32), envelopeKey: fixed(32), agreementKeys: list(fixed(32), 16) });

/** H/"lattice/zipnet/client/v1"(committee, envelope key, agreement keys): 32 bytes. */
export function clientId(committee: Uint8Array, { envelopeKey, agreementKeys }: ClientKeys): Uint8Array {
  return hash("lattice/zipnet/client/v1", ID, { committee, envelopeKey, agreementKeys });
}

const TAG = "lattice/zipnet/register/v1";
const SIGNED = struct({
  committee: fixed(32),
  envelopeKey: fixed(32),
  agreementKeys: list(fixed(32), 16),
  serials: list(u64, 16),
  tickets: list(bytes(TICKET_BYTES_MAX), 16),
});

type Unsigned = Omit<Registration, "version" | "signature">;

/** @param key the envelope key */
export function signRegistration(key: SigningKey, committee: Uint8Array, unsigned: Unsigned): Registration {
  return { version: 1, ...unsigned, signature: signTagged(key, TAG, encode(SIGNED, { committee, ...unsigned })) };
}

/** Any scalar tells points of small order from others: their product is zero. */
const PROBE = agreementKey(new Uint8Array(32).fill(0x2a));

/** False for X25519 public keys that agree on zero whatever the other side holds (RFC 7748 §6.1). */
export function isAgreementKey(publicKey: Uint8Array): boolean {
  try {
    dh(PROBE, publicKey);
    return true;
  } catch (error) {
    if (error instanceof BadPublicKey) return false;
    throw error;
  }
}

/** What is wrong with a registration by itself; tickets and serials are judged against state. */
export function checkRegistration(
  committee: Uint8Array,
  servers: number,
  registration: Registration,
): Refusal | undefined {
  const { envelopeKey, agreementKeys, serials, signature } = registration;
  if (agreementKeys.length !== servers || serials.length !== servers) {
    return refuse("BAD_KEY", `one agreement key and one serial for each of ${servers} servers expected`);
  }
  if (new Set(agreementKeys.map((key) => Buffer.from(key).toString("hex"))).size !== servers) {
    return refuse("BAD_KEY", "a fresh agreement key per server expected");
  }
  if (!isSigningPublicKey(envelopeKey)) return refuse("BAD_KEY", "the envelope key is not an Ed25519 key");
  if (!agreementKeys.every(isAgreementKey)) return refuse("BAD_KEY", "an agreement key is of small order");
  if (!verifyTagged(envelopeKey, TAG, encode(SIGNED, { committee, ...registration }), signature)) {
    return refuse("BAD_SIGNATURE", "the registration is not signed by its envelope key");
  }
  return undefined;
}

const ROSTER = struct({ committee: fixed(32), count: count, clients: list(fixed(32), 1_000_000) });

/** Root over a round's roster: client ids, ascending. */
export function rosterRoot(committee: Uint8Array, clients: readonly Uint8Array[]): Uint8Array {
  return hash("lattice/zipnet/roster/v1", ROSTER, { committee, count: clients.length, clients: [...clients] });
}

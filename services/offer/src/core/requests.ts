/** What searchers and escrow accounts sign besides bids: registrations, cancellations, questions after status. */
import {
  encode,
  equalBytes,
  fixed,
  type Infer,
  literal,
  struct,
  tryDecode,
  u64,
} from "@lattice/organism/codec/codec.ts";
import { hash } from "@lattice/organism/crypto/hash.ts";
import { recoverAddress } from "@lattice/organism/crypto/secp256k1.ts";

const REGISTRATION_TERMS = struct({
  version: literal(1),
  committee: fixed(32),
  account: fixed(20),
  searcher: fixed(20),
  /** The last slot for which the searcher may bid against the account. */
  untilSlot: u64,
});
export type RegistrationTerms = Infer<typeof REGISTRATION_TERMS>;

/** "The bids of this searcher may be charged to my escrow", signed by the account. */
export const REGISTRATION = struct({ terms: REGISTRATION_TERMS, signature: fixed(65) });
export type Registration = Infer<typeof REGISTRATION>;

/** What the account signs, 32 bytes. */
export function registrationDigest(terms: RegistrationTerms): Uint8Array {
  return hash("lattice/offer/register/v1", REGISTRATION_TERMS, terms);
}

const CANCEL_TERMS = struct({ version: literal(1), committee: fixed(32), slot: u64, bidId: fixed(32) });
export type CancelTerms = Infer<typeof CANCEL_TERMS>;

/** "My bid no longer takes part", signed by the bid's searcher. */
export const CANCEL = struct({ terms: CANCEL_TERMS, signature: fixed(65) });
export type Cancel = Infer<typeof CANCEL>;

export function cancelDigest(terms: CancelTerms): Uint8Array {
  return hash("lattice/offer/cancel/v1", CANCEL_TERMS, terms);
}

/** What a searcher signs to learn what became of its bid. */
export function statusDigest(terms: Omit<CancelTerms, "version">): Uint8Array {
  return hash("lattice/offer/status/v1", CANCEL_TERMS, { version: 1, ...terms });
}

export function encodeRegistration(registration: Registration): Uint8Array {
  return encode(REGISTRATION, registration);
}

export function parseRegistration(raw: Uint8Array): Registration | undefined {
  return tryDecode(REGISTRATION, raw);
}

export function encodeCancel(cancel: Cancel): Uint8Array {
  return encode(CANCEL, cancel);
}

export function parseCancel(raw: Uint8Array): Cancel | undefined {
  return tryDecode(CANCEL, raw);
}

/** Total: did `address` sign `digest`? */
export function isSignedBy(address: Uint8Array, digest: Uint8Array, signature: Uint8Array): boolean {
  const signer = recoverAddress(digest, signature);
  return signer !== undefined && equalBytes(signer, address);
}

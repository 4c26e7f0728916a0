/**
 * Envelopes: what one client sends in one round, talking or not. Journaled before it is sent; a retry is
 * byte-identical.
 *
 * The signature covers a tree root of the cells: the BLAKE3 hash of the vector, which is itself the root of a Merkle
 * tree over 1 KiB chunks (BLAKE3 specification §2.1), so that a slice can later be opened against it.
 */
import {
  bytes,
  encode,
  equalBytes,
  fixed,
  type Infer,
  list,
  literal,
  struct,
  u64,
} from "@lattice/organism/codec/codec.ts";
import { type SigningKey, signTagged, verifyTagged } from "@lattice/organism/crypto/ed25519.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { type Refusal, refuse } from "@lattice/organism/machine.ts";

/** The largest vector a config allows. */
export const VECTOR_BYTES_MAX = 8 << 20;

export const ENVELOPE = struct({
  version: literal(1),
  rho: u64,
  headerDigest: fixed(32),
  client: fixed(32),
  /** All cells, padded; `cells × cellBytes`. */
  vector: bytes(VECTOR_BYTES_MAX),
  /** One per server, in member order: `keyCommitment` of pads.ts. */
  commitments: list(fixed(32), 16),
  signature: fixed(64),
});
export type Envelope = Infer<typeof ENVELOPE>;

/** An envelope without its vector: what aggregators pass on beside the sum. */
export const PROOF = struct({ root: fixed(32), commitments: list(fixed(32), 16), signature: fixed(64) });
export type EnvelopeProof = Infer<typeof PROOF>;

const TAG = "lattice/zipnet/envelope/v1";
const SIGNED = struct({
  committee: fixed(32),
  rho: u64,
  headerDigest: fixed(32),
  client: fixed(32),
  root: fixed(32),
  commitments: list(fixed(32), 16),
});

/** Which round and client an envelope speaks for. */
export interface EnvelopeSubject {
  /** COMMITTEE id, 32 bytes. */
  readonly committee: Uint8Array;
  readonly rho: bigint;
  readonly headerDigest: Uint8Array;
  readonly client: Uint8Array;
}

/** @param key the client's envelope key */
export function sealEnvelope(
  key: SigningKey,
  subject: EnvelopeSubject,
  vector: Uint8Array,
  commitments: readonly Uint8Array[],
): Envelope {
  const signed = { ...subject, root: blake3(vector), commitments: [...commitments] };
  return {
    version: 1,
    rho: subject.rho,
    headerDigest: subject.headerDigest,
    client: subject.client,
    vector,
    commitments: signed.commitments,
    signature: signTagged(key, TAG, encode(SIGNED, signed)),
  };
}

/** True when the client signed exactly this. */
export function verifyProof(envelopeKey: Uint8Array, subject: EnvelopeSubject, proof: EnvelopeProof): boolean {
  const { root, commitments, signature } = proof;
  return verifyTagged(envelopeKey, TAG, encode(SIGNED, { ...subject, root, commitments }), signature);
}

/** What an aggregator keeps of a checked envelope. */
export function proofOf({ vector, commitments, signature }: Envelope): EnvelopeProof {
  return { root: blake3(vector), commitments, signature };
}

/** What is wrong with an envelope for this round, by shape: the signature comes after. */
export function checkEnvelope(
  round: {
    readonly rho: bigint;
    readonly headerDigest: Uint8Array;
    readonly vectorBytes: number;
    readonly servers: number;
  },
  envelope: Envelope,
): Refusal | undefined {
  if (envelope.rho !== round.rho) return refuse("WRONG_ROUND", `the envelope is for round ${envelope.rho}`);
  if (!equalBytes(envelope.headerDigest, round.headerDigest)) {
    return refuse("WRONG_ROUND", "the envelope answers another header");
  }
  if (envelope.vector.length !== round.vectorBytes) {
    return refuse("BAD_VECTOR", `${envelope.vector.length} bytes of vector, ${round.vectorBytes} expected`);
  }
  if (envelope.commitments.length !== round.servers) {
    return refuse("BAD_VECTOR", `${envelope.commitments.length} key commitments, ${round.servers} expected`);
  }
  return undefined;
}

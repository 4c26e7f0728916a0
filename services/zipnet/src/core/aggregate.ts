/** Aggregates: the XOR of many envelopes, who is in it, and what each of them signed. */
import {
  bytes,
  type Codec,
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
import { hash } from "@lattice/organism/crypto/hash.ts";
import { type Refusal, refuse } from "@lattice/organism/machine.ts";
import { type EnvelopeProof, PROOF, VECTOR_BYTES_MAX } from "./envelope.ts";

const CLIENTS_MAX = 1_000_000;

const FIELDS = {
  version: literal(1),
  slot: u64,
  rho: u64,
  headerDigest: fixed(32),
  /** One bit per client of the round's roster, least significant bit first. */
  participants: bytes(CLIENTS_MAX / 8),
  /** One per participant, in roster order. */
  proofs: list(PROOF as Codec<EnvelopeProof>, CLIENTS_MAX),
  /** XOR of the participants' vectors. */
  vector: bytes(VECTOR_BYTES_MAX),
  /** Ed25519 key of the aggregator that answers for it. */
  aggregator: fixed(32),
};
const UNSIGNED = struct(FIELDS);
export const AGGREGATE = struct({ ...FIELDS, signature: fixed(64) });
export type Aggregate = Infer<typeof AGGREGATE>;
export type UnsignedAggregate = Infer<typeof UNSIGNED>;

const TAG = "lattice/zipnet/aggregate/v1";
const SIGNED = struct({ committee: fixed(32), digest: fixed(32) });

/** Names an aggregate, whoever signed it: 32 bytes. */
export function aggregateDigest(aggregate: UnsignedAggregate): Uint8Array {
  return hash(TAG, UNSIGNED, aggregate);
}

export function signAggregate(key: SigningKey, committee: Uint8Array, unsigned: UnsignedAggregate): Aggregate {
  const digest = aggregateDigest(unsigned);
  return { ...unsigned, signature: signTagged(key, TAG, encode(SIGNED, { committee, digest })) };
}

export function verifyAggregate(committee: Uint8Array, aggregate: Aggregate): boolean {
  const signed = encode(SIGNED, { committee, digest: aggregateDigest(aggregate) });
  return verifyTagged(aggregate.aggregator, TAG, signed, aggregate.signature);
}

/** A bitmap over `size` clients with these indexes set. */
export function bitmapOf(indexes: Iterable<number>, size: number): Uint8Array {
  const bitmap = new Uint8Array(Math.ceil(size / 8));
  for (const index of indexes) bitmap[index >> 3] = (bitmap[index >> 3] ?? 0) | (1 << (index & 7));
  return bitmap;
}

/** The indexes that are set, ascending; undefined when the bitmap is not one over `size` clients. */
export function indexesOf(bitmap: Uint8Array, size: number): number[] | undefined {
  if (bitmap.length !== Math.ceil(size / 8)) return undefined;
  const indexes: number[] = [];
  for (let index = 0; index < bitmap.length * 8; index++) {
    if (((bitmap[index >> 3] ?? 0) & (1 << (index & 7))) === 0) continue;
    if (index >= size) return undefined;
    indexes.push(index);
  }
  return indexes;
}

/** What an aggregate is judged against. */
export interface AggregateRound {
  readonly slot: bigint;
  readonly rho: bigint;
  readonly headerDigest: Uint8Array;
  readonly clients: number;
  readonly servers: number;
  readonly vectorBytes: number;
}

/** What is wrong with an aggregate for this round, by shape; signatures come after. */
export function checkAggregate(round: AggregateRound, aggregate: Aggregate): Refusal | undefined {
  if (aggregate.slot !== round.slot || aggregate.rho !== round.rho) {
    return refuse("WRONG_ROUND", `the aggregate is for round ${aggregate.rho} of slot ${aggregate.slot}`);
  }
  if (!equalBytes(aggregate.headerDigest, round.headerDigest)) {
    return refuse("WRONG_ROUND", "the aggregate answers another header");
  }
  if (aggregate.vector.length !== round.vectorBytes) {
    return refuse("BAD_VECTOR", `${aggregate.vector.length} bytes of vector, ${round.vectorBytes} expected`);
  }
  const participants = indexesOf(aggregate.participants, round.clients);
  if (participants === undefined) return refuse("BAD_AGGREGATE", "the bitmap does not fit the round's roster");
  if (participants.length !== aggregate.proofs.length) {
    return refuse("BAD_AGGREGATE", `${aggregate.proofs.length} proofs for ${participants.length} participants`);
  }
  if (aggregate.proofs.some(({ commitments }) => commitments.length !== round.servers)) {
    return refuse("BAD_AGGREGATE", `one key commitment per server (${round.servers}) expected`);
  }
  return undefined;
}

/** Of two aggregates of a round the one that stands: more participants, then the lower digest. */
export function standsBefore(
  a: { readonly participants: number; readonly digest: Uint8Array },
  b: { readonly participants: number; readonly digest: Uint8Array },
): boolean {
  if (a.participants !== b.participants) return a.participants > b.participants;
  return Buffer.compare(a.digest, b.digest) < 0;
}

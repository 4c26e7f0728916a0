/** Canonical bytes of tally's commands, facts and state. */
import {
  type Codec,
  count,
  fixed,
  hex,
  list,
  literal,
  map,
  optional,
  struct,
  u64,
  u256,
  union,
} from "@lattice/organism/codec/codec.ts";
import { ECDSA_SIGNATURE_BYTES } from "@lattice/organism/crypto/secp256k1.ts";
import { CHARGE, type Charge } from "@lattice/organism/outcomes/tally.ts";
import { ATTESTATION, type Attestation } from "./attestation.ts";
import { LEDGER, type Ledger } from "./ledger.ts";
import type { CollectedCharge } from "./slot-attribution.ts";
import type {
  AttributedSlot,
  Batch,
  BlockReference,
  ChainFact,
  PostedEvent,
  TallyCommand,
  TallyState,
} from "./types.ts";

/** Collected charges and posted batches that one fact lists, at most; a reader shortens its range before it exceeds them. */
export const COLLECTED_MAX = 2048;
export const POSTED_MAX = 64;
/** Charges that wait for a batch, at most; beyond it the newest are forgone. */
export const CHARGES_WAITING_MAX = 65_536;
/** Charges remembered, so that none is asked for twice; beyond it the oldest are forgotten. */
export const CHARGED_MAX = 262_144;
/** Charges collected while no candidate lands. */
export const COLLECTED_WAITING_MAX = 65_536;
/** Closed batches kept for readers. */
export const BATCHES_KEPT = 16;

const HASH = fixed(32);
const SIGNATURE = fixed(ECDSA_SIGNATURE_BYTES);

export const COMMAND: Codec<TallyCommand> = union({ attestationShare: struct({ batch: u64, signature: SIGNATURE }) });

const BLOCK: Codec<BlockReference> = struct({ number: u64, hash: HASH });
const COLLECTED = struct({ bidId: HASH, wei: u256 }) as Codec<CollectedCharge>;

const FACT = struct({
  version: literal(1),
  standing: struct({ number: u64, hash: HASH, parentHash: HASH }),
  fromBlock: u64,
  scanned: BLOCK,
  collected: list(COLLECTED, COLLECTED_MAX),
  posted: list(struct({ batch: u64, root: HASH, total: u256, blockNumber: u64 }) as Codec<PostedEvent>, POSTED_MAX),
});
/** The fact under topic `chain`. */
export const CHAIN_FACT = FACT as Codec<ChainFact>;

const BATCH = struct({
  attestation: ATTESTATION as Codec<Attestation>,
  slot: u64,
  signatures: map(count, SIGNATURE, 16),
  signedAtMs: count,
  postedIn: u64,
}) as Codec<Batch>;

const BID_KEY = hex(32);
const SLOT = struct({ collected: list(COLLECTED, COLLECTED_WAITING_MAX), scanned: u64 }) as Codec<AttributedSlot>;

export const STATE = struct({
  next: u64,
  chain: optional(CHAIN_FACT),
  scanned: optional(BLOCK),
  landedNumber: u64,
  collected: list(COLLECTED, COLLECTED_WAITING_MAX),
  ledger: LEDGER,
  charges: list(CHARGE as Codec<Charge>, CHARGES_WAITING_MAX),
  charged: map(BID_KEY, u64, CHARGED_MAX),
  sinceBatch: count,
  postedBatch: u64,
  batches: list(BATCH, BATCHES_KEPT),
  openLedger: optional(LEDGER as Codec<Ledger>),
  postedLedger: optional(LEDGER as Codec<Ledger>),
  slots: map(u64, SLOT, 100_000),
}) as Codec<TallyState>;

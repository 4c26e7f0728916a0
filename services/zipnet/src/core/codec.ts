/** Canonical encodings of zipnet's state and commands. Old logs replay for ever: append only. */
import {
  bool,
  bytes,
  type Codec,
  count,
  fixed,
  list,
  literal,
  map,
  struct,
  text,
  u64,
  union,
} from "@lattice/organism/codec/codec.ts";
import {
  BROADCAST_BODY,
  ROUND_HEADER,
  type RoundHeader,
  SERVER_KEY,
  type ServerKey,
} from "@lattice/organism/outcomes/zipnet.ts";
import { AGGREGATE, type Aggregate } from "./aggregate.ts";
import { VECTOR_BYTES_MAX } from "./envelope.ts";
import { REGISTRATION, type Registration } from "./registration.ts";
import type { Client, Command, Round, State } from "./types.ts";

const CLIENTS_MAX = 1_000_000;

const CLIENT: Codec<Client> = struct({
  envelopeKey: fixed(32),
  agreementKeys: list(fixed(32), 16),
  id: fixed(32),
  serials: list(u64, 16),
  fromRho: u64,
  afterSlot: u64,
  expSlot: u64,
});

const HELD = struct({ author: count, digest: fixed(32), aggregate: AGGREGATE as Codec<Aggregate> });

const ROUND: Codec<Round> = struct({
  rho: u64,
  headerDigest: fixed(32),
  header: ROUND_HEADER as Codec<RoundHeader>,
  roster: list(fixed(32), CLIENTS_MAX),
  aggregates: list(HELD, 16),
  folded: bool,
  partials: map(count, bytes(VECTOR_BYTES_MAX), 16),
});

export const STATE: Codec<State> = struct({
  version: literal(1),
  rho: u64,
  lastSlot: u64,
  clients: map(text(64), CLIENT, CLIENTS_MAX),
  struck: map(text(64), u64, CLIENTS_MAX),
  servers: map(count, SERVER_KEY as Codec<ServerKey>, 16),
  rounds: map(u64, ROUND, 64),
  broadcasts: map(u64, BROADCAST_BODY, 64),
});

export const COMMAND: Codec<Command> = union({
  register: struct({ registration: REGISTRATION as Codec<Registration> }),
  serverKey: struct({ key: SERVER_KEY as Codec<ServerKey> }),
  openRound: struct({ slot: u64 }),
  aggregate: struct({ aggregate: AGGREGATE as Codec<Aggregate> }),
  partial: struct({ slot: u64, rho: u64, aggregate: fixed(32), vector: bytes(VECTOR_BYTES_MAX) }),
  withhold: struct({ slot: u64, rho: u64, aggregate: fixed(32), clients: list(fixed(32), CLIENTS_MAX) }),
});

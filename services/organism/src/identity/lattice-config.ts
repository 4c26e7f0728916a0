/**
 * `LatticeConfig`: everything an integrator must agree on with a lattice, in one canonical byte string.
 *
 * `latticeId = blake3("lattice/config/v1" ‖ canonical bytes)`. The hex of those bytes is the handshake: whoever
 * compiles it in can check every certificate the lattice ever issues. Content fingerprints fold whatever changes what
 * `apply` computes; ACL fingerprints fold who is admitted. Members, endpoints and secrets never go in.
 */
import {
  bool,
  bytes,
  type Codec,
  CodecError,
  concat,
  count,
  decode,
  encode,
  fixed,
  fromHex,
  type Infer,
  list,
  literal,
  oneOf,
  struct,
  text,
  toHex,
  u64,
  u256,
} from "../codec/codec.ts";
import { blake3, hashBytes } from "../crypto/hash.ts";
import { ORGANISMS, type Organism } from "./organisms.ts";
import { committeeIdOf, latticeRoot, organismRoot, type UniqueId } from "./unique-id.ts";

/** Compressed G1 point: a BLS public key in Ethereum's ciphersuite, or a sealing key. */
export const G1_BYTES = 48;
/** Compressed G2 point: a BLS signature, or the key of one identity. */
export const G2_BYTES = 96;
export const ADDRESS_BYTES = 20;

/** How many members a committee may have, how many of them may be corrupt, and its first certificate key. */
const POLICY = struct({
  membersMin: count,
  membersMax: count,
  /** `none`: f = 0; `third`: f = ⌊(n − 1) / 3⌋. The quorum follows: log.md §1. */
  faults: oneOf("none", "third"),
  certificateKey: fixed(G1_BYTES),
});

/** One admission rule. All rules of a list must pass (protocols.md §7). */
const ADMISSION = struct({
  kind: oneOf("jwt", "committee-secret", "tdx", "tpm2", "software", "build", "mock"),
  /** jwt: the issuer's 32-byte Ed25519 key. Others: as their issue defines them. */
  parameters: bytes(4096),
});
const ACL = list(ADMISSION, 16);

/** Times named `…Ms` count back from the start of the slot unless the name says `After`. */
const ZIPNET = struct({
  /** Cells in the message vector. */
  cells: count,
  /** Bytes in a cell. */
  cellBytes: count,
  /** Pad segments a round; each is encrypted under its own AES key once. */
  segments: count,
  mode: oneOf("one-shot", "scheduled"),
  clientsMax: count,
  /** The smallest number of participants a server will contribute a partial for. */
  participantsMin: count,
  /** One Ed25519 root key per server operator, in member order. */
  operators: list(fixed(32), 16),
  roundOpenMs: count,
  roundCloseMs: count,
  patienceMs: count,
  blameWindowSlots: count,
});
const UNSEAL = struct({
  threshold: count,
  sharesMs: count,
  poolMs: count,
  patienceMs: count,
  /** Slot s opens only if a certified candidate of some slot ≥ s − gapSlots was seen (log.md §5). */
  gapSlots: count,
  exposure: oneOf("members", "public"),
});
const OFFER = struct({
  threshold: count,
  blindCloseMs: count,
  seenCloseMs: count,
  patienceMs: count,
  rule: oneOf("first-price", "second-price"),
  reserveWei: u256,
  blindWinnersMax: count,
  seenWinnersMax: count,
  bidsPerSearcherMax: count,
  /** Plaintext size to which every bundle is padded, so that wire sizes are constant. */
  bundleBytes: count,
  settlement: fixed(ADDRESS_BYTES),
});
const ATELIER = struct({
  /** The builder's public key; the committee signs with its shares. */
  builderKey: fixed(G1_BYTES),
  candidateMs: count,
  patienceMs: count,
  /** The share of block gas that blind winners may claim, in basis points. */
  blindGasBps: count,
  carrySlots: count,
  settlement: fixed(ADDRESS_BYTES),
});
const RELAY = struct({
  policy: oneOf("l1-mev-boost", "l2-sequencer", "l2-leader-rotation"),
  /** Addresses whose signatures count as an acknowledgement. */
  sequencers: list(fixed(ADDRESS_BYTES), 16),
  /** How long after the slot's start an acknowledgement is waited for. */
  acceptedAfterMs: count,
  patienceMs: count,
});
const TALLY = struct({
  threshold: count,
  settlement: fixed(ADDRESS_BYTES),
  refundShareBps: count,
  attestEverySlots: count,
  /** Blocks on top after which a block counts as final. */
  finalityDepth: count,
  patienceMs: count,
});

const organismConfig = <T>(content: Codec<T>) => struct({ policy: POLICY, acl: ACL, content });

export const LATTICE_CONFIG = struct({
  version: literal(1),
  name: text(64),
  chainId: u64,
  /** Unix time in ms at which slot 0 starts. */
  genesisMs: count,
  slotMs: count,
  /** Slots in flight, at most. */
  pipelineDepth: count,
  /** A local or demonstration lattice: `mock` admission and dealt keys are allowed only here. */
  throwAway: bool,
  /** Where the group keys came from; shown wherever the identity is shown. */
  keys: oneOf("dealer", "ceremony"),
  zipnet: organismConfig(ZIPNET),
  unseal: organismConfig(UNSEAL),
  offer: organismConfig(OFFER),
  atelier: organismConfig(ATELIER),
  relay: organismConfig(RELAY),
  tally: organismConfig(TALLY),
});

export type LatticeConfig = Infer<typeof LATTICE_CONFIG>;
export type CommitteePolicy = Infer<typeof POLICY>;
export type AdmissionRule = Infer<typeof ADMISSION>;

/** A config that encodes, but cannot describe a lattice. All problems at once. */
export class ConfigProblems extends Error {
  override readonly name = "ConfigProblems";
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`lattice config: ${problems.join("; ")}`);
    this.problems = problems;
  }
}

/** Names for people, for file names and for the derivation: lower case, dots and dashes. */
const NAME = /^[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?$/;

/** Everything wrong with `config`, as readable lines; empty when it describes a lattice. */
export function configProblems(config: LatticeConfig): string[] {
  const problems: string[] = [];
  const check = (holds: boolean, problem: string): void => {
    if (!holds) problems.push(problem);
  };
  check(NAME.test(config.name), "name: 1 to 64 of a-z 0-9 . - expected, starting and ending with a letter or digit");
  check(config.chainId > 0n, "chainId: must be above 0");
  check(config.genesisMs > 0, "genesisMs: must be above 0");
  check(config.slotMs >= 200 && config.slotMs <= 60_000, "slotMs: 200 to 60000 expected");
  check(config.pipelineDepth >= 1 && config.pipelineDepth <= 16, "pipelineDepth: 1 to 16 expected");
  for (const organism of ORGANISMS) {
    const { policy, acl } = config[organism];
    const range = policy.membersMin >= 3 && policy.membersMin <= policy.membersMax && policy.membersMax <= 7;
    check(range, `${organism}.policy: 3 <= membersMin <= membersMax <= 7 expected`);
    check(
      config.throwAway || !acl.some((rule) => rule.kind === "mock"),
      `${organism}.acl: mock admission is for throw-away lattices only`,
    );
    const keys = acl.every(({ kind, parameters }) => kind !== "jwt" || parameters.length === 32);
    check(keys, `${organism}.acl: a jwt rule holds its issuer's 32-byte key`);
  }
  check(config.throwAway || config.keys === "ceremony", "keys: dealt keys are for throw-away lattices only");
  const { content: zipnet } = config.zipnet;
  check(zipnet.cells >= 1 && zipnet.cells <= 65_536, "zipnet.cells: 1 to 65536 expected");
  check(zipnet.cellBytes >= 256 && zipnet.cellBytes <= 131_072, "zipnet.cellBytes: 256 to 131072 expected");
  check(zipnet.cells * zipnet.cellBytes <= 8 << 20, "zipnet: a message vector above 8 MiB");
  check(zipnet.segments >= 1 && zipnet.segments <= 64, "zipnet.segments: 1 to 64 expected");
  check(zipnet.clientsMax >= 1 && zipnet.clientsMax <= 1_000_000, "zipnet.clientsMax: 1 to 1000000 expected");
  const participants = zipnet.participantsMin >= 1 && zipnet.participantsMin <= zipnet.clientsMax;
  check(participants, "zipnet.participantsMin: 1 to clientsMax expected");
  check(zipnet.roundOpenMs > zipnet.roundCloseMs, "zipnet: roundOpenMs must lie before roundCloseMs");
  const operators = new Set(zipnet.operators.map(toHex)).size;
  check(operators >= 3 && operators === zipnet.operators.length, "zipnet.operators: at least 3 different root keys");
  for (const organism of ["unseal", "offer", "tally"] as const) {
    const { threshold } = config[organism].content;
    const { membersMax } = config[organism].policy;
    check(threshold >= 2 && threshold <= membersMax, `${organism}.threshold: 2 to membersMax expected`);
  }
  check(config.unseal.content.sharesMs > config.unseal.content.poolMs, "unseal: sharesMs must lie before poolMs");
  const { content: offer } = config.offer;
  check(offer.blindCloseMs > offer.seenCloseMs, "offer: blindCloseMs must lie before seenCloseMs");
  check(offer.bundleBytes >= 256 && offer.bundleBytes <= 262_144, "offer.bundleBytes: 256 to 262144 expected");
  check(config.atelier.content.blindGasBps <= 10_000, "atelier.blindGasBps: at most 10000");
  check(config.tally.content.refundShareBps <= 10_000, "tally.refundShareBps: at most 10000");
  check(config.tally.content.attestEverySlots >= 1, "tally.attestEverySlots: must be at least 1");
  check(config.relay.content.sequencers.length >= 1, "relay.sequencers: at least one address expected");
  return problems;
}

/** Canonical bytes. @throws CodecError when a field is out of its range. */
export function encodeConfig(config: LatticeConfig): Uint8Array {
  return encode(LATTICE_CONFIG, config);
}

const CONFIG_TAG = new TextEncoder().encode("lattice/config/v1");

/** 32 bytes; the identity of the whole lattice. */
export function latticeId(config: LatticeConfig): UniqueId {
  return idOf(config, "lattice", () => blake3(concat(CONFIG_TAG, encodeConfig(config))));
}

/** A config is never changed, and its ids are asked for with every message. */
const IDS = new WeakMap<LatticeConfig, Map<string, UniqueId>>();

function idOf(config: LatticeConfig, name: string, make: () => UniqueId): UniqueId {
  const known = IDS.get(config) ?? new Map<string, UniqueId>();
  IDS.set(config, known);
  const id = known.get(name) ?? make();
  known.set(name, id);
  // A copy: nobody can spoil it for the others.
  return id.slice();
}

/** The handshake: lower-case hex of the canonical bytes. */
export function configToHex(config: LatticeConfig): string {
  return toHex(encodeConfig(config));
}

/**
 * The inverse of `configToHex`, exact: any trailing, missing or out-of-range byte is refused.
 * @throws CodecError or ConfigProblems
 */
export function configFromHex(hex: string): LatticeConfig {
  if (hex !== hex.toLowerCase() || hex.startsWith("0x")) throw new CodecError("", "lower-case hex expected, no prefix");
  const config = decode(LATTICE_CONFIG, fromHex(hex));
  const problems = configProblems(config);
  if (problems.length > 0) throw new ConfigProblems(problems);
  return config;
}

const CONTENT: { readonly [O in Organism]: Codec<LatticeConfig[O]["content"]> } = {
  zipnet: ZIPNET,
  unseal: UNSEAL,
  offer: OFFER,
  atelier: ATELIER,
  relay: RELAY,
  tally: TALLY,
};

/** The machine family of each organism: a change of what `apply` computes is a new family. */
export const FAMILIES: { readonly [O in Organism]: string } = {
  zipnet: "zipnet/1",
  unseal: "unseal/1",
  offer: "offer/1",
  atelier: "atelier/1",
  relay: "relay/1",
  tally: "tally/1",
};

const CLOCK = struct({ family: text(32), genesisMs: count, slotMs: count, pipelineDepth: count, policy: POLICY });

/** Folds what changes `apply` of this organism: family, slot clock, policy with its first key, content. */
export function contentFingerprint<O extends Organism>(config: LatticeConfig, organism: O): Uint8Array {
  const { policy, content } = config[organism];
  const { genesisMs, slotMs, pipelineDepth } = config;
  const shared = encode(CLOCK, { family: FAMILIES[organism], genesisMs, slotMs, pipelineDepth, policy });
  return hashBytes(
    "lattice/fingerprint/content/v1",
    concat(shared, encode<LatticeConfig[O]["content"]>(CONTENT[organism], content)),
  );
}

/** Folds who is admitted. */
export function aclFingerprint(config: LatticeConfig, organism: Organism): Uint8Array {
  return hashBytes("lattice/fingerprint/acl/v1", encode(ACL, config[organism].acl));
}

/** The id every entry, outcome, signature and RPC of this organism's committee binds. */
export function committeeId(config: LatticeConfig, organism: Organism): UniqueId {
  return idOf(config, organism, () => {
    const root = organismRoot(latticeRoot(config.name, config.chainId), organism);
    return committeeIdOf(root, contentFingerprint(config, organism), aclFingerprint(config, organism));
  });
}

/** slotStart(s) = genesisMs + s × slotMs, in Unix ms. */
export function slotStartMs(config: LatticeConfig, slot: bigint): number {
  return config.genesisMs + Number(slot) * config.slotMs;
}

/** The slot that is running at `nowMs`; 0 before genesis. */
export function slotAt(config: LatticeConfig, nowMs: number): bigint {
  return nowMs < config.genesisMs ? 0n : BigInt(Math.floor((nowMs - config.genesisMs) / config.slotMs));
}

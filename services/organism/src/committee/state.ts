/** The replicated state that all six committees share, around the organism's own. Canonical, bounded, without secrets. */
import {
  bool,
  bytes,
  type Codec,
  count,
  fixed,
  type Infer,
  list,
  literal,
  map,
  oneOf,
  optional,
  struct,
  text,
  u64,
} from "../codec/codec.ts";
import { G2_BYTES } from "../identity/lattice-config.ts";
import { FACT_BYTES_MAX } from "./commands.ts";
import { CHUNK_BYTES, CHUNKS_MAX, JOIN_BYTES_MAX } from "./entry.ts";
import { ERAS_MAX } from "./eras.ts";
import { CERTIFIED, type CertifiedOutcome, OUTCOME, type Outcome } from "./outcome.ts";
import { ROSTER, type Roster } from "./roster.ts";
import { RULES_SAID, RULES_STATE } from "./rules.ts";

/** Chain heads kept for judging what an author says it saw. */
export const HEADS_KEPT = 2048;
/** Decided slots kept below the lowest undecided one. */
export const SLOTS_KEPT = 40n;
/** A checkpoint is due after so many entries, or when the lowest undecided slot has come so far. */
export const CHECKPOINT_ENTRIES = 1024n;
export const CHECKPOINT_SLOTS = 16n;
/** Checkpoints that can still be voted on, the newest. */
export const CHECKPOINTS_KEPT = 4;
/** How far beyond the log's own slot a command may reach. */
export const WINDOW_AHEAD = 8n;
/** How far above what is kept one Skip may reach: no entry decides more slots than the state can hold. */
export const SKIP_SPAN = 4096n;
/**
 * What one author may say about one slot: closes of so many stages, facts of so many topics and so many bytes in all.
 * Counted per author, so that a corrupt one uses up its own share only.
 */
export const CLOSES_PER_AUTHOR = 8;
export const CLOSE_INPUTS_PER_AUTHOR = 2 * 65_536;
export const FACTS_PER_AUTHOR = 64;
export const FACT_BYTES_PER_AUTHOR = 1024 * 1024;
/** Rosters known at once: a new one is taken when the newest is active, and goes when its slots are forgotten. */
export const ROSTERS_MAX = 64;
/** Members a committee may have, as far as the encoding goes. */
const AUTHORS_MAX = 16;

const LANE = struct({ sequence: u64, previous: fixed(32) });
const AUTHOR = struct({
  /** The member key that admitted the incarnation. */
  memberKey: optional(fixed(32)),
  incarnation: u64,
  key: optional(fixed(32)),
  /** The raw Join that admitted the key: whoever catches its author at two voices needs it to prove it. */
  join: optional(bytes(JOIN_BYTES_MAX)),
  ctl: LANE,
  bulk: LANE,
  clockMs: u64,
  /** Chunks of a large command, until it is whole. */
  assembly: optional(struct({ digest: fixed(32), count: count, parts: list(bytes(CHUNK_BYTES), CHUNKS_MAX) })),
  /** Per stage: every undecided slot up to here may expire, says this member. */
  skips: map(text(32), u64, 8),
  /** Rules it can follow, since its Join. */
  rules: optional(RULES_SAID),
});
export type AuthorState = Infer<typeof AUTHOR>;

const STAGE_RECORD = struct({
  outcome: OUTCOME as Codec<Outcome>,
  /** True once q members have voted: further votes are passed over. */
  certified: bool,
  /** By member. Guests are not shown those of a certified outcome. */
  votes: map(count, fixed(G2_BYTES), AUTHORS_MAX),
});
const CLOSE_RECORD = struct({ done: bool, by: map(count, list(fixed(32), 65_536), AUTHORS_MAX) });
const CHECKPOINT_RECORD = struct({
  /** Whose shares certify it. */
  epoch: u64,
  rules: count,
  head: fixed(32),
  stateHash: fixed(32),
  stateBytes: count,
  guestHash: fixed(32),
  guestBytes: count,
  votes: map(count, fixed(G2_BYTES), AUTHORS_MAX),
});
export type CheckpointRecord = Infer<typeof CHECKPOINT_RECORD>;
const FACT_RECORD = struct({ agreed: bool, by: map(count, bytes(FACT_BYTES_MAX), AUTHORS_MAX) });
const SLOT_RECORD = struct({
  stages: map(text(32), STAGE_RECORD, 8),
  closes: map(text(32), CLOSE_RECORD, CLOSES_PER_AUTHOR * AUTHORS_MAX),
  facts: map(text(32), FACT_RECORD, FACTS_PER_AUTHOR * AUTHORS_MAX),
  /** Keyed `organism/stage`. */
  observed: map(text(64), CERTIFIED as Codec<CertifiedOutcome>, 16),
});
export type SlotRecord = Infer<typeof SLOT_RECORD>;
export type CloseRecord = Infer<typeof CLOSE_RECORD>;
export type FactRecord = Infer<typeof FACT_RECORD>;
export type StageRecord = Infer<typeof STAGE_RECORD>;

/** A key that has been proven to say two things. */
const BLOCKED = struct({
  memberKey: fixed(32),
  /** Whose it is in the roster of that epoch. */
  member: count,
  epoch: u64,
  kind: oneOf("entries", "votes"),
  /** Where the log says so. */
  position: u64,
  /** Names the proof; its bytes lie outside the state. */
  proof: fixed(32),
});
export type BlockedKey = Infer<typeof BLOCKED>;
/** Keys blocked over the life of a committee. */
export const BLOCKED_MAX = 1024;

const FIELDS = {
  /** What a member has, or what a guest is given (guest-view.ts). */
  view: oneOf("full", "guest"),
  generation: u64,
  /** Last position applied. */
  position: u64,
  rules: RULES_STATE,
  /** Heads at positions `position − heads.length + 1 … position`. */
  heads: list(fixed(32), HEADS_KEPT),
  logTimeMs: u64,
  authors: list(AUTHOR as Codec<AuthorState>, AUTHORS_MAX),
  /** In the order of the log. */
  blocked: list(BLOCKED as Codec<BlockedKey>, BLOCKED_MAX),
  /** Oldest first: those that slots held here belong to, and those to come. */
  rosters: list(ROSTER as Codec<Roster>, ROSTERS_MAX),
  /** Per stage: the lowest undecided slot. */
  floors: map(text(32), u64, 8),
  /** Everything below has been forgotten. */
  collapsedBelow: u64,
  slots: map(u64, SLOT_RECORD as Codec<SlotRecord>, 100_000),
  /** Position of the newest checkpoint, and the lowest undecided slot there; 0 before the first. */
  checkpointAt: u64,
  checkpointSlot: u64,
  /** By position. A checkpoint's own record comes into the state after its hash has been taken. */
  checkpoints: map(u64, CHECKPOINT_RECORD as Codec<CheckpointRecord>, CHECKPOINTS_KEPT),
};
const STATE_5 = struct({ version: literal(5), ...FIELDS });

/** Committees whose eras one committee follows: its own and what is upstream of it. */
const CHAINS_MAX = 6;
const LINKS = map(text(16), list(CERTIFIED as Codec<CertifiedOutcome>, ERAS_MAX), CHAINS_MAX);
const STATE_6 = struct({
  version: literal(6),
  ...FIELDS,
  eras: LINKS,
  eraWords: map(count, map(text(16), CERTIFIED as Codec<CertifiedOutcome>, CHAINS_MAX), AUTHORS_MAX),
});

export interface SharedState extends Omit<Infer<typeof STATE_5>, "version"> {
  /** By organism, this one and those upstream: the rosters that began eras there, oldest first (eras.ts). */
  eras: Map<string, CertifiedOutcome[]>;
  /** By member, then by organism: of which era upstream it told, where that is not settled yet. */
  eraWords: Map<number, Map<string, CertifiedOutcome>>;
}

/** Version 6 once there is any era but the first: a state without is what builds before rules 5 make of it. */
export const SHARED_STATE: Codec<SharedState> = {
  write(writer, { eras, eraWords, ...fields }) {
    const plain = eras.size === 0 && eraWords.size === 0;
    if (plain) STATE_5.write(writer, { version: 5, ...fields });
    else STATE_6.write(writer, { version: 6, ...fields, eras, eraWords });
  },
  read(reader) {
    if (reader.peek() !== 6) {
      const { version: _, ...fields } = STATE_5.read(reader);
      return { ...fields, eras: new Map(), eraWords: new Map() };
    }
    const { version: _, ...fields } = STATE_6.read(reader);
    // One form for one state.
    if (fields.eras.size === 0 && fields.eraWords.size === 0) reader.fail("version 5 expected where there is no era");
    return fields;
  },
};

export function emptyAuthor(): AuthorState {
  const lane = () => ({ sequence: 0n, previous: new Uint8Array(32) });
  return {
    memberKey: undefined,
    incarnation: 0n,
    key: undefined,
    join: undefined,
    ctl: lane(),
    bulk: lane(),
    clockMs: 0n,
    assembly: undefined,
    skips: new Map(),
    rules: undefined,
  };
}

export function emptySlot(): SlotRecord {
  return { stages: new Map(), closes: new Map(), facts: new Map(), observed: new Map() };
}

/** The chain head after a position, while it is kept. */
export function headAt({ position, heads }: SharedState, at: bigint): Uint8Array | undefined {
  const back = position - at;
  return back < 0n || back >= BigInt(HEADS_KEPT) ? undefined : heads.at(-1 - Number(back));
}

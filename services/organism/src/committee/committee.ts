/**
 * The committee layer: turns log messages into machine events, the same on every member.
 *
 * Pure: no clock, no I/O, no randomness. What a corrupt member, client or broker could put into the log is refused
 * here with a reason and without a change of state, except that the message still advances the chain head.
 */
import { CodecError, compareBytes, concat, decode, equalBytes, toHex } from "../codec/codec.ts";
import { blsVerify } from "../crypto/bls.ts";
import { verifyTagged } from "../crypto/ed25519.ts";
import { hashBytes } from "../crypto/hash.ts";
import { combineSignatures, ThresholdError } from "../crypto/threshold.ts";
import { invariant } from "../fault.ts";
import { committeeId, type LatticeConfig, slotAt } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import {
  type Context,
  type Decision,
  type Duty,
  type Machine,
  type MachineEvent,
  type Refusal,
  refuse,
  type View,
} from "../machine.ts";
import { type Checkpoint, checkpointDigest, guestHash, STATE_BYTES_MAX, stateHash } from "./checkpoint.ts";
import { type CommitteeCommand, decodeCommand } from "./commands.ts";
import {
  CHUNKS_MAX,
  ENTRY_TAG,
  type EntryBody,
  genesisHead,
  JOIN_BYTES_MAX,
  nextHead,
  type ReadEntry,
  readEntry,
  successionHead,
  ZERO_HASH,
} from "./entry.ts";
import { rosterAt, successorProblem } from "./epochs.ts";
import { type EraLinks, erasOf } from "./era-links.ts";
import { certificateKeyOf, type Era, type Eras, eraNumberOf, eraOfEpoch } from "./eras.ts";
import { fraudProofHash, verifyFraudProof } from "./fraud.ts";
import { decodeState, encodeGuestView, encodeState, lowestUndecided } from "./guest-view.ts";
import { type CertifiedOutcome, COMMITMENT_BYTES_MAX, checkOutcome, type Outcome, outcomeDigest } from "./outcome.ts";
import { checkRoster, type Quorum, type Roster, rosterQuorum } from "./roster.ts";
import {
  ACTIVATION_ENTRIES,
  agreedRules,
  ERAS,
  FIRST_RULES,
  NEWEST_CLOCKS,
  RULES,
  type RulePlan,
  type RuleRange,
  type RulesSaid,
  RulesUnknown,
  SHARES_TOGETHER,
  speaks,
} from "./rules.ts";
import {
  type AuthorState,
  BLOCKED_MAX,
  type BlockedKey,
  CHECKPOINT_ENTRIES,
  CHECKPOINT_SLOTS,
  CHECKPOINTS_KEPT,
  CLOSE_INPUTS_PER_AUTHOR,
  CLOSES_PER_AUTHOR,
  type CloseRecord,
  emptyAuthor,
  emptySlot,
  FACT_BYTES_PER_AUTHOR,
  FACTS_PER_AUTHOR,
  type FactRecord,
  HEADS_KEPT,
  type SharedState,
  SKIP_SPAN,
  SLOTS_KEPT,
  type SlotRecord,
  type StageRecord,
  WINDOW_AHEAD,
} from "./state.ts";

/** What one log message did. */
export interface Applied {
  readonly position: bigint;
  /** Who wrote it, when its signature says so. */
  readonly author: number | undefined;
  /** Identifies the entry to whoever appended it. */
  readonly entry: Uint8Array | undefined;
  /** As it was read, so that nobody reads it again; undefined for bytes that are no entry. */
  readonly read: ReadEntry | undefined;
  /** True when it took its place in its author's lane, whatever became of the command in it. */
  readonly landed: boolean;
  /** Why the command had no effect. */
  readonly refusal: Refusal | undefined;
  /** Stages decided by it, in order. */
  readonly decided: readonly Outcome[];
  /** Stages whose certificate became complete by it. */
  readonly certified: readonly Outcome[];
  /** The proof by which a key was blocked. */
  readonly fraud?: Uint8Array;
  /**
   * A checkpoint was due at this position: what to vote on, the state as it will be restored, and as guests get it. A
   * guest's own `stateHash` is not what members certify.
   */
  readonly checkpoint?: { readonly checkpoint: Checkpoint; readonly state: Uint8Array; readonly guest: Uint8Array };
  /** The roster of an epoch to come was taken up by this entry. */
  readonly announced?: CertifiedOutcome;
  /** An era begins with the roster announced, or enough members have told of one upstream. */
  readonly era?: { readonly organism: Organism; readonly era: Era; readonly link: CertifiedOutcome };
  /** A quorum can follow these rules: they govern from that position on, if it still can there. */
  readonly planned?: RulePlan;
  /** From this entry on these rules govern. */
  readonly activated?: number;
  /** Its certificate became complete by this entry. */
  readonly certifiedCheckpoint?: Checkpoint;
  /** Members that signed another state than this one at a checkpoint. */
  readonly dissent?: Dissent;
  /** Shares that turned out to be none, and count no more: by this entry, or taken with an earlier one. */
  readonly badShares?: readonly BadShare[];
}

export interface BadShare {
  readonly author: number;
  /** Of what it was to be a share, for people. */
  readonly what: string;
}

/** Members that agree with each other about a checkpoint, and not with this replica. */
export interface Dissent {
  readonly position: bigint;
  /** What they signed. */
  readonly stateHash: Uint8Array;
  /** Ascending. */
  readonly authors: readonly number[];
}

export interface CommitteeOptions<State, Command, D extends Duty> {
  readonly config: LatticeConfig;
  /** The first roster: the one that the log began with. */
  readonly roster: Roster;
  readonly machine: Machine<State, Command, D>;
  readonly generation?: bigint;
  /** When checkpoints are due. Alike on all members; other than the default in tests only. */
  readonly checkpointEvery?: { readonly entries: bigint; readonly slots: bigint };
  /** Rules that this build follows, if fewer than all that it has: in throw-away lattices and tests. */
  readonly rules?: RuleRange;
  /** How far ahead rules are planned. Alike on all members; other than the default in tests only. */
  readonly activationEntries?: bigint;
}

/** What became of one entry. No author: its signature does not say whose it is. */
interface Judged {
  readonly author?: number;
  readonly landed?: boolean;
  readonly refusal?: Refusal;
}

/** The first slot of every lattice; slot 0 is the time before. */
const FIRST_SLOT = 1n;

export class Committee<State, Command, D extends Duty> {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly id: Uint8Array;
  readonly machine: Machine<State, Command, D>;
  #shared: SharedState;
  #inner: State;
  #decided: Outcome[] = [];
  #fraud: Uint8Array | undefined;
  #certified: Outcome[] = [];
  /** Decisions without a certificate, by slot: members look at them all the time. Undefined after any of them changed. */
  #uncertified: readonly StageRecord[] | undefined;
  #certifiedCheckpoint: Checkpoint | undefined;
  #announced: CertifiedOutcome | undefined;
  #era: Applied["era"];
  /** By organism, made from the state's links as they are asked for. */
  readonly #chains = new Map<Organism, Eras>();
  #dissent: Dissent | undefined;
  #planned: RulePlan | undefined;
  #activated: number | undefined;
  #badShares: BadShare[] = [];
  /** Of decisions whose shares were combined here. */
  readonly #signatures = new WeakMap<StageRecord, Uint8Array>();
  /** What this build can follow. */
  readonly speaks: RuleRange;
  readonly #activationEntries: bigint;
  readonly #checkpointEvery: { readonly entries: bigint; readonly slots: bigint };
  /** By position and hash: who signed another state. What this replica has seen of others, and no part of its state. */
  readonly #dissenters = new Map<bigint, Map<string, Set<number>>>();
  /** A guest's: by position and what was signed of the full state, which a guest cannot know, the shares. */
  readonly #guestVotes = new Map<bigint, Map<string, Map<number, Uint8Array>>>();

  constructor(options: CommitteeOptions<State, Command, D>) {
    this.config = options.config;
    this.machine = options.machine;
    this.organism = options.machine.organism;
    this.id = committeeId(options.config, this.organism);
    const generation = options.generation ?? 0n;
    this.#checkpointEvery = options.checkpointEvery ?? { entries: CHECKPOINT_ENTRIES, slots: CHECKPOINT_SLOTS };
    this.speaks = options.rules ?? RULES;
    this.#activationEntries = options.activationEntries ?? ACTIVATION_ENTRIES;
    this.#shared = {
      view: "full",
      generation,
      position: 0n,
      rules: { active: FIRST_RULES, since: 0n, next: undefined },
      heads: [genesisHead(this.id, generation)],
      logTimeMs: 0n,
      authors: options.roster.members.map(emptyAuthor),
      blocked: [],
      rosters: [options.roster],
      floors: new Map(this.machine.stages.map((stage) => [stage, FIRST_SLOT])),
      collapsedBelow: FIRST_SLOT,
      slots: new Map(),
      checkpointAt: 0n,
      checkpointSlot: 0n,
      checkpoints: new Map(),
      eras: new Map(),
      eraWords: new Map(),
    };
    this.#inner = this.machine.genesis();
  }

  get position(): bigint {
    return this.#shared.position;
  }
  get generation(): bigint {
    return this.#shared.generation;
  }
  get head(): Uint8Array {
    return this.#shared.heads.at(-1) ?? new Uint8Array(32);
  }
  get collapsedBelow(): bigint {
    return this.#shared.collapsedBelow;
  }
  get logTimeMs(): number {
    return Number(this.#shared.logTimeMs);
  }
  /** The organism's state; read only. */
  get state(): State {
    return this.#inner;
  }

  /** The roster of the lowest undecided slot. */
  get roster(): Roster {
    return this.rosterAt(this.#lowestFloor());
  }
  /** Members, faults and quorum in the epoch of the lowest undecided slot. What concerns a slot asks `quorumAt`. */
  get quorum(): Quorum {
    return this.#quorumOf(this.roster);
  }
  /** Members, faults and quorum of the epoch that a slot belongs to. */
  quorumAt(slot: bigint): Quorum {
    return this.#quorumOf(this.rosterAt(slot));
  }
  /** Members, faults and quorum of an epoch; undefined when its roster is not known here. */
  quorumOfEpoch(epoch: bigint): Quorum | undefined {
    const roster = this.#epoch(epoch);
    return roster === undefined ? undefined : this.#quorumOf(roster);
  }
  #quorumOf(roster: Roster): Quorum {
    return rosterQuorum(this.config, this.organism, roster);
  }
  /** True when a slot's epoch has that seat. */
  hasSeat(index: number, slot: bigint): boolean {
    return index < this.rosterAt(slot).members.length;
  }
  /** The roster that a slot belongs to, as far as it is known here. */
  rosterAt(slot: bigint): Roster {
    return rosterAt(this.#shared.rosters, slot);
  }
  /** Every roster that is still known here, oldest first; those to come included. */
  get rosters(): readonly Roster[] {
    return this.#shared.rosters;
  }

  /** The eras of this committee, or of one upstream, as far as this log tells of them. */
  eras(organism: Organism = this.organism): Eras {
    const known = this.#chains.get(organism) ?? erasOf(this.config, organism, this.eraLinks(organism));
    this.#chains.set(organism, known);
    return known;
  }
  /** The certified rosters that began them, oldest first. */
  eraLinks(organism: Organism = this.organism): EraLinks {
    return this.#shared.eras.get(organism) ?? [];
  }
  /**
   * True for an epoch whose certificate key is over where this log has come to: what it certifies of later positions, or
   * of a later generation, is the word of whoever got hold of its shares.
   */
  keyIsOver(epoch: bigint): boolean {
    return eraOfEpoch(this.eras(), epoch).number < eraNumberOf(this.roster);
  }
  /** True when member `self` has told of this era upstream, and others still have to. */
  hasToldEra(self: number, organism: Organism, link: CertifiedOutcome): boolean {
    const told = this.#shared.eraWords.get(self)?.get(organism);
    return told !== undefined && equalBytes(outcomeDigest(told.outcome), outcomeDigest(link.outcome));
  }

  /** The newest epoch in which `memberKey` is member `index`: what it signs under. Undefined: it never was, or is forgotten. */
  epochOf(index: number, memberKey: Uint8Array): bigint | undefined {
    const held = this.#shared.rosters.filter(({ members }) => {
      const member = members[index];
      return member !== undefined && equalBytes(member.memberKey, memberKey);
    });
    return held.at(-1)?.epoch;
  }

  /** What governs the last entry applied, since where, and what is to follow. */
  get rules(): Readonly<SharedState["rules"]> {
    return this.#shared.rules;
  }

  /**
   * Rules that the next entry needs and this build does not have: it must stop here. Undefined while it may go on.
   * Until the very position a plan may lapse.
   */
  get unknownRules(): RulesUnknown | undefined {
    const { active, since, next } = this.#shared.rules;
    if (!speaks(this.speaks, active)) return new RulesUnknown(active, this.speaks, since, this.#builds(active));
    if (next === undefined || next.from > this.#shared.position + 1n || !this.#stands(next)) return undefined;
    if (speaks(this.speaks, next.version)) return undefined;
    return new RulesUnknown(next.version, this.speaks, next.from, this.#builds(next.version));
  }

  /** Builds whose processes say that they can follow `version`, without repetition. */
  #builds(version: number): string[] {
    const said = this.#shared.authors.flatMap(({ rules }) =>
      rules === undefined || rules.highest < version ? [] : [rules.build],
    );
    return [...new Set(said)].sort();
  }

  /** What each member's process can follow, as far as it may be counted on: 0 for the others. */
  #saidRules(): number[] {
    const { members } = this.roster;
    return this.#shared.authors.map(({ memberKey, rules }, index) => {
      const current = members[index]?.memberKey;
      const counts =
        rules !== undefined && memberKey !== undefined && current !== undefined && equalBytes(memberKey, current);
      return counts && !this.isBlockedKey(memberKey) ? rules.highest : 0;
    });
  }

  #stands({ version }: RulePlan): boolean {
    return this.#saidRules().filter((highest) => highest >= version).length >= this.quorum.quorum;
  }

  #plan(position: bigint): void {
    const { rules } = this.#shared;
    if (rules.next !== undefined) return;
    const version = agreedRules(this.#saidRules(), this.quorum.quorum, rules.active);
    if (version === undefined) return;
    rules.next = { version, from: position + this.#activationEntries };
    this.#planned = rules.next;
  }

  /** Before an entry is applied: the rules that were planned for it govern it. @throws RulesUnknown, nothing is changed */
  #takeUpRules(position: bigint): void {
    const unknown = this.unknownRules;
    if (unknown !== undefined) throw unknown;
    const { rules } = this.#shared;
    const { next } = rules;
    if (next === undefined || position < next.from) return;
    rules.next = undefined;
    if (this.#stands(next)) {
      rules.active = next.version;
      rules.since = position;
      this.#activated = next.version;
    }
    this.#plan(position);
  }

  author(index: number): Readonly<AuthorState> | undefined {
    return this.#shared.authors[index];
  }
  /** Keys that were proven to say two things, in the order of the log. */
  get blocked(): readonly BlockedKey[] {
    return this.#shared.blocked;
  }
  /** True when the member's key of this epoch is among them. */
  isBlocked(index: number): boolean {
    const key = this.roster.members[index]?.memberKey;
    return key !== undefined && this.isBlockedKey(key);
  }
  /** True when that member key is among them, whoever holds its seat now. */
  isBlockedKey(key: Uint8Array): boolean {
    return this.#shared.blocked.some(({ memberKey }) => equalBytes(memberKey, key));
  }
  /** The chain head after `position`, while it is kept. */
  headAt(position: bigint): Uint8Array | undefined {
    const back = this.#shared.position - position;
    return back < 0n || back >= BigInt(HEADS_KEPT) ? undefined : this.#shared.heads.at(-1 - Number(back));
  }
  floor(stage: string): bigint {
    return this.#shared.floors.get(stage) ?? FIRST_SLOT;
  }
  outcome(stage: string, slot: bigint): Outcome | undefined {
    return this.#shared.slots.get(slot)?.stages.get(stage)?.outcome;
  }
  observed(organism: Organism, stage: string, slot: bigint): CertifiedOutcome | undefined {
    return this.#shared.slots.get(slot)?.observed.get(`${organism}/${stage}`);
  }
  /** The newest slot for which an upstream stage is known here; 0 for none. */
  newestObserved(organism: Organism, stage: string): bigint {
    let newest = 0n;
    for (const [slot, { observed }] of this.#shared.slots) {
      if (slot > newest && observed.has(`${organism}/${stage}`)) newest = slot;
    }
    return newest;
  }
  /** Decisions from a slot on that are still held, in slot order, with the shares given for them. */
  decisions(fromSlot: bigint): { readonly outcome: Outcome; readonly votes: ReadonlyMap<number, Uint8Array> }[] {
    return bySlot(this.#shared.slots).flatMap(([slot, { stages }]) => (slot < fromSlot ? [] : [...stages.values()]));
  }
  votes(stage: string, slot: bigint): ReadonlyMap<number, Uint8Array> {
    return this.#shared.slots.get(slot)?.stages.get(stage)?.votes ?? new Map();
  }
  /** Decisions this member has not voted for and that still need votes, oldest first. */
  unvoted(self: number): Outcome[] {
    this.#uncertified ??= this.#findUncertified();
    return this.#uncertified.filter(({ votes }) => !votes.has(self)).map(({ outcome }) => outcome);
  }
  #findUncertified(): StageRecord[] {
    const found: StageRecord[] = [];
    for (const { stages } of this.#shared.slots.values()) {
      for (const record of stages.values()) if (!record.certified) found.push(record);
    }
    return found.sort(({ outcome: a }, { outcome: b }) => (a.slot < b.slot ? -1 : a.slot > b.slot ? 1 : 0));
  }
  /** The highest slot a Skip may name now; it moves on as slots are decided. */
  get skipLimit(): bigint {
    return this.#shared.collapsedBelow + SKIP_SPAN;
  }
  /** Decisions whose certificate is complete and that are still held, by slot. */
  complete(): Outcome[] {
    const complete: Outcome[] = [];
    for (const [, record] of bySlot(this.#shared.slots)) {
      for (const { outcome, votes } of record.stages.values()) {
        if (votes.size >= this.quorumAt(outcome.slot).quorum) complete.push(outcome);
      }
    }
    return complete;
  }
  /** How far this member has said that slots of `stage` may expire. */
  skippedTo(self: number, stage: string): bigint {
    return this.#shared.authors[self]?.skips.get(stage) ?? 0n;
  }

  view(self: number, nowMs: number, promised: (key: string) => boolean): View {
    return {
      self,
      nowMs,
      quorum: this.quorum,
      quorumAt: (slot) => this.quorumAt(slot),
      rules: this.#shared.rules.active,
      roster: this.roster,
      rosterAt: (slot) => this.rosterAt(slot),
      promised,
      floor: (stage) => this.floor(stage),
      outcome: (stage, slot) => this.outcome(stage, slot),
      observed: (organism, stage, slot) => this.observed(organism, stage, slot)?.outcome,
      said: (topic, slot) => this.#shared.slots.get(slot)?.facts.get(topic)?.by.get(self),
      hasClosed: (stage, slot) => this.#shared.slots.get(slot)?.closes.get(stage)?.by.has(self) ?? false,
    };
  }

  /**
   * Applies one log message. Total: whatever the bytes are, the result says what became of them.
   * @param read what `readEntry` makes of `raw`, for whoever has it already. What stands there changes no result: a
   * signature that is known to verify under the author's key is not looked at again
   * @throws RulesUnknown before anything is changed, when `unknownRules` says so
   */
  apply(position: bigint, raw: Uint8Array, read?: ReadEntry): Applied {
    this.#decided = [];
    this.#fraud = undefined;
    this.#certified = [];
    this.#certifiedCheckpoint = undefined;
    this.#announced = undefined;
    this.#era = undefined;
    this.#dissent = undefined;
    this.#planned = undefined;
    this.#activated = undefined;
    this.#badShares = [];
    this.#takeUpRules(position);
    let judged: Judged = {};
    let hash: Uint8Array | undefined;
    let entry: ReadEntry | undefined;
    try {
      entry = read ?? readEntry(raw);
      hash = entry.hash;
      judged = this.#applyEntry(position, raw, entry);
    } catch (error) {
      if (!(error instanceof CodecError) || hash !== undefined) throw error;
      judged = { refusal: refuse("MALFORMED", `not an entry: ${error.message}`) };
    }
    this.#advance(position, raw);
    const checkpoint = this.#makeCheckpoint();
    return {
      position,
      author: judged.author,
      entry: hash,
      read: entry,
      landed: judged.landed ?? false,
      refusal: judged.refusal,
      decided: this.#decided,
      certified: this.#certified,
      ...(checkpoint === undefined ? {} : { checkpoint }),
      ...(this.#certifiedCheckpoint === undefined ? {} : { certifiedCheckpoint: this.#certifiedCheckpoint }),
      ...(this.#dissent === undefined ? {} : { dissent: this.#dissent }),
      ...(this.#announced === undefined ? {} : { announced: this.#announced }),
      ...(this.#era === undefined ? {} : { era: this.#era }),
      ...(this.#planned === undefined ? {} : { planned: this.#planned }),
      ...(this.#activated === undefined ? {} : { activated: this.#activated }),
      ...(this.#fraud === undefined ? {} : { fraud: this.#fraud }),
      ...(this.#badShares.length === 0 ? {} : { badShares: this.#badShares }),
    };
  }

  #advance(position: bigint, raw: Uint8Array): void {
    const head = nextHead(this.head, position, raw);
    this.#shared.heads.push(head);
    while (this.#shared.heads.length > HEADS_KEPT) this.#shared.heads.shift();
    this.#shared.position = position;
  }

  /** A checkpoint, when one is due. Its record is no part of the state that it hashes: a restored state adds it again. */
  #makeCheckpoint(): Applied["checkpoint"] {
    const shared = this.#shared;
    const { entries, slots } = this.#checkpointEvery;
    const lowest = this.#lowestFloor();
    if (shared.position < shared.checkpointAt + entries && lowest / slots <= shared.checkpointSlot / slots) {
      return undefined;
    }
    shared.checkpointAt = shared.position;
    shared.checkpointSlot = lowest;
    let state: Uint8Array;
    let guest: Uint8Array;
    try {
      state = this.snapshot();
      guest = this.guestView();
    } catch (error) {
      // A state beyond its own limits is alike on all members: none of them has a checkpoint here.
      if (!(error instanceof CodecError)) throw error;
      return undefined;
    }
    if (state.length > STATE_BYTES_MAX) return undefined;
    return { checkpoint: this.#recordCheckpoint(state, guest), state, guest };
  }

  #recordCheckpoint(state: Uint8Array, guest: Uint8Array): Checkpoint {
    const { checkpoints, position } = this.#shared;
    const { epoch } = this.roster;
    const record = {
      epoch,
      rules: this.#shared.rules.active,
      head: this.head,
      stateHash: stateHash(state),
      stateBytes: state.length,
      guestHash: guestHash(guest),
      guestBytes: guest.length,
      votes: new Map(),
    };
    checkpoints.set(position, record);
    const old = [...checkpoints.keys()].sort((a, b) => (a < b ? 1 : -1)).slice(CHECKPOINTS_KEPT);
    for (const each of old) checkpoints.delete(each);
    for (const each of this.#dissenters.keys()) if (!checkpoints.has(each)) this.#dissenters.delete(each);
    for (const each of this.#guestVotes.keys()) if (!checkpoints.has(each)) this.#guestVotes.delete(each);
    return this.#checkpointAt(position, record);
  }

  #checkpointAt(
    position: bigint,
    record: Omit<Checkpoint, "version" | "committee" | "generation" | "position">,
  ): Checkpoint {
    const { epoch, rules, head, stateHash, stateBytes, guestHash, guestBytes } = record;
    const { generation } = this.#shared;
    const state = { stateHash, stateBytes, guestHash, guestBytes };
    return { version: 3, committee: this.id, generation, epoch, rules, position, head, ...state };
  }

  #applyCheckpoint(
    author: number,
    said: {
      readonly position: bigint;
      readonly stateHash: Uint8Array;
      readonly stateBytes: number;
      readonly guestHash: Uint8Array;
      readonly guestBytes: number;
      readonly share: Uint8Array;
    },
  ): Refusal | undefined {
    const { position, share } = said;
    const record = this.#shared.checkpoints.get(position);
    if (record === undefined) return refuse("CHECKPOINT_UNKNOWN", `no checkpoint is open at position ${position}`);
    const roster = this.#epoch(record.epoch);
    const member = roster?.members[author];
    if (roster === undefined || member === undefined) return refuse("NOT_AUTHOR", "no such member");
    const { quorum } = this.#quorumOf(roster);
    if (record.votes.has(author)) return refuse("DUPLICATE", `member ${author} has voted for position ${position}`);
    const isGuest = this.#shared.view === "guest";
    const sameGuest = equalBytes(said.guestHash, record.guestHash) && said.guestBytes === record.guestBytes;
    const sameState = equalBytes(said.stateHash, record.stateHash) && said.stateBytes === record.stateBytes;
    const same = sameGuest && (isGuest || sameState);
    // Certified already: a further share adds nothing and costs a pairing.
    if (same && record.votes.size >= quorum) return undefined;
    const claimed = this.#checkpointAt(position, {
      ...said,
      epoch: record.epoch,
      rules: record.rules,
      head: record.head,
    });
    const digest = checkpointDigest(claimed);
    const together = same && this.#sharesTogether;
    if (!together && !blsVerify(member.certificateShare, digest, share)) {
      return refuse("BAD_SHARE", `member ${author}'s share for position ${position} does not verify`);
    }
    if (!same) {
      const byHash = this.#dissenters.get(position) ?? new Map<string, Set<number>>();
      const key = `${toHex(said.stateHash)}/${said.stateBytes}/${toHex(said.guestHash)}/${said.guestBytes}`;
      const authors = (byHash.get(key) ?? new Set()).add(author);
      this.#dissenters.set(position, byHash.set(key, authors));
      this.#dissent = { position, stateHash: said.stateHash, authors: [...authors].sort((a, b) => a - b) };
      return refuse("STATE_DIFFERS", `member ${author} has another state at position ${position}`);
    }
    const votes = isGuest ? this.#guestVotesFor(claimed) : record.votes;
    votes.set(author, share);
    if (votes.size < quorum) return undefined;
    if (together) {
      const settled = this.#settle(votes, record.epoch, digest, `position ${position}`);
      if ("bad" in settled) {
        if (!settled.bad.includes(author)) return undefined;
        return refuse("BAD_SHARE", `member ${author}'s share for position ${position} does not verify`);
      }
    }
    if (isGuest) {
      record.stateHash = claimed.stateHash;
      record.stateBytes = claimed.stateBytes;
      record.votes = votes;
    }
    this.#certifiedCheckpoint = this.#checkpointAt(position, record);
    return undefined;
  }

  /** A guest takes from members what the full state is, once q of them have signed the same together with its own. */
  #guestVotesFor({ position, stateHash: full, stateBytes }: Checkpoint): Map<number, Uint8Array> {
    const byState = this.#guestVotes.get(position) ?? new Map<string, Map<number, Uint8Array>>();
    const key = `${toHex(full)}/${stateBytes}`;
    const votes = byState.get(key) ?? new Map<number, Uint8Array>();
    this.#guestVotes.set(position, byState.set(key, votes));
    return votes;
  }

  /** Checkpoints that this member has not voted for and that still need votes, oldest first. */
  unvotedCheckpoints(self: number): Checkpoint[] {
    const open: Checkpoint[] = [];
    for (const [position, record] of bySlot(this.#shared.checkpoints)) {
      const { quorum } = this.quorumOfEpoch(record.epoch) ?? this.quorum;
      if (record.votes.size < quorum && !record.votes.has(self)) {
        open.push(this.#checkpointAt(position, record));
      }
    }
    return open;
  }

  checkpointVotes(position: bigint): ReadonlyMap<number, Uint8Array> {
    return this.#shared.checkpoints.get(position)?.votes ?? new Map();
  }

  #applyEntry(position: bigint, raw: Uint8Array, entry: ReadEntry): Judged {
    const { body, bodyBytes, signature, hash, verifiedBy } = entry;
    const { author: index } = body;
    const refused = (reason: string, detail: string): Judged => ({ refusal: refuse(reason, detail) });
    if (!equalBytes(body.committee, this.id))
      return refused("ORGANISM_MISMATCH", "the entry belongs to another committee");
    if (body.generation !== this.#shared.generation)
      return refused("OUT_OF_ORDER", "the entry belongs to another generation");
    const author = this.#shared.authors[index];
    const roster = this.#epoch(body.epoch);
    if (roster === undefined) return refused("OUT_OF_ORDER", "the entry belongs to another epoch");
    const member = roster.members[index];
    if (author === undefined || member === undefined) return refused("NOT_AUTHOR", "no such member");
    // All incarnations: the proof is against the key that admits them. What it said before still counts.
    if (this.isBlockedKey(member.memberKey))
      return refused("KEY_BLOCKED", `member ${index} was proven to say two things`);
    if (roster.epoch < this.roster.epoch && this.hasLeft(index))
      return refused("NOT_AUTHOR", `member ${index} has left the committee`);

    const command = readCommand(body.command);
    const join = "command" in command && command.command.type === "join" ? command.command : undefined;
    if (join !== undefined) {
      if (!verifyTagged(member.memberKey, ENTRY_TAG, bodyBytes, signature)) {
        return refused("NOT_AUTHOR", "the join is not signed by the member key");
      }
      if (!this.#mayFollow(author, index, roster)) {
        return { author: index, refusal: refuse("NOT_AUTHOR", "another member has taken this one's place") };
      }
      if (join.incarnation !== body.incarnation || join.incarnation <= author.incarnation) {
        return { author: index, refusal: refuse("NOT_AUTHOR", "this incarnation or a higher one has joined already") };
      }
      if (body.lane !== "ctl" || body.sequence !== 1n || !equalBytes(body.previous, ZERO_HASH)) {
        return { author: index, refusal: refuse("OUT_OF_ORDER", "a join opens the ctl lane") };
      }
      if (raw.length > JOIN_BYTES_MAX) return { author: index, refusal: refuse("TOO_LARGE", "a join is short") };
    } else {
      const own = author.memberKey !== undefined && equalBytes(author.memberKey, member.memberKey);
      if (author.key === undefined || !own || body.incarnation !== author.incarnation) {
        return refused("NOT_AUTHOR", "not the member's current incarnation");
      }
      const known = verifiedBy !== undefined && equalBytes(verifiedBy, author.key);
      if (!known && !verifyTagged(author.key, ENTRY_TAG, bodyBytes, signature)) {
        return refused("NOT_AUTHOR", "the entry is not signed by the incarnation key");
      }
      const lane = author[body.lane];
      if (body.sequence !== lane.sequence + 1n || !equalBytes(body.previous, lane.previous)) {
        return {
          author: index,
          refusal: refuse("OUT_OF_ORDER", `sequence ${body.sequence} after ${lane.sequence}, or another predecessor`),
        };
      }
    }
    const unseen = this.#checkHead(position, body);
    if (unseen !== undefined) return { author: index, refusal: unseen };

    if (join !== undefined) {
      this.#shared.authors[index] = {
        ...emptyAuthor(),
        memberKey: member.memberKey,
        incarnation: join.incarnation,
        key: join.key,
        join: raw.slice(),
        clockMs: author.clockMs,
        skips: author.skips,
      };
    }
    const current = this.#shared.authors[index] ?? author;
    current[body.lane] = { sequence: body.sequence, previous: hash };
    this.#advanceTime(current, body.clockMs);
    const refusal = "refusal" in command ? command.refusal : this.#dispatch(position, body, command.command);
    this.#ripenCloses(position);
    this.#collapse();
    return { author: index, landed: true, ...(refusal === undefined ? {} : { refusal }) };
  }

  #epoch(epoch: bigint): Roster | undefined {
    return this.#shared.rosters.find((roster) => roster.epoch === epoch);
  }

  /**
   * True for a seat that the committee has given up. It is heard until what its epochs decided is certified: its share
   * may be needed for that, and for nothing later.
   */
  hasLeft(index: number): boolean {
    const current = this.roster;
    const seated = this.#shared.rosters.some(({ epoch, members }) => epoch >= current.epoch && index < members.length);
    if (seated) return false;
    for (const [slot, { stages }] of this.#shared.slots) {
      if (!this.hasSeat(index, slot)) continue;
      for (const { certified } of stages.values()) if (!certified) return false;
    }
    return true;
  }

  /** Whoever has taken a member's place keeps it: a join under `roster` may not bring back one whom a later roster replaced. */
  #mayFollow(author: AuthorState, index: number, roster: Roster): boolean {
    const { memberKey } = author;
    if (memberKey === undefined) return true;
    const keyOf = (each: Roster): Uint8Array => each.members[index]?.memberKey ?? new Uint8Array();
    if (equalBytes(keyOf(roster), memberKey)) return true;
    const held = this.#shared.rosters.filter((each) => equalBytes(keyOf(each), memberKey));
    return held.every((each) => each.epoch < roster.epoch);
  }

  /** A stated head must be in this chain: a fork shows at the first entry that crosses it (log.md §2). */
  #checkHead(position: bigint, body: EntryBody): Refusal | undefined {
    const ahead = body.seenPosition >= position || body.seenPosition > this.#shared.position;
    if (ahead) return refuse("FORKED_HEAD", "the author saw what is not yet here");
    const seen = this.headAt(body.seenPosition);
    if (seen === undefined) return refuse("VIEW_TOO_OLD", "the author's view of the log is too old to compare");
    if (!equalBytes(seen, body.seenHead)) {
      return refuse("FORKED_HEAD", `at position ${body.seenPosition} member ${body.author} saw another chain`);
    }
    return undefined;
  }

  /** Log time: the lower median of the last clocks of whoever is a member now, never going back. */
  #advanceTime(author: AuthorState, clockMs: bigint): void {
    if (clockMs > author.clockMs || this.#shared.rules.active >= NEWEST_CLOCKS) author.clockMs = clockMs;
    const now = this.#shared.authors.slice(0, this.roster.members.length);
    const clocks = now.map((each) => each.clockMs).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    const median = clocks[Math.floor((clocks.length - 1) / 2)] ?? 0n;
    if (median > this.#shared.logTimeMs) this.#shared.logTimeMs = median;
  }

  #dispatch(position: bigint, { author, lane }: Pick<EntryBody, "author" | "lane">, command: CommitteeCommand) {
    switch (command.type) {
      case "join":
        return undefined;
      case "vote":
        return this.#applyVotes(author, command.votes);
      case "skip":
        return this.#applySkip(position, author, command.stage, command.toSlot);
      case "close":
        return this.#applyClose(author, command.stage, command.slot, command.inputs);
      case "saw":
        return this.#applySaw(position, author, command.topic, command.slot, command.fact);
      case "roster":
        return this.#applyRoster(command.certified);
      case "rules":
        return this.#applyRules(position, author, command);
      case "era":
        return this.#applyEra(author, command.organism, command.certified);
      case "observe":
        return this.#applyObserve(position, command.organism, command.certified);
      case "chunk":
        if (lane !== "bulk") return refuse("MALFORMED", "chunks travel in the bulk lane");
        return this.#applyChunk(position, author, command);
      case "fraud":
        return this.#applyFraud(position, command.proof);
      case "machine": {
        let decoded: Command;
        try {
          decoded = decode(this.machine.command, command.command);
        } catch (error) {
          if (!(error instanceof CodecError)) throw error;
          return refuse("MALFORMED", `not a ${this.organism} command: ${error.message}`);
        }
        return this.#event(position, { type: "command", author, command: decoded });
      }
      case "checkpoint":
        return this.#applyCheckpoint(author, command);
    }
  }

  #event(position: bigint, event: MachineEvent<Command>): Refusal | undefined {
    const context: Context = {
      position,
      rules: this.#shared.rules.active,
      nowMs: this.logTimeMs,
      quorum: this.quorum,
      quorumAt: (slot) => this.quorumAt(slot),
      roster: this.roster,
      rosterAt: (slot) => this.rosterAt(slot),
      outcome: (stage, slot) => this.outcome(stage, slot),
      observed: (organism, stage, slot) => this.observed(organism, stage, slot)?.outcome,
      open: (stage, slot) =>
        this.#inWindow(slot) && this.outcome(stage, slot) === undefined && slot >= this.floor(stage),
      decide: (decision) => this.#decide(decision),
    };
    return this.machine.apply(this.#inner, event, context);
  }

  #inWindow(slot: bigint): boolean {
    return slot >= this.#shared.collapsedBelow && slot <= slotAt(this.config, this.logTimeMs) + WINDOW_AHEAD;
  }

  #slot(slot: bigint): SlotRecord {
    let record = this.#shared.slots.get(slot);
    if (record === undefined) {
      record = emptySlot();
      this.#shared.slots.set(slot, record);
    }
    return record;
  }

  #decide(decision: Decision): boolean {
    const { stage, slot } = decision;
    if (!this.machine.stages.includes(stage) || !this.#inWindow(slot) || slot < this.floor(stage)) return false;
    invariant(decision.commitment.length <= COMMITMENT_BYTES_MAX, "a commitment fits its limit");
    invariant(decision.kind !== "skipped" || decision.commitment.length === 0, "a skipped stage commits to nothing");
    const record = this.#slot(slot);
    if (record.stages.has(stage)) return false;
    const outcome: Outcome = {
      version: 1,
      committee: this.id,
      generation: this.#shared.generation,
      epoch: this.rosterAt(slot).epoch,
      slot,
      stage,
      kind: decision.kind,
      commitment: decision.commitment,
      bodyHash: decision.bodyHash,
    };
    record.stages.set(stage, { outcome, certified: false, votes: new Map() });
    this.#uncertified = undefined;
    let floor = this.floor(stage);
    while (this.#shared.slots.get(floor)?.stages.has(stage) === true) floor += 1n;
    this.#shared.floors.set(stage, floor);
    this.#decided.push(outcome);
    return true;
  }

  #applyVotes(
    author: number,
    votes: readonly { readonly stage: string; readonly slot: bigint; readonly share: Uint8Array }[],
  ): Refusal | undefined {
    // All or none: what is refused here changes nothing. Shares that nobody has looked at yet are struck out singly below.
    const added: { readonly record: StageRecord; readonly share: Uint8Array }[] = [];
    const seen = new Set<StageRecord>();
    for (const { stage, slot, share } of votes) {
      const record = this.#shared.slots.get(slot)?.stages.get(stage);
      if (record === undefined) return refuse("OUTCOME_UNKNOWN", `nothing is decided for ${stage} of slot ${slot}`);
      // Certified already: a further share adds nothing and costs a pairing. Who voted may be forgotten.
      if (record.certified) continue;
      if (record.votes.has(author) || seen.has(record)) {
        return refuse("DUPLICATE", `member ${author} has voted for ${stage} of slot ${slot}`);
      }
      seen.add(record);
      const member = this.#epoch(record.outcome.epoch)?.members[author];
      if (member === undefined) return refuse("NOT_AUTHOR", "no such member");
      if (!this.#sharesTogether && !blsVerify(member.certificateShare, outcomeDigest(record.outcome), share)) {
        return refuse("BAD_SHARE", `member ${author}'s share for ${stage} of slot ${slot} does not verify`);
      }
      added.push({ record, share });
    }
    let own: string | undefined;
    for (const { record, share } of added) {
      const { outcome, votes: held } = record;
      held.set(author, share);
      if (held.size < (this.quorumOfEpoch(outcome.epoch) ?? this.quorum).quorum) continue;
      if (this.#sharesTogether) {
        const what = `${outcome.stage} of slot ${outcome.slot}`;
        const settled = this.#settle(held, outcome.epoch, outcomeDigest(outcome), what);
        if ("bad" in settled) {
          if (settled.bad.includes(author)) own ??= what;
          continue;
        }
        if (settled.signature !== undefined) this.#signatures.set(record, settled.signature);
      }
      record.certified = true;
      this.#uncertified = undefined;
      this.#certified.push(outcome);
    }
    return own === undefined ? undefined : refuse("BAD_SHARE", `member ${author}'s share for ${own} does not verify`);
  }

  get #sharesTogether(): boolean {
    return this.#shared.rules.active >= SHARES_TOGETHER;
  }

  /**
   * Enough shares are there, some of them never looked at. Their combination under the group's key says in one check that
   * all are good. When it does not, each is looked at, and whoever gave a bad one is named and its share struck out.
   * Whether the combination stands does not depend on the order of the shares, since all of them go into it.
   */
  #settle(
    votes: Map<number, Uint8Array>,
    epoch: bigint,
    digest: Uint8Array,
    what: string,
  ): { readonly signature: Uint8Array | undefined } | { readonly bad: readonly number[] } {
    const signature = combined(votes);
    const roster = this.#epoch(epoch) ?? this.roster;
    const certificateKey = certificateKeyOf(this.config, this.organism, roster);
    if (signature !== undefined && blsVerify(certificateKey, digest, signature)) return { signature };
    const members = this.#epoch(epoch)?.members ?? [];
    const bad = [...votes.keys()]
      .filter((author) => {
        const [key, share] = [members[author]?.certificateShare, votes.get(author)];
        return key === undefined || share === undefined || !blsVerify(key, digest, share);
      })
      .sort((a, b) => a - b);
    // Each share is its member's: the certificate is as good as the group's key, and nobody here can say more.
    if (bad.length === 0) return { signature: undefined };
    for (const author of bad) {
      votes.delete(author);
      this.#badShares.push({ author, what });
    }
    return { bad };
  }

  /** The certificate's signature over a decision of this committee, once it is complete. */
  signature({ stage, slot }: Outcome): Uint8Array | undefined {
    const record = this.#shared.slots.get(slot)?.stages.get(stage);
    if (record?.certified !== true) return undefined;
    const known = this.#signatures.get(record);
    if (known !== undefined) return known;
    const { quorum } = this.quorumOfEpoch(record.outcome.epoch) ?? this.quorum;
    return combineSignatures(
      [...record.votes].slice(0, quorum).map(([index, share]) => ({ index, signature: share })),
      quorum,
    );
  }

  #applySkip(position: bigint, author: number, stage: string, toSlot: bigint): Refusal | undefined {
    if (!this.machine.stages.includes(stage)) return refuse("MALFORMED", `no stage ${stage}`);
    const latest = slotAt(this.config, this.logTimeMs) + 1n;
    if (toSlot > latest) return refuse("SLOT_OUT_OF_WINDOW", `slot ${toSlot} has not begun`);
    if (toSlot > this.skipLimit) return refuse("SLOT_OUT_OF_WINDOW", `at most up to slot ${this.skipLimit} at once`);
    const state = this.#shared.authors[author];
    if (state === undefined) return refuse("NOT_AUTHOR", "no such member");
    if (toSlot <= (state.skips.get(stage) ?? 0n)) return refuse("DUPLICATE", "said already");
    state.skips.set(stage, toSlot);
    const said = this.#shared.authors.map((each) => each.skips.get(stage) ?? 0n);
    const agreedIn = ({ members, quorum }: Quorum): bigint =>
      said.slice(0, members).sort((a, b) => (a < b ? 1 : a > b ? -1 : 0))[quorum - 1] ?? 0n;
    const agreed = new Map(this.#shared.rosters.map((roster) => [roster.epoch, agreedIn(this.#quorumOf(roster))]));
    for (let slot = this.floor(stage); slot <= toSlot; slot++) {
      if (slot > (agreed.get(this.rosterAt(slot).epoch) ?? 0n)) continue;
      if (!this.#decide({ stage, slot, kind: "skipped", commitment: new Uint8Array() })) continue;
      this.#event(position, { type: "skipped", stage, slot });
    }
    return undefined;
  }

  #applyClose(author: number, stage: string, slot: bigint, inputs: Uint8Array[]): Refusal | undefined {
    if (!this.#inWindow(slot)) return refuse("SLOT_OUT_OF_WINDOW", `slot ${slot} is outside the window`);
    if (slot < this.#lowestFloor()) return refuse("SLOT_DECIDED", `everything of slot ${slot} is decided`);
    if (!this.hasSeat(author, slot)) return refuse("NOT_AUTHOR", `member ${author} is none of slot ${slot}`);
    const closes = this.#shared.slots.get(slot)?.closes ?? new Map<string, CloseRecord>();
    const record = closes.get(stage) ?? { done: false, by: new Map() };
    if (record.by.has(author)) return refuse("DUPLICATE", `member ${author} has closed ${stage} of slot ${slot}`);
    const said = [...closes.values()].flatMap((each) => each.by.get(author)?.length ?? []);
    if (said.length >= CLOSES_PER_AUTHOR) return refuse("MALFORMED", `more than ${CLOSES_PER_AUTHOR} closes of a slot`);
    if (said.reduce((total, each) => total + each, inputs.length) > CLOSE_INPUTS_PER_AUTHOR) {
      return refuse("TOO_LARGE", `more than ${CLOSE_INPUTS_PER_AUTHOR} inputs in closes of a slot`);
    }
    record.by.set(author, inputs);
    this.#slot(slot).closes.set(stage, record);
    return undefined;
  }

  /** A close counts once q members closed and every input that f + 1 of them listed has landed (log.md §5). */
  #ripenCloses(position: bigint): void {
    // In slot and stage order: a restored snapshot holds the same entries in another insertion order.
    const lowest = this.#lowestFloor();
    for (const slot of [...this.#shared.slots.keys()].sort((a, b) => (a < b ? -1 : 1))) {
      if (slot < lowest) continue;
      const closes = this.#shared.slots.get(slot)?.closes ?? new Map<string, CloseRecord>();
      const { quorum, faults } = this.quorumAt(slot);
      for (const stage of [...closes.keys()].sort()) {
        const record = closes.get(stage);
        if (record === undefined || record.done || record.by.size < quorum) continue;
        const listed = new Map<string, { hash: Uint8Array; times: number }>();
        for (const inputs of record.by.values()) {
          for (const hash of inputs) {
            const key = toHex(hash);
            listed.set(key, { hash, times: (listed.get(key)?.times ?? 0) + 1 });
          }
        }
        const missing = [...listed.values()].some(
          ({ hash, times }) => times > faults && !this.machine.hasInput(this.#inner, stage, slot, hash),
        );
        if (missing) continue;
        record.done = true;
        this.#event(position, { type: "closed", stage, slot });
      }
    }
  }

  #applySaw(position: bigint, author: number, topic: string, slot: bigint, fact: Uint8Array): Refusal | undefined {
    if (!this.#inWindow(slot)) return refuse("SLOT_OUT_OF_WINDOW", `slot ${slot} is outside the window`);
    if (!this.hasSeat(author, slot)) return refuse("NOT_AUTHOR", `member ${author} is none of slot ${slot}`);
    const facts = this.#shared.slots.get(slot)?.facts ?? new Map<string, FactRecord>();
    const record = facts.get(topic) ?? { agreed: false, by: new Map<number, Uint8Array>() };
    // Nothing follows from it any more. Who comes late with what the others agreed on may still say so.
    if (!record.agreed && slot < this.#lowestFloor()) {
      return refuse("SLOT_DECIDED", `everything of slot ${slot} is decided`);
    }
    if (record.by.has(author)) return refuse("DUPLICATE", `member ${author} has spoken of ${topic} in slot ${slot}`);
    const said = [...facts.values()].flatMap((each) => each.by.get(author)?.length ?? []);
    if (said.length >= FACTS_PER_AUTHOR) return refuse("MALFORMED", `more than ${FACTS_PER_AUTHOR} facts of a slot`);
    if (said.reduce((total, each) => total + each, fact.length) > FACT_BYTES_PER_AUTHOR) {
      return refuse("TOO_LARGE", `more than ${FACT_BYTES_PER_AUTHOR} bytes of facts of a slot`);
    }
    record.by.set(author, fact);
    this.#slot(slot).facts.set(topic, record);
    const alike = [...record.by.values()].filter((other) => equalBytes(other, fact)).length;
    if (record.agreed || alike < this.quorumAt(slot).quorum) return undefined;
    record.agreed = true;
    return this.#event(position, { type: "agreed", topic, slot, fact });
  }

  #applyObserve(position: bigint, organism: Organism, certified: CertifiedOutcome): Refusal | undefined {
    const { outcome } = certified;
    const followed = this.machine.upstream.some((each) => each.organism === organism && each.stage === outcome.stage);
    if (!followed) return refuse("MALFORMED", `${organism}/${outcome.stage} is not upstream of ${this.organism}`);
    if (!this.#inWindow(outcome.slot))
      return refuse("SLOT_OUT_OF_WINDOW", `slot ${outcome.slot} is outside the window`);
    const key = `${organism}/${outcome.stage}`;
    if (this.#shared.slots.get(outcome.slot)?.observed.has(key) === true) {
      return refuse("DUPLICATE", `${key} of slot ${outcome.slot} is known`);
    }
    const refusal = checkOutcome(this.config, organism, certified, this.eras(organism));
    if (refusal !== undefined) return refusal;
    this.#slot(outcome.slot).observed.set(key, certified);
    return this.#event(position, { type: "observed", organism, outcome });
  }

  /** Any member may bring a proof; it says for itself whom it accuses. Quorum and roster stay as they are. */
  #applyFraud(position: bigint, proof: Uint8Array): Refusal | undefined {
    const verdict = verifyFraudProof(this.config, this.organism, proof, {
      eras: this.eras(),
      rosters: this.#shared.rosters,
    });
    if ("refusal" in verdict) return verdict.refusal;
    const { memberKey, member, epoch, kind } = verdict.fraud;
    const { blocked } = this.#shared;
    if (blocked.some((each) => equalBytes(each.memberKey, memberKey))) {
      return refuse("DUPLICATE", `the key of member ${member} is blocked already`);
    }
    if (blocked.length >= BLOCKED_MAX) return refuse("TOO_LARGE", `more than ${BLOCKED_MAX} blocked keys`);
    blocked.push({ memberKey, member, epoch, kind, position, proof: fraudProofHash(proof) });
    this.#fraud = proof;
    return undefined;
  }

  /** The next epoch. Only when the newest is active, so that there are never two to come. */
  #applyRoster(certified: CertifiedOutcome): Refusal | undefined {
    const checked = checkRoster(this.config, this.organism, certified, this.eras());
    if ("problem" in checked) return refuse(checked.reason, checked.problem);
    const { roster, begins } = checked;
    const newest = this.#shared.rosters.at(-1);
    invariant(newest !== undefined, "a committee has a roster");
    if (roster.epoch === newest.epoch) return refuse("DUPLICATE", `the roster of epoch ${roster.epoch} is known`);
    if (newest.activationSlot > this.#lowestFloor()) {
      return refuse("ROSTER_REFUSED", `epoch ${newest.epoch} is not active yet`);
    }
    // Beyond the window: of these slots nothing can have been said.
    const depth = BigInt(this.config.pipelineDepth);
    const ahead = depth > WINDOW_AHEAD ? depth : WINDOW_AHEAD;
    const problem = successorProblem(newest, roster, {
      organism: this.organism,
      earliestSlot: slotAt(this.config, this.logTimeMs) + ahead + 1n,
      rules: this.#shared.rules.active,
    });
    if (problem !== undefined) return refuse("ROSTER_REFUSED", problem);
    this.#shared.rosters.push(roster);
    // A seat that was given up keeps its entry: incarnations of a key that comes back go on counting.
    while (this.#shared.authors.length < roster.members.length) this.#shared.authors.push(emptyAuthor());
    this.#announced = certified;
    if (begins !== undefined) this.#beginEra(this.organism, certified, begins);
    return undefined;
  }

  #beginEra(organism: Organism, link: CertifiedOutcome, era: Era): void {
    this.#shared.eras.set(organism, [...this.eraLinks(organism), link]);
    this.#chains.delete(organism);
    this.#era = { organism, era, link };
  }

  /**
   * A member tells of an era upstream. The certificate alone is not enough: a ceremony that came too late leaves one for
   * a key that nobody will use. So f + 1 must say the same, of whom one has asked enough members there.
   */
  #applyEra(author: number, organism: Organism, certified: CertifiedOutcome): Refusal | undefined {
    if (this.#shared.rules.active < ERAS) return refuse("MALFORMED", `no eras before rules ${ERAS}`);
    const followed = organism !== this.organism && this.machine.upstream.some((each) => each.organism === organism);
    if (!followed) return refuse("MALFORMED", `${organism} is not upstream of ${this.organism}`);
    const { members, faults } = this.quorum;
    if (author >= members) return refuse("NOT_AUTHOR", `member ${author} is none of this epoch`);
    const checked = checkRoster(this.config, organism, certified, this.eras(organism));
    if ("problem" in checked) return refuse(checked.reason, checked.problem);
    const { begins } = checked;
    if (begins === undefined) return refuse("DUPLICATE", `epoch ${checked.roster.epoch} begins no era not known here`);
    if (this.hasToldEra(author, organism, certified)) return refuse("DUPLICATE", "said already");
    const { eraWords } = this.#shared;
    const own = eraWords.get(author) ?? new Map<string, CertifiedOutcome>();
    eraWords.set(author, own.set(organism, certified));
    const alike = [...eraWords.keys()].filter(
      (member) => member < members && this.hasToldEra(member, organism, certified),
    );
    if (alike.length <= faults) return undefined;
    this.#beginEra(organism, certified, begins);
    for (const [member, words] of eraWords) {
      words.delete(organism);
      if (words.size === 0) eraWords.delete(member);
    }
    return undefined;
  }

  #applyRules(position: bigint, author: number, { highest, build }: RulesSaid): Refusal | undefined {
    const state = this.#shared.authors[author];
    if (state === undefined) return refuse("NOT_AUTHOR", "no such member");
    if (state.rules !== undefined && highest <= state.rules.highest) return refuse("DUPLICATE", "said already");
    state.rules = { highest, build };
    this.#plan(position);
    return undefined;
  }

  #applyChunk(
    position: bigint,
    author: number,
    chunk: { readonly digest: Uint8Array; readonly index: number; readonly count: number; readonly part: Uint8Array },
  ): Refusal | undefined {
    const state = this.#shared.authors[author];
    if (state === undefined) return refuse("NOT_AUTHOR", "no such member");
    if (chunk.count < 2 || chunk.count > CHUNKS_MAX || chunk.index >= chunk.count)
      return refuse("MALFORMED", "chunk numbering");
    if (chunk.index === 0) state.assembly = { digest: chunk.digest, count: chunk.count, parts: [] };
    const { assembly } = state;
    if (
      assembly === undefined ||
      !equalBytes(assembly.digest, chunk.digest) ||
      assembly.count !== chunk.count ||
      assembly.parts.length !== chunk.index
    ) {
      state.assembly = undefined;
      return refuse("OUT_OF_ORDER", "the chunk does not continue its author's large command");
    }
    assembly.parts.push(chunk.part);
    if (assembly.parts.length < assembly.count) return undefined;
    state.assembly = undefined;
    const whole = concat(...assembly.parts);
    if (!equalBytes(commandDigest(whole), chunk.digest)) return refuse("MALFORMED", "the chunks do not add up");
    const read = readCommand(whole);
    if ("refusal" in read) return read.refusal;
    if (read.command.type === "join" || read.command.type === "chunk")
      return refuse("MALFORMED", "a chunked command may not nest");
    return this.#dispatch(position, { author, lane: "bulk" }, read.command);
  }

  /** The lowest slot of which a stage is undecided. */
  #lowestFloor(): bigint {
    return lowestUndecided(this.#shared.floors, FIRST_SLOT);
  }

  /** Forgets what lies SLOTS_KEPT below the lowest undecided slot. Driven by decisions, so alike on all members. */
  #collapse(): void {
    const below = this.#lowestFloor() - SLOTS_KEPT;
    if (below <= this.#shared.collapsedBelow) return;
    for (const slot of [...this.#shared.slots.keys()]) if (slot < below) this.#shared.slots.delete(slot);
    this.#shared.collapsedBelow = below;
    this.#uncertified = undefined;
    const { rosters } = this.#shared;
    const oldest = rosters.indexOf(this.rosterAt(below));
    rosters.splice(0, oldest);
    this.machine.collapse(this.#inner, below);
  }

  /** The whole state, canonically. */
  snapshot(): Uint8Array {
    return encodeState(this.#shared, this.machine.state, this.#inner);
  }

  /** The state as guests are given it, canonically. */
  guestView(): Uint8Array {
    return encodeGuestView(this.#shared, this.machine, this.#inner);
  }

  /** True for a replica that was restored from what guests are given: it follows, and its own snapshots are no member's. */
  get isGuest(): boolean {
    return this.#shared.view === "guest";
  }

  /**
   * @throws CodecError when the bytes are not a state of this committee
   * @throws RulesUnknown when it is one under rules that this build does not have
   */
  restore(snapshot: Uint8Array): void {
    this.#load(snapshot, "full");
    const { position, checkpointAt, checkpoints } = this.#shared;
    if (position > 0n && checkpointAt === position && !checkpoints.has(position)) {
      this.#recordCheckpoint(snapshot, this.guestView());
    }
  }

  /** Goes on from what guests are given. @throws CodecError when the bytes are not such a state of this committee. */
  restoreGuest(view: Uint8Array): void {
    this.#load(view, "guest");
  }

  #load(snapshot: Uint8Array, view: SharedState["view"]): void {
    const { shared, inner } = decodeState(this.machine.state, snapshot);
    if (shared.view !== view) throw new CodecError("view", `a ${view} state expected`);
    if (shared.rosters.length === 0) throw new CodecError("rosters", "at least one expected");
    const fit = shared.rosters.every(
      ({ committee, members }) => equalBytes(committee, this.id) && members.length <= shared.authors.length,
    );
    if (!fit) throw new CodecError("rosters", "another committee's state");
    const stages = [...shared.floors.keys()].sort();
    if (stages.join() !== [...this.machine.stages].sort().join()) throw new CodecError("floors", "other stages");
    if (shared.heads.length === 0 || BigInt(shared.heads.length) > shared.position + 1n) {
      throw new CodecError("heads", "one for each position expected");
    }
    for (const [name, links] of shared.eras) {
      const followed = this.machine.upstream.find(({ organism }) => organism === name)?.organism;
      const organism = name === this.organism ? this.organism : followed;
      if (organism === undefined || links.length === 0) throw new CodecError("eras", "of another committee");
      erasOf(this.config, organism, links);
    }
    const { active, since } = shared.rules;
    if (!speaks(this.speaks, active)) throw new RulesUnknown(active, this.speaks, since);
    this.#shared = shared;
    this.#inner = inner;
    this.#uncertified = undefined;
    this.#chains.clear();
    this.#dissenters.clear();
    this.#guestVotes.clear();
  }

  stateHash(): Uint8Array {
    return stateHash(this.snapshot());
  }

  /** The chain heads that are kept, oldest first; the newest is the one at `position`. */
  get heads(): readonly Uint8Array[] {
    return this.#shared.heads;
  }

  /**
   * Ends the generation here and begins the next (docs/decisions/0030): positions begin anew, members join anew, open
   * checkpoints are dropped, everything else stands. Outcomes keep the generation that they were decided in, so shares
   * given for them before still count.
   */
  beginGeneration(): void {
    const shared = this.#shared;
    const end = { position: shared.position, head: this.head };
    const generation = shared.generation + 1n;
    shared.generation = generation;
    shared.position = 0n;
    shared.heads = [successionHead(this.id, generation, end)];
    shared.checkpointAt = 0n;
    shared.checkpoints = new Map();
    // What governs goes on; who can follow more says so again with its next Join.
    shared.rules = { active: shared.rules.active, since: 0n, next: undefined };
    this.#dissenters.clear();
    this.#guestVotes.clear();
    // Lanes stay until their author joins: by them a member sees whether its journal knows its newest entries.
    for (const author of shared.authors) {
      author.key = undefined;
      author.join = undefined;
      author.assembly = undefined;
      author.rules = undefined;
    }
  }

  /** The first checkpoint of this generation, with its state. Only at position 0 of a later one than the first. */
  birth(): { readonly checkpoint: Checkpoint; readonly state: Uint8Array } {
    invariant(this.#shared.position === 0n && this.#shared.generation > 0n, "a generation begins at position 0");
    const state = this.snapshot();
    const { epoch } = this.roster;
    const guest = this.guestView();
    const full = { stateHash: stateHash(state), stateBytes: state.length };
    const record = {
      epoch,
      rules: this.#shared.rules.active,
      head: this.head,
      ...full,
      guestHash: guestHash(guest),
      guestBytes: guest.length,
    };
    return { checkpoint: this.#checkpointAt(0n, record), state };
  }
}

function readCommand(raw: Uint8Array): { readonly command: CommitteeCommand } | { readonly refusal: Refusal } {
  try {
    return { command: decodeCommand(raw) };
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    return { refusal: refuse("MALFORMED", `not a command: ${error.message}`) };
  }
}

/** All shares together; undefined when one of them is no point of the group. */
function combined(votes: ReadonlyMap<number, Uint8Array>): Uint8Array | undefined {
  const shares = [...votes].map(([index, signature]) => ({ index, signature }));
  try {
    return combineSignatures(shares, shares.length);
  } catch (error) {
    if (error instanceof ThresholdError) return undefined;
    throw error;
  }
}

function bySlot<T>(slots: ReadonlyMap<bigint, T>): [bigint, T][] {
  return [...slots].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Ties the chunks of one large command together. */
export function commandDigest(command: Uint8Array): Uint8Array {
  return hashBytes("lattice/entry/chunked/v1", command);
}

/** Ascending by bytes: the order in which sets are hashed. */
export function sortedHashes(hashes: Iterable<Uint8Array>): Uint8Array[] {
  return [...hashes].sort(compareBytes);
}

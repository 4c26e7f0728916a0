/**
 * The committee layer: turns log messages into machine events, the same on every member.
 *
 * Pure: no clock, no I/O, no randomness. What a corrupt member, client or broker could put into the log is refused
 * here with a reason and without a change of state, except that the message still advances the chain head.
 *
 * The shared state is one object for the life of a replica. What judges a part of it has a file of its own: who may speak
 * (admission.ts), of which slots (slot-window.ts) and in which epoch (epochs.ts), what is decided and voted on
 * (decisions.ts, checkpoint-votes.ts, certifier.ts), closed (closes.ts), seen (facts.ts), by which rules
 * (rule-activation.ts) and under which keys (known-eras.ts).
 */
import { CodecError, decode, equalBytes } from "../codec/codec.ts";
import { invariant } from "../fault.ts";
import { committeeId, type LatticeConfig } from "../identity/lattice-config.ts";
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
import { Admission } from "./admission.ts";
import { blockKey, isBlockedKey } from "./blocked-keys.ts";
import { Certifier } from "./certifier.ts";
import { type Checkpoint, STATE_BYTES_MAX, stateHash } from "./checkpoint.ts";
import { type CheckpointSchedule, CheckpointVotes, type Snapshots } from "./checkpoint-votes.ts";
import { addChunk } from "./chunks.ts";
import { Closes } from "./closes.ts";
import type { CommitteeCommand } from "./commands.ts";
import { Decisions } from "./decisions.ts";
import { type Effects, noEffects } from "./effects.ts";
import { type EntryBody, genesisHead, nextHead, type ReadEntry, readEntry, successionHead } from "./entry.ts";
import { Epochs } from "./epochs.ts";
import type { EraLinks } from "./era-links.ts";
import type { Eras } from "./eras.ts";
import { Facts } from "./facts.ts";
import { type FraudVerdict, verifyFraudProof } from "./fraud.ts";
import { decodeState, encodeGuestView, encodeSnapshots, encodeState } from "./guest-view.ts";
import { KnownEras } from "./known-eras.ts";
import { type CertifiedOutcome, checkOutcome, type Outcome } from "./outcome.ts";
import { checkRoster, type Quorum, type Roster } from "./roster.ts";
import { RuleActivation } from "./rule-activation.ts";
import {
  ACTIVATION_ENTRIES,
  FIRST_RULES,
  NEWEST_CLOCKS,
  PROOFS_BY_SEAT,
  RULES,
  type RuleRange,
  RulesUnknown,
  speaks,
} from "./rules.ts";
import { FIRST_SLOT, SlotWindow } from "./slot-window.ts";
import {
  type AuthorState,
  type BlockedKey,
  CHECKPOINT_ENTRIES,
  CHECKPOINT_SLOTS,
  emptyAuthor,
  HEADS_KEPT,
  headAt,
  type SharedState,
} from "./state.ts";

/** What one log message did. */
export interface Applied extends Readonly<Effects> {
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
}

export interface CommitteeOptions<State, Command, D extends Duty> {
  readonly config: LatticeConfig;
  /** The first roster: the one that the log began with. */
  readonly roster: Roster;
  readonly machine: Machine<State, Command, D>;
  readonly generation?: bigint;
  /** When checkpoints are due. Alike on all members; other than the default in tests only. */
  readonly checkpointEvery?: CheckpointSchedule;
  /** Rules that this build follows, if fewer than all that it has: in throw-away lattices and tests. */
  readonly rules?: RuleRange;
  /** How far ahead rules are planned. Alike on all members; other than the default in tests only. */
  readonly activationEntries?: bigint;
}

/** What became of one entry. No author: its signature does not say whose it is. */
interface Judged {
  readonly author?: number;
  readonly landed?: boolean;
  readonly refusal: Refusal | undefined;
}

export class Committee<State, Command, D extends Duty> {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly id: Uint8Array;
  readonly machine: Machine<State, Command, D>;
  /** What this build can follow. */
  readonly speaks: RuleRange;
  readonly #shared: SharedState;
  #inner: State;
  /** Of the entry that is being applied. */
  #effects: Effects = noEffects();
  /** How much memory the next checkpoint is given at once; says nothing of what is in it. */
  #snapshotBytes = 0;
  readonly #window: SlotWindow;
  readonly #epochs: Epochs;
  readonly #eras: KnownEras;
  readonly #rules: RuleActivation;
  readonly #admission: Admission;
  readonly #decisions: Decisions;
  readonly #closes: Closes;
  readonly #facts: Facts;
  readonly #checkpoints: CheckpointVotes;

  constructor(options: CommitteeOptions<State, Command, D>) {
    this.config = options.config;
    this.machine = options.machine;
    this.organism = options.machine.organism;
    this.id = committeeId(options.config, this.organism);
    const generation = options.generation ?? 0n;
    this.speaks = options.rules ?? RULES;
    const shared: SharedState = {
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
    this.#shared = shared;
    this.#inner = this.machine.genesis();
    const window = new SlotWindow(this.config, shared);
    const epochs = new Epochs(this.config, this.organism, shared, window);
    const certifier = new Certifier(this.config, this.organism, shared, epochs);
    const schedule = options.checkpointEvery ?? { entries: CHECKPOINT_ENTRIES, slots: CHECKPOINT_SLOTS };
    this.#window = window;
    this.#epochs = epochs;
    this.#eras = new KnownEras(this.config, this.machine, shared, epochs);
    this.#rules = new RuleActivation(shared, epochs, this.speaks, options.activationEntries ?? ACTIVATION_ENTRIES);
    this.#admission = new Admission(this.id, shared, epochs);
    this.#decisions = new Decisions(this.id, shared, { window, epochs, certifier });
    this.#closes = new Closes(shared, window, epochs);
    this.#facts = new Facts(shared, window, epochs);
    this.#checkpoints = new CheckpointVotes(this.id, schedule, shared, { window, epochs, certifier });
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
    return this.#epochs.current;
  }
  /** The roster that a slot belongs to, as far as it is known here. */
  rosterAt(slot: bigint): Roster {
    return this.#epochs.at(slot);
  }
  /** Every roster that is still known here, oldest first; those to come included. */
  get rosters(): readonly Roster[] {
    return this.#shared.rosters;
  }
  /** Members, faults and quorum in the epoch of the lowest undecided slot. What concerns a slot asks `quorumAt`. */
  get quorum(): Quorum {
    return this.#epochs.quorum;
  }
  /** Members, faults and quorum of the epoch that a slot belongs to. */
  quorumAt(slot: bigint): Quorum {
    return this.#epochs.quorumAt(slot);
  }
  /** Members, faults and quorum of an epoch; of the one in force when its roster is not known here. */
  quorumOfEpoch(epoch: bigint): Quorum {
    return this.#epochs.quorumOf(epoch);
  }
  /** True when a slot's epoch has that seat. */
  hasSeat(index: number, slot: bigint): boolean {
    return this.#epochs.hasSeat(index, slot);
  }
  /** True for a seat that the committee has given up, and whose share nothing needs any more. */
  hasLeft(index: number): boolean {
    return this.#epochs.hasLeft(index);
  }
  /** The newest epoch in which `memberKey` is member `index`: what it signs under. Undefined: it never was, or is forgotten. */
  epochOf(index: number, memberKey: Uint8Array): bigint | undefined {
    return this.#epochs.held(index, memberKey).at(-1);
  }

  /** The eras of this committee, or of one upstream, as far as this log tells of them. */
  eras(organism: Organism = this.organism): Eras {
    return this.#eras.of(organism);
  }
  /** The certified rosters that began them, oldest first; none for a committee that has its first key. */
  eraLinks(organism: Organism = this.organism): EraLinks {
    return this.#eras.links(organism);
  }
  /** True for an epoch whose certificate key is over where this log has come to. */
  keyIsOver(epoch: bigint): boolean {
    return this.#eras.keyIsOver(epoch);
  }
  /** True when member `self` has told of this era upstream, and others still have to. */
  hasToldEra(self: number, organism: Organism, link: CertifiedOutcome): boolean {
    return this.#eras.hasTold(self, organism, link);
  }

  /** What governs the last entry applied, since where, and what is to follow. */
  get rules(): Readonly<SharedState["rules"]> {
    return this.#shared.rules;
  }
  /** Rules that the next entry needs and this build does not have: it must stop here. Undefined while it may go on. */
  get unknownRules(): RulesUnknown | undefined {
    return this.#rules.unknown;
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
    return isBlockedKey(this.#shared.blocked, key);
  }
  /** The chain head after `position`, while it is kept. */
  headAt(position: bigint): Uint8Array | undefined {
    return headAt(this.#shared, position);
  }
  floor(stage: string): bigint {
    return this.#window.floor(stage);
  }
  outcome(stage: string, slot: bigint): Outcome | undefined {
    return this.#decisions.of(stage, slot)?.outcome;
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
    return this.#decisions.from(fromSlot);
  }
  votes(stage: string, slot: bigint): ReadonlyMap<number, Uint8Array> {
    return this.#decisions.of(stage, slot)?.votes ?? new Map();
  }
  /** Decisions this member has not voted for and that still need votes, oldest first. */
  unvoted(self: number): Outcome[] {
    return this.#decisions.unvoted(self);
  }
  /** The lowest slot of which a stage is undecided. */
  get lowestUndecided(): bigint {
    return this.#window.lowest;
  }

  /** The lowest slot from `fromSlot` on with a decision that has no certificate yet. */
  lowestUncertified(fromSlot: bigint): bigint | undefined {
    return this.#decisions.lowestUncertified(fromSlot);
  }

  /** The highest slot a Skip may name now; it moves on as slots are decided. */
  get skipLimit(): bigint {
    return this.#window.skipLimit;
  }
  /** Decisions whose certificate is complete and that are still held, by slot. */
  complete(): Outcome[] {
    const decisions = this.#decisions.from(0n);
    const complete = decisions.filter(({ outcome, votes }) => votes.size >= this.quorumAt(outcome.slot).quorum);
    return complete.map(({ outcome }) => outcome);
  }
  /** The certificate's signature over a decision of this committee, once it is complete. */
  signature({ stage, slot }: Outcome): Uint8Array | undefined {
    return this.#decisions.signature(stage, slot);
  }
  /** Checkpoints that this member has not voted for and that still need votes, oldest first. */
  unvotedCheckpoints(self: number): Checkpoint[] {
    return this.#checkpoints.unvoted(self);
  }
  checkpointVotes(position: bigint): ReadonlyMap<number, Uint8Array> {
    return this.#shared.checkpoints.get(position)?.votes ?? new Map();
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
    this.#effects = noEffects();
    this.#rules.takeUp(position, this.#effects);
    let entry: ReadEntry | undefined;
    let judged: Judged;
    try {
      entry = read ?? readEntry(raw);
      judged = this.#applyEntry(position, raw, entry);
    } catch (error) {
      if (!(error instanceof CodecError) || entry !== undefined) throw error;
      judged = { refusal: refuse("MALFORMED", `not an entry: ${error.message}`) };
    }
    this.#advance(position, raw);
    this.#makeCheckpoint();
    return {
      position,
      author: judged.author,
      entry: entry?.hash,
      read: entry,
      landed: judged.landed ?? false,
      refusal: judged.refusal,
      ...this.#effects,
    };
  }

  #advance(position: bigint, raw: Uint8Array): void {
    const head = nextHead(this.head, position, raw);
    this.#shared.heads.push(head);
    while (this.#shared.heads.length > HEADS_KEPT) this.#shared.heads.shift();
    this.#shared.position = position;
  }

  /** A checkpoint, when one is due. */
  #makeCheckpoint(): void {
    if (!this.#checkpoints.takeDue()) return;
    let snapshots: Snapshots;
    try {
      snapshots = this.#snapshots();
    } catch (error) {
      // A state beyond its own limits is alike on all members: none of them has a checkpoint here.
      if (!(error instanceof CodecError)) throw error;
      return;
    }
    if (snapshots.state.length > STATE_BYTES_MAX) return;
    this.#effects.checkpoint = { checkpoint: this.#checkpoints.open(snapshots), ...snapshots };
  }

  #applyEntry(position: bigint, raw: Uint8Array, entry: ReadEntry): Judged {
    const { body } = entry;
    const admitted = this.#admission.take(position, raw, entry);
    if ("refusal" in admitted) return admitted;
    const { author, command } = admitted;
    this.#advanceTime(author, body.clockMs);
    const refusal = "refusal" in command ? command.refusal : this.#dispatch(position, body, command.command);
    this.#closes.ripen(
      (stage, slot, hash) => this.machine.hasInput(this.#inner, stage, slot, hash),
      (stage, slot) => this.#event(position, { type: "closed", stage, slot }),
    );
    this.#collapse();
    return { author: body.author, landed: true, refusal };
  }

  /** Log time: the lower median of the last clocks of whoever is a member now, never going back. */
  #advanceTime(author: AuthorState, clockMs: bigint): void {
    if (clockMs > author.clockMs || this.#shared.rules.active >= NEWEST_CLOCKS) author.clockMs = clockMs;
    const now = this.#shared.authors.slice(0, this.roster.members.length);
    const clocks = now.map((each) => each.clockMs).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    const median = clocks[Math.floor((clocks.length - 1) / 2)] ?? 0n;
    if (median > this.#shared.logTimeMs) this.#shared.logTimeMs = median;
  }

  #dispatch(
    position: bigint,
    { author, lane }: Pick<EntryBody, "author" | "lane">,
    command: CommitteeCommand,
  ): Refusal | undefined {
    switch (command.type) {
      case "join":
        return undefined;
      case "vote":
        return this.#decisions.vote(author, command.votes, this.#effects);
      case "skip":
        return this.#applySkip(position, author, command.stage, command.toSlot);
      case "close":
        return this.#closes.add(author, command.stage, command.slot, command.inputs);
      case "saw":
        return this.#applySaw(position, author, command.topic, command.slot, command.fact);
      case "roster":
        return this.#applyRoster(command.certified);
      case "rules":
        return this.#rules.say(position, author, command, this.#effects);
      case "era":
        return this.#eras.tell(author, command.organism, command.certified, this.#effects);
      case "observe":
        return this.#applyObserve(position, command.organism, command.certified);
      case "chunk":
        if (lane !== "bulk") return refuse("MALFORMED", "chunks travel in the bulk lane");
        return this.#applyChunk(position, author, command);
      case "fraud":
        return this.#applyFraud(position, command.proof);
      case "machine":
        return this.#applyMachine(position, author, command.command);
      case "checkpoint":
        return this.#checkpoints.vote(author, command, this.#effects);
    }
  }

  #applyMachine(position: bigint, author: number, raw: Uint8Array): Refusal | undefined {
    let command: Command;
    try {
      command = decode(this.machine.command, raw);
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      return refuse("MALFORMED", `not a ${this.organism} command: ${error.message}`);
    }
    return this.#event(position, { type: "command", author, command });
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
        this.#window.contains(slot) && this.outcome(stage, slot) === undefined && slot >= this.floor(stage),
      decide: (decision) => this.#decide(decision),
    };
    return this.machine.apply(this.#inner, event, context);
  }

  #decide(decision: Decision): boolean {
    return this.#decisions.decide(decision, this.#effects);
  }

  #applySkip(position: bigint, author: number, stage: string, toSlot: bigint): Refusal | undefined {
    if (!this.machine.stages.includes(stage)) return refuse("MALFORMED", `no stage ${stage}`);
    const latest = this.#window.now + 1n;
    if (toSlot > latest) return refuse("SLOT_OUT_OF_WINDOW", `slot ${toSlot} has not begun`);
    if (toSlot > this.skipLimit) return refuse("SLOT_OUT_OF_WINDOW", `at most up to slot ${this.skipLimit} at once`);
    const state = this.#shared.authors[author];
    if (state === undefined) return refuse("NOT_AUTHOR", "no such member");
    if (toSlot <= (state.skips.get(stage) ?? 0n)) return refuse("DUPLICATE", "said already");
    state.skips.set(stage, toSlot);
    const said = this.#shared.authors.map((each) => each.skips.get(stage) ?? 0n);
    const agreedIn = ({ members, quorum }: Quorum): bigint =>
      said.slice(0, members).sort((a, b) => (a < b ? 1 : a > b ? -1 : 0))[quorum - 1] ?? 0n;
    const agreed = new Map([...this.#epochs.quorums].map(([epoch, quorum]) => [epoch, agreedIn(quorum)]));
    for (let slot = this.floor(stage); slot <= toSlot; slot++) {
      if (slot > (agreed.get(this.rosterAt(slot).epoch) ?? 0n)) continue;
      if (!this.#decide({ stage, slot, kind: "skipped", commitment: new Uint8Array() })) continue;
      this.#event(position, { type: "skipped", stage, slot });
    }
    return undefined;
  }

  #applySaw(position: bigint, author: number, topic: string, slot: bigint, fact: Uint8Array): Refusal | undefined {
    const said = this.#facts.add(author, topic, slot, fact);
    return said === "agreed" ? this.#event(position, { type: "agreed", topic, slot, fact }) : said;
  }

  #applyObserve(position: bigint, organism: Organism, certified: CertifiedOutcome): Refusal | undefined {
    const { outcome } = certified;
    const followed = this.machine.upstream.some((each) => each.organism === organism && each.stage === outcome.stage);
    if (!followed) return refuse("MALFORMED", `${organism}/${outcome.stage} is not upstream of ${this.organism}`);
    if (!this.#window.contains(outcome.slot))
      return refuse("SLOT_OUT_OF_WINDOW", `slot ${outcome.slot} is outside the window`);
    const key = `${organism}/${outcome.stage}`;
    if (this.#shared.slots.get(outcome.slot)?.observed.has(key) === true) {
      return refuse("DUPLICATE", `${key} of slot ${outcome.slot} is known`);
    }
    const refusal = checkOutcome(this.config, organism, certified, this.eras(organism));
    if (refusal !== undefined) return refusal;
    this.#window.record(outcome.slot).observed.set(key, certified);
    return this.#event(position, { type: "observed", organism, outcome });
  }

  /** What the log makes of a proof at this position, by the eras, the rosters and the rules there. */
  judgeFraud(proof: Uint8Array): FraudVerdict {
    const { rosters, rules } = this.#shared;
    const seats = rules.active >= PROOFS_BY_SEAT ? rosters : [];
    return verifyFraudProof(this.config, this.organism, proof, { eras: this.eras(), rosters, seats });
  }

  /** Any member may bring a proof; it says for itself whom it accuses. Quorum and roster stay as they are. */
  #applyFraud(position: bigint, proof: Uint8Array): Refusal | undefined {
    const verdict = this.judgeFraud(proof);
    if ("refusal" in verdict) return verdict.refusal;
    const refusal = blockKey(this.#shared.blocked, verdict.fraud, proof, position);
    if (refusal === undefined) this.#effects.fraud = proof;
    return refusal;
  }

  #applyRoster(certified: CertifiedOutcome): Refusal | undefined {
    const checked = checkRoster(this.config, this.organism, certified, this.eras());
    if ("problem" in checked) return refuse(checked.reason, checked.problem);
    const refusal = this.#epochs.follow(checked.roster);
    if (refusal !== undefined) return refusal;
    this.#effects.announced = certified;
    if (checked.begins !== undefined) this.#eras.begin(this.organism, certified, checked.begins, this.#effects);
    return undefined;
  }

  #applyChunk(
    position: bigint,
    author: number,
    chunk: Extract<CommitteeCommand, { readonly type: "chunk" }>,
  ): Refusal | undefined {
    const state = this.#shared.authors[author];
    if (state === undefined) return refuse("NOT_AUTHOR", "no such member");
    const whole = addChunk(state, chunk);
    if (whole === undefined) return undefined;
    return "refusal" in whole ? whole.refusal : this.#dispatch(position, { author, lane: "bulk" }, whole.command);
  }

  /** Forgets what is long over. Driven by decisions, so alike on all members. */
  #collapse(): void {
    const below = this.#window.collapse();
    if (below === undefined) return;
    this.#decisions.reread();
    this.#epochs.forgetBelow(below);
    this.machine.collapse(this.#inner, below);
  }

  /** As members keep it and as guests are given it, canonically: what a checkpoint is about. */
  #snapshots(): Snapshots {
    const snapshots = encodeSnapshots(this.#shared, this.machine, this.#inner, this.#snapshotBytes);
    const bytes = snapshots.state.length + snapshots.guest.length;
    // Somewhat more next time, so that a state that grows is not copied for it.
    this.#snapshotBytes = Math.ceil(bytes * 1.125);
    return snapshots;
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
      this.#checkpoints.open({ state: snapshot, guest: this.guestView() });
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
    this.#eras.check(shared.eras);
    const { active, since } = shared.rules;
    if (!speaks(this.speaks, active)) throw new RulesUnknown(active, this.speaks, since);
    Object.assign(this.#shared, shared);
    this.#inner = inner;
    this.#decisions.reread();
    this.#eras.reread();
    this.#closes.reread();
    this.#checkpoints.forget();
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
    this.#checkpoints.forget();
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
    const snapshots = this.#snapshots();
    return { checkpoint: this.#checkpoints.stated(snapshots), state: snapshots.state };
  }
}

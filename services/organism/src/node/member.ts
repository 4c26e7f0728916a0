/**
 * One member of one committee, running: log → committee → duties → log. Production, the embedded lattice and tests
 * all start members here; they differ in the ports they pass in.
 */
import { equalBytes } from "../codec/codec.ts";
import { encodeCommand } from "../committee/commands.ts";
import type { Committee } from "../committee/committee.ts";
import type { Lane, ReadEntry } from "../committee/entry.ts";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import { ROSTER_STAGE } from "../committee/roster.ts";
import { RulesUnknown } from "../committee/rules.ts";
import { generateSigningKey, type SigningKey } from "../crypto/ed25519.ts";
import { agreementKey } from "../crypto/x25519.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import { committeeId, latticeId, slotAt } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Duty, Refusal, Submission } from "../machine.ts";
import { errorFields } from "../observe/logger.ts";
import { everyWhenDone, HistoryGone, type Log, LogLost, type MemberJournal, pause, type Timers } from "../ports.ts";
import type { GrpcService } from "../rpc/define.ts";
import type { MemberHost, OrganismNode } from "../service.ts";
import { abstainingJournal } from "./abstaining-journal.ts";
import { Abstention } from "./abstention.ts";
import { Appender } from "./appender.ts";
import { AppliedReport } from "./applied-report.ts";
import { BodyFetcher } from "./body-fetcher.ts";
import { CheckpointKeeper } from "./checkpoint-keeper.ts";
import { committeeService } from "./committee-service.ts";
import { DutyRound } from "./duty-round.ts";
import { type EntryTail, tailHash } from "./entry-tail.ts";
import { type EpochKeys, singleEpochKeys } from "./epoch-keys.ts";
import type { EraBook } from "./era-book.ts";
import type { EraMark } from "./era-mark.ts";
import { FraudProofs } from "./fraud-proofs.ts";
import { type Birth, GenerationChange } from "./generation-change.ts";
import type { GenerationLog } from "./generation-log.ts";
import { Halt } from "./halt.ts";
import { Intake } from "./intake.ts";
import { IntegrityWatch } from "./integrity-watch.ts";
import { KeptOutcomes } from "./kept-outcomes.ts";
import { LogPressure } from "./log-pressure.ts";
import type { MemberOptions } from "./member-options.ts";
import { freshCommittee, type MemberStart, snapshotSources, startMember } from "./member-start.ts";
import { nodeTimers } from "./node-timers.ts";
import { OthersGoOn, othersNeeded } from "./others-go-on.ts";
import type { OutcomeArchive } from "./outcome-archive.ts";
import { type CommitteeClient, connectOverGrpc, OutcomeFollower } from "./outcome-follower.ts";
import { OwnStanding } from "./own-standing.ts";
import type { ReadMarks } from "./read-marks.ts";
import { fetchSnapshot } from "./snapshot-fetcher.ts";
import type { SnapshotStore } from "./snapshot-store.ts";
import type { KeptBodies } from "./storage.ts";
import { Succession } from "./succession.ts";

/** How often duties are looked at without anything happening. */
const TICK_MS = 50;
/** How long a client's request waits for its entry to come back. */
const SUBMIT_DEADLINE_MS = 10_000;
/** How often at most a member that reads the log at its start looks whether anything came. */
const READING_LOOK_MS = 1000;
/** How often the log's size is looked at. */
const USAGE_MS = 2000;
/** How often a member looks for the log of a generation that has been agreed on, and how many looks lie between two lines about it. */
const PRESENT_PAUSE_MS = 250;
const PRESENT_LOOKS = 120;
/** How long a member that others see on another chain looks for what its own log shows now. */
const FORK_LOOK_MS = 5000;
/** Long enough for everybody's next look at heads. */
const FORK_HEARD_SLOTS = 2;

export class Member<State, Command, D extends Duty, Settings> {
  readonly organism: Organism;
  readonly committee: Committee<State, Command, D>;
  readonly host: MemberHost<State, Command, Settings>;
  readonly services: readonly GrpcService[];
  readonly #options: MemberOptions<State, Command, D, Settings>;
  readonly #node: OrganismNode<Command, D>;
  readonly #archive: OutcomeArchive;
  readonly #bodies: KeptBodies;
  readonly #checkpoints: CheckpointKeeper;
  readonly #memberKey: SigningKey;
  readonly #timers: Timers;
  readonly #follower: OutcomeFollower;
  readonly #kept: KeptOutcomes;
  readonly #report: AppliedReport;
  readonly #standing: OwnStanding;
  readonly #halt: Halt;
  readonly #integrity: IntegrityWatch<State, Command, D>;
  readonly #log: GenerationLog;
  readonly #journal: MemberJournal;
  readonly #marks: ReadMarks;
  readonly #eraMark: EraMark;
  readonly #pressure: LogPressure;
  readonly #abstention: Abstention;
  readonly #duties: DutyRound<State, Command, D>;
  readonly #tail: EntryTail | undefined;
  readonly #change: GenerationChange<State, Command, D> | undefined;
  readonly #snapshots: SnapshotStore;
  /** Ends the reading of one generation's log. */
  #reading = new AbortController();
  /** Between two generations: nothing is read, done or said in the log. */
  #ending = false;
  #following = false;
  /** Others are on another chain: until it is known what that means, not a word. */
  #forking: Promise<void> | undefined;
  #started = false;
  #appender: Appender | undefined;
  #consuming: Promise<void> = Promise.resolve();
  readonly #keys: EpochKeys;
  readonly #eras: EraBook;
  readonly #succession: Succession;
  #stopTicking: () => void = () => undefined;
  #stopMeasuring: () => void = () => undefined;
  #woken = false;
  #caughtUp = false;

  private constructor(options: MemberOptions<State, Command, D, Settings>, parts: MemberStart<State, Command, D>) {
    this.#options = options;
    this.#halt = new Halt({
      onSilent: () => {
        this.#appender?.close();
        this.#onPosition(this.committee.position);
      },
      onFatal: options.onFatal,
    });
    this.#log = parts.log;
    this.#tail = parts.tail;
    this.#marks = parts.marks;
    this.#eraMark = parts.eraMark;
    this.#snapshots = parts.snapshots;
    this.organism = options.definition.organism;
    this.committee = parts.committee;
    this.#archive = parts.archive;
    this.#bodies = parts.bodies;
    this.#memberKey = generateSigningKey(options.secrets.memberKey);
    this.#checkpoints = new CheckpointKeeper(
      {
        quorumOf: (epoch) => this.committee.quorumOfEpoch(epoch).quorum,
        votes: (position) => this.committee.checkpointVotes(position),
        stores: [parts.snapshots, ...(options.archive === undefined ? [] : [options.archive.snapshots])],
        logger: options.logger,
        meters: options.meters,
        onSaved: () => this.#forget(),
      },
      parts.snapshots.held().find(({ checkpoint }) => checkpoint.generation === this.committee.generation)?.checkpoint
        .position ?? 0n,
    );
    this.#journal = options.nextLog === undefined ? options.journal : this.#marks.noting(() => this.#ending);
    const { config, rosters, endpoints, clock, logger, meters, secrets, self, random, journal, journalIsOld } = options;
    this.#timers = options.timers ?? nodeTimers;
    this.#pressure = new LogPressure(this.#log, meters, logger);
    const { committee } = parts;
    this.#abstention = new Abstention({ config, self, journal, journalIsOld, committee, clock, logger });
    this.#keys = options.epochKeys ?? singleEpochKeys(rosters[this.organism].epoch, secrets);
    this.#eras = parts.eras;
    this.#follower = new OutcomeFollower({
      config,
      rosters,
      endpoints,
      log: logger,
      offset: self,
      fromSlot: () => (this.committee.collapsedBelow > 1n ? this.committee.collapsedBelow : 1n),
      known: (organism, outcome) => this.committee.observed(organism, outcome.stage, outcome.slot) !== undefined,
      onOutcome: (organism, certified) => this.#noteUpstream(organism, certified),
      eras: this.#eras.of,
      onUnverified: () => this.#succession.want(),
      connect: options.connect ?? connectOverGrpc,
      timers: this.#timers,
      jitter: () => (random(1)[0] ?? 0) / 256,
    });
    this.#succession = new Succession({
      organism: this.organism,
      self,
      committee,
      keys: this.#keys,
      book: parts.book,
      eras: this.#eras,
      keep: (certified) => this.#archive.put(certified),
      endpoints,
      client: (organism, address) => this.#follower.client(organism, address),
      timers: this.#timers,
      logger,
      meters,
    });
    this.#kept = new KeptOutcomes({
      committee,
      archive: this.#archive,
      bodies: this.#bodies,
      outside: options.archive,
      others: new BodyFetcher({
        config,
        self: this.organism,
        index: self,
        memberKey: this.#memberKey,
        boxKey: agreementKey(secrets.boxKey),
        endpoints,
        clock,
        follower: this.#follower,
      }),
      logger,
    });
    const { organism } = this;
    const { tracer } = options;
    this.#report = new AppliedReport({ config, organism, self, committee, clock, logger, meters, tracer });
    this.#standing = new OwnStanding({
      self,
      publicKey: this.#memberKey.publicKey,
      committee,
      incarnation: () => this.#appender?.incarnation,
      keys: this.#keys,
      halt: this.#halt,
      logger,
      meters,
    });
    const proofs = new FraudProofs(options.journal);
    this.#change = this.#makeChange();
    this.#integrity = new IntegrityWatch({
      config,
      self,
      committee: this.committee,
      certifiedRoster: options.certifiedRoster,
      proofs,
      log: this.#log,
      peers: () => this.#peers(),
      withheldMs: () => this.#appender?.withheldMs ?? 0,
      timers: this.#timers,
      logger,
      meters: options.meters,
      onForked: (detail) => {
        this.#forking ??= this.#forked(detail).finally(() => {
          this.#forking = undefined;
        });
      },
      onGeneration: () => void this.#follow(),
      onAccusation: () => this.#schedule(),
      ...(options.onProof === undefined ? {} : { onProof: options.onProof }),
    });
    this.host = this.#makeHost();
    this.#node = options.definition.createNode(this.host);
    this.#duties = new DutyRound({
      config,
      self,
      committee: this.committee,
      node: this.#node,
      journal: this.#journal,
      keys: this.#keys,
      eras: this.#eras,
      clock,
      timers: this.#timers,
      logger,
      append: (lane, command) => this.#append(lane, command),
      abstainBelow: () => this.#abstention.below,
      logFull: () => this.#pressure.full,
      draining: () => this.#halt.draining,
      again: () => this.#schedule(),
    });
    this.services = [
      ...this.#node.services,
      committeeService({
        config: options.config,
        organism: this.organism,
        self: options.self,
        committee: this.committee,
        rosters: parts.book,
        certifiedRosters: () => this.#succession.rosters,
        archive: this.#archive,
        bodies: this.#bodies,
        policies: this.#node.bodies,
        clock: options.clock,
        timers: this.#timers,
        random: options.random,
        caughtUp: () => this.#caughtUp,
        snapshotPosition: () => this.#checkpoints.savedPosition,
        snapshots: parts.snapshots,
        memberKey: this.#memberKey,
        usage: () => this.#pressure.usage,
        log: this.#log,
        tail: this.#tail,
        gossip: () => this.#change,
        ...(options.archive === undefined ? {} : { archiveOutside: options.archive }),
        proofs,
        differing: () => this.#integrity.differing.map(({ member }) => member),
      }),
    ];
  }

  /** Loads the newest snapshot, reads the log's tail, joins, and takes up its duties. */
  static async start<State, Command, D extends Duty, Settings>(
    options: MemberOptions<State, Command, D, Settings>,
  ): Promise<Member<State, Command, D, Settings>> {
    const start = await startMember(options);
    const member = new Member(options, start);
    await member.#learnRosters(start);
    await member.#begin(start);
    return member;
  }

  async #learnRosters({ archive, committee, eras, saveEras }: MemberStart<State, Command, D>): Promise<void> {
    const { certifiedRoster, logger } = this.#options;
    this.#succession.takeEras();
    eras.onLearned((of, { number, fromSlot }) => {
      logger.info("an era is known", { of, era: number, from_slot: fromSlot });
      this.#follower.lookAgain(of);
      saveEras();
    });
    if (certifiedRoster !== undefined) this.#succession.learn(certifiedRoster);
    for (const { activationSlot } of committee.rosters) {
      const certified = await archive.get(ROSTER_STAGE, activationSlot);
      if (certified !== undefined) this.#succession.learn(certified);
    }
  }

  async #begin({ state }: MemberStart<State, Command, D>): Promise<void> {
    await this.#node.start?.();
    this.#integrity.restore();
    this.#options.meters.gauge("lattice_generation", Number(this.committee.generation));
    if (state === "there") await this.#read();
    // Others can ask this member for the beginning of this generation meanwhile.
    else if (state === "awaited") this.#goOn(() => this.#readWhenPresent());
    else this.#lose("LOG_LOST", state.lost);
  }

  /** Reads the log of this generation to its end, joins, and takes part. */
  async #read(): Promise<void> {
    const { logger, config } = this.#options;
    const log = this.#log;
    const applied = this.#marks.furthest();
    let target: bigint;
    try {
      target = await log.lastPosition(applied);
    } catch (error) {
      if (!(error instanceof LogLost) || !error.history) throw error;
      return this.#lose("LOG_LOST", error.message);
    }
    if (target < applied) {
      return this.#lose("LOG_ROLLED_BACK", `the log ends at ${target}, this member has applied ${applied}`);
    }
    // Enough others have said meanwhile that this generation is over.
    if (this.#ending || this.#halt.draining) return;
    logger.info("member starts", {
      lattice: config.name,
      lattice_id: Buffer.from(latticeId(config)).toString("hex"),
      key_origin: config.keys,
      throw_away: config.throwAway,
      committee_id: Buffer.from(committeeId(config, this.organism)).toString("hex"),
      from_position: this.committee.position,
      to_position: target,
    });
    const reached = new Promise<void>((resolve) => {
      this.#onPosition = (position) => {
        if (position >= target || this.#ending || this.#halt.silent || this.#halt.draining) resolve();
      };
      this.#onPosition(this.committee.position);
    });
    this.#kept.certifyMissing();
    this.#reading = new AbortController();
    this.#consuming = this.#consume(this.#reading.signal);
    this.#report.rules();
    const stopLooking = this.#watchEnd(target);
    await reached;
    stopLooking();
    this.#onPosition = () => undefined;
    if (this.#ending || this.#halt.draining) return;
    this.#standing.checkKey();
    if (!this.#halt.silent) await this.#integrity.begin();
    // What it sees at its first start others hear before it stops: it is served from here on, and silent in the log.
    if (!this.#started && this.#forking !== undefined) return;
    await this.#forking;
    if (this.#halt.silent || this.#ending) return;
    // It is served meanwhile: others may wait for the same.
    if (this.#change?.bound === true) this.#withdraw(this.#change);
    else await this.#takePart();
  }

  /** It has said where this generation ends, and reads on in it: it says nothing here before the others let it. */
  #withdraw(change: GenerationChange<State, Command, D>): void {
    change
      .withdraw()
      .then(async (free) => {
        if (free === undefined || this.#halt.silent || this.#ending || this.#halt.draining) return;
        if (free) await this.#takePart();
        else this.#lose("LOG_LOST", "the others hold this member to what it has said about the end of its generation");
      })
      .catch((error: unknown) => {
        if (!this.#halt.draining)
          this.#halt.fail("LOG_LOST", error instanceof Error ? error.message : "it cannot go on");
      });
  }

  async #takePart(): Promise<void> {
    const { logger } = this.#options;
    this.#caughtUp = true;
    await this.#join();
    if (this.#ending) return;
    if (this.#started) {
      this.#schedule();
      return;
    }
    this.#started = true;
    this.#follower.follow(this.committee.machine.upstream);
    this.#stopTicking = this.#timers.every(TICK_MS, () => this.#schedule());
    this.#integrity.watch();
    this.#stopMeasuring = this.#timers.every(USAGE_MS, () => this.#pressure.measure());
    this.#pressure.measure();
    this.#schedule();
    logger.info("member is ready", { position: this.committee.position });
  }

  #onPosition: (position: bigint) => void = () => undefined;

  /** A log that is put back while it is read at the start may never get to `target` again. @returns what ends looking */
  #watchEnd(target: bigint): () => void {
    const { config, logger } = this.#options;
    const log = this.#log;
    let before = this.committee.position;
    const look = async (): Promise<void> => {
      const { position } = this.committee;
      if (position > before) {
        before = position;
        return;
      }
      logger.warn("waiting for the log", { position, to_position: target });
      const last = await log.lastPosition(target);
      if (last >= target || this.#halt.silent || this.#ending || this.committee.position >= target) return;
      this.#lose("LOG_ROLLED_BACK", `the log ends at ${last}, it ended at ${target} when this member began to read it`);
    };
    return everyWhenDone(this.#timers, Math.max(config.slotMs, READING_LOOK_MS), () =>
      look().catch((error: unknown) => {
        if (error instanceof LogLost && error.history) this.#lose("LOG_LOST", error.message);
        else logger.warn("the end of the log cannot be asked for", errorFields(error));
      }),
    );
  }

  async #consume(reading: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([this.#halt.signal, reading]);
    const intake = new Intake({
      deliver: ({ position, raw }, read) => {
        if (!reading.aborted) this.#deliver(position, raw, read);
      },
      signedBy: (entry) => this.#appender?.signedBy(entry),
      keyOf: (author) => this.committee.author(author)?.key,
      timers: this.#timers,
      verify: this.#options.verify,
    });
    try {
      await this.#log
        .consume(this.committee.position + 1n, (message) => intake.take(message), signal)
        // Whatever ends the reading comes after what was read.
        .finally(() => intake.drained());
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof HistoryGone) this.#halt.fail("HISTORY_GONE", error.message);
      else if (error instanceof LogLost && error.history) this.#lose("LOG_LOST", error.message);
      else this.#halt.fail("LOG_LOST", error instanceof Error ? error.message : "the log cannot be read");
    }
  }

  async #join(): Promise<void> {
    const { journal, self, secrets, random, clock, definition } = this.#options;
    const log = this.#log;
    await this.#abstention.begin(this.#appender !== undefined);
    if (this.#appender !== undefined) {
      const refusal = await this.#appender.resume().catch((error: unknown) => {
        if (this.#halt.silent || this.#halt.draining) return undefined;
        throw error;
      });
      if (refusal !== undefined && !this.#ending) {
        this.#halt.fail("JOIN_REFUSED", `${refusal.reason}: ${refusal.detail}`);
      }
      return;
    }
    const { publicKey } = generateSigningKey(secrets.memberKey);
    this.#appender = new Appender({
      organism: definition.organism,
      committee: this.committee.id,
      generation: () => this.committee.generation,
      epoch: () => this.committee.epochOf(self, publicKey) ?? this.committee.roster.epoch,
      author: self,
      memberKey: secrets.memberKey,
      random,
      log,
      journal,
      clock,
      timers: this.#timers,
      view: () => ({ position: this.committee.position, head: this.committee.head }),
      joined: () => this.committee.author(self)?.incarnation ?? 0n,
      onPressure: (refused) => this.#pressure.noteRefused(refused),
      onLost: (reason, detail) => this.#halt.fail(reason, detail),
    });
    const refusal = await this.#appender.join().catch((error: unknown) => {
      // Told to fall silent while it joined: whoever told it has said why.
      if (this.#halt.silent) return undefined;
      throw error;
    });
    if (refusal !== undefined && !this.#ending) this.#halt.fail("JOIN_REFUSED", `${refusal.reason}: ${refusal.detail}`);
  }

  #deliver(position: bigint, raw: Uint8Array, read: ReadEntry | undefined): void {
    const { logger } = this.#options;
    if (this.#halt.silent || this.#ending) return;
    const before = this.#tail?.hashAt(this.committee.generation, position);
    if (before !== undefined && !equalBytes(before, tailHash(raw))) {
      this.#replaced(position);
      return;
    }
    if (position !== this.committee.position + 1n) {
      this.#halt.fail("LOG_HOLE", `position ${position} came, position ${this.committee.position + 1n} was to come`);
      return;
    }
    this.#standing.checkRules();
    if (this.#halt.silent) return;
    const startedAt = process.hrtime.bigint();
    const applied = this.committee.apply(position, raw, read);
    this.#tail?.append(this.committee.generation, position, raw);
    this.#report.applied(applied, Number(process.hrtime.bigint() - startedAt) / 1e9);
    if (applied.refusal?.reason === "OTHER_ERA") this.#succession.noteOtherEra(applied);
    this.#integrity.delivered(raw, applied);
    if (applied.fraud !== undefined) this.#standing.checkKey();
    this.#standing.checkRules();
    if (!this.#marks.agrees()) this.#replaced(position);
    this.#standing.applied(applied);
    this.#abstention.applied(applied);
    this.#appender?.consumed(applied);
    this.#checkpoints.applied(applied);
    if (applied.dissent !== undefined) this.#standing.dissent(applied.dissent);
    if (applied.announced !== undefined) this.#succession.announced(applied.announced);
    if (applied.era !== undefined) this.#succession.eraBegins(applied.era);
    this.#eraMark
      .note()
      ?.catch((error: unknown) => logger.error("the era that this log stands in cannot be kept", errorFields(error)));
    for (const outcome of applied.decided) {
      this.#report.decided(outcome, this.#caughtUp);
      if (this.#caughtUp) this.#node.decided?.(outcome);
    }
    for (const outcome of applied.certified) this.#kept.certify(outcome);
    this.#onPosition(position);
    this.#schedule();
  }

  #replaced(position: bigint): void {
    this.#lose("LOG_REPLACED", `the log holds something else at position ${position} than when it was last read`);
  }

  #makeChange(): GenerationChange<State, Command, D> | undefined {
    const options = this.#options;
    const { self, journal, clock, logger, meters, nextLog, endPatience } = options;
    if (this.#tail === undefined || nextLog === undefined) return undefined;
    return new GenerationChange<State, Command, D>({
      committee: this.committee,
      fresh: () => freshCommittee(options),
      self,
      memberKey: this.#memberKey,
      certificateShare: (epoch) => this.#keys.of(epoch)?.certificateShare,
      eras: this.#eras.of,
      keyIsOver: this.#eraMark.isOver,
      journal,
      tail: this.#tail,
      snapshots: this.#snapshots,
      sources: () => snapshotSources(options),
      peers: () => this.#peers(),
      clock,
      timers: this.#timers,
      logger,
      meters,
      spokenOn: () => this.#marks.spokenOn(),
      onConvinced: () => this.#lose("LOG_LOST", "other members have read what the log does not hold any more", true),
      onBirth: (birth) => this.#turn(birth),
      onRulesUnknown: ({ message }) => this.#halt.fail("RULES_UNKNOWN", message),
      ...(endPatience ?? {}),
    });
  }

  /** f + 1 others are on another chain: either the stream has replaced what this member read, or the broker forks. */
  async #forked(detail: string): Promise<void> {
    if (this.#ending) return;
    const { generation, position } = this.committee;
    const kept = await this.#tail?.read(generation, position);
    if (this.#change !== undefined && kept !== undefined) {
      const stop = new AbortController();
      const cancel = this.#timers.after(FORK_LOOK_MS, () => stop.abort());
      const now = await readPosition(this.#log, position, stop.signal).catch(() => undefined);
      cancel();
      if (now !== undefined && !equalBytes(now, kept)) {
        return this.#lose("LOG_REPLACED", `the log holds something else at position ${position} than what was read`);
      }
    }
    // The others may be agreeing on the end, and need what this member has read.
    await this.#change?.hear();
    // Who stops again at each start would never be heard by those on the other chain, who compare heads once a slot.
    if (!this.#started && !this.#ending) {
      await pause(this.#timers, FORK_HEARD_SLOTS * this.#options.config.slotMs, this.#halt.signal);
    }
    if (!this.#ending && !this.#halt.draining) this.#halt.fail("LOG_FORKED", detail);
  }

  /**
   * The generation may be over. From here on nothing is read, done or said in its log; the others are asked, and when
   * a quorum agrees, the next one begins.
   * @param others this member has not seen it itself
   */
  #lose(reason: string, detail: string, others = false): void {
    if (this.#halt.silent || this.#halt.draining) return;
    if (this.#change === undefined) {
      this.#halt.fail(reason, detail);
      return;
    }
    const { logger } = this.#options;
    if (!this.#ending) {
      this.#ending = true;
      logger.error("the log has lost what was read; the members agree where its generation ends", {
        reason,
        problem: detail,
        generation: this.committee.generation,
        position: this.committee.position,
      });
      this.#reading.abort();
      this.#appender?.suspend();
      this.#onPosition(this.committee.position);
      this.#consuming = this.#consuming.then(() => this.#recall()).then(() => this.#change?.start(!others));
      if (!others) this.#watchOthers();
    } else this.#change.start(!others);
  }

  /** It may have lost its own view only. */
  #watchOthers(): void {
    const { generation } = this.committee;
    const others = new OthersGoOn(this.#marks.furthest());
    // A committee that goes on writes something in every slot.
    const stop = everyWhenDone(this.#timers, this.#options.config.slotMs, async () => {
      const over = (): boolean => !this.#ending || this.#halt.draining || this.committee.generation !== generation;
      if (over()) return stop();
      try {
        const [heads, blocked] = await Promise.all([
          this.#integrity.heads(others.asks),
          this.#integrity.blockedAnywhere(),
        ]);
        const unblocked = new Map([...heads].filter(([member]) => !blocked.has(member)));
        if (!others.look(unblocked, othersNeeded(this.committee.quorum, blocked.size)) || over()) return;
        stop();
        await this.#forgetOwnView();
      } catch (error) {
        this.#options.logger.warn("others could not be asked", errorFields(error));
      }
    });
  }

  /**
   * What it has read since its last certified snapshot is not what a quorum goes on with: it is read anew, by the next process.
   * Its promises stay.
   */
  async #forgetOwnView(): Promise<void> {
    const { generation, position } = this.committee;
    await this.#change?.close();
    await this.#tail?.keepFrom(generation + 1n, 0n);
    await this.#marks.forget();
    this.#halt.fail(
      "OTHERS_GO_ON",
      `a quorum reads on past position ${position}, which this member does not: it reads anew`,
    );
  }

  /** Somebody says that the generation is over. Only a certificate shows it: then this member goes on there. */
  async #follow(): Promise<void> {
    if (this.#change === undefined || this.#following || this.#ending || this.#halt.draining || this.#halt.silent)
      return;
    const { config, logger } = this.#options;
    const { generation } = this.committee;
    this.#following = true;
    try {
      const found = await fetchSnapshot({
        config,
        organism: this.organism,
        sources: snapshotSources(this.#options),
        wanted: ({ checkpoint }) => checkpoint.generation > generation && !this.#eraMark.isOver(checkpoint.epoch),
        log: logger,
        eras: this.#eras.of,
      });
      if (found === undefined || this.#ending || this.#halt.draining || this.committee.generation !== generation)
        return;
      this.#ending = true;
      this.#reading.abort();
      this.#appender?.suspend();
      this.#onPosition(this.committee.position);
      await this.#consuming;
      await this.#turn({ certified: found.certified, state: found.state, applied: undefined });
    } catch (error) {
      if (error instanceof RulesUnknown) this.#halt.fail("RULES_UNKNOWN", error.message);
      else logger.warn("a later generation cannot be taken from a peer", errorFields(error));
    } finally {
      this.#following = false;
    }
  }

  /** What was read before a restart and is not in the state yet. */
  async #recall(): Promise<void> {
    const { generation } = this.committee;
    for (;;) {
      const position = this.committee.position + 1n;
      const raw = await this.#tail?.read(generation, position);
      if (raw === undefined || this.#halt.draining) return;
      this.#standing.checkRules();
      if (this.#halt.silent) return;
      const applied = this.committee.apply(position, raw);
      this.#appender?.consumed(applied);
    }
  }

  /** The next generation, certified by a quorum: goes on from its beginning. */
  async #turn({ certified, state, applied }: Birth): Promise<void> {
    const { logger, meters, archive } = this.#options;
    const { checkpoint } = certified;
    await this.#snapshots.save(certified, state);
    await archive?.snapshots.save(certified, state).catch((error: unknown) => {
      logger.error("the archive directory failed", errorFields(error));
    });
    if (this.#halt.draining || this.#halt.silent) return;
    for (const each of applied ?? []) this.#appender?.consumed(each);
    if (applied === undefined) this.#appender?.forget();
    this.committee.restore(state);
    this.#checkpoints.beginGeneration();
    this.#integrity.beginGeneration();
    this.#change?.began();
    this.#caughtUp = false;
    logger.info("a generation of the log begins", {
      generation: checkpoint.generation,
      position: checkpoint.position,
      signers: certified.signers.join(),
    });
    meters.gauge("lattice_generation", Number(checkpoint.generation));
    this.#goOn(async () => {
      const log = await this.#options.nextLog?.(checkpoint.generation);
      if (log === undefined || this.#halt.draining) return log?.close();
      await this.#log.use(log);
      await this.#readWhenPresent();
    });
  }

  #goOn(read: () => Promise<void>): void {
    this.#ending = true;
    this.#consuming = read().catch((error: unknown) => {
      if (this.#halt.draining) return;
      this.#halt.fail(
        "LOG_LOST",
        error instanceof Error ? error.message : "the log of the next generation cannot be read",
      );
    });
  }

  /** The log of this generation is made by whoever runs the broker, once a member shows the certificate of its beginning. */
  async #readWhenPresent(): Promise<void> {
    const { generation } = this.committee;
    for (let looks = 0; !(await this.#log.present()); looks++) {
      if (looks % PRESENT_LOOKS === 0) this.#options.logger.warn("waiting for the log of a generation", { generation });
      await pause(this.#timers, PRESENT_PAUSE_MS, this.#halt.signal);
      if (this.#halt.draining || this.committee.generation !== generation) return;
    }
    if (this.#halt.draining || this.committee.generation !== generation) return;
    // The others have read and lost it: a stream that is made anew under its name is no log of it.
    if (this.#change?.active) return;
    this.#ending = false;
    await this.#read();
  }

  /** A newer snapshot is on disk: what it makes superfluous goes. */
  async #forget(): Promise<void> {
    const { journal, clock, config } = this.#options;
    if (!this.#halt.silent) await this.#marks.note();
    const second = this.#snapshots.held()[1]?.checkpoint;
    if (second !== undefined) await this.#tail?.keepFrom(second.generation, second.position + 1n);
    await journal.trim(this.committee.collapsedBelow);
    await this.#kept.prune(slotAt(config, clock.nowMs()));
  }

  #noteUpstream(organism: Organism, certified: CertifiedOutcome): void {
    this.#duties.noteUpstream(organism, certified);
    this.#kept.upstream(organism, certified.outcome);
    this.#schedule();
  }

  /** Looks at duties once per turn of the event loop, however often it is asked. */
  #schedule(): void {
    if (this.#woken || !this.#caughtUp || this.#halt.draining || this.#halt.silent || this.#ending) return;
    if (this.#forking !== undefined) return;
    // Before its Join has landed a member knows neither what another process of its own still says, nor whether it may.
    if (this.#appender?.admitted !== true) return;
    this.#woken = true;
    this.#timers.soon(() => {
      this.#woken = false;
      if (!this.#halt.draining && !this.#halt.silent && !this.#ending) this.#takeUpDuties();
    });
  }

  #takeUpDuties(): void {
    this.#duties.common();
    for (const { key, command } of this.#integrity.accusations()) {
      const encoded = encodeCommand(command);
      this.#duties.attempt(key, () => this.#append("bulk", encoded));
    }
    this.#succession.look((key, command) =>
      this.#duties.attempt(key, () => this.#append("ctl", encodeCommand(command))),
    );
    this.#duties.announceRules(this.#appender?.incarnation);
    this.#duties.own();
  }

  async #append(lane: Lane, command: Uint8Array): Promise<boolean> {
    const refusal = await this.#appender?.append(lane, command);
    return refusal === undefined;
  }

  /** Connections to the other members of this committee. Addresses are hints: whoever answers proves who it is. */
  #peers(): CommitteeClient[] {
    const { endpoints, self, logger } = this.#options;
    try {
      const addresses = endpoints()[this.organism];
      return addresses.flatMap((address, index) =>
        index === self ? [] : this.#follower.client(this.organism, address),
      );
    } catch (error) {
      logger.warn("the endpoints cannot be read", errorFields(error));
      return [];
    }
  }

  #makeHost(): MemberHost<State, Command, Settings> {
    const { config, self, rosters, settings, secrets, clock, random, logger, meters, directory } = this.#options;
    const journal = this.#journal;
    const fault = faultsOf(this.organism, COMMON_FAULTS);
    return {
      config,
      organism: this.organism,
      committee: this.committee.id,
      self,
      roster: rosters[this.organism],
      rosterAt: (slot) => this.committee.rosterAt(slot),
      sharesAt: (slot) => this.#keys.of(this.committee.rosterAt(slot).epoch),
      rosters,
      settings,
      secrets,
      clock,
      timers: this.#timers,
      random,
      journal: abstainingJournal(journal, (slot) => this.#appender?.admitted !== true || slot < this.#abstention.below),
      log: logger,
      meters,
      bodies: this.#bodies,
      directory,
      state: () => this.committee.state,
      caughtUp: () => this.#caughtUp,
      submit: (submission) => this.#submit(submission, fault),
      outcome: (stage, slot) => this.committee.outcome(stage, slot) ?? this.#archive.recent(stage, slot)?.outcome,
      certified: (stage, slot) =>
        stage === ROSTER_STAGE ? this.#succession.roster(slot) : this.#archive.recent(stage, slot),
      watch: (stage, fromSlot, signal) => this.#archive.watch([stage], fromSlot, signal),
      observed: (organism, stage, slot) => this.committee.observed(organism, stage, slot)?.outcome,
      fetchBody: (organism, outcome) => this.#kept.body(organism, outcome),
      wake: () => this.#schedule(),
    };
  }

  async #submit(
    submission: Submission<Command>,
    fault: ReturnType<typeof faultsOf<keyof typeof COMMON_FAULTS>>,
  ): Promise<Refusal | undefined> {
    if (!this.ready() || this.#appender === undefined) throw fault("NOT_READY");
    const { lane, command } = this.#duties.encode(submission);
    let cancel = (): void => undefined;
    const deadline = new Promise<never>((_, reject) => {
      cancel = this.#timers.after(SUBMIT_DEADLINE_MS, () => reject(fault("FATE_UNKNOWN")));
    });
    try {
      return await Promise.race([this.#appender.append(lane, command), deadline]);
    } finally {
      cancel();
    }
  }

  /** True while the member takes part: caught up and not draining. */
  ready(): boolean {
    return (
      this.#caughtUp && !this.#halt.draining && !this.#halt.silent && !this.#ending && this.#appender?.admitted === true
    );
  }

  /** Stops taking up duties, lets what is in flight land, saves a snapshot, closes everything. */
  async stop(graceMs = 2000): Promise<void> {
    if (!this.#halt.drain()) return;
    this.#onPosition(this.committee.position);
    this.#stopTicking();
    this.#stopMeasuring();
    const until = this.#timers.elapsedMs() + graceMs;
    while ((this.#appender?.inFlight ?? 0) > 0 && this.#timers.elapsedMs() < until) await pause(this.#timers, 20);
    await this.#change?.close();
    this.#halt.stop();
    await this.#integrity.close();
    await this.#follower.close();
    this.#appender?.close();
    await this.#consuming;
    await this.#node.stop?.();
    await this.#checkpoints.settled();
    // One that was told to fall silent leaves its folder to whoever speaks now.
    await this.#tail?.close();
    if (!this.#halt.silent && this.#caughtUp && !this.#ending) {
      await this.#marks.note().catch((error: unknown) => {
        this.#options.logger.error("the journal failed", errorFields(error));
      });
    }
    await this.#archive.close();
    await this.#options.journal.close();
    await this.#log.close();
  }
}

/** The message at one position; undefined when it does not come before `signal` aborts. */
async function readPosition(log: Log, position: bigint, signal: AbortSignal): Promise<Uint8Array | undefined> {
  const stop = new AbortController();
  let found: Uint8Array | undefined;
  const deliver = (message: { readonly position: bigint; readonly raw: Uint8Array }): void => {
    if (message.position === position) found ??= message.raw.slice();
    stop.abort();
  };
  await log.consume(position, deliver, AbortSignal.any([stop.signal, signal]));
  return found;
}

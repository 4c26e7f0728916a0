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
import { generateSigningKey, type SigningKey } from "../crypto/ed25519.ts";
import { agreementKey } from "../crypto/x25519.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import { committeeId, latticeId, slotAt } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Duty, Refusal, Submission } from "../machine.ts";
import { errorFields } from "../observe/logger.ts";
import { type MemberJournal, pause, type Timers } from "../ports.ts";
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
import { Generations } from "./generations.ts";
import { Halt } from "./halt.ts";
import { IntegrityWatch } from "./integrity-watch.ts";
import { KeptOutcomes } from "./kept-outcomes.ts";
import { LogPressure } from "./log-pressure.ts";
import type { MemberOptions } from "./member-options.ts";
import { freshCommittee, type MemberStart, snapshotSources, startMember } from "./member-start.ts";
import { nodeTimers } from "./node-timers.ts";
import type { OutcomeArchive } from "./outcome-archive.ts";
import { type CommitteeClient, connectOverGrpc, OutcomeFollower } from "./outcome-follower.ts";
import { OutcomeHandover } from "./outcome-handover.ts";
import { OwnStanding } from "./own-standing.ts";
import type { ReadMarks } from "./read-marks.ts";
import { SnapshotHandover } from "./snapshot-handover.ts";
import type { SnapshotStore } from "./snapshot-store.ts";
import type { KeptBodies } from "./storage.ts";
import { Succession } from "./succession.ts";

/** How often duties are looked at without anything happening. */
const TICK_MS = 50;
/** How long a client's request waits for its entry to come back. */
const SUBMIT_DEADLINE_MS = 10_000;
/** How often the log's size is looked at. */
const USAGE_MS = 2000;
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
  /** The archive's snapshots. */
  readonly #outside: SnapshotHandover | undefined;
  /** The archive's outcomes. */
  readonly #outcomesOutside: OutcomeHandover | undefined;
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
  readonly #generations: Generations;
  /** This process has taken part. */
  #started = false;
  #appender: Appender | undefined;
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
        this.#generations.moved();
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
    const { archive } = options;
    this.#outside = archive === undefined ? undefined : new SnapshotHandover(archive.snapshots, options.logger);
    this.#checkpoints = new CheckpointKeeper(
      {
        quorumOf: (epoch) => this.committee.quorumOfEpoch(epoch).quorum,
        votes: (position) => this.committee.checkpointVotes(position),
        store: parts.snapshots,
        outside: this.#outside,
        logger: options.logger,
        meters: options.meters,
        onSaved: () => this.#forget(),
      },
      parts.snapshots.held().find(({ checkpoint }) => checkpoint.generation === this.committee.generation)?.checkpoint
        .position ?? 0n,
    );
    this.#journal =
      options.nextLog === undefined ? options.journal : this.#marks.noting(() => this.#generations.ending);
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
    this.#outcomesOutside =
      archive === undefined
        ? undefined
        : new OutcomeHandover({
            outside: archive,
            own: this.#archive,
            stages: committee.machine.stages,
            timers: this.#timers,
            logger,
            meters,
          });
    this.#kept = new KeptOutcomes({
      committee,
      archive: this.#archive,
      bodies: this.#bodies,
      outside: this.#outcomesOutside,
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
      certifiedRosters: () => this.#succession.rosters,
      proofs,
      log: this.#log,
      peers: () => this.#peers(),
      withheldMs: () => this.#appender?.withheldMs ?? 0,
      timers: this.#timers,
      logger,
      meters: options.meters,
      onForked: (detail) => this.#generations.forked(detail),
      onGeneration: () => void this.#generations.follow(),
      onAccusation: () => this.#schedule(),
      ...(options.onProof === undefined ? {} : { onProof: options.onProof }),
    });
    this.#generations = new Generations({
      committee,
      log: this.#log,
      nextLog: options.nextLog,
      tail: this.#tail,
      marks: this.#marks,
      change: this.#change,
      integrity: this.#integrity,
      standing: this.#standing,
      appender: () => this.#appender,
      reading: {
        deliver: ({ position, raw }, read) => this.#deliver(position, raw, read),
        signedBy: (entry) => this.#appender?.signedBy(entry),
        keyOf: (author) => committee.author(author)?.key,
        verify: options.verify,
      },
      halt: this.#halt,
      slotMs: config.slotMs,
      timers: this.#timers,
      logger,
      started: () => this.#started,
      onReading: (target) => this.#noteReading(target),
      onReached: () => this.#takePart(),
      onBirth: (birth) => this.#beginGeneration(birth),
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

  async #begin({ logState }: MemberStart<State, Command, D>): Promise<void> {
    await this.#node.start?.();
    this.#integrity.restore();
    this.#outcomesOutside?.begin();
    this.#options.meters.gauge("lattice_generation", Number(this.committee.generation));
    await this.#generations.begin(logState);
  }

  #noteReading(target: bigint): void {
    const { logger, config } = this.#options;
    logger.info("member starts", {
      lattice_id: Buffer.from(latticeId(config)).toString("hex"),
      key_origin: config.keys,
      throw_away: config.throwAway,
      committee_id: Buffer.from(committeeId(config, this.organism)).toString("hex"),
      from_position: this.committee.position,
      to_position: target,
    });
    this.#kept.certifyMissing();
    this.#report.rules();
  }

  async #takePart(): Promise<void> {
    const { logger } = this.#options;
    this.#caughtUp = true;
    const over = this.#untilOver();
    await this.#join(over);
    if (over()) return;
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

  /** @returns whether what was begun now has come to nothing: the member ends, or the generation that it was begun in does */
  #untilOver(): () => boolean {
    const { generation } = this.committee;
    return () => this.#generations.ending || this.#halt.draining || this.committee.generation !== generation;
  }

  async #join(over: () => boolean): Promise<void> {
    const { journal, self, secrets, random, clock, definition } = this.#options;
    const log = this.#log;
    await this.#abstention.begin(this.#appender !== undefined);
    // Whoever ended the log meanwhile has silenced the appender already, or found none.
    if (over()) return;
    if (this.#appender !== undefined) {
      const refusal = await this.#appender.resume().catch((error: unknown) => {
        if (this.#halt.silent || this.#halt.draining) return undefined;
        throw error;
      });
      if (refusal !== undefined && !over()) {
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
    if (refusal !== undefined && !over()) this.#halt.fail("JOIN_REFUSED", `${refusal.reason}: ${refusal.detail}`);
  }

  #deliver(position: bigint, raw: Uint8Array, read: ReadEntry | undefined): void {
    const { logger } = this.#options;
    if (this.#halt.silent || this.#generations.ending) return;
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
    this.#generations.moved();
    this.#schedule();
  }

  #replaced(position: bigint): void {
    const detail = `the log holds something else at position ${position} than when it was last read`;
    this.#generations.lose({ reason: "LOG_REPLACED", detail });
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
      onConvinced: () => {
        const detail = "other members have read what the log does not hold any more";
        this.#generations.lose({ reason: "LOG_LOST", detail }, true);
      },
      onBirth: (birth) => this.#generations.turn(birth),
      onLater: () => void this.#generations.follow(),
      onRulesUnknown: ({ message }) => this.#halt.fail("RULES_UNKNOWN", message),
      ...(endPatience ?? {}),
    });
  }

  /** The beginning of the next generation, certified by a quorum, becomes this member's state. */
  async #beginGeneration({ certified, state, applied }: Birth): Promise<void> {
    const { logger, meters } = this.#options;
    const { generation, position } = certified.checkpoint;
    await this.#snapshots.save(certified, state);
    this.#outside?.hand(certified, state);
    if (this.#halt.draining || this.#halt.silent) return;
    for (const each of applied ?? []) this.#appender?.consumed(each);
    if (applied === undefined) this.#appender?.forget();
    this.committee.restore(state);
    this.#checkpoints.beginGeneration();
    this.#integrity.beginGeneration();
    this.#caughtUp = false;
    logger.info("a generation of the log begins", { generation, position, signers: certified.signers.join() });
    meters.gauge("lattice_generation", Number(generation));
  }

  /** A newer snapshot is on disk: what it makes superfluous goes. */
  async #forget(): Promise<void> {
    const { journal, clock, config } = this.#options;
    if (!this.#halt.silent) await this.#marks.note();
    const second = this.#snapshots.held()[1]?.checkpoint;
    if (second !== undefined) await this.#tail?.keepFrom(second.generation, second.position + 1n);
    // This makes room; what the journal writes anew needs some first.
    await this.#kept.prune(slotAt(config, clock.nowMs()));
    await journal.trim(this.committee.collapsedBelow);
  }

  #noteUpstream(organism: Organism, certified: CertifiedOutcome): void {
    this.#duties.noteUpstream(organism, certified);
    this.#kept.upstream(organism, certified.outcome);
    this.#schedule();
  }

  /** Looks at duties once per turn of the event loop, however often it is asked. */
  #schedule(): void {
    if (this.#woken || !this.#caughtUp || this.#halt.draining || this.#halt.silent || this.#generations.ending) return;
    if (this.#generations.forking) return;
    // Before its Join has landed a member knows neither what another process of its own still says, nor whether it may.
    if (this.#appender?.admitted !== true) return;
    this.#woken = true;
    this.#timers.soon(() => {
      this.#woken = false;
      if (!this.#halt.draining && !this.#halt.silent && !this.#generations.ending) this.#takeUpDuties();
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
      this.#caughtUp &&
      !this.#halt.draining &&
      !this.#halt.silent &&
      !this.#generations.ending &&
      this.#appender?.admitted === true
    );
  }

  /** Stops taking up duties, lets what is in flight land, saves a snapshot, closes everything. */
  async stop(graceMs = 2000): Promise<void> {
    if (!this.#halt.drain()) return;
    this.#generations.moved();
    this.#stopTicking();
    this.#stopMeasuring();
    const until = this.#timers.elapsedMs() + graceMs;
    while ((this.#appender?.inFlight ?? 0) > 0 && this.#timers.elapsedMs() < until) await pause(this.#timers, 20);
    await this.#change?.close();
    this.#halt.stop();
    await this.#integrity.close();
    await this.#follower.close();
    this.#appender?.close();
    await this.#generations.settled();
    await this.#node.stop?.();
    await this.#checkpoints.settled();
    if (this.#outside !== undefined) {
      // An archive that does not answer is not waited for any longer.
      const settled = new AbortController();
      void Promise.all([this.#outside.settled(), this.#outcomesOutside?.close()]).then(() => settled.abort());
      await pause(this.#timers, graceMs, settled.signal);
    }
    // One that was told to fall silent leaves its folder to whoever speaks now.
    await this.#tail?.close();
    if (!this.#halt.silent && this.#caughtUp && !this.#generations.ending) {
      await this.#marks.note().catch((error: unknown) => {
        this.#options.logger.error("the journal failed", errorFields(error));
      });
    }
    await this.#archive.close();
    await this.#options.journal.close();
    await this.#log.close();
  }
}

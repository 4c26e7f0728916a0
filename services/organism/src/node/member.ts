/**
 * One member of one committee, running: log → committee → duties → log. Production, the embedded lattice and tests
 * all start members here; they differ in the ports they pass in.
 */
import { equalBytes, toHex, tryDecode } from "../codec/codec.ts";
import { encodeCommand } from "../committee/commands.ts";
import { type Applied, Committee } from "../committee/committee.ts";
import type { Dissent } from "../committee/effects.ts";
import type { Lane, ReadEntry } from "../committee/entry.ts";
import type { CertifiedOutcome, Outcome } from "../committee/outcome.ts";
import { ROSTER_STAGE, type Roster } from "../committee/roster.ts";
import { type RuleRange, RulesUnknown } from "../committee/rules.ts";
import { generateSigningKey, type SigningKey } from "../crypto/ed25519.ts";
import { agreementKey } from "../crypto/x25519.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import { committeeId, type LatticeConfig, latticeId, slotAt } from "../identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import type { Duty, Refusal, Submission } from "../machine.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import type { SlotTracer } from "../observe/tracing.ts";
import { ATTRIBUTION } from "../outcomes/tally.ts";
import {
  type Clock,
  everyWhenDone,
  HistoryGone,
  type Log,
  LogLost,
  type MemberJournal,
  pause,
  type Random,
  type Timers,
} from "../ports.ts";
import type { GrpcService } from "../rpc/define.ts";
import type { MemberHost, MemberSecrets, OrganismDefinition, OrganismNode } from "../service.ts";
import { abstainingJournal } from "./abstaining-journal.ts";
import { Abstention } from "./abstention.ts";
import { Appender } from "./appender.ts";
import type { Archive } from "./archive.ts";
import { BodyFetcher } from "./body-fetcher.ts";
import { BUILD_NAME } from "./build.ts";
import { CheckpointKeeper } from "./checkpoint-keeper.ts";
import { committeeService } from "./committee-service.ts";
import { DutyRound } from "./duty-round.ts";
import { type EntryTail, tailHash } from "./entry-tail.ts";
import { type EpochKeys, singleEpochKeys } from "./epoch-keys.ts";
import { EraBook } from "./era-book.ts";
import { EraMark } from "./era-mark.ts";
import { FraudProofs } from "./fraud-proofs.ts";
import { type Birth, GenerationChange } from "./generation-change.ts";
import { GenerationLog } from "./generation-log.ts";
import { Intake, type VerifyElsewhere } from "./intake.ts";
import { IntegrityWatch } from "./integrity-watch.ts";
import { LogPressure } from "./log-pressure.ts";
import { nodeTimers } from "./node-timers.ts";
import { OthersGoOn, othersNeeded } from "./others-go-on.ts";
import type { OutcomeArchive } from "./outcome-archive.ts";
import {
  type CommitteeClient,
  type ConnectCommittee,
  connectOverGrpc,
  type Endpoints,
  OutcomeFollower,
} from "./outcome-follower.ts";
import { ReadMarks } from "./read-marks.ts";
import { RosterBook } from "./roster-book.ts";
import { archiveSource, fetchSnapshot, peerSource, type SnapshotSource } from "./snapshot-fetcher.ts";
import type { SnapshotStore } from "./snapshot-store.ts";
import { restoreOwn, syncGeneration, syncState } from "./state-sync.ts";
import { fileStorage, type KeptBodies, type MemberStorage } from "./storage.ts";
import { askOwnRosters, Succession } from "./succession.ts";

export interface MemberOptions<State, Command, D extends Duty, Settings> {
  readonly definition: OrganismDefinition<State, Command, D, Settings>;
  readonly settings: Settings;
  readonly config: LatticeConfig;
  readonly self: number;
  readonly rosters: { readonly [O in Organism]: Roster };
  /** This committee's own roster with its certificate: served to whoever needs a key or a member's name. */
  readonly certifiedRoster?: CertifiedOutcome;
  readonly secrets: MemberSecrets;
  /** The eras that the kit tells of; those that the config pins when left out. */
  readonly eras?: EraBook;
  /** Shares of later epochs; without, those in `secrets` serve the first one and there is no other. */
  readonly epochKeys?: EpochKeys;
  readonly endpoints: () => Endpoints;
  /** That of the first generation. */
  readonly log: Log;
  /**
   * Opens the log of a later generation, which may not be there yet. Without it a lost stream stops the member, as does
   * one that has come back with less.
   */
  readonly nextLog?: (generation: bigint) => Promise<Log>;
  /** How long agreeing on the end of a generation may take in its parts, if not as usual: in tests. */
  readonly endPatience?: { readonly roundMs: number; readonly graceMs: number };
  readonly journal: MemberJournal;
  /** False when the journal was just created: such a member may have promised what it no longer knows. */
  readonly journalIsOld: boolean;
  readonly directory: string;
  /** Files in `directory` when left out. */
  readonly storage?: MemberStorage;
  /** Outcomes and snapshots go there too; snapshots may come from there. */
  readonly archive?: Archive;
  /** How members of other committees are reached; gRPC when left out. */
  readonly connect?: ConnectCommittee;
  /** When checkpoints are due, if not as usual: in tests, alike for all members. */
  readonly checkpointEvery?: { readonly entries: bigint; readonly slots: bigint };
  /** Rules that this member follows, if fewer than its build has: in throw-away lattices and tests. */
  readonly rules?: RuleRange;
  /** How far ahead rules are planned, if not as usual: in tests, alike for all members. */
  readonly activationEntries?: bigint;
  readonly clock: Clock;
  /** Node's own when left out. */
  readonly timers?: Timers;
  readonly random: Random;
  /** Verifies the signatures of bursts of entries on other threads; on the event loop when left out. */
  readonly verify?: VerifyElsewhere;
  readonly logger: Logger;
  readonly meters: Meters;
  readonly tracer: SlotTracer;
  /** Called with each fraud proof that this member finds or reads, by its hash: to leave it where people find it. */
  readonly onProof?: (hash: string, proof: Uint8Array) => void;
  /** Called when the member must not go on: another incarnation speaks for it, or its log is forked. */
  readonly onFatal: (reason: string, detail: string) => void;
  /** Gives the committee to whoever watches it, before anything is applied. */
  readonly onCommittee?: (committee: Committee<State, Command, D>) => void;
}

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
  readonly #bodyFetcher: BodyFetcher;
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
  readonly #stop = new AbortController();
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
  #draining = false;
  /** Something fatal has happened: not another word. */
  #silent = false;

  private constructor(
    options: MemberOptions<State, Command, D, Settings>,
    parts: {
      archive: OutcomeArchive;
      bodies: KeptBodies;
      snapshots: SnapshotStore;
      committee: Committee<State, Command, D>;
      log: GenerationLog;
      tail: EntryTail | undefined;
      marks: ReadMarks;
      eraMark: EraMark;
      eras: EraBook;
      book: RosterBook;
    },
  ) {
    this.#options = options;
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
    this.#bodyFetcher = new BodyFetcher({
      config,
      self: this.organism,
      index: self,
      memberKey: this.#memberKey,
      boxKey: agreementKey(secrets.boxKey),
      endpoints,
      clock,
      follower: this.#follower,
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
      draining: () => this.#draining,
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
    const { definition, config, directory, rosters, logger, meters } = options;
    const { organism } = definition;
    const committee = freshCommittee(options);
    options.onCommittee?.(committee);
    const storage = options.storage ?? fileStorage(directory);
    const eras = options.eras ?? new EraBook(config);
    const kept = eras.learnAll((await storage.eras?.()) ?? {});
    if (kept !== undefined) logger.error("what was kept of eras does not stand", { problem: kept });
    const evidence = options.storage === undefined ? { evidenceDirectory: directory } : {};
    const book = new RosterBook({ config, rosters, log: logger, meters, eras, ...evidence });
    const snapshots = await storage.snapshots(config, organism, eras.of);
    await restoreOwn(committee, snapshots, logger);
    const tail = options.nextLog === undefined ? undefined : await storage.tail?.();
    const log = new GenerationLog(options.log);
    const eraMark = new EraMark(committee, options.journal, eras.of);
    const { endpoints, connect } = options;
    const learnEras = (): Promise<void> => askOwnRosters({ organism, config, book, endpoints, connect, logger });
    const sync = {
      committee,
      log,
      store: snapshots,
      sources: snapshotSources(options),
      logger,
      eras: eras.of,
      keyIsOver: eraMark.isOver,
      learnEras,
    };
    if (tail !== undefined) await syncGeneration(sync);
    if (committee.generation > 0n) {
      const later = await options.nextLog?.(committee.generation);
      if (later === undefined) throw new Error(`no log is known for generation ${committee.generation}`);
      await log.use(later);
    }
    const marks = new ReadMarks(committee, options.journal, tail);
    const read = marks.furthest();
    // Of a generation that has only just been agreed on there may be no stream yet: then nothing is lost.
    const awaited = committee.generation > 0n && read === 0n && !(await log.present());
    let lost: string | undefined;
    try {
      if (!awaited) await syncState({ ...sync, timers: options.timers ?? nodeTimers });
    } catch (error) {
      if (!(error instanceof LogLost) || !error.history || tail === undefined || read === 0n) throw error;
      lost = error.message;
    }
    const archive = await storage.outcomes(organism);
    if (options.certifiedRoster !== undefined) await archive.put(options.certifiedRoster);
    const bodies = await storage.bodies();
    const saveEras = (): void => {
      storage.saveEras?.(eras.all).catch((error: unknown) => logger.error("eras cannot be kept", errorFields(error)));
    };
    const member = new Member(options, {
      archive,
      bodies,
      snapshots,
      committee,
      log,
      tail,
      marks,
      eraMark,
      eras,
      book,
    });
    member.#succession.takeEras();
    eras.onLearned((of, { number, fromSlot }) => {
      logger.info("an era is known", { of, era: number, from_slot: fromSlot });
      member.#follower.lookAgain(of);
      saveEras();
    });
    if (options.certifiedRoster !== undefined) member.#succession.learn(options.certifiedRoster);
    for (const { activationSlot } of committee.rosters) {
      const certified = await archive.get(ROSTER_STAGE, activationSlot);
      if (certified !== undefined) member.#succession.learn(certified);
    }
    await member.#begin(lost, awaited);
    return member;
  }

  /** @param awaited the log of this generation is still to be made: others can ask this member for its beginning meanwhile */
  async #begin(lost: string | undefined, awaited: boolean): Promise<void> {
    await this.#node.start?.();
    this.#integrity.restore();
    this.#options.meters.gauge("lattice_generation", Number(this.committee.generation));
    if (lost !== undefined) this.#lose("LOG_LOST", lost);
    else if (awaited) this.#goOn(() => this.#readWhenPresent());
    else await this.#read();
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
    if (this.#ending || this.#draining) return;
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
        if (position >= target || this.#ending || this.#silent || this.#draining) resolve();
      };
      this.#onPosition(this.committee.position);
    });
    // A crash may have kept the state that completed a certificate, and not the certificate.
    for (const outcome of this.committee.complete()) {
      if (!this.#archive.has(outcome.stage, outcome.slot)) this.#certify(outcome);
    }
    this.#reading = new AbortController();
    this.#consuming = this.#consume(this.#reading.signal);
    this.#noteRules();
    const stopLooking = this.#watchEnd(target);
    await reached;
    stopLooking();
    this.#onPosition = () => undefined;
    if (this.#ending || this.#draining) return;
    if (this.committee.isBlockedKey(this.#memberKey.publicKey)) {
      this.#fail("KEY_BLOCKED", "this member's own key was proven to say two things");
    }
    if (!this.#silent) await this.#integrity.begin();
    // What it sees at its first start others hear before it stops: it is served from here on, and silent in the log.
    if (!this.#started && this.#forking !== undefined) return;
    await this.#forking;
    if (this.#silent || this.#ending) return;
    // It is served meanwhile: others may wait for the same.
    if (this.#change?.bound === true) this.#withdraw(this.#change);
    else await this.#takePart();
  }

  /** It has said where this generation ends, and reads on in it: it says nothing here before the others let it. */
  #withdraw(change: GenerationChange<State, Command, D>): void {
    change
      .withdraw()
      .then(async (free) => {
        if (free === undefined || this.#silent || this.#ending || this.#draining) return;
        if (free) await this.#takePart();
        else this.#lose("LOG_LOST", "the others hold this member to what it has said about the end of its generation");
      })
      .catch((error: unknown) => {
        if (!this.#draining) this.#fail("LOG_LOST", error instanceof Error ? error.message : "it cannot go on");
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
      if (last >= target || this.#silent || this.#ending || this.committee.position >= target) return;
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
    const signal = AbortSignal.any([this.#stop.signal, reading]);
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
      if (error instanceof HistoryGone) this.#fail("HISTORY_GONE", error.message);
      else if (error instanceof LogLost && error.history) this.#lose("LOG_LOST", error.message);
      else this.#fail("LOG_LOST", error instanceof Error ? error.message : "the log cannot be read");
    }
  }

  async #join(): Promise<void> {
    const { journal, self, secrets, random, clock, definition } = this.#options;
    const log = this.#log;
    await this.#abstention.begin(this.#appender !== undefined);
    if (this.#appender !== undefined) {
      const refusal = await this.#appender.resume().catch((error: unknown) => {
        if (this.#silent || this.#draining) return undefined;
        throw error;
      });
      if (refusal !== undefined && !this.#ending) {
        this.#fail("JOIN_REFUSED", `${refusal.reason}: ${refusal.detail}`);
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
      onLost: (reason, detail) => this.#fail(reason, detail),
    });
    const refusal = await this.#appender.join().catch((error: unknown) => {
      // Told to fall silent while it joined: whoever told it has said why.
      if (this.#silent) return undefined;
      throw error;
    });
    if (refusal !== undefined && !this.#ending) this.#fail("JOIN_REFUSED", `${refusal.reason}: ${refusal.detail}`);
  }

  /** Falls silent for good; whoever runs this member ends it. */
  #fail(reason: string, detail: string): void {
    if (this.#silent) return;
    this.#silent = true;
    this.#appender?.close();
    this.#onPosition(this.committee.position);
    this.#options.onFatal(reason, detail);
  }

  #deliver(position: bigint, raw: Uint8Array, read: ReadEntry | undefined): void {
    const { self, logger, meters } = this.#options;
    if (this.#silent || this.#ending) return;
    const before = this.#tail?.hashAt(this.committee.generation, position);
    if (before !== undefined && !equalBytes(before, tailHash(raw))) {
      this.#replaced(position);
      return;
    }
    if (position !== this.committee.position + 1n) {
      this.#fail("LOG_HOLE", `position ${position} came, position ${this.committee.position + 1n} was to come`);
      return;
    }
    this.#checkRules();
    if (this.#silent) return;
    const startedAt = process.hrtime.bigint();
    const applied = this.committee.apply(position, raw, read);
    this.#tail?.append(this.committee.generation, position, raw);
    meters.count("lattice_entries_applied_total");
    meters.record("lattice_apply_seconds", Number(process.hrtime.bigint() - startedAt) / 1e9);
    meters.gauge("lattice_log_position", Number(position));
    if (applied.refusal !== undefined) {
      meters.count("lattice_entries_refused_total", 1, { reason: applied.refusal.reason });
      logger.debug("entry refused", { position, author: applied.author, ...applied.refusal });
      if (applied.refusal.reason === "OTHER_ERA") this.#succession.noteOtherEra(applied);
    }
    this.#integrity.delivered(raw, applied);
    if (applied.fraud !== undefined && this.committee.isBlockedKey(this.#memberKey.publicKey)) {
      this.#fail("KEY_BLOCKED", "this member's own key was proven to say two things");
    }
    if (applied.planned !== undefined || applied.activated !== undefined) this.#noteRules();
    this.#checkRules();
    if (!this.#marks.agrees()) this.#replaced(position);
    this.#checkSucceeded(applied, self);
    this.#checkLeft(self);
    this.#abstention.applied(applied);
    this.#appender?.consumed(applied);
    this.#checkpoints.applied(applied);
    if (applied.dissent !== undefined) this.#noteDissent(applied.dissent);
    for (const { author, what } of applied.badShares ?? []) {
      logger.error("a member's share is none; it does not count", { author, of: what, position });
      meters.count("lattice_bad_shares_total", 1, { author: String(author) });
    }
    if (applied.announced !== undefined) this.#succession.announced(applied.announced);
    if (applied.era !== undefined) this.#succession.eraBegins(applied.era);
    this.#eraMark
      .note()
      ?.catch((error: unknown) => logger.error("the era that this log stands in cannot be kept", errorFields(error)));
    for (const outcome of applied.decided) this.#decided(outcome);
    for (const outcome of applied.certified) this.#certify(outcome);
    this.#onPosition(position);
    this.#schedule();
  }

  /** What follows is beyond this build: whoever goes on would guess. */
  #checkRules(): void {
    const unknown = this.committee.unknownRules;
    if (unknown !== undefined) this.#fail("RULES_UNKNOWN", unknown.message);
  }

  #noteRules(): void {
    const { logger, meters } = this.#options;
    const { rules, speaks, position } = this.committee;
    const { active, since, next } = rules;
    meters.gauge("lattice_rules_version", active);
    meters.gauge("lattice_rules_next_version", next?.version ?? 0);
    meters.gauge("lattice_rules_next_position", Number(next?.from ?? 0n));
    meters.gauge("lattice_rules_build_version", speaks.highest);
    if (since === position && since > 0n) logger.info("rules govern from here on", { rules: active, position });
    if (next === undefined) return;
    const planned = { rules: next.version, from_position: next.from, build_speaks: speaks.highest };
    if (next.version <= speaks.highest) logger.info("a quorum can follow newer rules", planned);
    else logger.error("a quorum can follow newer rules, this build cannot: it stops before them", planned);
  }

  /** Says once per incarnation how far this build can follow, when that is beyond what governs. */
  #announceRules(): void {
    const { highest } = this.committee.speaks;
    const said = this.committee.author(this.#options.self)?.rules?.highest ?? 0;
    if (highest <= this.committee.rules.active || highest <= said) return;
    const command = encodeCommand({ type: "rules", highest, build: BUILD_NAME });
    this.#duties.attempt(`rules/${this.#ownIncarnation}/${highest}`, () => this.#append("ctl", command));
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
      sources: snapshotSources(options),
      peers: () => this.#peers(),
      clock,
      timers: this.#timers,
      logger,
      meters,
      spokenOn: () => this.#marks.spokenOn(),
      onConvinced: () => this.#lose("LOG_LOST", "other members have read what the log does not hold any more", true),
      onBirth: (birth) => this.#turn(birth),
      onRulesUnknown: ({ message }) => this.#fail("RULES_UNKNOWN", message),
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
      await pause(this.#timers, FORK_HEARD_SLOTS * this.#options.config.slotMs, this.#stop.signal);
    }
    if (!this.#ending && !this.#draining) this.#fail("LOG_FORKED", detail);
  }

  /**
   * The generation may be over. From here on nothing is read, done or said in its log; the others are asked, and when
   * a quorum agrees, the next one begins.
   * @param others this member has not seen it itself
   */
  #lose(reason: string, detail: string, others = false): void {
    if (this.#silent || this.#draining) return;
    if (this.#change === undefined) {
      this.#fail(reason, detail);
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
      const over = (): boolean => !this.#ending || this.#draining || this.committee.generation !== generation;
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
    this.#fail(
      "OTHERS_GO_ON",
      `a quorum reads on past position ${position}, which this member does not: it reads anew`,
    );
  }

  /** Somebody says that the generation is over. Only a certificate shows it: then this member goes on there. */
  async #follow(): Promise<void> {
    if (this.#change === undefined || this.#following || this.#ending || this.#draining || this.#silent) return;
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
      if (found === undefined || this.#ending || this.#draining || this.committee.generation !== generation) return;
      this.#ending = true;
      this.#reading.abort();
      this.#appender?.suspend();
      this.#onPosition(this.committee.position);
      await this.#consuming;
      await this.#turn({ certified: found.certified, state: found.state, applied: undefined });
    } catch (error) {
      if (error instanceof RulesUnknown) this.#fail("RULES_UNKNOWN", error.message);
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
      if (raw === undefined || this.#draining) return;
      this.#checkRules();
      if (this.#silent) return;
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
    if (this.#draining || this.#silent) return;
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
      if (log === undefined || this.#draining) return log?.close();
      await this.#log.use(log);
      await this.#readWhenPresent();
    });
  }

  #goOn(read: () => Promise<void>): void {
    this.#ending = true;
    this.#consuming = read().catch((error: unknown) => {
      if (this.#draining) return;
      this.#fail("LOG_LOST", error instanceof Error ? error.message : "the log of the next generation cannot be read");
    });
  }

  /** The log of this generation is made by whoever runs the broker, once a member shows the certificate of its beginning. */
  async #readWhenPresent(): Promise<void> {
    const { generation } = this.committee;
    for (let looks = 0; !(await this.#log.present()); looks++) {
      if (looks % PRESENT_LOOKS === 0) this.#options.logger.warn("waiting for the log of a generation", { generation });
      await pause(this.#timers, PRESENT_PAUSE_MS, this.#stop.signal);
      if (this.#draining || this.committee.generation !== generation) return;
    }
    if (this.#draining || this.committee.generation !== generation) return;
    // The others have read and lost it: a stream that is made anew under its name is no log of it.
    if (this.#change?.active) return;
    this.#ending = false;
    await this.#read();
  }

  /** A higher incarnation of this member means a newer process: this one must fall silent. */
  #checkSucceeded(applied: Applied, self: number): void {
    // While its own number is being journaled, it is the older process's words that still land.
    const own = this.#ownIncarnation ?? 0n;
    if (applied.author !== self || own === 0n) return;
    const current = this.committee.author(self)?.incarnation ?? 0n;
    if (current > own) this.#fail("SUCCEEDED", "a newer process speaks for this member");
  }

  /** The committee has given up this member's seat, and needs nothing from it any more: its shares go with it. */
  #checkLeft(self: number): void {
    const { committee } = this;
    if (self < committee.roster.members.length || committee.epochOf(self, this.#memberKey.publicKey) === undefined)
      return;
    if (this.#silent || !committee.hasLeft(self)) return;
    const { epoch } = committee.roster;
    this.#keys.erase(epoch).catch((error: unknown) => {
      this.#options.logger.error("the shares of a member that left cannot be erased: remove them", errorFields(error));
    });
    this.#fail("SEAT_GIVEN_UP", `epoch ${epoch} has no member ${self}`);
  }

  get #ownIncarnation(): bigint | undefined {
    return this.#appender?.incarnation;
  }

  #decided(outcome: Outcome): void {
    const { logger, meters, tracer, clock, config } = this.#options;
    meters.count("lattice_outcomes_total", 1, { stage: outcome.stage, kind: outcome.kind });
    if (!this.#caughtUp) return;
    const now = clock.nowMs();
    logger.info("decided", { slot: outcome.slot, stage: outcome.stage, kind: outcome.kind });
    const startMs = Math.min(now, config.genesisMs + (Number(outcome.slot) - 1) * config.slotMs);
    tracer.span(
      outcome.slot,
      `${this.organism}/${outcome.stage}`,
      { kind: outcome.kind, position: Number(this.committee.position) },
      startMs,
      now,
    );
    // The last organism ends the slot; its members take turns, so that the root stands once in a collector.
    const turn = Number(outcome.slot % BigInt(this.committee.roster.members.length));
    if (this.organism === ORGANISMS.at(-1) && turn === this.#options.self) {
      tracer.root(outcome.slot, { kind: outcome.kind }, startMs, now);
    }
    this.#node.decided?.(outcome);
  }

  /** q shares are in the log: combine them, keep and publish the certificate. */
  #certify(outcome: Outcome): void {
    const votes = this.committee.votes(outcome.stage, outcome.slot);
    const signature = this.committee.signature(outcome);
    if (signature === undefined) return;
    const certified: CertifiedOutcome = {
      outcome,
      signature,
      signers: [...votes.keys()].sort((a, b) => a - b),
    };
    const { logger, archive } = this.#options;
    this.#archive
      .put(certified)
      .catch((error: unknown) => logger.error("the outcome archive failed", errorFields(error)));
    archive?.putOutcome(certified).catch((error: unknown) => logger.error("the archive failed", errorFields(error)));
  }

  /** A newer snapshot is on disk: what it makes superfluous goes. */
  async #forget(): Promise<void> {
    const { journal, clock, config } = this.#options;
    if (!this.#silent) await this.#marks.note();
    const second = this.#snapshots.held()[1]?.checkpoint;
    if (second !== undefined) await this.#tail?.keepFrom(second.generation, second.position + 1n);
    await journal.trim(this.committee.collapsedBelow);
    const decided = this.committee.floor(this.committee.machine.stages.at(-1) ?? "") - 1n;
    const now = slotAt(config, clock.nowMs());
    await this.#bodies.prune(decided < now ? decided : now);
    await this.#archive.prune(this.committee.newestObserved("tally", "attribution"));
  }

  /** Members that certified another state are many enough: this one has diverged and must not speak. */
  #noteDissent({ position, authors, stateHash }: Dissent): void {
    const { logger, meters } = this.#options;
    const hash = toHex(stateHash);
    logger.error("members have another state than this one", { position, authors: authors.join(), state_hash: hash });
    meters.count("lattice_checkpoint_dissent_total", 1, { author: String(authors.at(-1)) });
    if (authors.length < this.committee.quorum.quorum) return;
    this.#fail("STATE_DIVERGED", `at position ${position} members ${authors.join(", ")} certified state ${hash}`);
  }

  #noteUpstream(organism: Organism, certified: CertifiedOutcome): void {
    this.#duties.noteUpstream(organism, certified);
    this.#noteLanded(organism, certified.outcome);
    this.#schedule();
  }

  #noteLanded(organism: Organism, outcome: Outcome): void {
    if (organism !== "tally" || outcome.stage !== "attribution" || outcome.kind === "skipped") return;
    if (tryDecode(ATTRIBUTION, outcome.commitment)?.landed !== true) return;
    this.#bodies.markLanded(outcome.slot).catch((error: unknown) => {
      this.#options.logger.error("the body store failed", errorFields(error));
    });
  }

  /** Looks at duties once per turn of the event loop, however often it is asked. */
  #schedule(): void {
    if (this.#woken || !this.#caughtUp || this.#draining || this.#silent || this.#ending) return;
    if (this.#forking !== undefined) return;
    // Before its Join has landed a member knows neither what another process of its own still says, nor whether it may.
    if (this.#appender?.admitted !== true) return;
    this.#woken = true;
    this.#timers.soon(() => {
      this.#woken = false;
      if (!this.#draining && !this.#silent && !this.#ending) this.#takeUpDuties();
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
    this.#announceRules();
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
      fetchBody: (organism, outcome) => this.#fetchBody(organism, outcome),
      wake: () => this.#schedule(),
    };
  }

  async #fetchBody(organism: Organism, outcome: Outcome): Promise<Uint8Array> {
    const kept = outcome.bodyHash === undefined ? undefined : await this.#bodies.get(outcome.bodyHash);
    if (kept !== undefined) return kept;
    const body = await this.#bodyFetcher.fetch(organism, outcome);
    await this.#bodies.put(outcome.slot, body);
    return body;
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
    return this.#caughtUp && !this.#draining && !this.#silent && !this.#ending && this.#appender?.admitted === true;
  }

  /** Stops taking up duties, lets what is in flight land, saves a snapshot, closes everything. */
  async stop(graceMs = 2000): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    this.#onPosition(this.committee.position);
    this.#stopTicking();
    this.#stopMeasuring();
    const until = this.#timers.elapsedMs() + graceMs;
    while ((this.#appender?.inFlight ?? 0) > 0 && this.#timers.elapsedMs() < until) await pause(this.#timers, 20);
    await this.#change?.close();
    this.#stop.abort();
    await this.#integrity.close();
    await this.#follower.close();
    this.#appender?.close();
    await this.#consuming;
    await this.#node.stop?.();
    await this.#checkpoints.settled();
    // One that was told to fall silent leaves its folder to whoever speaks now.
    await this.#tail?.close();
    if (!this.#silent && this.#caughtUp && !this.#ending) {
      await this.#marks.note().catch((error: unknown) => {
        this.#options.logger.error("the journal failed", errorFields(error));
      });
    }
    await this.#archive.close();
    await this.#options.journal.close();
    await this.#log.close();
  }
}

function freshCommittee<State, Command, D extends Duty, Settings>({
  definition,
  config,
  rosters,
  checkpointEvery,
  rules,
  activationEntries,
}: MemberOptions<State, Command, D, Settings>): Committee<State, Command, D> {
  const roster = rosters[definition.organism];
  return new Committee<State, Command, D>({
    config,
    roster,
    machine: definition.createMachine(config, roster),
    ...(checkpointEvery === undefined ? {} : { checkpointEvery }),
    ...(rules === undefined ? {} : { rules }),
    ...(activationEntries === undefined ? {} : { activationEntries }),
  });
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

/** The other members in turn, beginning with the next one, then the archive. */
function snapshotSources<State, Command, D extends Duty, Settings>(
  options: MemberOptions<State, Command, D, Settings>,
): SnapshotSource[] {
  const { definition, config, self, secrets, clock, endpoints, connect, archive } = options;
  const { organism } = definition;
  const memberKey = generateSigningKey(secrets.memberKey);
  const addresses = endpoints()[organism];
  // Epochs may have other numbers of members than the kit's roster: whoever has an address may be asked.
  const others = [...addresses.slice(self + 1), ...addresses.slice(0, self)];
  const peers = others.map((address) =>
    peerSource({ config, organism, self, memberKey, clock, address, ...(connect === undefined ? {} : { connect }) }),
  );
  return archive === undefined ? peers : [...peers, archiveSource(archive.snapshots)];
}

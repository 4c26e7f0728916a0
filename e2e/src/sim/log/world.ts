/**
 * One committee of real members with its logs, generation by generation, on virtual time: everything that `../world.ts` has for
 * six, without the organisms, and what that one does not have: streams that are lost or lie and go on, and epochs.
 */
import { createHash } from "node:crypto";
import { decode, equalBytes } from "@lattice/organism/codec/codec.ts";
import type { Checkpoint } from "@lattice/organism/committee/checkpoint.ts";
import { CERTIFIED, type CertifiedOutcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { ROSTER_STAGE, type Roster, rosterQuorum } from "@lattice/organism/committee/roster.ts";
import { FIRST_RULES } from "@lattice/organism/committee/rules.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { Member } from "@lattice/organism/node/member.ts";
import type { Endpoints } from "@lattice/organism/node/outcome-follower.ts";
import type { Fields, Logger } from "@lattice/organism/observe/logger.ts";
import { LogLost } from "@lattice/organism/ports.ts";
import type { MemberSecrets } from "@lattice/organism/service.ts";
import { dealCommittee, type TestCommittee } from "@lattice/organism/testing/dealt-committee.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { type Branch, SimBroker } from "../broker.ts";
import { type Behaviour, type Corruption, corruptLog, corruptNode, DrawnKeys } from "../byzantine.ts";
import { SimDisk } from "../disk.ts";
import { SimNetwork } from "../network.ts";
import { Broken } from "../observer.ts";
import { SeededRandom } from "../random.ts";
import { SimProcess, VirtualTime } from "../virtual-time.ts";
import { corruptServices, earlyNode, earlyShares, LOG_BEHAVIOURS, stolenKeys } from "./byzantine.ts";
import { type Epoch, firstEpoch, SimEpochKeys } from "./epochs.ts";
import type { LogChecker, LogPlace, LogReplica } from "./observer.ts";
import { type LogDoor, makeDefinition, ORGANISM } from "./organism.ts";
import { Thief } from "./thief.ts";

export const SLOT_MS = 500;
const QUIET: Logger = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const NO_METERS = { count: () => undefined, gauge: () => undefined, record: () => undefined };
const NO_TRACER = { span: () => undefined, root: () => undefined, close: async () => undefined };
const RESTART_MS = 600;
const KEEPER_MS = 600;
const END_PATIENCE = { roundMs: 1500, graceMs: 300 };
const CHECKPOINT_EVERY = { entries: 40n, slots: 4n };
const ACTIVATION_ENTRIES = 10n;

/** Why a member stops whose broker has lied to it, or has lost something. */
const LIED_TO: ReadonlySet<string> = new Set([
  "LOG_FORKED",
  "LOG_LOST",
  "LOG_ROLLED_BACK",
  "LOG_REPLACED",
  "OTHERS_GO_ON",
]);

/** What a broker did to its committee. */
export interface Lie {
  readonly kind: "fork" | "rollback" | "loss";
  readonly atMs: number;
}

/** One seat's operator with its host: the disk outlives its processes. */
export class LogMember {
  readonly index: number;
  readonly name: string;
  readonly secrets: MemberSecrets;
  readonly disk: SimDisk;
  readonly keys: SimEpochKeys;
  readonly corruption: Corruption | undefined;
  process: SimProcess | undefined;
  member: Running | undefined;
  door: LogDoor | undefined;
  replica: LogReplica | undefined;
  run = 0;
  skewMs = 0;
  older = false;
  journalIsOld = false;
  doubled = false;
  ended = false;
  /** Times that it has lost what it once knew. */
  forgot = 0;
  /** Times that the end of what it had read, which is not synced, may have gone. */
  tailLost = 0;
  /** How far it must know a generation again, before it says anything about its end. */
  lacks: { readonly generation: bigint; readonly position: bigint } | undefined;
  /** It goes on from what somebody with an old key has certified: nothing is owed to it, and nothing asked of it, any more. */
  misled = false;
  /** Its disk was full once: what it says then may be that. */
  wasFull = false;
  shown: Branch | undefined;

  constructor(
    index: number,
    name: string,
    secrets: MemberSecrets,
    disk: SimDisk,
    keys: SimEpochKeys,
    corruption: Corruption | undefined,
  ) {
    this.index = index;
    this.name = name;
    this.secrets = secrets;
    this.disk = disk;
    this.keys = keys;
    this.corruption = corruption;
  }

  get honest(): boolean {
    return this.corruption === undefined && !this.misled;
  }
  /** Another number once it does not know any more all that it had read. */
  get memory(): number {
    return this.forgot + this.tailLost;
  }
  get alive(): boolean {
    return this.process?.alive === true;
  }
}

type RealMember = Awaited<ReturnType<typeof Member.start>>;
export interface Running {
  readonly services: RealMember["services"];
  ready(): boolean;
}

export interface LogWorldOptions {
  readonly seed: number;
  readonly members: number;
  readonly corrupt: number;
  readonly behaviours?: readonly Behaviour[];
  readonly checkers: readonly LogChecker[];
  readonly tell?: (line: string) => void;
}

export class LogWorld {
  readonly seed: number;
  readonly random: SeededRandom;
  readonly time = new VirtualTime();
  readonly dealt: TestCommittee;
  readonly hosts: LogMember[] = [];
  readonly brokers = new Map<bigint, SimBroker>();
  readonly network: SimNetwork;
  readonly certificates = new Map<string, CertifiedOutcome>();
  /** Every epoch that has been dealt, oldest first. */
  readonly epochs: Epoch[];
  readonly thief: Thief;
  readonly acts = new Map<string, number>();
  readonly isolated = new Set<string>();
  readonly cutPairs = new Set<string>();
  readonly lies: Lie[] = [];
  /** Of the newest generation that any member has certified the beginning of. */
  generation = 0n;
  broken: Broken | undefined;
  /** Members have said that they cannot know where a generation ended. */
  undecidable = false;
  /** Messages that were applied. */
  deliveries = 0;
  #twins = 0;
  readonly #checkers: readonly LogChecker[];
  readonly #digest = createHash("sha256");
  readonly #tell: ((line: string) => void) | undefined;

  private constructor(options: LogWorldOptions) {
    this.seed = options.seed;
    this.#checkers = options.checkers;
    this.#tell = options.tell;
    this.random = new SeededRandom(`lattice/sim/log/${options.seed}`);
    const dealing = this.random.fork("dealing");
    this.dealt = dealCommittee(options.members, { slotMs: SLOT_MS }, "third", undefined, (length) =>
      dealing.bytes(length),
    );
    this.epochs = [firstEpoch(this.dealt)];
    this.thief = new Thief(this);
    this.network = new SimNetwork({
      time: this.time,
      random: this.random.fork("network"),
      served: (address) => this.#served(address),
      cut: (from, to) => this.isolated.has(from) || this.isolated.has(to) || this.cutPairs.has(`${from}|${to}`),
    });
    const roles = this.random.fork("roles");
    const corrupt = new Set<number>();
    while (corrupt.size < options.corrupt) corrupt.add(roles.below(options.members));
    for (const [index, secrets] of this.dealt.secrets.entries()) {
      this.addHost(index, `relay/${index}`, secrets, corrupt.has(index), options.behaviours);
    }
    for (const host of this.hosts) host.keys.give(0n, host.secrets, undefined);
    this.broker(0n).make();
  }

  static async create(options: LogWorldOptions): Promise<LogWorld> {
    await initCrypto();
    return new LogWorld(options);
  }

  addHost(
    index: number,
    name: string,
    secrets: MemberSecrets,
    corrupt: boolean,
    behaviours?: readonly Behaviour[],
  ): LogMember {
    const disk = new SimDisk(this.time, this.random.fork(`disk/${name}`));
    const keys = new SimEpochKeys();
    const host = new LogMember(
      index,
      name,
      secrets,
      disk,
      keys,
      corrupt ? this.#corruption(name, behaviours) : undefined,
    );
    this.hosts.push(host);
    return host;
  }

  #corruption(name: string, given: readonly Behaviour[] | undefined): Corruption {
    const random = this.random.fork(`corrupt/${name}`);
    const behaviours = new Set<Behaviour>(given);
    while (behaviours.size === 0) for (const each of LOG_BEHAVIOURS) if (random.chance(0.3)) behaviours.add(each);
    return { behaviours, random, acted: (behaviour) => this.count(`byzantine ${behaviour}`) };
  }

  count(what: string): void {
    this.acts.set(what, (this.acts.get(what) ?? 0) + 1);
  }

  note(what: string, bytes?: Uint8Array): void {
    this.#digest.update(`${this.time.nowMs} ${what}\n`);
    if (bytes !== undefined) this.#digest.update(bytes);
  }

  digest(): string {
    return this.#digest.copy().digest("hex");
  }

  get nowMs(): number {
    return this.dealt.config.genesisMs + this.time.nowMs;
  }
  get slot(): bigint {
    return slotAt(this.dealt.config, this.nowMs);
  }

  /** Whoever holds a seat now, or did last. */
  seat(index: number): LogMember | undefined {
    return this.hosts.findLast((host) => host.index === index && host.run > 0) ?? this.hosts[index];
  }

  /** Whose key admits what is said in a seat: its honesty is one through all epochs. */
  honest(index: number): boolean {
    return this.hosts.find((host) => host.index === index)?.honest ?? true;
  }

  /**
   * Whether it must never seem to say two things: a member that has forgotten what it said, in a log that has forgotten it too,
   * counts among those that may be corrupt.
   */
  keepsItsWord(index: number): boolean {
    if (!this.honest(index)) return false;
    return this.lies.length === 0 || this.hosts.every((host) => host.index !== index || host.forgot === 0);
  }

  readonly checkpointEvery = CHECKPOINT_EVERY;
  readonly activationEntries = ACTIVATION_ENTRIES;

  get corrupt(): number {
    return this.hosts.filter(({ corruption }) => corruption !== undefined).length;
  }

  rosterAt(slot: bigint): Roster {
    const found = this.epochs.findLast((each) => each.inForce && each.roster.activationSlot <= slot) ?? this.epochs[0];
    if (found === undefined) throw new Error("a committee has a roster");
    return found.roster;
  }

  /** From the moment that it stands in a log: a member that it takes the seat from may stop right after. */
  #noteEpoch({ rosters }: LogReplica): void {
    const newest = this.epochs.at(-1);
    if (newest === undefined || newest.inForce) return;
    if (rosters.some(({ epoch }) => epoch === newest.roster.epoch)) newest.inForce = true;
  }

  quorumAt(slot: bigint): number {
    return rosterQuorum(this.dealt.config, ORGANISM, this.rosterAt(slot)).quorum;
  }

  /** The log of a generation, made or not. */
  broker(generation: bigint): SimBroker {
    const known = this.brokers.get(generation);
    if (known !== undefined) return known;
    const broker = new SimBroker({
      time: this.time,
      random: this.random.fork(`broker/${generation}`),
      absent: true,
      cut: (author) => {
        const name = `relay/${author}`;
        return this.isolated.has(name) || this.cutPairs.has(`${name}|broker`);
      },
      onStored: (position, raw, branch) => {
        this.note(`${generation}/${branch.id} ${position}`, raw);
        this.judge((checker) => checker.stored?.(generation, position, raw));
      },
    });
    this.brokers.set(generation, broker);
    return broker;
  }

  get current(): SimBroker {
    return this.broker(this.generation);
  }

  #begun({ generation, position }: Checkpoint): void {
    if (generation <= this.generation || position !== 0n) return;
    this.generation = generation;
    this.count("generation");
  }

  /** The stream of a generation that members show the certificate of, and of which nothing more is certified. */
  #makeStream(): void {
    const { generation } = this;
    const broker = this.broker(generation);
    const used = this.hosts.some(({ disk }) =>
      disk.snapshots.some(({ checkpoint }) => checkpoint.generation === generation && checkpoint.position > 0n),
    );
    if (generation === 0n || used || broker.present) return;
    this.note(`made ${generation}`);
    broker.make();
  }

  #served(address: string) {
    const host = this.seat(Number(address.split("/")[1]));
    const service = host?.member?.services.find(({ descriptor }) => descriptor.typeName === CommitteeService.typeName);
    if (host?.process === undefined || service === undefined) return undefined;
    return { process: host.process, service };
  }

  /** Tells every checker; the first complaint ends the run. */
  judge(work: (checker: LogChecker) => void): void {
    if (this.broken !== undefined) return;
    for (const checker of this.#checkers) {
      try {
        work(checker);
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        this.broken = error;
        return;
      }
    }
  }

  fail(checker: string, message: string): void {
    this.broken ??= new Broken(checker, message);
  }

  start(host: LogMember): void {
    const { config, rosters, certifiedRoster } = this.dealt;
    const { index, disk, corruption } = host;
    const process = new SimProcess(`${host.name}#${host.run + 1}`, this.time, host.skewMs);
    host.run += 1;
    host.process = process;
    host.member = undefined;
    host.door = undefined;
    host.replica = undefined;
    this.note(`start ${process.name}`);
    const place: LogPlace = {
      index,
      run: `${host.name}#${host.run}`,
      host,
      get honest() {
        return host.honest;
      },
    };
    const random = this.random.fork(process.name);
    const drawn = new DrawnKeys();
    const draw = (count: number): Uint8Array => random.bytes(count);
    let replica: LogReplica | undefined;
    let last: { readonly generation: bigint; readonly position: bigint } | undefined;
    /** What is delivered to a member that has stopped reading is not applied. */
    const delivered = (generation: bigint, position: bigint): void => {
      const current = replica;
      if (current === undefined || current.generation !== generation || current.position !== position) return;
      if (last?.generation === generation && last.position === position) return;
      last = { generation, position };
      this.deliveries += 1;
      this.#noteEpoch(current);
      this.judge((checker) => checker.applied?.(place, current));
    };
    const open = (generation: bigint) => {
      const broker = this.broker(generation);
      if (host.shown !== undefined && generation === 0n) broker.show(process, host.shown);
      const raw = broker.handle(process, index, ({ position }) => delivered(generation, position));
      if (corruption === undefined) return raw;
      return corruptLog(raw, corruption, {
        process,
        keys: drawn,
        incarnationKey: () => replica?.author(index)?.key,
        slotMs: SLOT_MS,
      });
    };
    const definition = makeDefinition((_self, door) => {
      host.door = door;
    });
    const watched =
      corruption === undefined
        ? definition
        : {
            ...definition,
            createMachine: (...given: Parameters<typeof definition.createMachine>) =>
              earlyShares(definition.createMachine(...given), corruption),
            createNode: (memberHost: Parameters<typeof definition.createNode>[0]) =>
              corruptNode(earlyNode(definition.createNode(memberHost), memberHost, corruption), corruption),
          };
    const ownKeys = host.keys.of(corruption);
    const epochKeys =
      corruption === undefined ? ownKeys : stolenKeys(ownKeys, corruption, this.thief, () => host.replica);
    void Member.start({
      definition: watched,
      settings: {},
      config,
      self: index,
      rosters,
      certifiedRoster,
      secrets: host.secrets,
      epochKeys,
      endpoints: () => this.#endpoints(),
      log: open(0n),
      nextLog: async (generation) => open(generation),
      endPatience: END_PATIENCE,
      checkpointEvery: CHECKPOINT_EVERY,
      activationEntries: ACTIVATION_ENTRIES,
      journal: disk.journal(process),
      journalIsOld: host.journalIsOld,
      ...(host.older ? { rules: { lowest: FIRST_RULES, highest: FIRST_RULES } } : {}),
      directory: "",
      storage: disk.storage(process, (record) => this.#certified(place, record)),
      connect: (address) => this.network.connect(process, `relay/${index}`, address),
      clock: { nowMs: () => Math.floor(this.nowMs + process.skewMs) },
      timers: process.timers,
      random: corruption === undefined ? draw : drawn.random(draw),
      logger: this.#logger(process, host),
      meters: NO_METERS,
      tracer: NO_TRACER,
      onFatal: (reason, detail) => this.#fatal(host, process, reason, detail),
      onCommittee: (committee) => {
        replica = committee;
        host.replica = committee;
      },
    }).then(
      (member) => {
        if (!process.alive) return;
        const services =
          corruption === undefined ? member.services : corruptServices(member.services, host, corruption, this.thief);
        host.member = { services, ready: () => member.ready() };
      },
      (error: unknown) => this.#crashed(host, process, error),
    );
    host.journalIsOld = true;
  }

  #logger({ name }: SimProcess, host: LogMember): Logger {
    const tell = this.#tell;
    // Where two chains have as many readers nobody guesses, and what nobody has kept nobody can read again
    // (docs/decisions/0030): then nothing comes back by itself.
    const note = (message: string, { waiting_for: waits, generation }: Fields = {}): void => {
      if (!message.startsWith("the end of a generation waits")) return;
      if (`${waits}`.includes("chains that differ")) this.undecidable = true;
      const lacking = /^entries up to position (\d+): it has spoken on them/.exec(`${waits}`)?.[1];
      host.lacks =
        lacking === undefined ? undefined : { generation: BigInt(`${generation}`), position: BigInt(lacking) };
    };
    if (tell === undefined) return { ...QUIET, info: note };
    const say = (message: string, fields?: Fields): void => {
      note(message, fields);
      const rest = Object.entries(fields ?? {}).map(([key, value]) => `${key}=${value}`);
      tell(`${this.time.nowMs.toFixed(1)} ${name} ${message} ${rest.join(" ")}`);
    };
    return { debug: say, info: say, warn: say, error: say };
  }

  #endpoints(): Endpoints {
    const count = Math.max(...this.epochs.map(({ roster }) => roster.members.length));
    const own = Array.from({ length: count }, (_, index) => `relay/${index}`);
    return Object.fromEntries(
      ORGANISMS.map((organism) => [organism, organism === ORGANISM ? own : []]),
    ) as unknown as Endpoints;
  }

  #certified(place: LogPlace, record: Uint8Array): void {
    const certified = decode(CERTIFIED, record);
    const { stage, slot } = certified.outcome;
    if (stage === ROSTER_STAGE) return;
    const key = `${stage}/${slot}`;
    this.note(`certified ${place.index} ${key}`, outcomeDigest(certified.outcome));
    this.judge((checker) => checker.certified?.(place, certified));
    if (!this.certificates.has(key)) this.certificates.set(key, certified);
  }

  /** Asks members for their checkpoints again and again. */
  keepStreams(): void {
    for (const { disk } of this.hosts) {
      for (const each of disk.snapshots) if (!this.thief.has(each)) this.#begun(each.checkpoint);
    }
    this.time.after(this.random.between(20, KEEPER_MS), () => {
      this.#makeStream();
      this.keepStreams();
    });
  }

  /** A second process with the same keys and a copy of the disk, somewhere else. @returns what ends it */
  double(host: LogMember, shown?: Branch): () => void {
    const disk = new SimDisk(this.time, this.random.fork(`disk/copy/${this.#twins}`));
    host.disk.copyTo(disk);
    this.#twins += 1;
    const twin = new LogMember(
      host.index,
      `${host.name}*${this.#twins}`,
      host.secrets,
      disk,
      host.keys,
      host.corruption,
    );
    twin.shown = shown;
    twin.journalIsOld = true;
    host.doubled = true;
    twin.doubled = true;
    this.start(twin);
    return () => {
      this.kill(twin);
      twin.ended = true;
    };
  }

  /** It fetches a state that the thief has certified. */
  misled(host: LogMember, checkpoint: Checkpoint): void {
    this.judge((checker) => checker.stolen?.(host, checkpoint));
    if (host.honest) this.count("misled");
    host.misled = true;
  }

  #fatal(host: LogMember, process: SimProcess, reason: string, detail: string): void {
    if (!process.alive) return;
    this.note(`fatal ${process.name} ${reason}`);
    this.count(`fatal ${reason}`);
    const superseded = host.doubled && (reason === "SUCCEEDED" || reason === "JOIN_REFUSED");
    const lied = this.lies.length > 0 && LIED_TO.has(reason);
    const full = host.wasFull && reason === "JOURNAL_LOST";
    const replaced = this.seat(host.index) !== host || this.hasLeft(host);
    const behind = this.mayStop(host, reason);
    if (host.honest && !superseded && !lied && !full && !replaced && !behind) {
      this.fail("no honest member stops", `${process.name}: ${reason}: ${detail}`);
    }
    this.tell(`fatal ${process.name} ${reason}: ${detail}`);
    this.kill(host);
    // Nobody starts again what can say nothing any more.
    if (reason === "SEAT_GIVEN_UP" || reason === "KEY_BLOCKED") host.ended = true;
    this.time.after(RESTART_MS, () => this.revive(host));
  }

  /** Its seat goes to somebody else, or goes away. */
  hasLeft(host: LogMember): boolean {
    return this.epochs.some(({ roster, inForce }, epoch) => {
      if (!inForce) return false;
      const before = this.epochs[epoch - 1]?.roster.members[host.index];
      const now = roster.members[host.index];
      return before !== undefined && !equalBytes(now?.memberKey ?? new Uint8Array(), before.memberKey);
    });
  }

  mayStop(host: LogMember, reason: string): boolean {
    // Whoever was away for long begins anew with a snapshot.
    if (reason === "HISTORY_GONE" && this.acts.has("fault trimmed")) return true;
    if (reason === "RULES_UNKNOWN" && host.older) {
      host.older = false;
      return true;
    }
    return false;
  }

  /**
   * So many members have spoken on entries that no disk holds any more (power cuts take what was not synced), and the log has
   * lost them too, that no quorum is left for the end: the committee halts, and says so (docs/decisions/0030).
   */
  get lostForAll(): boolean {
    const { members } = this.rosterAt(this.slot);
    const speechless = members.filter((_, index) => this.#speechless(this.seat(index))).length;
    return members.length - speechless < this.quorumAt(this.slot);
  }

  #speechless(host: LogMember | undefined): boolean {
    const { lacks, replica } = host ?? {};
    if (lacks === undefined || replica?.generation !== lacks.generation) return false;
    const { generation, position } = lacks;
    const disks = this.hosts.map(({ disk }) => disk);
    const known = disks
      .flatMap(({ snapshots }) => snapshots.map(({ checkpoint }) => checkpoint))
      .filter((checkpoint) => checkpoint.generation === generation && checkpoint.position <= position)
      .map((checkpoint) => checkpoint.position);
    for (let at = position; !known.includes(at) && at > 0n; at--) {
      if (!disks.some((disk) => disk.holds(generation, at))) return true;
    }
    return false;
  }

  tell(line: string): void {
    this.#tell?.(`${this.time.nowMs.toFixed(1)} ${line}`);
  }

  #crashed(host: LogMember, process: SimProcess, error: unknown): void {
    if (!process.alive) return;
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.tell(`crash ${process.name} ${message}`);
    const lost = error instanceof LogLost && this.lies.length > 0;
    const full = host.wasFull && message.includes("ENOSPC");
    const behind = message.includes("RulesUnknown") && this.mayStop(host, "RULES_UNKNOWN");
    if (host.honest && !lost && !full && !behind && !this.hasLeft(host)) {
      this.fail("no member crashes by itself", `${process.name}: ${message}`);
    }
    this.kill(host);
    this.time.after(RESTART_MS, () => this.revive(host));
  }

  /** kill -9; with `power`, the end of what was not synced goes with it. */
  kill(host: LogMember, power = false): void {
    if (!host.alive || host.process === undefined) return;
    this.note(`kill ${host.process.name}`);
    this.count("crash");
    host.process.kill();
    for (const broker of this.brokers.values()) broker.drop(host.process);
    host.member = undefined;
    host.door = undefined;
    if (power) {
      host.tailLost += 1;
      host.disk.powerCut();
    } else host.disk.crash();
  }

  revive(host: LogMember): void {
    if (!host.alive && !host.ended) this.start(host);
  }

  /** Members that take part, in the newest generation. */
  get ready(): LogMember[] {
    return this.hosts.filter((host) => host.alive && !host.ended && host.member?.ready() === true);
  }

  /** It is over: nothing that outlives the run holds on to it. */
  end(): void {
    for (const { process } of this.hosts) process?.kill();
  }

  runUntil(ms: number): Promise<void> {
    return this.time.run(ms, () => this.broken !== undefined);
  }

  describe(): string {
    return this.hosts.map((host) => `${host.name}${host.honest ? "" : "!"}`).join(" ");
  }
}

/** Six committees, their brokers, disks and clocks, a chain and its clients, in one process on virtual time. */
import { createHash } from "node:crypto";
import { decode } from "@lattice/organism/codec/codec.ts";
import { CERTIFIED, type CertifiedOutcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { type Quorum, ROSTER_STAGE, rosterQuorum } from "@lattice/organism/committee/roster.ts";
import { FIRST_RULES, type RuleRange } from "@lattice/organism/committee/rules.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import type { Duty, Machine } from "@lattice/organism/machine.ts";
import { Member } from "@lattice/organism/node/member.ts";
import type { Endpoints } from "@lattice/organism/node/outcome-follower.ts";
import type { Fields, Logger } from "@lattice/organism/observe/logger.ts";
import { LogLost } from "@lattice/organism/ports.ts";
import type { OrganismDefinition, OrganismNode } from "@lattice/organism/service.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { type Branch, SimBroker } from "./broker.ts";
import {
  BEHAVIOURS,
  type Behaviour,
  type Corruption,
  corruptLog,
  corruptMachine,
  corruptNode,
  DrawnKeys,
} from "./byzantine.ts";
import { SimChain } from "./chain.ts";
import { type DealtLattice, dealLattice, GENESIS_MS } from "./dealing.ts";
import { SimDisk } from "./disk.ts";
import { SimNetwork } from "./network.ts";
import { Broken, type Checker, type Place, type Replica } from "./observer.ts";
import { simAtelier } from "./organisms/atelier.ts";
import { type OfferDoor, simOffer } from "./organisms/offer.ts";
import { simRelay } from "./organisms/relay.ts";
import { simTally } from "./organisms/tally.ts";
import { simUnseal } from "./organisms/unseal.ts";
import { simZipnet, type ZipnetDoor } from "./organisms/zipnet.ts";
import { SeededRandom } from "./random.ts";
import { SimProcess, VirtualTime } from "./virtual-time.ts";

export const SLOT_MS = 1000;
const QUIET: Logger = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const RESTART_MS = 400;

/** What of a running member others need; its types are gone. */
interface Running {
  readonly organism: Organism;
  readonly committee: Replica;
  readonly services: Member<unknown, unknown, Duty, unknown>["services"];
  ready(): boolean;
}

const OLDER_BUILD: RuleRange = { lowest: FIRST_RULES, highest: FIRST_RULES };

/** Why a member stops whose broker has lied to it. */
const LIED_TO: ReadonlySet<string> = new Set(["LOG_FORKED", "LOG_LOST", "LOG_ROLLED_BACK", "LOG_REPLACED"]);

/** What a broker was told to do to its committee. */
export interface Lie {
  readonly kind: "fork" | "rollback";
  readonly atSlot: number;
}

/** One host: its disk outlives its processes. */
export class Host {
  readonly organism: Organism;
  readonly index: number;
  readonly disk: SimDisk;
  readonly corruption: Corruption | undefined;
  process: SimProcess | undefined;
  member: Running | undefined;
  run = 0;
  skewMs = 0;
  /** Its next process is of the build before, which has only the rules that a log begins with; the one after is not. */
  older = false;
  /** Its process that is. */
  olderProcess: SimProcess | undefined;
  /** A member that lost its disk is new to what it once knew. */
  journalIsOld = false;
  /** True once there have been two processes of it at a time. */
  doubled = false;
  ended = false;
  /** The log that its processes are shown, if another than its member is. */
  shown: Branch | undefined;
  readonly fatal: string[] = [];

  constructor(organism: Organism, index: number, disk: SimDisk, corruption: Corruption | undefined) {
    this.organism = organism;
    this.index = index;
    this.disk = disk;
    this.corruption = corruption;
  }

  get address(): string {
    return `${this.organism}/${this.index}`;
  }
  get honest(): boolean {
    return this.corruption === undefined;
  }
  get alive(): boolean {
    return this.process?.alive === true;
  }
}

export interface WorldOptions {
  readonly seed: number;
  /** Byzantine members, at most f in each committee. */
  readonly corrupt: boolean;
  /** What corrupt members do; drawn from the seed when left out. */
  readonly behaviours?: readonly Behaviour[];
  readonly checkers: readonly Checker[];
  readonly members?: { readonly [O in Organism]: number };
  /** Hears what members log. */
  readonly tell?: (line: string) => void;
}

/** What a checker may listen to. */
type Heard = Exclude<keyof Checker, "name">;

type Door = { zipnet: Map<number, ZipnetDoor>; offer: Map<number, OfferDoor> };

export class World {
  readonly seed: number;
  readonly random: SeededRandom;
  readonly time = new VirtualTime();
  readonly dealt: DealtLattice;
  readonly quorum: { readonly [O in Organism]: Quorum };
  readonly hosts: readonly Host[];
  readonly brokers: { readonly [O in Organism]: SimBroker };
  readonly network: SimNetwork;
  readonly chain: SimChain;
  readonly checkers: readonly Checker[];
  readonly #listeners: { readonly [H in Heard]: readonly Checker[] };
  readonly doors: Door = { zipnet: new Map(), offer: new Map() };
  /** First certificate seen of each stage and slot. */
  readonly certificates = new Map<string, CertifiedOutcome>();
  readonly acts = new Map<string, number>();
  /** Hosts whose chain endpoint does not answer. */
  readonly withoutChain = new Set<Host>();
  /** Hosts that cannot reach anybody, or not each other. */
  readonly isolated = new Set<string>();
  readonly cutPairs = new Set<string>();
  /** Committees whose broker lies. */
  readonly lies = new Map<Organism, Lie>();
  broken: Broken | undefined;
  readonly #digest = createHash("sha256");
  readonly #definitions: Definitions;
  readonly #tell: ((line: string) => void) | undefined;

  constructor(options: WorldOptions) {
    this.seed = options.seed;
    this.checkers = options.checkers;
    const hearing = (what: Heard): readonly Checker[] => this.checkers.filter((checker) => checker[what] !== undefined);
    this.#listeners = {
      applied: hearing("applied"),
      before: hearing("before"),
      decided: hearing("decided"),
      stored: hearing("stored"),
      certified: hearing("certified"),
      says: hearing("says"),
      finished: hearing("finished"),
    };
    this.#tell = options.tell;
    this.random = new SeededRandom(`lattice/sim/${options.seed}`);
    const shape = this.random.fork("shape");
    const members =
      options.members ??
      (Object.fromEntries(ORGANISMS.map((organism) => [organism, shape.chance(0.5) ? 3 : 3 + shape.below(5)])) as {
        readonly [O in Organism]: number;
      });
    this.dealt = dealLattice(this.random.fork("dealing"), members, SLOT_MS);
    const { config, rosters } = this.dealt;
    this.quorum = Object.fromEntries(
      ORGANISMS.map((organism) => [organism, rosterQuorum(config, organism, rosters[organism])]),
    ) as { readonly [O in Organism]: Quorum };
    this.chain = new SimChain({
      config,
      sequencerKey: this.dealt.sequencerKey,
      time: this.time,
      random: this.random.fork("chain"),
      candidate: (slot) => this.certificates.get(`atelier/candidate/${slot}`),
    });
    this.brokers = Object.fromEntries(
      ORGANISMS.map((organism) => [
        organism,
        new SimBroker({
          time: this.time,
          random: this.random.fork(`broker/${organism}`),
          cut: (author) =>
            this.cutPairs.has(`${organism}/${author}|broker`) || this.isolated.has(`${organism}/${author}`),
          onStored: (position, raw) => {
            this.note(`${organism} ${position}`, raw);
            this.judge("stored", (checker) => checker.stored?.(organism, position, raw));
          },
        }),
      ]),
    ) as { readonly [O in Organism]: SimBroker };
    this.network = new SimNetwork({
      time: this.time,
      random: this.random.fork("network"),
      served: (address) => this.#served(address),
      cut: (from, to) => this.isolated.has(from) || this.isolated.has(to) || this.cutPairs.has(`${from}|${to}`),
    });
    const roles = this.random.fork("roles");
    this.hosts = ORGANISMS.flatMap((organism) => {
      const corrupt = new Set<number>();
      const { faults } = this.quorum[organism];
      while (options.corrupt && corrupt.size < faults && roles.chance(0.8)) corrupt.add(roles.below(members[organism]));
      return Array.from({ length: members[organism] }, (_, index) => {
        const disk = new SimDisk(this.time, this.random.fork(`disk/${organism}/${index}`));
        return new Host(
          organism,
          index,
          disk,
          corrupt.has(index) ? this.#corruption(organism, index, options.behaviours) : undefined,
        );
      });
    });
    const reachable = (organism: Organism) => (self: number) => {
      const host = this.host(organism, self);
      return !this.withoutChain.has(host) && !this.isolated.has(host.address);
    };
    this.#definitions = {
      zipnet: simZipnet((self, door) => this.doors.zipnet.set(self, door)),
      unseal: simUnseal(),
      offer: simOffer(
        () => this.chain,
        reachable("offer"),
        (self, door) => this.doors.offer.set(self, door),
      ),
      atelier: simAtelier(() => this.chain, reachable("atelier")),
      relay: simRelay(() => this.chain, reachable("relay")),
      tally: simTally(() => this.chain, reachable("tally")),
    };
  }

  #corruption(organism: Organism, index: number, given: readonly Behaviour[] | undefined): Corruption {
    const random = this.random.fork(`corrupt/${organism}/${index}`);
    const behaviours = new Set<Behaviour>(given);
    while (behaviours.size === 0) for (const each of BEHAVIOURS) if (random.chance(0.35)) behaviours.add(each);
    return { behaviours, random, acted: (behaviour) => this.count(`byzantine ${behaviour}`) };
  }

  count(what: string): void {
    this.acts.set(what, (this.acts.get(what) ?? 0) + 1);
  }

  /** Everything that is to be alike in two runs of one seed. */
  note(what: string, bytes?: Uint8Array): void {
    this.#digest.update(`${this.time.nowMs} ${what}\n`);
    if (bytes !== undefined) this.#digest.update(bytes);
  }

  digest(): string {
    return this.#digest.copy().digest("hex");
  }

  host(organism: Organism, index: number): Host {
    const host = this.hosts.find((each) => each.organism === organism && each.index === index);
    if (host === undefined) throw new RangeError(`no member ${organism}/${index}`);
    return host;
  }

  of(organism: Organism): Host[] {
    return this.hosts.filter((host) => host.organism === organism);
  }

  /** Members of an organism that run, caught up. */
  ready(organism: Organism): Host[] {
    return this.of(organism).filter((host) => host.alive && host.member?.ready() === true);
  }

  get nowMs(): number {
    return GENESIS_MS + this.time.nowMs;
  }
  get slot(): bigint {
    return slotAt(this.dealt.config, this.nowMs);
  }

  #served(address: string) {
    const host = this.hosts.find((each) => each.address === address);
    const service = host?.member?.services.find(({ descriptor }) => descriptor.typeName === CommitteeService.typeName);
    if (host?.process === undefined || service === undefined) return undefined;
    return { process: host.process, service };
  }

  /** An organism's machine that nobody watches. */
  machine(organism: Organism): Machine<unknown, unknown, Duty> {
    const { config, rosters } = this.dealt;
    return this.#definitions[organism].createMachine(config, rosters[organism]) as Machine<unknown, unknown, Duty>;
  }

  /** Tells every checker that listens; the first complaint ends the run. */
  judge(what: Heard, work: (checker: Checker) => void): void {
    if (this.broken !== undefined) return;
    for (const checker of this.#listeners[what]) {
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

  start(host: Host): void {
    // One function per organism, so that each keeps its types.
    switch (host.organism) {
      case "zipnet":
        this.#start(host, this.#definitions.zipnet, { ZIPNET_SERVER_SERIAL: 1n });
        break;
      case "unseal":
        this.#start(host, this.#definitions.unseal, {
          UNSEAL_OPENING_WORKERS: 0,
          UNSEAL_OPENINGS_KEEP_SLOTS: 64,
        });
        break;
      case "offer":
        this.#start(host, this.#definitions.offer, { OFFER_CHAIN_TIMEOUT_MS: 1000, OFFER_OPENING_WORKERS: 0 });
        break;
      case "atelier":
        this.#start(host, this.#definitions.atelier, {
          ATELIER_CHAIN_RPC: "",
          ATELIER_GENESIS_FILE: "",
          ATELIER_SEQUENCER_URL: "",
        });
        break;
      case "relay":
        this.#start(host, this.#definitions.relay, {
          RELAY_ENGINE_LISTEN: "",
          RELAY_ENGINE_JWT_FILE: "",
          RELAY_SEQUENCER_URL: "",
        });
        break;
      case "tally":
        this.#start(host, this.#definitions.tally, {
          TALLY_CHAIN_RPC: "",
          TALLY_CHAIN_TIMEOUT_MS: 1000,
          TALLY_RESEND_SLOTS: 8,
        });
        break;
    }
  }

  #start<State, Command, D extends Duty, Settings>(
    host: Host,
    definition: OrganismDefinition<State, Command, D, Settings>,
    settings: Settings,
  ): void {
    const { config, rosters, secrets: allSecrets } = this.dealt;
    const { organism, index, disk, corruption } = host;
    const process = new SimProcess(`${host.address}#${host.run + 1}`, this.time, host.skewMs);
    host.run += 1;
    host.process = process;
    host.member = undefined;
    const place: Place = { organism, index, honest: host.honest, run: host.run };
    this.note(`start ${process.name}`);
    const random = this.random.fork(process.name);
    const keys = new DrawnKeys();
    const draw = (count: number): Uint8Array => random.bytes(count);
    const own = allSecrets[organism][index];
    if (own === undefined) throw new RangeError(`no secrets of ${host.address}`);
    const lies = corruption?.behaviours.has("invalid-shares") === true;
    // Votes are made from the certificate share: another one makes every share invalid.
    const secrets = lies
      ? {
          ...own,
          certificateShare:
            allSecrets[organism][(index + 1) % allSecrets[organism].length]?.certificateShare ?? own.certificateShare,
        }
      : own;
    let replica: Replica | undefined;
    if (host.shown !== undefined) this.brokers[organism].show(process, host.shown);
    const raw = this.brokers[organism].handle(process, index, () => {
      if (replica === undefined) return;
      const applied = replica;
      this.judge("applied", (checker) => checker.applied?.(place, applied));
    });
    const log =
      corruption === undefined
        ? raw
        : corruptLog(raw, corruption, {
            process,
            keys,
            incarnationKey: () => replica?.author(index)?.key,
            slotMs: SLOT_MS,
          });
    const watched: OrganismDefinition<State, Command, D, Settings> = {
      ...definition,
      createMachine: (...given) => {
        const machine = definition.createMachine(...given);
        const bent = corruption === undefined ? machine : corruptMachine(machine, corruption);
        return this.#watchMachine(place, bent);
      },
      createNode: (memberHost) => {
        const node = definition.createNode(memberHost);
        if (corruption !== undefined) return corruptNode(node, corruption);
        return this.#watchNode(
          place,
          node,
          () => memberHost.state(),
          () => replica,
        );
      },
    };
    const quiet = (): void => undefined;
    void Member.start<State, Command, D, Settings>({
      definition: watched,
      settings,
      config,
      self: index,
      rosters,
      certifiedRoster: this.dealt.certified[organism],
      secrets,
      endpoints: () => this.#endpoints(),
      log,
      journal: disk.journal(process),
      journalIsOld: host.journalIsOld,
      ...(host.older ? { rules: OLDER_BUILD } : {}),
      directory: "",
      storage: disk.storage(process, (record) => this.#certified(place, record)),
      connect: (address) => this.network.connect(process, host.address, address),
      clock: { nowMs: () => Math.floor(this.nowMs + process.skewMs) },
      timers: process.timers,
      random: corruption === undefined ? draw : keys.random(draw),
      logger: this.#logger(process),
      meters: { count: quiet, gauge: quiet, record: quiet },
      tracer: { span: quiet, root: quiet, close: async () => undefined },
      onFatal: (reason, detail) => this.#fatal(host, process, reason, detail),
      onCommittee: (committee) => {
        replica = committee as unknown as Replica;
      },
    }).then(
      (member) => {
        if (process.alive) host.member = member as unknown as Running;
      },
      (error: unknown) => this.#crashed(host, process, error),
    );
    host.journalIsOld = true;
    host.olderProcess = host.older ? process : undefined;
    host.older = false;
  }

  #logger({ name }: SimProcess): Logger {
    const tell = this.#tell;
    if (tell === undefined) return QUIET;
    const say = (message: string, fields?: Fields): void => {
      const rest = Object.entries(fields ?? {}).map(([key, value]) => `${key}=${value}`);
      tell(`${this.time.nowMs.toFixed(1)} ${name} ${message} ${rest.join(" ")}`);
    };
    return { debug: say, info: say, warn: say, error: say };
  }

  #endpoints(): Endpoints {
    return Object.fromEntries(
      ORGANISMS.map((organism) => [organism, this.of(organism).map(({ address }) => address)]),
    ) as unknown as Endpoints;
  }

  #certified(place: Place, record: Uint8Array): void {
    const certified = decode(CERTIFIED, record);
    const { stage, slot } = certified.outcome;
    // The roster was certified before anything ran.
    if (stage === ROSTER_STAGE) return;
    const key = `${place.organism}/${stage}/${slot}`;
    this.note(`certified ${place.organism}/${place.index} ${stage} ${slot}`, outcomeDigest(certified.outcome));
    this.judge("certified", (checker) => checker.certified?.(place, certified));
    if (!this.certificates.has(key)) this.certificates.set(key, certified);
  }

  #watchMachine<State, Command, D extends Duty>(
    place: Place,
    machine: Machine<State, Command, D>,
  ): Machine<State, Command, D> {
    return {
      ...machine,
      apply: (state, event, context) => {
        this.judge("before", (checker) => checker.before?.(place, state, event, context));
        return machine.apply(state, event, {
          ...context,
          decide: (decision) => {
            const stands = context.decide(decision);
            this.judge("decided", (checker) => checker.decided?.(place, decision, stands, context, state));
            return stands;
          },
        });
      },
    };
  }

  #watchNode<Command, D extends Duty>(
    place: Place,
    node: OrganismNode<Command, D>,
    state: () => unknown,
    replica: () => Replica | undefined,
  ): OrganismNode<Command, D> {
    return {
      ...node,
      execute: async (duty) => {
        const submission = await node.execute(duty);
        const current = replica();
        if (submission !== undefined && current !== undefined) {
          this.judge("says", (checker) => checker.says?.(place, duty, submission, state(), current));
        }
        return submission;
      },
    };
  }

  /** A second process with the same keys and a copy of the disk, somewhere else. @returns what ends it */
  double(host: Host, shown?: Branch): () => void {
    const disk = new SimDisk(this.time, this.random.fork(`disk/${host.address}/${host.run}/copy`));
    host.disk.copyTo(disk);
    const twin = new Host(host.organism, host.index, disk, host.corruption);
    twin.shown = shown;
    // Runs are counted together, so that no two processes draw the same randomness.
    twin.run = 1000 + host.run;
    twin.journalIsOld = true;
    host.doubled = true;
    twin.doubled = true;
    this.start(twin);
    return () => {
      this.kill(twin);
      twin.ended = true;
    };
  }

  /** A member fell silent and is ended by whoever runs it; it is started again. */
  #fatal(host: Host, process: SimProcess, reason: string, detail: string): void {
    if (!process.alive) return;
    this.note(`fatal ${process.name} ${reason}`);
    this.count(`fatal ${reason}`);
    // Left behind by the others: its operator installs what it asks for.
    const leftBehind = reason === "RULES_UNKNOWN" && host.olderProcess === process;
    if (!leftBehind) host.fatal.push(reason);
    // Of two processes of one member the older one has to.
    const superseded = host.doubled && (reason === "SUCCEEDED" || reason === "JOIN_REFUSED");
    const lie = this.lies.get(host.organism);
    if (lie !== undefined && LIED_TO.has(reason)) {
      if (reason === "LOG_FORKED" && !/member \d+ at position \d+/.test(detail)) {
        this.fail("no honest member stops", `${process.name} does not say where and from whom: ${detail}`);
      }
      // Its operator looks for the true log; one that is started again on an old copy stops again.
      if (lie.kind === "fork") host.ended = true;
    } else if (host.honest && !superseded && !leftBehind)
      this.fail("no honest member stops", `${process.name}: ${reason}: ${detail}`);
    this.kill(host);
    this.time.after(2000, () => this.revive(host));
  }

  #crashed(host: Host, process: SimProcess, error: unknown): void {
    if (!process.alive) return;
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const lost = error instanceof LogLost && this.lies.has(host.organism);
    if (lost) this.count("fatal LOG_LOST");
    if (host.honest && !lost) this.fail("no member crashes by itself", `${process.name}: ${message}`);
    this.kill(host);
    this.time.after(2000, () => this.revive(host));
  }

  /** kill -9. */
  kill(host: Host): void {
    if (!host.alive || host.process === undefined) return;
    this.note(`kill ${host.process.name}`);
    this.count("crash");
    host.process.kill();
    this.brokers[host.organism].drop(host.process);
    host.member = undefined;
    host.disk.crash();
  }

  revive(host: Host): void {
    if (!host.alive && !host.ended) this.start(host);
  }

  restart(host: Host, afterMs = RESTART_MS): void {
    this.kill(host);
    this.time.after(afterMs, () => this.revive(host));
  }

  /** It is over: nothing that outlives the run holds on to it. */
  end(): void {
    for (const { process } of this.hosts) process?.kill();
  }

  static async create(options: WorldOptions): Promise<World> {
    await initCrypto();
    return new World(options);
  }

  /** Runs until `slot` begins, or something breaks. */
  runToSlot(slot: number): Promise<void> {
    return this.time.run(slot * SLOT_MS, () => this.broken !== undefined);
  }

  describe(): string {
    return this.hosts.map((host) => `${host.address}${host.honest ? "" : "!"}`).join(" ");
  }
}

interface Definitions {
  readonly zipnet: ReturnType<typeof simZipnet>;
  readonly unseal: ReturnType<typeof simUnseal>;
  readonly offer: ReturnType<typeof simOffer>;
  readonly atelier: ReturnType<typeof simAtelier>;
  readonly relay: ReturnType<typeof simRelay>;
  readonly tally: ReturnType<typeof simTally>;
}

/** What goes wrong with one committee, and when: drawn from the seed, early, in bouts that overlap. */
import { ERAS } from "@lattice/organism/committee/rules.ts";
import { FAIR } from "../broker.ts";
import type { SeededRandom } from "../random.ts";
import { type Change, nextEpoch } from "./epochs.ts";
import { ORGANISM } from "./organism.ts";
import { type LogMember, type LogWorld, SLOT_MS } from "./world.ts";

/** Faults of a broker that lies or loses. */
export const LIES: ReadonlySet<string> = new Set(["fork", "rollback", "loss"]);

type Bout = (host: LogMember) => () => void;
const ROLLED_BACK_MOST = 60;
/** Slots beyond what anybody may have spoken of: the earliest that an epoch may begin. */
const AHEAD = 9n;

export class LogNemesis {
  readonly #world: LogWorld;
  readonly #random: SeededRandom;
  readonly #running = new Set<() => void>();
  readonly #only: readonly string[] | undefined;
  readonly #tastes = new Map<string, number>();
  /** Members that may forget, or be made to say two things, before f of them could have. */
  #amnesia: number;
  /** Its broker may lie and lose. */
  readonly #lies: boolean;
  #untilMs = 0;

  /** @param only the faults there are, if not all */
  constructor(world: LogWorld, lies: boolean, only?: readonly string[]) {
    this.#world = world;
    this.#only = only;
    this.#random = world.random.fork("nemesis");
    this.#lies = lies;
    const { members } = world.dealt.rosters[ORGANISM];
    const faults = members.length > 3 ? Math.floor((members.length - 1) / 3) : 0;
    // A log that forgets and members that do as well are more than any quorum bears: then as many as may be corrupt.
    this.#amnesia = this.#lies ? faults - world.corrupt : Number.POSITIVE_INFINITY;
  }

  begin(untilSlot: number): void {
    this.#untilMs = untilSlot * SLOT_MS;
    const everyMs = this.#random.between(120, 1500);
    this.#world.time.after(this.#random.between(200, 1200), () => this.#next(everyMs));
    this.#world.time.after(this.#untilMs, () => this.#heal());
  }

  #next(everyMs: number): void {
    const { time } = this.#world;
    if (time.nowMs >= this.#untilMs) return;
    this.#strike();
    time.after(everyMs * this.#random.between(0.2, 2), () => this.#next(everyMs));
  }

  #heal(): void {
    for (const end of [...this.#running]) end();
    this.#running.clear();
    const world = this.#world;
    for (const broker of world.brokers.values()) broker.join();
    for (const host of world.hosts) {
      host.disk.slowness = 1;
      host.disk.full = false;
      host.skewMs = 0;
      if (host.process !== undefined) host.process.skewMs = 0;
      if (!host.alive && host.run > 0) world.revive(host);
    }
    world.note("healed");
  }

  #taste(name: string): number {
    if (this.#only !== undefined) return this.#only.includes(name) ? 1 : 0;
    const known = this.#tastes.get(name);
    if (known !== undefined) return known;
    const taste = this.#random.chance(0.3) ? 0.01 : this.#random.between(0.3, 4);
    this.#tastes.set(name, taste);
    return taste;
  }

  #strike(): void {
    const world = this.#world;
    const random = this.#random;
    const running = world.hosts.filter(({ run, ended }) => run > 0 && !ended);
    const host = random.pick(running.length > 0 ? running : world.hosts);
    const bouts: readonly (readonly [string, number, Bout])[] = [
      ["kill", 4, (each) => this.#kill(each, false)],
      ["power cut", 1, (each) => this.#kill(each, true)],
      ["kill several", 1, () => this.#killSeveral()],
      ["broker weather", 3, () => this.#brokerWeather()],
      ["broker down", 1, () => this.#brokerDown()],
      ["isolated", 2, (each) => this.#isolate(each)],
      ["cut off from the broker", 2, (each) => this.#cutBroker(each)],
      ["cut pairs", 1, (each) => this.#cutPairs(each)],
      ["network weather", 1, () => this.#networkWeather()],
      ["slow disk", 1, (each) => this.#slowDisk(each)],
      ["full disk", 0.7, (each) => this.#fullDisk(each)],
      ["clock", 1, (each) => this.#clock(each)],
      ["log full", 1, (each) => this.#full(each)],
      ["old messages again", 1, () => this.#replay()],
      ["withheld", 1, ({ index }) => world.current.withhold(index)],
      ["trimmed", 1, () => this.#trim()],
      ["lost disk", 0.5, (each) => this.#loseDisk(each)],
      ["backup", 1, (each) => this.#backup(each)],
      ["doubled process", 0.5, (each) => this.#double(each)],
      ...(this.#lies
        ? ([
            ["fork", 1.5, () => this.#fork()],
            ["rollback", 1.5, () => this.#rollBack()],
            ["loss", 0.7, () => this.#lose()],
          ] as const)
        : []),
    ];
    const total = bouts.reduce((sum, [name, weight]) => sum + weight * this.#taste(name), 0);
    let at = random.fraction() * total;
    for (const [name, weight, bout] of bouts) {
      at -= weight * this.#taste(name);
      if (at > 0) continue;
      world.count(`fault ${name}`);
      world.note(`fault ${name} ${host.name}`);
      world.tell(`fault ${name} ${host.name}`);
      const end = bout(host);
      this.#running.add(end);
      world.time.after(random.between(100, 2500), () => {
        if (this.#running.delete(end)) end();
      });
      return;
    }
  }

  #kill(host: LogMember, power: boolean): () => void {
    this.#world.kill(host, power);
    return () => this.#world.revive(host);
  }

  #killSeveral(): () => void {
    const hosts = this.#world.hosts.filter(({ run }) => run > 0 && this.#random.chance(0.6));
    const power = this.#random.chance(0.3);
    for (const host of hosts) this.#world.kill(host, power);
    return () => {
      for (const host of hosts) this.#world.revive(host);
    };
  }

  #brokerWeather(): () => void {
    const random = this.#random;
    const broker = this.#world.current;
    const some = (most: number): number => (random.chance(0.6) ? random.between(0, most) : 0);
    broker.weather = {
      lostAck: some(0.3),
      lostAppend: some(0.2),
      late: some(0.15),
      copy: some(0.3),
      reorder: some(0.3),
      slowMs: some(80),
    };
    return () => {
      broker.weather = { ...FAIR };
    };
  }

  #brokerDown(): () => void {
    const broker = this.#world.current;
    broker.up = false;
    return () => {
      broker.up = true;
      broker.wake();
    };
  }

  #wake(): void {
    for (const broker of this.#world.brokers.values()) broker.wake();
  }

  #isolate({ index }: LogMember): () => void {
    const { isolated } = this.#world;
    isolated.add(`relay/${index}`);
    return () => {
      isolated.delete(`relay/${index}`);
      this.#wake();
    };
  }

  #cutBroker({ index }: LogMember): () => void {
    const { cutPairs } = this.#world;
    cutPairs.add(`relay/${index}|broker`);
    return () => {
      cutPairs.delete(`relay/${index}|broker`);
      this.#wake();
    };
  }

  #cutPairs({ index }: LogMember): () => void {
    const { cutPairs, hosts } = this.#world;
    const cut = hosts
      .filter((other) => other.index !== index && this.#random.chance(0.5))
      .flatMap((other) => [`relay/${index}|relay/${other.index}`, `relay/${other.index}|relay/${index}`])
      .filter(() => this.#random.chance(0.8));
    for (const each of cut) cutPairs.add(each);
    return () => {
      for (const each of cut) cutPairs.delete(each);
    };
  }

  #networkWeather(): () => void {
    const { network } = this.#world;
    network.weather = { loss: this.#random.between(0, 0.2), slowMs: this.#random.between(0, 250) };
    return () => {
      network.weather = { loss: 0, slowMs: 0 };
    };
  }

  #slowDisk({ disk }: LogMember): () => void {
    disk.slowness = this.#random.between(5, 200);
    return () => {
      disk.slowness = 1;
    };
  }

  #fullDisk(host: LogMember): () => void {
    host.disk.full = true;
    host.wasFull = true;
    host.tailLost += 1;
    return () => {
      host.disk.full = false;
      host.tailLost += 1;
    };
  }

  #clock(host: LogMember): () => void {
    const random = this.#random;
    const before = host.skewMs;
    host.skewMs = random.pick([
      random.between(-300, 300),
      random.between(-5000, 5000),
      random.between(-3_600_000, 3_600_000),
    ]);
    if (host.process !== undefined) host.process.skewMs = host.skewMs;
    return () => {
      host.skewMs = before;
      if (host.process !== undefined) host.process.skewMs = before;
    };
  }

  #full({ index }: LogMember): () => void {
    const { full } = this.#world.current;
    full.add(index);
    return () => {
      full.delete(index);
    };
  }

  #replay(): () => void {
    const broker = this.#world.current;
    for (let times = this.#random.below(12); times >= 0; times--) {
      this.#world.time.after(this.#random.between(0, 800), () => broker.replay());
    }
    return () => undefined;
  }

  /** What the trimmer does: below the second newest checkpoint that a quorum holds the snapshot of. */
  #trim(): () => void {
    const world = this.#world;
    const held = new Map<bigint, number>();
    for (const { disk } of world.hosts) {
      for (const { checkpoint } of disk.snapshots) {
        if (checkpoint.generation !== world.generation) continue;
        held.set(checkpoint.position, (held.get(checkpoint.position) ?? 0) + 1);
      }
    }
    const quorum = world.quorumAt(world.slot);
    const enough = [...held].filter(([, count]) => count >= quorum).map(([position]) => Number(position));
    const second = enough.sort((a, b) => b - a)[1];
    if (second !== undefined) world.current.trimTo(second + 1);
    return () => undefined;
  }

  /** True when this member may forget as well. */
  #mayForget(host: LogMember): boolean {
    if (!host.honest || host.forgot > 0) return true;
    if (this.#amnesia <= 0) return false;
    this.#amnesia -= 1;
    return true;
  }

  #loseDisk(host: LogMember): () => void {
    if (!this.#mayForget(host)) return () => undefined;
    this.#world.kill(host);
    host.disk.wipe();
    host.forgot += 1;
    host.journalIsOld = false;
    return () => this.#world.revive(host);
  }

  #backup(host: LogMember): () => void {
    if (this.#random.chance(0.5) || !this.#mayForget(host)) {
      host.disk.backUp();
      return () => undefined;
    }
    this.#world.kill(host);
    host.forgot += 1;
    if (host.disk.restore()) this.#world.count("backup restored");
    return () => this.#world.revive(host);
  }

  #double(host: LogMember): () => void {
    if (!host.honest || !host.alive || !this.#mayForget(host)) return () => undefined;
    host.forgot += 1;
    return this.#world.double(host);
  }

  /** Some members are shown another log, with whoever is corrupt on both sides. */
  #fork(): () => void {
    const world = this.#world;
    const honest = world.hosts.filter((host) => host.honest && host.run > 0 && !host.ended);
    if (honest.length < 2 || !world.current.present) return () => undefined;
    world.lies.push({ kind: "fork", atMs: world.time.nowMs });
    const some = [...honest]
      .sort(() => this.#random.fraction() - 0.5)
      .slice(0, 1 + this.#random.below(honest.length - 1));
    const broker = world.current;
    const branch = broker.fork(some.map(({ index }) => index));
    const ends = world.hosts
      .filter((host) => host.corruption !== undefined && host.alive && world.generation === 0n)
      .map((host) => world.double(host, branch));
    return () => {
      for (const end of ends) end();
      broker.join();
    };
  }

  #rollBack(): () => void {
    const world = this.#world;
    world.lies.push({ kind: "rollback", atMs: world.time.nowMs });
    world.current.rollBack(1 + this.#random.below(this.#random.chance(0.2) ? 1000 : ROLLED_BACK_MOST));
    return () => undefined;
  }

  #lose(): () => void {
    const world = this.#world;
    if (!world.current.present) return () => undefined;
    world.lies.push({ kind: "loss", atMs: world.time.nowMs });
    world.current.delete();
    return () => undefined;
  }
}

/** Slots between the deal and the activation, beyond what anybody may have spoken of: for the roster to land in time. */
const MARGIN = 3;
const LOOK_MS = SLOT_MS / 2;

function faultsOf(members: number): number {
  return members > 3 ? Math.floor((members - 1) / 3) : 0;
}

/** How often an operator waits a slot for the rules of eras before it deals another epoch under the old key. */
const RULES_PATIENCE = 5;
/** How often an epoch begins an era, once there has been one. */
const ERA_AGAIN = 0.3;

/**
 * Epochs that operators bring about, one after the other, each once the one before is in force.
 * @param eras some of them with another certificate key
 */
export function bringEpochs(world: LogWorld, untilSlot: number, lies: boolean, eras: boolean): void {
  const random = world.random.fork("epochs");
  let waited = 0;
  const deal = (): void => {
    const from = world.epochs.at(-1);
    if (from === undefined || Number(world.slot + AHEAD) + MARGIN > untilSlot) return;
    const ruled = world.ready.some(({ honest, replica }) => honest && (replica?.rules.active ?? 0) >= ERAS);
    const wanted = eras && (from.roster.era === undefined || random.chance(ERA_AGAIN));
    if (wanted && !ruled && waited < RULES_PATIENCE) {
      waited += 1;
      world.time.after(SLOT_MS, deal);
      return;
    }
    const newEra = wanted && ruled;
    const { length } = from.roster.members;
    // A newcomer knows nothing of what its predecessor has read.
    const changes: Change[] = lies ? ["refresh"] : ["refresh", "replace"];
    if (length < 6) changes.push("grow");
    const bad = world.hosts.filter(({ honest, forgot, ended }) => !ended && (!honest || forgot > 0)).length;
    if (length > 3 && bad <= faultsOf(length - 1)) changes.push("shrink");
    const change = random.pick(changes);
    const seat = random.below(length);
    const activation = world.slot + AHEAD + BigInt(MARGIN + random.below(3));
    const succession = { change, seat, activationSlot: activation, newEra };
    const next = nextEpoch(from, succession, random.fork(`epoch/${world.epochs.length}`));
    const { epoch } = next.roster;
    world.epochs.push(next);
    world.note(`epoch ${change}`);
    world.tell(`epoch ${epoch} ${change} ${seat} from slot ${activation}${newEra ? ", another key" : ""}`);
    const newcomers: LogMember[] = [];
    for (const [index, shares] of next.secrets.entries()) {
      const before = world.seat(index);
      const isNew = (change === "replace" && index === seat) || index >= length;
      const host = isNew
        ? world.addHost(index, `relay/${index}+${epoch}`, shares, before?.corruption !== undefined)
        : before;
      if (host === undefined) continue;
      if (isNew) newcomers.push(host);
      world.time.after(random.between(0, 1.5 * SLOT_MS), () => host.keys.give(epoch, shares, next.certified));
    }
    const look = (): void => {
      if (next.inForce) {
        world.count(`epoch ${change}`);
        if (newEra) world.count("era");
        for (const host of newcomers) {
          world.time.after(random.between(0, Number(AHEAD) + 2) * SLOT_MS, () => seatTaken(world, host));
        }
        const rest = Math.max(0, Number(activation - world.slot)) + random.between(1, 4);
        world.time.after(rest * SLOT_MS, deal);
      } else if (world.slot < BigInt(untilSlot)) world.time.after(LOOK_MS, look);
    };
    look();
  };
  world.time.after(random.between(1, 3) * SLOT_MS, deal);
}

/** The newcomer is put up; whoever had the seat goes. */
function seatTaken(world: LogWorld, host: LogMember): void {
  for (const each of world.hosts) {
    if (each.index !== host.index || each === host) continue;
    world.kill(each);
    each.ended = true;
  }
  world.start(host);
}

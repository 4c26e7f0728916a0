/** What goes wrong, and when: drawn from the seed, in bouts that overlap. */

import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { FAIR } from "./broker.ts";
import type { SeededRandom } from "./random.ts";
import { type Host, SLOT_MS, type World } from "./world.ts";

type Bout = (host: Host) => () => void;

export class Nemesis {
  readonly #world: World;
  readonly #random: SeededRandom;
  readonly #running = new Set<() => void>();
  readonly #tastes = new Map<string, number>();
  #untilMs = 0;

  constructor(world: World) {
    this.#world = world;
    this.#random = world.random.fork("nemesis");
  }

  begin(untilSlot: number): void {
    this.#untilMs = untilSlot * SLOT_MS;
    // How hostile this seed is, and to whom.
    const everyMs = this.#random.between(120, 3500);
    this.#world.time.after(1500, () => this.#next(everyMs));
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
    for (const host of world.hosts) {
      host.disk.slowness = 1;
      host.skewMs = 0;
      if (host.process !== undefined) host.process.skewMs = 0;
      if (!host.alive) world.revive(host);
    }
    world.note("healed");
  }

  /** Every seed likes some faults and leaves out others, so that combinations come that a fair mixture never has. */
  #taste(name: string): number {
    const known = this.#tastes.get(name);
    if (known !== undefined) return known;
    const taste = this.#random.chance(0.25) ? 0.01 : this.#random.between(0.3, 4);
    this.#tastes.set(name, taste);
    return taste;
  }

  /** One fault, over after a while. */
  #strike(): void {
    const world = this.#world;
    const random = this.#random;
    const host = random.pick(world.hosts);
    const bouts: readonly (readonly [string, number, Bout])[] = [
      ["kill", 5, (each) => this.#kill(each)],
      ["kill several", 1, (each) => this.#killSeveral(each)],
      ["broker weather", 3, (each) => this.#brokerWeather(each)],
      ["broker down", 1, (each) => this.#brokerDown(each)],
      ["isolated", 2, (each) => this.#isolate(each)],
      ["cut off from the broker", 2, (each) => this.#cutBroker(each)],
      ["cut pairs", 2, (each) => this.#cutPairs(each)],
      ["network weather", 2, () => this.#networkWeather()],
      ["slow disk", 1, (each) => this.#slowDisk(each)],
      ["clock", 2, (each) => this.#clock(each)],
      ["log full", 1, (each) => this.#full(each)],
      ["old messages again", 0.7, (each) => this.#replay(each)],
      ["withheld", 1, ({ organism, index }) => world.brokers[organism].withhold(index)],
      ["no chain", 1, (each) => this.#noChain(each)],
      ["lost disk", 0.4, (each) => this.#loseDisk(each)],
      ["backup", 0.6, (each) => this.#backup(each)],
      ["doubled process", 0.5, (each) => (each.honest ? world.double(each) : () => undefined)],
    ];
    const total = bouts.reduce((sum, [name, weight]) => sum + weight * this.#taste(name), 0);
    let at = random.fraction() * total;
    for (const [name, weight, bout] of bouts) {
      at -= weight * this.#taste(name);
      if (at > 0) continue;
      world.count(`fault ${name}`);
      world.note(`fault ${name} ${host.address}`);
      const end = bout(host);
      this.#running.add(end);
      world.time.after(random.between(100, 5000), () => {
        if (this.#running.delete(end)) end();
      });
      return;
    }
  }

  #kill(host: Host): () => void {
    this.#world.kill(host);
    return () => this.#world.revive(host);
  }

  #killSeveral({ organism }: Host): () => void {
    const hosts = this.#world.of(organism).filter(() => this.#random.chance(0.6));
    for (const host of hosts) this.#world.kill(host);
    return () => {
      for (const host of hosts) this.#world.revive(host);
    };
  }

  #brokerWeather({ organism }: Host): () => void {
    const random = this.#random;
    const broker = this.#world.brokers[organism];
    const some = (most: number): number => (random.chance(0.6) ? random.between(0, most) : 0);
    broker.weather = {
      lostAck: some(0.3),
      lostAppend: some(0.2),
      late: some(0.15),
      copy: some(0.3),
      reorder: some(0.3),
      slowMs: some(120),
    };
    return () => {
      broker.weather = { ...FAIR };
    };
  }

  #brokerDown({ organism }: Host): () => void {
    const broker = this.#world.brokers[organism];
    broker.up = false;
    return () => {
      broker.up = true;
      broker.wake();
    };
  }

  #isolate({ address, organism }: Host): () => void {
    const { isolated, brokers } = this.#world;
    isolated.add(address);
    return () => {
      isolated.delete(address);
      brokers[organism].wake();
    };
  }

  #cutBroker({ address, organism }: Host): () => void {
    const { cutPairs, brokers } = this.#world;
    cutPairs.add(`${address}|broker`);
    return () => {
      cutPairs.delete(`${address}|broker`);
      brokers[organism].wake();
    };
  }

  /** Between this host, or its whole organism, and another organism; sometimes one way only. */
  #cutPairs(host: Host): () => void {
    const random = this.#random;
    const { cutPairs } = this.#world;
    const other = random.pick(ORGANISMS);
    const from = random.chance(0.5) ? [host] : this.#world.of(host.organism);
    const oneWay = random.chance(0.4);
    const cut: string[] = [];
    for (const a of from) {
      for (const b of this.#world.of(other)) {
        if (a === b) continue;
        cut.push(`${a.address}|${b.address}`);
        if (!oneWay) cut.push(`${b.address}|${a.address}`);
      }
    }
    for (const each of cut) cutPairs.add(each);
    return () => {
      for (const each of cut) cutPairs.delete(each);
    };
  }

  #networkWeather(): () => void {
    const { network } = this.#world;
    network.weather = { loss: this.#random.between(0, 0.1), slowMs: this.#random.between(0, 250) };
    return () => {
      network.weather = { loss: 0, slowMs: 0 };
    };
  }

  #slowDisk({ disk }: Host): () => void {
    disk.slowness = this.#random.between(5, 300);
    return () => {
      disk.slowness = 1;
    };
  }

  #clock(host: Host): () => void {
    const random = this.#random;
    const before = host.skewMs;
    host.skewMs = random.pick([
      random.between(-500, 500),
      random.between(-5000, 5000),
      random.between(-3_600_000, 3_600_000),
    ]);
    if (host.process !== undefined) host.process.skewMs = host.skewMs;
    return () => {
      host.skewMs = before;
      if (host.process !== undefined) host.process.skewMs = before;
    };
  }

  #full({ organism, index }: Host): () => void {
    const { full } = this.#world.brokers[organism];
    full.add(index);
    return () => {
      full.delete(index);
    };
  }

  /** Copies of what was said any time before, far beyond every window of de-duplication. */
  #replay({ organism }: Host): () => void {
    const broker = this.#world.brokers[organism];
    for (let times = this.#random.below(12); times >= 0; times--) {
      this.#world.time.after(this.#random.between(0, 800), () => broker.replay());
    }
    return () => undefined;
  }

  #noChain(host: Host): () => void {
    const { withoutChain } = this.#world;
    withoutChain.add(host);
    return () => {
      withoutChain.delete(host);
    };
  }

  /** The folder is gone: the member comes back knowing nothing of what it said. */
  #loseDisk(host: Host): () => void {
    this.#world.kill(host);
    host.disk.wipe();
    host.journalIsOld = false;
    return () => this.#world.revive(host);
  }

  /** Put back from a copy, if there is one; else one is made. */
  #backup(host: Host): () => void {
    if (this.#random.chance(0.5)) {
      host.disk.backUp();
      return () => undefined;
    }
    this.#world.kill(host);
    if (host.disk.restore()) this.#world.count("backup restored");
    return () => this.#world.revive(host);
  }
}

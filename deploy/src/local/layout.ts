/** Where everything of a local lattice lies below its folder, and on which ports it answers. */
import { lstatSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { makeFolder } from "@lattice/organism/node/make-folder.ts";
import { writeWhole } from "../cli/whole-file.ts";
import { memberFolder } from "../dealer/kit-folder.ts";
import type { NatsPorts } from "../nats/nats-cluster.ts";
import { freePorts } from "./free-ports.ts";

/** One member's addresses. */
export interface MemberPorts {
  readonly grpc: number;
  readonly metrics: number;
}

/** Every port, chosen once and kept with the lattice, so that a restart finds everybody where they were. */
export interface Ports {
  readonly members: Readonly<Record<Organism, readonly MemberPorts[]>>;
  readonly relayEngine: readonly number[];
  readonly aggregator: number;
  readonly gateway: number;
  /** One server, or the three of a cluster. */
  readonly nats: readonly NatsPorts[];
  readonly chainRpc: number;
  readonly chainEngine: number;
  readonly sequencer: number;
  readonly sequencerAdmin: number;
  /** Where stewards have been asked for. */
  readonly stewards?: StewardPorts;
}

export interface StewardPorts {
  /** Metrics, by seat. */
  readonly metrics: Readonly<Record<Organism, readonly number[]>>;
  /** The nats-server of the ceremonies. */
  readonly ceremonies: { readonly client: number; readonly monitor: number };
}

const FIXED_PORTS = 6;
const NATS_PORTS = 3;

export async function choosePorts(members: number, gatewayPort: number | undefined, natsServers = 1): Promise<Ports> {
  const free = await freePorts(ORGANISMS.length * members * 2 + members + FIXED_PORTS + natsServers * NATS_PORTS);
  const take = (): number => free.pop() ?? 0;
  const perMember = () => Array.from({ length: members }, (): MemberPorts => ({ grpc: take(), metrics: take() }));
  return {
    members: Object.fromEntries(ORGANISMS.map((organism) => [organism, perMember()])) as Record<
      Organism,
      MemberPorts[]
    >,
    relayEngine: Array.from({ length: members }, take),
    aggregator: take(),
    gateway: gatewayPort ?? take(),
    nats: Array.from({ length: natsServers }, () => ({ client: take(), monitor: take(), route: take() })),
    chainRpc: take(),
    chainEngine: take(),
    sequencer: take(),
    sequencerAdmin: take(),
  };
}

export async function chooseStewardPorts(members: number): Promise<StewardPorts> {
  const free = await freePorts(ORGANISMS.length * members + 2);
  const take = (): number => free.pop() ?? 0;
  const metrics = ORGANISMS.map((organism) => [organism, Array.from({ length: members }, take)] as const);
  return {
    metrics: Object.fromEntries(metrics) as Record<Organism, number[]>,
    ceremonies: { client: take(), monitor: take() },
  };
}

const LOOPBACK = "127.0.0.1";
export const at = (port: number): string => `${LOOPBACK}:${port}`;
export const http = (port: number): string => `http://${at(port)}`;

export class Layout {
  readonly directory: string;
  constructor(directory: string) {
    this.directory = directory;
    makeFolder(directory, 0o700);
  }

  path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }
  get config(): string {
    return this.path("lattice.hex");
  }
  get rosters(): string {
    return this.path("rosters.json");
  }
  get endpoints(): string {
    return this.path("endpoints.json");
  }
  get ports(): string {
    return this.path("ports.json");
  }
  /** On which log it runs; written once all of it has been dealt. */
  get dealt(): string {
    return this.path("dealt.json");
  }
  /** Who runs it. */
  get runner(): string {
    return this.path("runner.json");
  }
  log(name: string): string {
    return this.path("logs", `${name}.log`);
  }
  member(organism: Organism, index: number): string {
    return memberFolder(this.directory, organism, index);
  }
  key(organism: Organism, index: number): string {
    return join(this.member(organism, index), "key.json");
  }
  data(organism: Organism, index: number): string {
    return join(this.member(organism, index), "data");
  }

  /** What a seat's steward has: its memory, its credential, keys in reserve. */
  steward(organism: Organism, index: number): string {
    return this.path("stewards", `${organism}-${index}`);
  }
  /** Leads to the folder of whoever holds the seat, wherever there has been a steward; it moves the link. */
  seat(organism: Organism, index: number): string {
    return join(this.steward(organism, index), "seat");
  }
  /** The `number`th keys in reserve of a seat, from 1 on. */
  standby(organism: Organism, index: number, number: number): string {
    return join(this.steward(organism, index), `standby-${number}`);
  }
  /** What the operators of a committee have given one another. */
  standbys(organism: Organism): string {
    return this.path("stewards", "standbys", organism);
  }
  /** The nats-server of the ceremonies between epochs. */
  get ceremonies(): string {
    return this.path("stewards", "ceremonies");
  }
  /** The folder that a member is started with: the one its keys were dealt to, until a standby has taken its seat. */
  holder(organism: Organism, index: number): string {
    const seat = this.seat(organism, index);
    return lstatSync(seat, { throwIfNoEntry: false }) === undefined ? this.member(organism, index) : seat;
  }

  savePorts(ports: Ports): void {
    this.#writePorts(ports);
    const endpoints = Object.fromEntries(
      ORGANISMS.map((organism) => [organism, ports.members[organism].map(({ grpc }) => at(grpc))]),
    );
    writeWhole(this.endpoints, `${JSON.stringify({ ...endpoints, aggregator: [at(ports.aggregator)] }, null, 2)}\n`);
  }
  loadPorts(): Ports {
    return JSON.parse(readFileSync(this.ports, "utf8")) as Ports;
  }
  /** Those of a lattice that begins to have stewards. */
  addPorts(stewards: StewardPorts): void {
    this.#writePorts({ ...this.loadPorts(), stewards });
  }
  #writePorts(ports: Ports): void {
    writeWhole(this.ports, `${JSON.stringify(ports, null, 2)}\n`);
  }
}

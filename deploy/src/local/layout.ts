/** Where everything of a local lattice lies below its folder, and on which ports it answers. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
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

const LOOPBACK = "127.0.0.1";
export const at = (port: number): string => `${LOOPBACK}:${port}`;
export const http = (port: number): string => `http://${at(port)}`;

export class Layout {
  readonly directory: string;
  constructor(directory: string) {
    this.directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
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

  savePorts(ports: Ports): void {
    writeFileSync(this.ports, `${JSON.stringify(ports, null, 2)}\n`);
    const endpoints = Object.fromEntries(
      ORGANISMS.map((organism) => [organism, ports.members[organism].map(({ grpc }) => at(grpc))]),
    );
    writeFileSync(this.endpoints, `${JSON.stringify({ ...endpoints, aggregator: [at(ports.aggregator)] }, null, 2)}\n`);
  }
  loadPorts(): Ports {
    return JSON.parse(readFileSync(this.ports, "utf8")) as Ports;
  }
}

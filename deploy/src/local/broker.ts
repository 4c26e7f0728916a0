/** The broker of a local lattice: one nats-server or three, one account per organism, one credential per author. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { NatsCluster } from "../nats/nats-cluster.ts";
import {
  completeDeal,
  dealNats,
  type NatsDeal,
  readDeal,
  replaceCredentials,
  writeCredentials,
} from "../nats/nats-config.ts";
import { committeeQuotas, type StreamQuotas } from "../nats/nats-process.ts";
import { findNatsServer, type NatsServerBinary } from "../nats/nats-server.ts";
import type { Layout, Ports } from "./layout.ts";

const ROOT = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
/** A limit, not a reservation: hours of slots even if nothing can be trimmed, however large one author's messages are. */
export const ACCOUNT_BYTES = 32 * 1024 ** 3;
const STREAM_BYTES = ACCOUNT_BYTES - 1024 ** 2;

/** What each of the six logs of a local lattice may hold. */
export function localQuotas(members: number): StreamQuotas {
  return committeeQuotas(members, STREAM_BYTES);
}

export interface BrokerOptions {
  readonly layout: Layout;
  readonly ports: Ports;
  readonly members: number;
  /** Further logs of a new lattice, each an account of its own, for whoever tests the broker. */
  readonly extraLogs?: readonly string[];
  /** Of a new lattice's logs; `localQuotas` when left out. */
  readonly quotas?: StreamQuotas;
  /** Where server `index` keeps its streams; default below its folder. */
  readonly storeDir?: (index: number) => string;
}

export interface Broker {
  readonly version: string;
  readonly cluster: NatsCluster;
  readonly deal: NatsDeal;
  stop(): Promise<void>;
  kill(): Promise<void>;
}

/** Looks for a usable nats-server, and fetches one through apt where it can. @throws NatsServerMissing */
export function provideNatsServer(progress?: (line: string) => void): Promise<NatsServerBinary> {
  return findNatsServer({
    toolsDir: join(ROOT, ".tools"),
    environment: process.env,
    download: true,
    ...(progress === undefined ? {} : { progress }),
  });
}

/** Deals the broker's credentials and gives each member its own; what is there already stays, wherever an earlier start was cut off. */
export function dealBroker({ layout, members, extraLogs = [] }: Omit<BrokerOptions, "ports">): NatsDeal {
  const dealFile = layout.path("nats", "deal.json");
  if (!existsSync(dealFile)) {
    const names = [...ORGANISMS, ...extraLogs];
    writeCredentials(dealFile, dealNats(names.map((organism) => ({ organism, members }))));
  }
  const { deal, changed } = completeDeal(readDeal(dealFile));
  for (const [position, organism] of ORGANISMS.entries()) {
    for (const [index, each] of deal.accounts[position]?.members.entries() ?? []) {
      const file = join(layout.member(organism, index), "nats.json");
      if (!existsSync(file)) writeCredentials(file, each);
    }
  }
  const trimmerFile = layout.path("nats", "trimmer.json");
  // Also in a folder from before there was a trimmer.
  if (changed) replaceCredentials(dealFile, deal);
  if (changed || !existsSync(trimmerFile)) {
    const trimmers = deal.accounts.map(({ organism, trimmer }) => [organism, trimmer] as const);
    replaceCredentials(trimmerFile, Object.fromEntries(trimmers));
  }
  const adminsFile = layout.path("nats", "admins.json");
  if (!existsSync(adminsFile)) {
    writeCredentials(
      adminsFile,
      Object.fromEntries(deal.accounts.map(({ organism, admin }) => [organism, admin] as const)),
    );
  }
  return deal;
}

/** Starts the broker; on first use deals its credentials and makes the six streams. */
export async function startBroker(options: BrokerOptions): Promise<Broker> {
  const { layout, ports, members } = options;
  const binary = await provideNatsServer();
  const deal = dealBroker(options);
  const cluster = await NatsCluster.start({
    binary: binary.path,
    directory: layout.path("nats"),
    deal,
    ports: ports.nats,
    accountBytes: ACCOUNT_BYTES,
    ...(options.storeDir === undefined ? {} : { storeDir: options.storeDir }),
  });
  await cluster.makeStreams(
    deal.accounts.map(({ admin }) => admin),
    options.quotas ?? localQuotas(members),
  );
  return { version: binary.version, cluster, deal, stop: () => cluster.stop(), kill: () => cluster.kill() };
}

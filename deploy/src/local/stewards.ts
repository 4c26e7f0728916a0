/**
 * The stewards of a local lattice, one a seat: what their operators would type once (docs/operators.md), what each is
 * started with, and the nats-server of their ceremonies. Laid out beside the members, so that a lattice may be started with them
 * and without.
 */
import { existsSync, lstatSync, mkdirSync, realpathSync, symlinkSync } from "node:fs";
import { basename, join, relative } from "node:path";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { CeremonyProblem } from "../ceremony/member-folder.ts";
import { writeWhole } from "../cli/whole-file.ts";
import { dealNats, readDeal, writeCredentials } from "../nats/nats-config.ts";
import { createCommitteeStream, type NatsServer, startNatsServer } from "../nats/nats-process.ts";
import { giveCredential, standbyIn } from "../roster/standby-command.ts";
import { provideNatsServer } from "./broker.ts";
import { at, type Layout, type StewardPorts } from "./layout.ts";

export interface StewardOptions {
  /** Fresh shares for all six committees at every multiple of it, in slots. */
  readonly refreshEverySlots: number;
  /** Another certificate key with the first refresh at or after every multiple of it; never when left out. */
  readonly eraEverySlots?: number;
}

/** An hour of slots of four seconds. */
export const REFRESH_EVERY_SLOTS = 900;
const LOOK_MS_MAX = 3000;

/** The slots of one epoch's making, so that they fit between two refreshes. */
export function localSchedule(refreshEverySlots: number): { readonly gather: number; readonly ceremony: number } {
  const between = (least: number, value: number, most: number): number => Math.min(most, Math.max(least, value));
  return {
    gather: between(4, Math.floor(refreshEverySlots / 5), 32),
    ceremony: between(6, Math.floor(refreshEverySlots / 4), 16),
  };
}

const seatsOf = (config: LatticeConfig): { readonly organism: Organism; readonly index: number }[] =>
  ORGANISMS.flatMap((organism) =>
    Array.from({ length: config[organism].policy.membersMin }, (_, index) => ({ organism, index })),
  );

export const stewardName = (organism: Organism, index: number): string => `${organism}-${index}-steward`;
const credentialsFile = (layout: Layout, organism: Organism, index: number): string =>
  join(layout.steward(organism, index), "ceremonies.json");

/** Which keys in reserve stand by for the seat now: the first, until they have taken it. */
function standbyNumber(layout: Layout, organism: Organism, index: number): number {
  const seat = layout.seat(organism, index);
  if (lstatSync(seat, { throwIfNoEntry: false }) === undefined) return 1;
  if (!existsSync(seat))
    throw new CeremonyProblem(`${seat}: leads nowhere; it led to the folder of who holds the seat`);
  const used = /^standby-(\d+)$/.exec(basename(realpathSync(seat)));
  return used === null ? 1 : Number(used[1]) + 1;
}

/**
 * Makes whatever is not there yet: a link to each member's folder, a credential for the ceremonies, and keys in reserve whose
 * statement everybody of the committee is given.
 * @throws CeremonyProblem
 */
export async function layOutStewards(layout: Layout, config: LatticeConfig): Promise<void> {
  const dealFile = join(layout.ceremonies, "deal.json");
  if (!existsSync(dealFile)) {
    const members = (organism: Organism): number => config[organism].policy.membersMin;
    const accounts = ORGANISMS.map((organism) => ({ organism: `ceremony-${organism}`, members: members(organism) }));
    writeCredentials(dealFile, dealNats(accounts));
  }
  const { accounts } = readDeal(dealFile);
  for (const { organism, index } of seatsOf(config)) {
    mkdirSync(layout.steward(organism, index), { recursive: true, mode: 0o700 });
    const credentials = accounts[ORGANISMS.indexOf(organism)]?.members[index];
    const file = credentialsFile(layout, organism, index);
    if (credentials !== undefined && !existsSync(file)) writeCredentials(file, credentials);
    const seat = layout.seat(organism, index);
    if (lstatSync(seat, { throwIfNoEntry: false }) === undefined)
      symlinkSync(relative(layout.steward(organism, index), layout.member(organism, index)), seat);
    const number = standbyNumber(layout, organism, index);
    const statement = join(layout.standbys(organism), `${index}-${number}.json`);
    const directory = layout.standby(organism, index, number);
    if (existsSync(statement)) {
      // In a folder whose members had no credentials yet when the keys were made.
      giveCredential(seat, directory);
      continue;
    }
    const standby = await standbyIn({ config, organism, member: seat, directory });
    mkdirSync(layout.standbys(organism), { recursive: true, mode: 0o700 });
    writeWhole(statement, `${JSON.stringify(standby)}\n`);
  }
}

/**
 * The nats-server of all six committees' ceremonies.
 * @param onStarted called once its process runs, before it is ready
 * @throws ProgramFailure, NatsServerMissing
 */
export async function startCeremonies(
  layout: Layout,
  ports: StewardPorts,
  onStarted: (server: NatsServer) => void,
): Promise<NatsServer> {
  const deal = readDeal(join(layout.ceremonies, "deal.json"));
  const { client: port, monitor: monitorPort } = ports.ceremonies;
  const { path: binary } = await provideNatsServer();
  const server = await startNatsServer({ binary, directory: layout.ceremonies, deal, port, monitorPort, onStarted });
  try {
    for (const { admin } of deal.accounts) await createCommitteeStream(server.url, admin);
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

/** What a seat's steward is started with, once all is laid out. */
export function stewardEnvironment(
  layout: Layout,
  ports: StewardPorts,
  { refreshEverySlots, eraEverySlots = 0, slotMs }: StewardOptions & { readonly slotMs: number },
  organism: Organism,
  index: number,
): Record<string, string> {
  const { gather, ceremony } = localSchedule(refreshEverySlots);
  return {
    STEWARD_CONFIG_FILE: layout.config,
    STEWARD_ENDPOINTS_FILE: layout.endpoints,
    STEWARD_ORGANISM: organism,
    STEWARD_MEMBER_DIR: layout.seat(organism, index),
    STEWARD_STANDBY_DIR: layout.standby(organism, index, standbyNumber(layout, organism, index)),
    STEWARD_STANDBYS_DIR: layout.standbys(organism),
    STEWARD_STATE_DIR: join(layout.steward(organism, index), "state"),
    STEWARD_NATS_SERVERS: `nats://${at(ports.ceremonies.client)}`,
    STEWARD_CREDENTIALS_FILE: credentialsFile(layout, organism, index),
    STEWARD_REFRESH_EVERY_SLOTS: String(refreshEverySlots),
    STEWARD_ERA_EVERY_SLOTS: String(eraEverySlots),
    STEWARD_GATHER_SLOTS: String(gather),
    STEWARD_CEREMONY_SLOTS: String(ceremony),
    STEWARD_LISTEN: at(ports.metrics[organism][index] ?? 0),
    STEWARD_EVERY_MS: String(Math.min(LOOK_MS_MAX, slotMs)),
  };
}

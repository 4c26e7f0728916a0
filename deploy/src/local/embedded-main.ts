/**
 * All eighteen members in one process, each with its own state, journal and gRPC port, six embedded logs between them.
 * They exchange bytes only, exactly as they would through a broker.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { definition as atelier } from "@lattice/atelier/definition.ts";
import { definition as offer } from "@lattice/offer/definition.ts";
import { verifyTaggedElsewhere } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { EmbeddedLog } from "@lattice/organism/log/embedded-log.ts";
import type { Duty } from "@lattice/organism/machine.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import { exitCodeOf } from "@lattice/organism/node/exit.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import {
  type Rosters,
  readCertifiedRosters,
  readConfig,
  readEndpoints,
  readKeyFile,
  readRosters,
} from "@lattice/organism/node/kit.ts";
import { Member } from "@lattice/organism/node/member.ts";
import { startHttpEndpoint } from "@lattice/organism/observe/http.ts";
import { createLogger, errorFields, type LogLevel } from "@lattice/organism/observe/logger.ts";
import { createNoMeters } from "@lattice/organism/observe/meters.ts";
import { createNoTracer } from "@lattice/organism/observe/tracing.ts";
import { healthService } from "@lattice/organism/rpc/health.ts";
import { reflectionServices } from "@lattice/organism/rpc/reflection.ts";
import { startServer } from "@lattice/organism/rpc/server.ts";
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { definition as relay } from "@lattice/relay/definition.ts";
import { definition as tally } from "@lattice/tally/definition.ts";
import { definition as unseal } from "@lattice/unseal/definition.ts";
import { definition as zipnet } from "@lattice/zipnet/definition.ts";
import { trimOnce } from "../nats/trimmer.ts";
import { at, Layout } from "./layout.ts";
import { organismEnvironment } from "./members.ts";

interface Parameters {
  readonly directory: string;
  readonly logLevel: string;
}

const { directory, logLevel } = JSON.parse(process.argv[2] ?? "{}") as Parameters;
const layout = new Layout(directory);
const ports = layout.loadPorts();
const config: LatticeConfig = readConfig(layout.config);
await initCrypto();
const rosters: Rosters = readRosters(layout.rosters, config);
const eras = new EraWatch({ config, addresses: (organism) => readEndpoints(layout.endpoints)[organism] });
const certifiedRosters = readCertifiedRosters(layout.rosters);
const stops: (() => Promise<void>)[] = [];
const logs = new Map<string, Promise<EmbeddedLog>>();
/** One file a generation; who opens the next one has its certified beginning. */
function logOf(organism: Organism, generation: bigint): Promise<EmbeddedLog> {
  const name = generation === 0n ? organism : `${organism}-g${generation}`;
  const opened = logs.get(name) ?? EmbeddedLog.open(layout.path("logs-embedded", name));
  logs.set(name, opened);
  return opened;
}
let stopping = false;
const TRIM_EVERY_MS = 15_000;

async function startOne<State, Command, D extends Duty, Settings>(
  definition: OrganismDefinition<State, Command, D, Settings>,
  index: number,
): Promise<void> {
  const { organism } = definition;
  const data = layout.data(organism, index);
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const journalIsOld = existsSync(join(data, "journal"));
  const logger = createLogger(logLevel as LogLevel, { service: organism, member: index, lattice: config.name });
  const settings = definition.settings.parse(
    organismEnvironment({ layout, ports, slotMs: config.slotMs, logLevel }, organism, index),
  );
  const member = await Member.start<State, Command, D, Settings>({
    definition,
    settings,
    config,
    self: index,
    rosters,
    certifiedRoster: certifiedRosters[organism],
    secrets: readKeyFile(layout.key(organism, index)).secrets,
    endpoints: () => readEndpoints(layout.endpoints),
    log: (await logOf(organism, 0n)).member(index),
    nextLog: async (generation) => (await logOf(organism, generation)).member(index),
    journal: await FileJournal.open(data),
    journalIsOld,
    directory: data,
    clock: { nowMs: () => Date.now() },
    random: (count) => new Uint8Array(randomBytes(count)),
    verify: verifyTaggedElsewhere,
    logger,
    meters: createNoMeters(),
    tracer: createNoTracer(),
    onFatal: (reason, detail) => {
      logger.error("this member must stop", { reason, problem: detail });
      process.exit(exitCodeOf(reason));
    },
  });
  const health = healthService({
    ready: () => member.ready(),
    services: member.services.map(({ descriptor }) => descriptor.typeName),
  });
  const services = [...member.services, health.service];
  const own = ports.members[organism][index];
  const server = await startServer({
    address: at(own?.grpc ?? 0),
    services: [...services, ...reflectionServices(services)],
    committee: member.committee.id,
    domain: organism,
    log: logger,
    meters: createNoMeters(),
  });
  const http = await startHttpEndpoint({ host: "127.0.0.1", port: own?.metrics ?? 0, ready: () => member.ready() });
  stops.push(async () => {
    health.drain();
    await server.drain(500);
    await member.stop(1000);
    await http.close();
  });
}

for (const definition of [zipnet, unseal, offer, atelier, relay, tally] as unknown as OrganismDefinition<
  unknown,
  unknown,
  Duty,
  unknown
>[]) {
  if (!ORGANISMS.includes(definition.organism)) continue;
  const members = rosters[definition.organism].members.length;
  await Promise.all(Array.from({ length: members }, (_, index) => startOne(definition, index)));
}

/** As the trimmer does it where there is a broker: by what members have signed that they hold, and nothing else. */
const trimmer = createLogger(logLevel as LogLevel, { service: "trimmer", lattice: config.name });
let trimming = setTimeout(trim, TRIM_EVERY_MS);
async function trim(): Promise<void> {
  for (const organism of ORGANISMS) {
    try {
      const addresses = readEndpoints(layout.endpoints)[organism];
      const purgeBelow = async (position: bigint, generation: bigint): Promise<number> => {
        const log = await logOf(organism, generation);
        const before = log.firstPosition;
        await log.trim(position);
        return Number(log.firstPosition - before);
      };
      const trimmed = await trimOnce({
        config,
        organism,
        roster: rosters[organism],
        eras,
        addresses,
        nowMs: () => Date.now(),
        purgeBelow,
      });
      if (trimmed !== undefined && trimmed.removed > 0) {
        trimmer.info("trimmed", { organism, from_position: trimmed.from, removed: trimmed.removed });
      }
    } catch (error) {
      trimmer.warn("not trimmed; looked at again", { organism, ...errorFields(error) });
    }
  }
  if (!stopping) trimming = setTimeout(trim, TRIM_EVERY_MS);
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    if (stopping) process.exit(1);
    stopping = true;
    clearTimeout(trimming);
    Promise.all(stops.map((stop) => stop())).then(
      () => process.exit(0),
      () => process.exit(1),
    );
  });
}

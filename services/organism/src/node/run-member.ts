/** Runs one member as a process: settings → kit → log → member → servers → signals. All six `main.ts` call this. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { equalBytes, toHex } from "../codec/codec.ts";
import { RULES, type RuleRange, RulesUnknown } from "../committee/rules.ts";
import { generateSigningKey, verifyTaggedElsewhere } from "../crypto/ed25519.ts";
import { initCrypto } from "../crypto/engine.ts";
import { Fault } from "../fault.ts";
import { type LatticeConfig, latticeId } from "../identity/lattice-config.ts";
import { UnfitServer } from "../log/fit-server.ts";
import { generationStream, JetStreamLog } from "../log/jetstream-log.ts";
import type { Duty } from "../machine.ts";
import { startHttpEndpoint } from "../observe/http.ts";
import { createLogger, errorFields } from "../observe/logger.ts";
import { createNoMeters } from "../observe/meters.ts";
import { createMeters } from "../observe/meters-otel.ts";
import { createSlotTracer } from "../observe/tracing.ts";
import { healthService } from "../rpc/health.ts";
import { reflectionServices } from "../rpc/reflection.ts";
import { startServer } from "../rpc/server.ts";
import type { OrganismDefinition } from "../service.ts";
import { CorruptFile } from "./append-file.ts";
import { FileEpochKeys } from "./epoch-keys.ts";
import { readEraFile } from "./era-book.ts";
import { EXIT, exitCodeOf } from "./exit.ts";
import { FileJournal } from "./file-journal.ts";
import {
  KitProblem,
  parseConfigHex,
  readCertifiedRosters,
  readConfig,
  readEndpoints,
  readEras,
  readKeyFile,
  readRosters,
  verifyKeys,
} from "./kit.ts";
import { makeFolder } from "./make-folder.ts";
import { Member } from "./member.ts";
import { memberClock } from "./member-clock.ts";
import { openArchive } from "./open-archive.ts";
import { parseSettings, SettingsProblems, type SharedSettings } from "./settings.ts";
import { NoSnapshot } from "./state-sync.ts";

const NATS_CREDENTIALS = z.strictObject({
  user: z.string(),
  password: z.string(),
  stream: z.string(),
  subject: z.string(),
  inboxPrefix: z.string(),
});

/** What this build speaks, capped where that is allowed: so that one build can stand for an older one. */
function ruleRange(highest: number | undefined, { throwAway }: LatticeConfig): RuleRange {
  if (highest === undefined) return RULES;
  if (!throwAway) throw new KitProblem("LATTICE_TEST_RULES_MAX: only a throw-away lattice may hold a build back");
  return { ...RULES, highest: Math.min(highest, RULES.highest) };
}

function loadConfig(settings: SharedSettings): LatticeConfig {
  const {
    LATTICE_CONFIG_HEX: hex,
    LATTICE_CONFIG_FILE: file,
    LATTICE_INSTANCE: name,
    LATTICE_CHAIN_ID: chainId,
  } = settings;
  if ((hex === undefined) === (file === undefined)) {
    throw new SettingsProblems(["LATTICE_CONFIG_HEX or LATTICE_CONFIG_FILE: exactly one of the two is needed"]);
  }
  const config = hex !== undefined ? parseConfigHex(hex) : readConfig(file ?? "");
  if (name !== undefined && name !== config.name)
    throw new KitProblem(`LATTICE_INSTANCE is ${name}, the config is ${config.name}`);
  if (chainId !== undefined && chainId !== config.chainId) {
    throw new KitProblem(`LATTICE_CHAIN_ID is ${chainId}, the config says ${config.chainId}`);
  }
  return config;
}

function readCredentials(path: string): z.infer<typeof NATS_CREDENTIALS> {
  try {
    if ((statSync(path).mode & 0o077) !== 0)
      throw new KitProblem(`NATS credentials: ${path} is open to others; mode 400 expected`);
    return NATS_CREDENTIALS.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    if (error instanceof KitProblem) throw error;
    throw new KitProblem(`NATS credentials: ${path} is missing or not {user, password, stream, subject, inboxPrefix}`);
  }
}

function splitAddress(address: string): { host: string; port: number } {
  const at = address.lastIndexOf(":");
  return { host: address.slice(0, at), port: Number(address.slice(at + 1)) };
}

/** A full disk, a port in use, a folder without rights: the operating system's own line says it. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && "syscall" in error && "code" in error;
}

/** Runs until SIGTERM or SIGINT; exits the process. Every expected failure is one readable line and an exit code. */
export async function runMember<State, Command, D extends Duty, Settings extends Record<string, unknown>>(
  definition: OrganismDefinition<State, Command, D, Settings>,
): Promise<void> {
  try {
    await run(definition);
  } catch (error) {
    const expected =
      error instanceof SettingsProblems ||
      error instanceof KitProblem ||
      error instanceof UnfitServer ||
      error instanceof CorruptFile ||
      error instanceof NoSnapshot ||
      error instanceof RulesUnknown ||
      error instanceof Fault ||
      isSystemError(error);
    const lines =
      error instanceof SettingsProblems ? error.problems : [error instanceof Error ? error.message : String(error)];
    for (const line of lines) process.stderr.write(`${definition.organism}: ${line}\n`);
    if (!expected && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    process.exit(error instanceof SettingsProblems ? EXIT.usage : expected ? EXIT.precondition : EXIT.failed);
  }
}

async function run<State, Command, D extends Duty, Settings extends Record<string, unknown>>(
  definition: OrganismDefinition<State, Command, D, Settings>,
): Promise<void> {
  const { shared, own } = parseSettings(process.env, definition.organism, definition.settings);
  const config = loadConfig(shared);
  const key = readKeyFile(shared.LATTICE_KEY_FILE);
  if (key.organism !== definition.organism)
    throw new KitProblem(`key file: belongs to ${key.organism}, not ${definition.organism}`);
  const rosters = readRosters(shared.LATTICE_ROSTERS_FILE, config);
  const eras = readEras(shared.LATTICE_ROSTERS_FILE, config);
  // What this member knew before comes first in judging its own shares and snapshots.
  eras.learnAll(readEraFile(join(shared.LATTICE_DATA_DIR, "eras.json")) ?? {});
  const first = rosters[definition.organism];
  const ownKey = generateSigningKey(key.secrets.memberKey).publicKey;
  const inFirst = equalBytes(first.members[key.index]?.memberKey ?? new Uint8Array(), ownKey);
  const hasFirstShares = inFirst && key.secrets.certificateShare.length > 0;
  const endpointsFile = shared.LATTICE_ENDPOINTS_FILE;
  readEndpoints(endpointsFile);
  const credentials = readCredentials(shared.LATTICE_NATS_CREDENTIALS_FILE);
  const labels = {
    lattice: config.name,
    chain_id: config.chainId.toString(),
    organism: definition.organism,
    role: "member",
    member: key.index.toString(),
  };
  const logger = createLogger(shared.LATTICE_LOG_LEVEL, {
    service: definition.organism,
    member: key.index,
    lattice: config.name,
  });
  await initCrypto();
  makeFolder(shared.LATTICE_DATA_DIR, 0o700);
  const epochKeys = await FileEpochKeys.open({
    config,
    organism: definition.organism,
    index: key.index,
    secrets: key.secrets,
    first: hasFirstShares ? first : undefined,
    keyFile: shared.LATTICE_KEY_FILE,
    directory: shared.LATTICE_SHARES_DIR ?? join(dirname(shared.LATTICE_KEY_FILE), "shares"),
    eras: eras.of,
    onProblem: (problem) => logger.warn(problem),
  });
  // Who holds shares of a later epoch need not be in the first roster; everybody else must fit it.
  if (hasFirstShares || !epochKeys.any) verifyKeys(first, definition.organism, key.index, key.secrets);
  const journalIsOld = existsSync(join(shared.LATTICE_DATA_DIR, "journal"));
  const journal = await FileJournal.open(shared.LATTICE_DATA_DIR);
  const openLog = (generation: bigint): Promise<JetStreamLog> =>
    JetStreamLog.open({
      servers: shared.LATTICE_NATS_SERVERS.split(","),
      ...credentials,
      ...generationStream(credentials, generation),
      member: key.index,
      monitorUrls: shared.LATTICE_NATS_MONITOR_URL ?? [],
      onEvent: (event) => logger.warn(event),
    });
  const log = await openLog(0n);
  // A member that runs waits for a broker that is away, however long.
  const nextLog = async (generation: bigint): Promise<JetStreamLog> => {
    for (;;) {
      try {
        return await openLog(generation);
      } catch (error) {
        if (!(error instanceof UnfitServer) || error.reason !== "NATS_UNREACHABLE") throw error;
        logger.warn("the log of the next generation cannot be opened yet", { generation, problem: error.message });
      }
    }
  };
  const scraped = shared.LATTICE_METRICS_LISTEN === undefined ? undefined : await createMeters({ labels });
  const meters = scraped?.meters ?? createNoMeters();
  const tracer = await createSlotTracer({
    latticeId: latticeId(config),
    service: definition.organism,
    attributes: labels,
    ...(shared.LATTICE_TRACE_FILE === undefined ? {} : { file: shared.LATTICE_TRACE_FILE }),
  });
  const clock = memberClock(shared.LATTICE_TEST_CLOCK_FILE, config);
  const archive = await openArchive(shared, config, definition.organism, eras.of);
  let stopping = false;
  const member = await Member.start<State, Command, D, Settings>({
    definition,
    settings: own,
    config,
    self: key.index,
    rosters,
    certifiedRoster: readCertifiedRosters(shared.LATTICE_ROSTERS_FILE)[definition.organism],
    secrets: key.secrets,
    epochKeys,
    eras,
    endpoints: () => readEndpoints(endpointsFile),
    log,
    nextLog,
    journal,
    journalIsOld,
    directory: shared.LATTICE_DATA_DIR,
    ...(archive === undefined ? {} : { archive }),
    rules: ruleRange(shared.LATTICE_TEST_RULES_MAX, config),
    clock,
    random: (count) => new Uint8Array(randomBytes(count)),
    verify: verifyTaggedElsewhere,
    logger,
    meters,
    tracer,
    onProof: (hash, proof) => {
      // For people: `builder fraud verify` reads it. The journal has it for the committee.
      const folder = join(shared.LATTICE_DATA_DIR, "frauds");
      try {
        mkdirSync(folder, { recursive: true, mode: 0o700 });
        writeFileSync(join(folder, `${definition.organism}-${hash}.fraud`), proof, { mode: 0o600 });
      } catch (error) {
        logger.warn("a fraud proof was not left in the data folder", errorFields(error));
      }
    },
    onFatal: (reason, detail) => {
      if (stopping) return;
      logger.error("this member must stop", { reason, problem: detail });
      process.exit(exitCodeOf(reason));
    },
  });
  const health = healthService({
    ready: () => member.ready(),
    services: member.services.map(({ descriptor }) => descriptor.typeName),
  });
  const server = await startServer({
    address: shared.LATTICE_LISTEN,
    services: [...member.services, health.service, ...reflectionServices([...member.services, health.service])],
    committee: member.committee.id,
    domain: definition.organism,
    log: logger,
    meters,
    tracer,
  });
  const http =
    shared.LATTICE_METRICS_LISTEN === undefined
      ? undefined
      : await startHttpEndpoint({
          ...splitAddress(shared.LATTICE_METRICS_LISTEN),
          ...(scraped === undefined ? {} : { metrics: scraped }),
          ready: () => member.ready(),
        });
  logger.info("serving", { address: shared.LATTICE_LISTEN, lattice_id: toHex(latticeId(config)) });

  const drain = async (): Promise<void> => {
    if (stopping) process.exit(EXIT.failed);
    stopping = true;
    logger.info("draining");
    health.drain();
    await server.drain(1000);
    await member.stop();
    await http?.close();
    await tracer.close();
    process.exit(EXIT.ok);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      drain().catch(() => process.exit(EXIT.failed));
    });
  }
}

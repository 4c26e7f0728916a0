/** One aggregator as a process: settings → config → feed → server → signals. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CodecError, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { generateSigningKey, type SigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { Fault } from "@lattice/organism/fault.ts";
import { committeeId, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { CorruptFile } from "@lattice/organism/node/append-file.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import { KitProblem, parseConfigHex, readConfig, readEndpoints } from "@lattice/organism/node/kit.ts";
import { makeFolder } from "@lattice/organism/node/make-folder.ts";
import { startHttpEndpoint } from "@lattice/organism/observe/http.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { createMeters } from "@lattice/organism/observe/meters-otel.ts";
import { healthService } from "@lattice/organism/rpc/health.ts";
import { reflectionServices } from "@lattice/organism/rpc/reflection.ts";
import { startServer } from "@lattice/organism/rpc/server.ts";
import { RoundFeed } from "../client/round-feed.ts";
import { Aggregator } from "./aggregator.ts";
import { type AggregatorSettings, readAggregatorSettings } from "./aggregator-config.ts";
import { EnvelopeStore } from "./envelope-store.ts";
import { aggregatorService } from "./service.ts";

/** Exit codes, as docs/operators.md lists them. */
const EXIT = { ok: 0, failed: 1, usage: 2, precondition: 5 } as const;

/** The aggregator's own key; made on the first start when no file is named. @throws KitProblem */
function readKey(settings: AggregatorSettings): SigningKey {
  const path = settings.AGGREGATOR_KEY_FILE ?? join(settings.LATTICE_DATA_DIR, "aggregator.key");
  if (settings.AGGREGATOR_KEY_FILE === undefined && !existsSync(path)) {
    writeFileSync(path, `${toHex(randomBytes(32))}\n`, { mode: 0o400 });
  }
  try {
    if ((statSync(path).mode & 0o077) !== 0)
      throw new KitProblem(`aggregator key: ${path} is open to others; 400 expected`);
    return generateSigningKey(fromHex(readFileSync(path, "utf8").trim()));
  } catch (error) {
    if (error instanceof KitProblem) throw error;
    throw new KitProblem(`aggregator key: ${path} is missing or not 32 bytes of hex`);
  }
}

async function run(settings: AggregatorSettings): Promise<void> {
  const { LATTICE_CONFIG_HEX: hex, LATTICE_CONFIG_FILE: file, LATTICE_DATA_DIR: directory } = settings;
  const config = hex !== undefined ? parseConfigHex(hex) : readConfig(file ?? "");
  makeFolder(directory, 0o700);
  const key = readKey(settings);
  const named = settings.AGGREGATOR_SERVERS?.split(",");
  const servers = (): readonly string[] => named ?? readEndpoints(settings.LATTICE_ENDPOINTS_FILE ?? "").zipnet;
  servers();
  await initCrypto();
  const log = createLogger(settings.LATTICE_LOG_LEVEL, { service: "zipnet-aggregator", lattice: config.name });
  const labels = { lattice: config.name, chain_id: config.chainId.toString(), organism: "zipnet", role: "aggregator" };
  const meters = await createMeters({ labels: { ...labels, member: "0" } });
  const clock = { nowMs: () => Date.now() };
  const feed = new RoundFeed({ config, servers, eras: new EraWatch({ config, addresses: servers, log }), clock, log });
  const aggregator = new Aggregator({
    config,
    key,
    servers,
    feed,
    store: new EnvelopeStore(directory, config.zipnet.content.blameWindowSlots),
    clock,
    log,
    meters: meters.meters,
  });
  let stopping = false;
  const health = healthService({ ready: () => feed.latest !== undefined && !stopping });
  const services = [aggregatorService(aggregator), health.service];
  const { cells, cellBytes } = config.zipnet.content;
  const server = await startServer({
    address: settings.LATTICE_LISTEN,
    services: [...services, ...reflectionServices(services)],
    committee: committeeId(config, "zipnet"),
    domain: "zipnet",
    log,
    meters: meters.meters,
    limits: { requestBytes: cells * cellBytes + (64 << 10) },
  });
  const metricsAt = settings.LATTICE_METRICS_LISTEN;
  const at = metricsAt?.lastIndexOf(":") ?? 0;
  const http =
    metricsAt === undefined
      ? undefined
      : await startHttpEndpoint({
          host: metricsAt.slice(0, at),
          port: Number(metricsAt.slice(at + 1)),
          metrics: meters,
          ready: () => feed.latest !== undefined && !stopping,
        });
  aggregator.start();
  feed.start();
  log.info("serving", {
    address: settings.LATTICE_LISTEN,
    lattice_id: toHex(latticeId(config)),
    aggregator_key: toHex(key.publicKey),
  });
  const drain = async (): Promise<void> => {
    if (stopping) process.exit(EXIT.failed);
    stopping = true;
    health.drain();
    await server.drain(1000);
    await aggregator.stop();
    await feed.stop();
    await http?.close();
    process.exit(EXIT.ok);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      drain().catch(() => process.exit(EXIT.failed));
    });
  }
}

const read = readAggregatorSettings(process.env);
if ("problems" in read) {
  for (const problem of read.problems) process.stderr.write(`zipnet-aggregator: ${problem}\n`);
  process.exit(EXIT.usage);
}
try {
  await run(read.settings);
} catch (error) {
  // A full disk, a folder without rights: the operating system's own line says it.
  const system = error instanceof Error && "syscall" in error && "code" in error;
  const expected = system || [KitProblem, Fault, CorruptFile, CodecError].some((kind) => error instanceof kind);
  process.stderr.write(`zipnet-aggregator: ${error instanceof Error ? error.message : String(error)}\n`);
  if (!expected && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  process.exit(expected ? EXIT.precondition : EXIT.failed);
}

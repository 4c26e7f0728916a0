/** The gateway as a process. */

import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { Fault } from "@lattice/organism/fault.ts";
import { CorruptFile } from "@lattice/organism/node/append-file.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import {
  KitProblem,
  parseConfigHex,
  readConfig,
  readEndpoints,
  readEras,
  readRosters,
} from "@lattice/organism/node/kit.ts";
import { SettingsProblems } from "@lattice/organism/node/settings.ts";
import { startHttpEndpoint } from "@lattice/organism/observe/http.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { createNoMeters } from "@lattice/organism/observe/meters.ts";
import { createMeters } from "@lattice/organism/observe/meters-otel.ts";
import { parseGatewaySettings } from "./config.ts";
import { startGateway } from "./gateway.ts";
import { problemFields } from "./problem.ts";

try {
  const settings = parseGatewaySettings(process.env);
  await initCrypto();
  const config =
    settings.LATTICE_CONFIG_HEX === undefined
      ? readConfig(settings.LATTICE_CONFIG_FILE ?? "")
      : parseConfigHex(settings.LATTICE_CONFIG_HEX);
  const log = createLogger(settings.LATTICE_LOG_LEVEL, { service: "gateway", lattice: config.name });
  const { GATEWAY_METRICS_LISTEN: listen } = settings;
  const labels = {
    lattice: config.name,
    chain_id: config.chainId.toString(),
    organism: "gateway",
    role: "gateway",
    member: "0",
  };
  const scraped = listen === undefined ? undefined : await createMeters({ labels });
  const gateway = await startGateway({
    settings,
    config,
    rosters: readRosters(settings.LATTICE_ROSTERS_FILE, config),
    eras: readEras(settings.LATTICE_ROSTERS_FILE, config),
    endpoints: () => readEndpoints(settings.LATTICE_ENDPOINTS_FILE),
    clock: { nowMs: () => Date.now() },
    log,
    meters: scraped?.meters ?? createNoMeters(),
    onFatal: (reason) => {
      log.error("this gateway must stop", { reason });
      process.exit(EXIT.failed);
    },
  });
  const at = listen?.lastIndexOf(":") ?? 0;
  const http =
    listen === undefined
      ? undefined
      : await startHttpEndpoint({
          host: listen.slice(0, at).replace(/^\[|\]$/g, ""),
          port: Number(listen.slice(at + 1)),
          ...(scraped === undefined
            ? {}
            : {
                metrics: {
                  scrape: () => {
                    gateway.measure();
                    return scraped.scrape();
                  },
                },
              }),
          ready: () => gateway.ready(),
        });
  log.info("serving", { port: gateway.port, key_origin: config.keys, throw_away: config.throwAway });
  let stopping = false;
  const stop = async (): Promise<void> => {
    if (stopping) process.exit(EXIT.failed);
    stopping = true;
    await gateway.stop();
    await http?.close();
    process.exit(EXIT.ok);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      stop().catch(() => process.exit(EXIT.failed));
    });
  }
  // A broken connection must not take everybody's submissions down with it; what it was is said without its text.
  process.on("unhandledRejection", (error) => log.error("a task failed", problemFields(error)));
} catch (error) {
  if (error instanceof SettingsProblems) {
    for (const problem of error.problems) process.stderr.write(`gateway: ${problem}\n`);
    process.exit(EXIT.usage);
  }
  // A full disk, a folder without rights: the operating system's own line says it.
  const system = error instanceof Error && "syscall" in error && "code" in error;
  const expected = system || [KitProblem, Fault, CorruptFile].some((kind) => error instanceof kind);
  process.stderr.write(
    `gateway: ${error instanceof Error ? (expected ? error.message : error.stack) : String(error)}\n`,
  );
  process.exit(expected ? EXIT.precondition : EXIT.failed);
}

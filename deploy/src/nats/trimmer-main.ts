/** Trims the logs of all committees whose trimmer's credentials it is given, again and again, until it is told to end. */
import { readFileSync, statSync } from "node:fs";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { isOrganism } from "@lattice/organism/identity/organisms.ts";
import { generationStream } from "@lattice/organism/log/jetstream-log.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readConfig, readEndpoints, readRosters } from "@lattice/organism/node/kit.ts";
import { parseOwnSettings, SettingsProblems } from "@lattice/organism/node/settings.ts";
import { startHttpEndpoint } from "@lattice/organism/observe/http.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import type { LogCredentials } from "./nats-config.ts";
import { purgeStream, trimOnce } from "./trimmer.ts";
import { TRIMMER_SETTINGS } from "./trimmer-settings.ts";

async function main(): Promise<void> {
  const settings = parseOwnSettings(process.env, "TRIMMER_", TRIMMER_SETTINGS);
  const config = readConfig(settings.TRIMMER_CONFIG_FILE);
  await initCrypto();
  const rosters = readRosters(settings.TRIMMER_ROSTERS_FILE, config);
  if ((statSync(settings.TRIMMER_CREDENTIALS_FILE).mode & 0o077) !== 0) {
    throw new Error("TRIMMER_CREDENTIALS_FILE is open to others; mode 400 expected");
  }
  const credentials = JSON.parse(readFileSync(settings.TRIMMER_CREDENTIALS_FILE, "utf8")) as Record<
    string,
    LogCredentials
  >;
  const servers = settings.TRIMMER_NATS_SERVERS.split(",");
  const logger = createLogger("info", { service: "trimmer", lattice: config.name });
  const trimmed = new Map<string, bigint>();
  let timer: NodeJS.Timeout | undefined;
  let ending = false;

  let ready = false;
  if (settings.TRIMMER_LISTEN !== undefined) {
    const [host = "", port] = settings.TRIMMER_LISTEN.split(":");
    await startHttpEndpoint({ host, port: Number(port), ready: () => ready });
  }

  const look = async (): Promise<void> => {
    let failed = false;
    for (const [organism, own] of Object.entries(credentials)) {
      if (!isOrganism(organism) || ending) continue;
      try {
        const result = await trimOnce({
          config,
          organism,
          roster: rosters[organism],
          addresses: readEndpoints(settings.TRIMMER_ENDPOINTS_FILE)[organism],
          nowMs: () => Date.now(),
          purgeBelow: async (position, generation) => {
            const name = `${organism}/${generation}`;
            if (position <= (trimmed.get(name) ?? 1n)) return 0;
            const removed = await purgeStream(servers, { ...own, ...generationStream(own, generation) }, position);
            trimmed.set(name, position);
            return removed;
          },
        });
        if (result !== undefined && result.removed > 0) {
          logger.info("trimmed", { organism, from_position: result.from, removed: result.removed });
        }
      } catch (error) {
        failed = true;
        logger.warn("not trimmed; looked at again", {
          organism,
          problem: error instanceof Error ? error.message : String(error),
        });
      }
    }
    ready = !failed;
    if (!ending) timer = setTimeout(look, settings.TRIMMER_EVERY_MS);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      ending = true;
      clearTimeout(timer);
      process.exit(EXIT.ok);
    });
  }
  await look();
}

main().catch((error: unknown) => {
  process.stderr.write(`trimmer: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof SettingsProblems ? EXIT.usage : EXIT.precondition);
});

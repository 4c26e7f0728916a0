/** Makes streams of later generations for all committees whose administrators it is given, until it is told to end. */
import { readFileSync, statSync } from "node:fs";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { isOrganism } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readConfig, readEndpoints } from "@lattice/organism/node/kit.ts";
import { parseOwnSettings, SettingsProblems } from "@lattice/organism/node/settings.ts";
import { startHttpEndpoint } from "@lattice/organism/observe/http.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { localQuotas } from "../local/broker.ts";
import type { LogCredentials } from "./nats-config.ts";
import { keepStream } from "./stream-keeper.ts";
import { KEEPER_SETTINGS } from "./stream-keeper-settings.ts";

async function main(): Promise<void> {
  const settings = parseOwnSettings(process.env, "KEEPER_", KEEPER_SETTINGS);
  const config = readConfig(settings.KEEPER_CONFIG_FILE);
  await initCrypto();
  const file = settings.KEEPER_ADMINS_FILE;
  if ((statSync(file).mode & 0o077) !== 0) throw new Error("KEEPER_ADMINS_FILE is open to others; mode 400 expected");
  const admins = JSON.parse(readFileSync(file, "utf8")) as Record<string, LogCredentials>;
  const logger = createLogger("info", { service: "stream-keeper", lattice: config.name });
  let timer: NodeJS.Timeout | undefined;
  let ending = false;
  let ready = false;
  if (settings.KEEPER_LISTEN !== undefined) {
    const [host = "", port] = settings.KEEPER_LISTEN.split(":");
    await startHttpEndpoint({ host, port: Number(port), ready: () => ready });
  }

  const look = async (): Promise<void> => {
    let failed = false;
    for (const [organism, admin] of Object.entries(admins)) {
      if (!isOrganism(organism) || ending) continue;
      try {
        const made = await keepStream({
          config,
          organism,
          addresses: readEndpoints(settings.KEEPER_ENDPOINTS_FILE)[organism],
          servers: settings.KEEPER_NATS_SERVERS.split(","),
          admin,
          quotas: localQuotas(config[organism].policy.membersMin),
          replicas: settings.KEEPER_REPLICAS,
        });
        if (made !== undefined) logger.info("the stream of a next generation is made", { organism, stream: made });
      } catch (error) {
        failed = true;
        logger.warn("not made; looked at again", {
          organism,
          problem: error instanceof Error ? error.message : String(error),
        });
      }
    }
    ready = !failed;
    if (!ending) timer = setTimeout(look, settings.KEEPER_EVERY_MS);
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
  process.stderr.write(`stream-keeper: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof SettingsProblems ? EXIT.usage : EXIT.precondition);
});

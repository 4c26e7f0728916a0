/** Trims the logs of all committees whose trimmer's credentials it is given, again and again, until it is told to end. */
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { generationStream } from "@lattice/organism/log/jetstream-log.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import { readConfig, readEndpoints, readEras, readRosters } from "@lattice/organism/node/kit.ts";
import { RosterWatch } from "@lattice/organism/node/roster-watch.ts";
import { parseOwnSettings } from "@lattice/organism/node/settings.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { goRounds, readCredentials, runBesideBroker } from "./rounds.ts";
import { purgeStream, trimOnce } from "./trimmer.ts";
import { TRIMMER_SETTINGS } from "./trimmer-settings.ts";

runBesideBroker("trimmer", async () => {
  const settings = parseOwnSettings(process.env, "TRIMMER_", TRIMMER_SETTINGS);
  const config = readConfig(settings.TRIMMER_CONFIG_FILE);
  await initCrypto();
  const endpoints = () => readEndpoints(settings.TRIMMER_ENDPOINTS_FILE);
  const known = readEras(settings.TRIMMER_ROSTERS_FILE, config);
  const eras = new EraWatch({ config, addresses: (organism) => endpoints()[organism], eras: known });
  const servers = settings.TRIMMER_NATS_SERVERS.split(",");
  const logger = createLogger("info", { service: "trimmer", lattice: config.name });
  const credentials = readCredentials("TRIMMER_CREDENTIALS_FILE", settings.TRIMMER_CREDENTIALS_FILE);
  const clock = { nowMs: () => Date.now() };
  // Whoever has replaced a member signs with another key: statements are judged by the roster of the epoch in force.
  const rosters = new RosterWatch({
    config,
    rosters: readRosters(settings.TRIMMER_ROSTERS_FILE, config),
    organisms: ORGANISMS.filter((organism) => credentials[organism] !== undefined),
    endpoints,
    clock,
    log: logger,
    eras: known,
  });
  const trimmed = new Map<string, bigint>();
  await goRounds({
    listen: settings.TRIMMER_LISTEN,
    everyMs: settings.TRIMMER_EVERY_MS,
    credentials,
    logger,
    look: async (organism, own) => {
      const result = await trimOnce({
        config,
        organism,
        roster: rosters.at(organism, slotAt(config, clock.nowMs())),
        eras,
        addresses: endpoints()[organism],
        nowMs: clock.nowMs,
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
    },
  });
});

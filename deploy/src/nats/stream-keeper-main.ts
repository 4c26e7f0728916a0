/** Makes streams of later generations for all committees whose administrators it is given, until it is told to end. */
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import { readConfig, readEndpoints } from "@lattice/organism/node/kit.ts";
import { parseOwnSettings } from "@lattice/organism/node/settings.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { localQuotas } from "../local/broker.ts";
import { goRounds, readCredentials, runBesideBroker } from "./rounds.ts";
import { keepStream } from "./stream-keeper.ts";
import { KEEPER_SETTINGS } from "./stream-keeper-settings.ts";

runBesideBroker("stream-keeper", async () => {
  const settings = parseOwnSettings(process.env, "KEEPER_", KEEPER_SETTINGS);
  const config = readConfig(settings.KEEPER_CONFIG_FILE);
  await initCrypto();
  const logger = createLogger("info", { service: "stream-keeper", lattice: config.name });
  const eras = new EraWatch({
    config,
    addresses: (organism) => readEndpoints(settings.KEEPER_ENDPOINTS_FILE)[organism],
  });
  await goRounds({
    listen: settings.KEEPER_LISTEN,
    everyMs: settings.KEEPER_EVERY_MS,
    credentials: readCredentials("KEEPER_ADMINS_FILE", settings.KEEPER_ADMINS_FILE),
    logger,
    look: async (organism, admin) => {
      const stream = await keepStream({
        config,
        organism,
        eras,
        addresses: readEndpoints(settings.KEEPER_ENDPOINTS_FILE)[organism],
        servers: settings.KEEPER_NATS_SERVERS.split(","),
        admin,
        quotas: localQuotas(config[organism].policy.membersMin),
        replicas: settings.KEEPER_REPLICAS,
      });
      if (stream !== undefined) logger.info("the stream of a next generation is made", { organism, stream });
    },
  });
});

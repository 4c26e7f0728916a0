/** Makes the six committees' streams on a broker that is up, with the administrators' credentials, and exits. */
import { readFileSync } from "node:fs";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { parseOwnSettings, SettingsProblems } from "@lattice/organism/node/settings.ts";
import { localQuotas } from "../local/broker.ts";
import type { LogCredentials } from "../nats/nats-config.ts";
import { createCommitteeStream } from "../nats/nats-process.ts";
import { STREAMS_SETTINGS } from "./container-settings.ts";
import { MEMBERS } from "./plan.ts";

try {
  const { STREAMS_NATS_URL: url, STREAMS_ADMINS_FILE: file } = parseOwnSettings(
    process.env,
    "STREAMS_",
    STREAMS_SETTINGS,
  );
  const admins = JSON.parse(readFileSync(file, "utf8")) as Readonly<Record<string, LogCredentials>>;
  for (const admin of Object.values(admins)) {
    const outcome = await createCommitteeStream(url, admin, localQuotas(MEMBERS));
    process.stdout.write(`${admin.stream} ${outcome}\n`);
  }
} catch (error) {
  process.stderr.write(`streams: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof SettingsProblems ? EXIT.usage : EXIT.failed);
}

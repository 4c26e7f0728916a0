/** One seat's steward: starts its part in refreshes and replacements, until it is told to end. */
import { statSync } from "node:fs";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { KitProblem, readConfig, readEndpoints } from "@lattice/organism/node/kit.ts";
import { parseOwnSettings, SettingsProblems } from "@lattice/organism/node/settings.ts";
import { startHttpEndpoint } from "@lattice/organism/observe/http.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { createNoMeters } from "@lattice/organism/observe/meters.ts";
import { createMeters } from "@lattice/organism/observe/meters-otel.ts";
import { CeremonyProblem } from "../ceremony/member-folder.ts";
import { seatIn } from "../ceremony/reshare.ts";
import { followProblems } from "./followers.ts";
import { earliestActivation } from "./proposal.ts";
import { Steward } from "./steward.ts";
import { STEWARD_SETTINGS, scheduleProblems } from "./steward-settings.ts";

async function main(): Promise<void> {
  const settings = parseOwnSettings(process.env, "STEWARD_", STEWARD_SETTINGS);
  const config = readConfig(settings.STEWARD_CONFIG_FILE);
  const problems = scheduleProblems(settings, earliestActivation(config.pipelineDepth, 1n));
  if (problems.length > 0) throw new SettingsProblems(problems);
  await initCrypto();
  const organism = settings.STEWARD_ORGANISM;
  const seat = seatIn(settings.STEWARD_MEMBER_DIR, organism);
  if ((statSync(settings.STEWARD_CREDENTIALS_FILE).mode & 0o077) !== 0) {
    throw new CeremonyProblem("STEWARD_CREDENTIALS_FILE is open to others; mode 400 expected");
  }
  readEndpoints(settings.STEWARD_ENDPOINTS_FILE);
  const labels = {
    lattice: config.name,
    chain_id: config.chainId.toString(),
    organism,
    role: "steward",
    member: String(seat),
  };
  const scraped = settings.STEWARD_LISTEN === undefined ? undefined : await createMeters({ labels });
  const log = createLogger("info", { service: "steward", lattice: config.name, organism, member: seat });
  const { STEWARD_REFRESH_EVERY_SLOTS: every, STEWARD_ERA_EVERY_SLOTS: era } = settings;
  const steward = new Steward({
    config,
    organism,
    addresses: () => readEndpoints(settings.STEWARD_ENDPOINTS_FILE)[organism],
    followProblems: () => followProblems(config, organism, readEndpoints(settings.STEWARD_ENDPOINTS_FILE)),
    memberDir: settings.STEWARD_MEMBER_DIR,
    standbyDir: settings.STEWARD_STANDBY_DIR,
    standbysDir: settings.STEWARD_STANDBYS_DIR,
    stateDir: settings.STEWARD_STATE_DIR,
    nats: settings.STEWARD_NATS_SERVERS.split(","),
    credentials: settings.STEWARD_CREDENTIALS_FILE,
    schedule: {
      ...(every === undefined ? {} : { refreshEvery: BigInt(every) }),
      ...(era === 0 ? {} : { eraEvery: BigInt(era) }),
      gather: BigInt(settings.STEWARD_GATHER_SLOTS),
      ceremony: BigInt(settings.STEWARD_CEREMONY_SLOTS),
    },
    everyMs: settings.STEWARD_EVERY_MS,
    clock: { nowMs: () => Date.now() },
    log,
    meters: scraped?.meters ?? createNoMeters(),
  });
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (stop.signal.aborted) process.exit(EXIT.failed);
      stop.abort();
    });
  }
  const [host = "", port] = (settings.STEWARD_LISTEN ?? "").split(":");
  const http =
    scraped === undefined
      ? undefined
      : await startHttpEndpoint({ host, port: Number(port), metrics: scraped, ready: () => steward.ready });
  log.info("the steward watches");
  await steward.run(stop.signal);
  await http?.close();
  process.exit(EXIT.ok);
}

main().catch((error: unknown) => {
  const lines =
    error instanceof SettingsProblems ? error.problems : [error instanceof Error ? error.message : String(error)];
  for (const line of lines) process.stderr.write(`steward: ${line}\n`);
  const expected = error instanceof CeremonyProblem || error instanceof KitProblem || isSystemError(error);
  process.exit(error instanceof SettingsProblems ? EXIT.usage : expected ? EXIT.precondition : EXIT.failed);
});

function isSystemError(error: unknown): boolean {
  return error instanceof Error && "syscall" in error && "code" in error;
}

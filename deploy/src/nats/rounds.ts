/**
 * What the processes beside the broker (trimmer, stream keeper) have in common: they hold one credential per
 * committee, look at each committee in turn, again and again, and say over HTTP whether the last round went well.
 */
import { readFileSync, statSync } from "node:fs";
import { isOrganism, type Organism } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { shapeProblems } from "@lattice/organism/node/kit.ts";
import { SettingsProblems } from "@lattice/organism/node/settings.ts";
import { startHttpEndpoint } from "@lattice/organism/observe/http.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import { z } from "zod";
import type { LogCredentials } from "./nats-config.ts";

export interface Rounds {
  /** `host:port` of `/livez` and `/readyz`; ready once every committee was looked at without a failure. */
  readonly listen: string | undefined;
  /** Pause between two rounds. */
  readonly everyMs: number;
  readonly credentials: Readonly<Record<string, LogCredentials>>;
  readonly logger: Logger;
  /** One committee; what it throws is logged, and the committee is looked at again in the next round. */
  look(organism: Organism, own: LogCredentials): Promise<void>;
}

const CREDENTIALS = z
  .record(
    z.string(),
    z.looseObject({
      user: z.string(),
      password: z.string(),
      stream: z.string(),
      subject: z.string(),
      inboxPrefix: z.string(),
    }),
  )
  // Whoever holds none would go its rounds for ever, look at nothing, and say that it is ready.
  .refine((all) => Object.keys(all).some(isOrganism), "credentials of one organism at least expected, by its name");

/** Credentials by organism. @throws Error when others than the owner may read the file, or it is none; `setting` is what names it */
export function readCredentials(setting: string, file: string): Readonly<Record<string, LogCredentials>> {
  let text: string;
  try {
    if ((statSync(file).mode & 0o077) !== 0) throw new Error(`${setting} is open to others; mode 400 expected`);
    text = readFileSync(file, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw code === undefined ? error : new Error(`${setting}: cannot read ${file}: ${code}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Error(`${setting}: ${file} is not JSON`);
  }
  const parsed = CREDENTIALS.safeParse(json);
  if (!parsed.success) throw new Error(`${setting}: ${file}: ${shapeProblems(parsed.error)}`);
  return parsed.data;
}

/** Goes its rounds until SIGTERM or SIGINT. @throws Fault ADDRESS_IN_USE, ADDRESS_REFUSED (domain rpc.lattice) */
export async function goRounds({ listen, everyMs, credentials, logger, look }: Rounds): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let ready = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      clearTimeout(timer);
      process.exit(EXIT.ok);
    });
  }
  if (listen !== undefined) {
    const [host = "", port] = listen.split(":");
    await startHttpEndpoint({ host, port: Number(port), ready: () => ready });
  }
  const round = async (): Promise<void> => {
    let failed = false;
    for (const [organism, own] of Object.entries(credentials)) {
      if (!isOrganism(organism)) continue;
      try {
        await look(organism, own);
      } catch (error) {
        failed = true;
        logger.warn("failed; looked at again", { organism, problem: lineOf(error) });
      }
    }
    ready = !failed;
    timer = setTimeout(round, everyMs);
  };
  await round();
}

/** Runs `main`; a failure at the start is one line and an exit code. */
export function runBesideBroker(name: string, main: () => Promise<void>): void {
  main().catch((error: unknown) => {
    process.stderr.write(`${name}: ${lineOf(error)}\n`);
    process.exit(error instanceof SettingsProblems ? EXIT.usage : EXIT.precondition);
  });
}

function lineOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

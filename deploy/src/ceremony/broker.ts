/**
 * `builder ceremony broker`: a nats-server for ceremonies, with one credential a participant. It is trusted with
 * nothing: whatever it forks, drops or forges shows in the ceremony. Started again on its folder it goes on.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { ProgramFailure } from "../chain/child-process.ts";
import { provideNatsServer } from "../local/broker.ts";
import { freePorts } from "../local/free-ports.ts";
import { dealNats, type NatsDeal, readDeal, writeCredentials } from "../nats/nats-config.ts";
import { createCommitteeStream, type NatsServer, startNatsServer } from "../nats/nats-process.ts";
import { NatsServerMissing } from "../nats/nats-server.ts";
import { readably, say } from "./commands.ts";
import { CeremonyProblem } from "./member-folder.ts";

export interface CeremonyBrokerOptions {
  readonly directory: string;
  readonly participants: number;
  readonly host: string;
  /** Any free one when left out. */
  readonly port?: number;
}

/** Runs until SIGTERM or SIGINT. One line of JSON on stdout once it is ready. */
export function runCeremonyBroker(options: CeremonyBrokerOptions): Promise<number> {
  return readably(async () => {
    try {
      return await serve(options);
    } catch (error) {
      if (error instanceof NatsServerMissing || error instanceof ProgramFailure)
        throw new CeremonyProblem(error.message);
      throw error;
    }
  });
}

function dealOf(directory: string, participants: number): NatsDeal {
  const file = join(directory, "deal.json");
  if (!existsSync(file)) {
    const deal = dealNats([{ organism: "ceremony", members: participants }]);
    for (const [index, credentials] of (deal.accounts[0]?.members ?? []).entries()) {
      writeCredentials(join(directory, `participant-${index}.json`), credentials);
    }
    writeCredentials(file, deal);
  }
  const deal = readDeal(file);
  const count = deal.accounts[0]?.members.length ?? 0;
  if (count < participants)
    throw new CeremonyProblem(`${directory}: made for ${count} participants; use another folder for ${participants}`);
  return deal;
}

async function serve({ directory, participants, host, port }: CeremonyBrokerOptions): Promise<number> {
  const deal = dealOf(directory, participants);
  const [freePort = 0, monitorPort = 0] = await freePorts(2);
  const binary = (await provideNatsServer()).path;
  let server: NatsServer | undefined;
  const stop = new AbortController();
  // From here on: a server that is not ready yet is not left behind.
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      stop.abort();
      void server?.stop();
    });
  }
  const onStarted = (started: NatsServer): void => {
    server = started;
    if (stop.signal.aborted) void started.stop();
  };
  try {
    const place = { host, port: port ?? freePort, monitorPort };
    const { url, program } = await startNatsServer({ binary, directory, deal, ...place, onStarted });
    for (const { admin } of deal.accounts) await createCommitteeStream(url, admin);
    process.stdout.write(`${JSON.stringify({ url: `nats://${host}:${place.port}`, participants })}\n`);
    const how = await program.ended;
    if (!stop.signal.aborted) say(`nats-server ended: ${how}`);
    return stop.signal.aborted ? EXIT.ok : EXIT.failed;
  } catch (error) {
    if (stop.signal.aborted) return EXIT.ok;
    throw error;
  } finally {
    await server?.stop();
  }
}

/**
 * Makes the stream of a committee's next generation, with the account administrator's credential, once members show its
 * certified beginning (docs/decisions/0029). Judged by the lattice config alone: nobody starts a generation by asking.
 */
import { checkCheckpoint } from "@lattice/organism/committee/checkpoint.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { generationStream } from "@lattice/organism/log/jetstream-log.ts";
import { fromWireCheckpoint } from "@lattice/organism/node/committee-wire.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import type { LogCredentials } from "./nats-config.ts";
import { createCommitteeStream, type StreamQuotas } from "./nats-process.ts";

const ASK_DEADLINE_MS = 3000;

export interface KeepOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  /** By member index. */
  readonly addresses: readonly string[];
  readonly servers: readonly string[];
  readonly admin: LogCredentials;
  readonly quotas: StreamQuotas;
  readonly replicas: number;
}

/** The newest generation that any member shows a certificate of; 0 when none is shown. */
async function newestGeneration({ config, organism, addresses }: KeepOptions): Promise<bigint> {
  const committee = committeeId(config, organism);
  const shown = await Promise.all(
    addresses.map(async (address) => {
      const client = connectService(CommitteeService, address, { committee });
      try {
        const { held } = await client.getCheckpoint({}, { deadlineMs: ASK_DEADLINE_MS });
        return held.flatMap((each) => {
          const certified = fromWireCheckpoint(each);
          const stands = certified !== undefined && checkCheckpoint(config, organism, certified) === undefined;
          return stands ? certified.checkpoint.generation : [];
        });
      } catch {
        return [];
      } finally {
        client.close();
      }
    }),
  );
  return shown.flat().reduce((newest, each) => (each > newest ? each : newest), 0n);
}

/** Looks once. @returns the stream that was made, or undefined when there was nothing to do */
export async function keepStream(options: KeepOptions): Promise<string | undefined> {
  const generation = await newestGeneration(options);
  if (generation === 0n) return undefined;
  const { admin, servers, quotas, replicas } = options;
  const next = { ...admin, ...generationStream(admin, generation) };
  await removeOlder(servers, admin, generation);
  const outcome = await createCommitteeStream(servers, next, quotas, replicas);
  return outcome === "made" ? next.stream : undefined;
}

/** Of generations that are over the last one is kept, for whoever looks for what happened. */
async function removeOlder(servers: readonly string[], admin: LogCredentials, generation: bigint): Promise<void> {
  const { user, password, inboxPrefix } = admin;
  const connection = await connect({ servers: [...servers], user, pass: password, inboxPrefix, timeout: 5000 });
  try {
    const manager = await jetstreamManager(connection, { timeout: 5000 });
    const kept = [generation, generation - 1n].map((each) => generationStream(admin, each).stream);
    const names: string[] = [];
    for await (const name of manager.streams.names()) names.push(name);
    for (const name of names) if (!kept.includes(name)) await manager.streams.delete(name);
  } finally {
    await connection.close();
  }
}

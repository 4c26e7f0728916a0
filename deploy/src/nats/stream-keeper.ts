/**
 * Makes the stream of a committee's next generation, with the account administrator's credential, once members show its
 * certified beginning (docs/decisions/0030). Judged by the lattice config alone: nobody starts a generation by asking.
 */
import { type Checkpoint, checkCheckpoint } from "@lattice/organism/committee/checkpoint.ts";
import { eraOfEpoch } from "@lattice/organism/committee/eras.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { generationStream } from "@lattice/organism/log/jetstream-log.ts";
import { fromWireCheckpoint } from "@lattice/organism/node/committee-wire.ts";
import type { EraSource } from "@lattice/organism/node/era-watch.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import type { JetStreamManager } from "@nats-io/jetstream";
import type { LogCredentials } from "./nats-config.ts";
import { addStream, asAdmin, type StreamQuotas, streamNames } from "./nats-process.ts";

const ASK_DEADLINE_MS = 3000;

export interface KeepOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  /** Which certificate keys speak for which epochs. */
  readonly eras: EraSource;
  /** By member index. */
  readonly addresses: readonly string[];
  readonly servers: readonly string[];
  readonly admin: LogCredentials;
  /** When the stream before is not there any more: its own are taken over. */
  readonly quotas: StreamQuotas;
  readonly replicas: number;
}

/**
 * The newest generation that any member shows a certificate of, when only its beginning is certified: a stream whose entries
 * have been certified and that is not there is lost, and what follows it is for the members to agree on.
 * @returns 0 when there is none
 */
async function beginning({ config, organism, addresses, eras }: KeepOptions): Promise<bigint> {
  const committee = committeeId(config, organism);
  const shown = await Promise.all(
    addresses.map(async (address) => {
      const client = connectService(CommitteeService, address, { committee });
      try {
        const { held } = await client.getCheckpoint({}, { deadlineMs: ASK_DEADLINE_MS });
        const certified = held.flatMap((each) => fromWireCheckpoint(each) ?? []);
        const standing = () =>
          certified.filter((each) => checkCheckpoint(config, organism, each, eras.of(organism)) === undefined);
        if (standing().length < certified.length) await eras.ask(organism);
        return standing().map(({ checkpoint }) => checkpoint);
      } catch {
        return [];
      } finally {
        client.close();
      }
    }),
  );
  const eraOf = ({ epoch }: Checkpoint): number => eraOfEpoch(eras.of(organism), epoch).number;
  const latest = Math.max(0, ...shown.flat().map(eraOf));
  // A key that is over begins nothing any more.
  const found = shown.flat().filter((each) => eraOf(each) === latest);
  const newest = found.reduce((most, { generation }) => (generation > most ? generation : most), 0n);
  return found.some(({ generation, position }) => generation === newest && position > 0n) ? 0n : newest;
}

/** Looks once. @returns the stream that was made, or undefined when there was nothing to do */
export async function keepStream(options: KeepOptions): Promise<string | undefined> {
  const { admin, servers, quotas, replicas } = options;
  const generation = await beginning(options);
  if (generation === 0n) return undefined;
  const next = generationStream(admin, generation);
  const before = generationStream(admin, generation - 1n).stream;
  return asAdmin(servers, admin, async (manager) => {
    const names = await streamNames(manager);
    if (names.includes(next.stream)) return undefined;
    // The others have gone on: whoever was asked has not heard of it, or not yet.
    if (names.some((name) => generationOf(admin, name) > generation)) return undefined;
    // Of the generations that are over the last one is kept, for whoever looks for what happened.
    for (const name of names) if (name !== before) await manager.streams.delete(name);
    const same = names.includes(before) ? await quotasOf(manager, before) : { quotas, replicas };
    await addStream(manager, next, same.quotas, same.replicas);
    return next.stream;
  });
}

/** The generation whose stream has this name; −1 when none has. */
function generationOf({ stream }: LogCredentials, name: string): bigint {
  const number = name.startsWith(`${stream}-G`) ? name.slice(stream.length + 2) : "";
  return name === stream ? 0n : /^\d+$/.test(number) ? BigInt(number) : -1n;
}

/** As whoever runs the broker has set them. */
async function quotasOf(
  manager: JetStreamManager,
  stream: string,
): Promise<{ readonly quotas: StreamQuotas; readonly replicas: number }> {
  const { config } = await manager.streams.info(stream);
  return {
    quotas: {
      messagesPerSubject: config.max_msgs_per_subject,
      bytes: config.max_bytes,
      messageBytes: config.max_msg_size,
    },
    replicas: config.num_replicas,
  };
}

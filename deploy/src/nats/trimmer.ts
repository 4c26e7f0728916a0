/**
 * Trims one committee's log: below the second newest certified checkpoint, once q members have signed that they hold its
 * snapshot. Certificates and statements are judged here, by the lattice config and the roster alone (log.md §6).
 */
import { type CertifiedCheckpoint, checkCheckpoint } from "@lattice/organism/committee/checkpoint.ts";
import { type Roster, rosterQuorum } from "@lattice/organism/committee/roster.ts";
import { trimmableBelow } from "@lattice/organism/committee/trim.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { fromWireCheckpoint } from "@lattice/organism/node/committee-wire.ts";
import type { EraSource } from "@lattice/organism/node/era-watch.ts";
import { verifyHeld } from "@lattice/organism/node/snapshot-service.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { connect } from "@nats-io/transport-node";
import type { LogCredentials } from "./nats-config.ts";

export interface TrimOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly roster: Roster;
  /** Which certificate keys speak for which epochs. */
  readonly eras: EraSource;
  /** By member index. */
  readonly addresses: readonly string[];
  readonly nowMs: () => number;
  /** Removes every message of this generation's log below this position; resolves to how many there were. */
  readonly purgeBelow: (position: bigint, generation: bigint) => Promise<number>;
}

const ASK_DEADLINE_MS = 3000;

/** What one member says it holds; nothing unless the member has signed it just now and every certificate stands. */
async function askHeld(options: TrimOptions, index: number): Promise<CertifiedCheckpoint[]> {
  const { config, organism, roster, addresses, nowMs, eras } = options;
  const address = addresses[index];
  if (address === undefined) return [];
  const committee = committeeId(config, organism);
  const client = connectService(CommitteeService, address, { committee });
  try {
    const answer = await client.getCheckpoint({}, { deadlineMs: ASK_DEADLINE_MS });
    const held = answer.held.flatMap((each) => fromWireCheckpoint(each) ?? []);
    const statement = { committee, index, signedAtMs: answer.signedAtMs, held };
    if (answer.memberIndex !== index || held.length !== answer.held.length) return [];
    if (!verifyHeld(roster, statement, answer.signature, nowMs())) return [];
    const stand = () => held.every((each) => checkCheckpoint(config, organism, each, eras.of(organism)) === undefined);
    if (!stand()) await eras.ask(organism);
    return stand() ? held : [];
  } catch {
    return [];
  } finally {
    client.close();
  }
}

export interface Trimmed {
  /** The oldest position that is left. */
  readonly from: bigint;
  readonly removed: number;
}

/** Looks once, and trims what may go. Undefined: nothing may go. */
export async function trimOnce(options: TrimOptions): Promise<Trimmed | undefined> {
  const { config, organism, roster, purgeBelow } = options;
  const held = await Promise.all(roster.members.map(({ index }) => askHeld(options, index)));
  const { quorum } = rosterQuorum(config, organism, roster);
  const found = trimmableBelow(
    held.map((each) => each.map(({ checkpoint }) => checkpoint)),
    quorum,
  );
  if (found === undefined) return undefined;
  const from = found.position + 1n;
  return { from, removed: await purgeBelow(from, found.generation) };
}

/** The broker did not do it. */
export class PurgeFailure extends Error {
  override readonly name = "PurgeFailure";
}

const PURGE_DEADLINE_MS = 10_000;

/** Purges one stream with the trimmer's credential, which may do nothing else. @throws PurgeFailure */
export async function purgeStream(
  servers: readonly string[],
  { user, password, stream, inboxPrefix }: LogCredentials,
  below: bigint,
): Promise<number> {
  const connection = await connect({ servers: [...servers], user, pass: password, inboxPrefix, timeout: 5000 });
  try {
    const request = JSON.stringify({ seq: Number(below) });
    const answer = await connection.request(`$JS.API.STREAM.PURGE.${stream}`, request, { timeout: PURGE_DEADLINE_MS });
    const result = answer.json<{
      readonly success?: boolean;
      readonly purged?: number;
      readonly error?: { readonly description?: string };
    }>();
    if (result.success !== true) throw new PurgeFailure(`${stream}: ${result.error?.description ?? "not purged"}`);
    return result.purged ?? 0;
  } finally {
    await connection.close();
  }
}

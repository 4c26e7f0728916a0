/** One member's own log and keys, in the hands of a scenario: what a corrupt operator could do with them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import { at } from "@lattice/deploy/local/layout.ts";
import type { LogCredentials } from "@lattice/deploy/nats/nats-config.ts";
import { encode } from "@lattice/organism/codec/codec.ts";
import { type CommitteeCommand, encodeCommand } from "@lattice/organism/committee/commands.ts";
import { ENTRY_BODY, ENTRY_TAG, encodeEntry, entryHash, ZERO_HASH } from "@lattice/organism/committee/entry.ts";
import { generateSigningKey, type SigningKey, signTagged } from "@lattice/organism/crypto/ed25519.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { generationStream, JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import { readEndpoints, readKeyFile } from "@lattice/organism/node/kit.ts";
import type { CommitteeClient } from "@lattice/organism/node/outcome-follower.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { CommitteeService, type GetHeadResponse } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";

/** The log of a generation with a member's own credential. @param servers the lattice's own broker when left out */
export function openMemberLog(
  lattice: LocalLattice,
  organism: Organism,
  index: number,
  servers: readonly string[] = lattice.ports.nats.map(({ client }) => `nats://${at(client)}`),
  generation = 0n,
): Promise<JetStreamLog> {
  const file = join(lattice.layout.member(organism, index), "nats.json");
  const credentials = JSON.parse(readFileSync(file, "utf8")) as LogCredentials;
  return JetStreamLog.open({ ...credentials, ...generationStream(credentials, generation), servers, member: index });
}

/** A connection to one member's CommitteeService, closed by whoever asked for it. */
export function committeeClient(lattice: LocalLattice, organism: Organism, index: number): CommitteeClient {
  const address = readEndpoints(lattice.layout.endpoints)[organism][index];
  if (address === undefined) throw new Error(`${organism} has no member ${index}`);
  return connectService(CommitteeService, address, { committee: committeeId(lattice.config, organism) });
}

/** Signs entries in a member's name, as whoever has its key file can. */
export class StolenVoice {
  readonly #lattice: LocalLattice;
  readonly #organism: Organism;
  readonly #index: number;
  readonly #memberKey: SigningKey;
  readonly #key: SigningKey;
  readonly #incarnation: bigint;
  readonly #epoch: bigint;
  #sequence = 0n;
  #previous: Uint8Array = ZERO_HASH;

  /** @param epoch one in which the seat's dealt key is the member's */
  constructor(
    lattice: LocalLattice,
    organism: Organism,
    index: number,
    incarnation: bigint,
    seed: Uint8Array,
    epoch = 0n,
  ) {
    this.#epoch = epoch;
    this.#lattice = lattice;
    this.#organism = organism;
    this.#index = index;
    this.#memberKey = generateSigningKey(readKeyFile(lattice.layout.key(organism, index)).secrets.memberKey);
    this.#key = generateSigningKey(seed);
    this.#incarnation = incarnation;
  }

  join(seen: GetHeadResponse): Uint8Array {
    const command = { type: "join", incarnation: this.#incarnation, key: this.#key.publicKey } as const;
    return this.#sign(command, seen, this.#memberKey, true);
  }

  /** @param next false: signs in the place that comes next, and does not take it */
  say(command: CommitteeCommand, seen: GetHeadResponse, next: boolean): Uint8Array {
    return this.#sign(command, seen, this.#key, next);
  }

  #sign(command: CommitteeCommand, seen: GetHeadResponse, key: SigningKey, next: boolean): Uint8Array {
    const body = encode(ENTRY_BODY, {
      version: 1,
      committee: committeeId(this.#lattice.config, this.#organism),
      generation: seen.generation,
      epoch: this.#epoch,
      author: this.#index,
      incarnation: this.#incarnation,
      lane: "ctl",
      sequence: this.#sequence + 1n,
      previous: this.#previous,
      seenPosition: seen.position,
      seenHead: seen.head,
      clockMs: BigInt(Date.now()),
      command: encodeCommand(command),
    });
    if (next) {
      this.#sequence += 1n;
      this.#previous = entryHash(body);
    }
    return encodeEntry(body, signTagged(key, ENTRY_TAG, body));
  }
}

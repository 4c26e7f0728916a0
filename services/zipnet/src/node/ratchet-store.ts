/**
 * A server's ratchets with its clients, and its last contribution. One journal write holds both: the partial, the
 * digest of the aggregate it was for, and the ratchets already one step beyond it (protocols.md §1, "Servers").
 */
import {
  bytes,
  decode,
  encode,
  fixed,
  type Infer,
  list,
  literal,
  optional,
  struct,
  toHex,
  u64,
} from "@lattice/organism/codec/codec.ts";
import { type AgreementKey, dh } from "@lattice/organism/crypto/x25519.ts";
import type { Journal } from "@lattice/organism/ports.ts";
import { VECTOR_BYTES_MAX } from "../core/envelope.ts";
import { advanceRatchet, initialRatchet } from "../core/ratchet.ts";
import type { Client } from "../core/types.ts";

const NAME = "zipnet/contribution";

const CONTRIBUTION = struct({ slot: u64, rho: u64, aggregate: fixed(32), vector: bytes(VECTOR_BYTES_MAX) });
export type Contribution = Infer<typeof CONTRIBUTION>;

const STORED = struct({
  version: literal(1),
  /** Serial of the server key that all ratchets hang on. */
  serial: u64,
  last: optional(CONTRIBUTION),
  ratchets: list(struct({ client: fixed(32), fromRho: u64, rho: u64, value: fixed(32) }), 1_000_000),
});

interface Ratchet {
  readonly fromRho: bigint;
  readonly rho: bigint;
  readonly value: Uint8Array;
}

/** What identifies this server towards its clients. */
export interface ServerSide {
  readonly committee: Uint8Array;
  readonly member: number;
  readonly operator: Uint8Array;
  readonly serial: bigint;
  readonly key: AgreementKey;
}

export class RatchetStore {
  readonly #server: ServerSide;
  readonly #journal: Journal;
  readonly #ratchets = new Map<string, Ratchet>();
  #last: Contribution | undefined;

  constructor(server: ServerSide, journal: Journal) {
    this.#server = server;
    this.#journal = journal;
    const kept = journal.get(NAME);
    if (kept === undefined) return;
    const { serial, last, ratchets } = decode(STORED, kept);
    this.#last = last;
    // Another serial means another DH: those clients register again.
    if (serial !== server.serial) return;
    for (const { client, ...ratchet } of ratchets) this.#ratchets.set(toHex(client), ratchet);
  }

  /** The newest partial this server has given. */
  get last(): Contribution | undefined {
    return this.#last;
  }

  /** Derives ratchet(0) of a client that is new here. */
  admit(client: Client): void {
    const key = toHex(client.id);
    if (this.#ratchets.get(key)?.fromRho === client.fromRho) return;
    const { committee, operator, serial, member } = this.#server;
    const agreement = client.agreementKeys[member];
    if (agreement === undefined) throw new RangeError("RatchetStore: a client without a key for this server");
    const secret = dh(this.#server.key, agreement);
    const value = initialRatchet(secret, { committee, client: client.id, operator, serial });
    secret.fill(0);
    this.#ratchets.set(key, { fromRho: client.fromRho, rho: client.fromRho, value });
  }

  /** ratchet_ρ of an admitted client; undefined when it has gone beyond ρ or is too far behind. */
  at(client: Client, rho: bigint): Uint8Array | undefined {
    const ratchet = this.#ratchets.get(toHex(client.id));
    return ratchet === undefined ? undefined : advanceRatchet(ratchet.value, rho - ratchet.rho);
  }

  /**
   * Takes every ratchet of `clients` beyond the contribution's ρ, forgets all others, and journals both together.
   * When this resolves the old values are gone from memory and disk.
   */
  async commit(contribution: Contribution, clients: readonly Client[]): Promise<void> {
    const next = contribution.rho + 1n;
    const keep = new Map<string, Ratchet>();
    for (const client of clients) {
      const key = toHex(client.id);
      const ratchet = this.#ratchets.get(key);
      if (ratchet === undefined || ratchet.fromRho !== client.fromRho) continue;
      const value = ratchet.rho >= next ? ratchet.value : advanceRatchet(ratchet.value, next - ratchet.rho);
      if (value !== undefined) keep.set(key, { ...ratchet, rho: ratchet.rho >= next ? ratchet.rho : next, value });
    }
    const stored = encode(STORED, {
      version: 1,
      serial: this.#server.serial,
      last: contribution,
      ratchets: [...keep].map(([client, ratchet]) => ({ client: Buffer.from(client, "hex"), ...ratchet })),
    });
    // Before the write, so that two rounds at once cannot both pass the check of `last`.
    this.#last = contribution;
    await this.#journal.put(NAME, stored);
    for (const [key, old] of this.#ratchets) if (keep.get(key)?.value !== old.value) old.value.fill(0);
    this.#ratchets.clear();
    for (const [key, ratchet] of keep) this.#ratchets.set(key, ratchet);
  }
}

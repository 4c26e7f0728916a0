/** Carries out a server's duties. */
import { CodecError, compareBytes, decode, equalBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { assertNever, Fault, invariant } from "@lattice/organism/fault.ts";
import { type Refusal, refuse, type Submission } from "@lattice/organism/machine.ts";
import { errorFields } from "@lattice/organism/observe/logger.ts";
import { SERVER_KEY, type ServerKey } from "@lattice/organism/outcomes/zipnet.ts";
import type { MemberHost } from "@lattice/organism/service.ts";
import type { Settings } from "../config.ts";
import { type Aggregate, aggregateDigest, checkAggregate, verifyAggregate } from "../core/aggregate.ts";
import { shapeOf } from "../core/header.ts";
import { vectorBytes } from "../core/pads.ts";
import { NO_END_SLOT, signServerKey } from "../core/server-key.ts";
import { type Command, FOLD, HEADER, type State, type ZipnetDuty } from "../core/types.ts";
import { Contributor } from "./contributor.ts";
import { RatchetStore } from "./ratchet-store.ts";

export type Host = MemberHost<State, Command, Settings>;

export class Effects {
  readonly #host: Host;
  readonly #serverKey: ServerKey;
  readonly #contributor: Contributor;
  /** Aggregates this member was handed in time and forwarded, by slot and hex digest: what its Close lists. */
  readonly #received = new Map<bigint, Map<string, Uint8Array>>();
  #rotating = false;

  constructor(host: Host) {
    this.#host = host;
    const { secrets, committee, self, config } = host;
    invariant(secrets.serverKey !== undefined, "a zipnet server's key file holds its serverKey");
    const key = agreementKey(secrets.serverKey);
    this.#serverKey = signedServerKey(host, key.publicKey);
    const operator = config.zipnet.content.operators[self];
    invariant(operator !== undefined, "the config pins an operator for every server");
    const server = { committee, member: self, operator, serial: this.#serverKey.serial, key };
    const store = new RatchetStore(server, host.journal);
    this.#contributor = new Contributor({ config, server, store, state: () => host.state(), log: host.log });
  }

  async execute(duty: ZipnetDuty): Promise<Submission<Command> | undefined> {
    switch (duty.type) {
      case "serverKey":
        return { type: "machine", command: { type: "serverKey", key: this.#serverKey } };
      case "openRound":
        return { type: "machine", command: { type: "openRound", slot: duty.slot } };
      case "closeFold": {
        const inputs = [...(this.#received.get(duty.slot)?.values() ?? [])].sort(compareBytes);
        return { type: "close", stage: FOLD, slot: duty.slot, inputs };
      }
      case "partial": {
        const startedAt = performance.now();
        const command = await this.#contributor.contribute(duty.slot, duty.rho);
        if (command === undefined) return undefined;
        this.#host.meters.record("lattice_zipnet_partial_seconds", (performance.now() - startedAt) / 1000);
        return { type: "machine", command };
      }
      default:
        return assertNever(duty);
    }
  }

  /**
   * Judges an aggregate at the door and puts it into the log.
   * @returns the refusal; DUPLICATE when this round has one from this member
   */
  async forward(aggregate: Aggregate): Promise<Refusal | undefined> {
    const { config, committee, settings } = this.#host;
    const allowed = settings.ZIPNET_AGGREGATORS ?? (config.throwAway ? undefined : []);
    if (allowed !== undefined && !allowed.includes(toHex(aggregate.aggregator))) {
      return refuse("AGGREGATOR_REFUSED", "the aggregator is not in ZIPNET_AGGREGATORS");
    }
    if (!verifyAggregate(committee, aggregate)) return refuse("BAD_SIGNATURE", "not signed by its aggregator");
    const { slot } = aggregate;
    const round = this.#host.state().rounds.get(slot);
    if (round === undefined) return refuse("NO_ROUND", `no round is open for slot ${slot}`);
    if (round.folded) {
      return refuse("ROUND_CLOSED", `the fold of slot ${slot} is closed`);
    }
    const wrong = checkAggregate(
      {
        slot,
        rho: round.rho,
        headerDigest: round.headerDigest,
        clients: round.roster.length,
        servers: round.header.servers.length,
        vectorBytes: vectorBytes(shapeOf(config)),
      },
      aggregate,
    );
    if (wrong !== undefined) return wrong;
    if (aggregate.proofs.length < config.zipnet.content.participantsMin) {
      return refuse("TOO_FEW_PARTICIPANTS", `${aggregate.proofs.length} participants`);
    }
    const digest = aggregateDigest(aggregate);
    const key = toHex(digest);
    const unsigned = await this.#contributor.verify(round, aggregate, digest);
    if (unsigned !== undefined) return unsigned;
    const received = this.#received.get(slot) ?? new Map<string, Uint8Array>();
    if (received.size > 0 && !received.has(key)) return refuse("DUPLICATE", "this server has forwarded another sum");
    const again = received.has(key);
    received.set(key, digest);
    this.#received.set(slot, received);
    const submission = { type: "machine", command: { type: "aggregate", aggregate } } as const;
    const refusal = await this.#host.submit(submission).catch((error: unknown) => {
      // Not even said, as while the log is full: this server may still forward another one.
      const said = error instanceof Fault && error.reason === "FATE_UNKNOWN";
      if (!said && !again) received.delete(key);
      throw error;
    });
    // What the log refused will never land: a Close that listed it would wait for ever.
    if (refusal !== undefined && refusal.reason !== "DUPLICATE") received.delete(key);
    return refusal;
  }

  /** After a decision: gets ready for a round, or forgets what it needed and publishes a rotated server key. */
  decided(slot: bigint, stage: string): void {
    if (stage === HEADER) {
      this.#contributor
        .prepare(slot)
        .catch((error: unknown) => this.#host.log.error("key agreement failed", errorFields(error)));
      return;
    }
    for (const kept of this.#received.keys()) if (kept <= slot) this.#received.delete(kept);
    const known = this.#host.state().servers.get(this.#host.self);
    if (known === undefined || known.serial >= this.#serverKey.serial || this.#rotating) return;
    this.#rotating = true;
    this.#host
      .submit({ type: "machine", command: { type: "serverKey", key: this.#serverKey } })
      .catch((error: unknown) => this.#host.log.warn("the server key is not published yet", errorFields(error)))
      .finally(() => {
        this.#rotating = false;
      });
  }
}

/** This server's key with its operator's signature: given, or made here when the key file holds the root key. */
function signedServerKey(host: Host, publicKey: Uint8Array): ServerKey {
  const { settings, secrets, committee, self } = host;
  if (settings.ZIPNET_SIGNED_SERVER_KEY !== undefined) {
    let key: ServerKey;
    try {
      key = decode(SERVER_KEY, fromHex(settings.ZIPNET_SIGNED_SERVER_KEY));
    } catch (error) {
      if (error instanceof CodecError) throw new Error(`ZIPNET_SIGNED_SERVER_KEY: ${error.message}`);
      throw error;
    }
    if (!equalBytes(key.key, publicKey) || key.member !== self) {
      throw new Error("ZIPNET_SIGNED_SERVER_KEY: not this server's key");
    }
    return key;
  }
  invariant(secrets.operatorKey !== undefined, "without ZIPNET_SIGNED_SERVER_KEY the key file holds the operatorKey");
  const range = { serial: settings.ZIPNET_SERVER_SERIAL, fromSlot: 0n, toSlot: NO_END_SLOT };
  return signServerKey(generateSigningKey(secrets.operatorKey), committee, { member: self, key: publicKey, ...range });
}

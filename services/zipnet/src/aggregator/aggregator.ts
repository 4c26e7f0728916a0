/**
 * Follows rounds, folds envelopes until they close, and hands the sum to f + 1 servers. Trusted for nothing but being
 * there: it can leave clients out, and everybody sees whom.
 */
import { encode, equalBytes, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { faultsTolerated } from "@lattice/organism/committee/quorum.ts";
import type { SigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { errorFields, type Logger } from "@lattice/organism/observe/logger.ts";
import type { Meters } from "@lattice/organism/observe/meters.ts";
import { headerDigest, ROUND_HEADER, type RoundHeader } from "@lattice/organism/outcomes/zipnet.ts";
import type { Clock } from "@lattice/organism/ports.ts";
import { pause } from "../client/pause.ts";
import type { RoundFeed } from "../client/round-feed.ts";
import { AGGREGATE, signAggregate } from "../core/aggregate.ts";
import { ENVELOPE } from "../core/envelope.ts";
import { fault, faultOf } from "../core/faults.ts";
import { Fold } from "../core/fold.ts";
import { clientId, rosterRoot } from "../core/registration.ts";
import { connectServer, type ServerClient } from "../node/clients.ts";
import { fromWireClient } from "../node/wire.ts";
import type { EnvelopeStore } from "./envelope-store.ts";

export interface AggregatorOptions {
  readonly config: LatticeConfig;
  readonly key: SigningKey;
  /** `host:port` of the servers, by index. */
  readonly servers: () => readonly string[];
  readonly feed: RoundFeed;
  readonly store: EnvelopeStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly meters: Meters;
}

/** A round this aggregator works on. */
interface OpenRound {
  readonly header: RoundHeader;
  readonly fold: Fold;
  /** No more envelopes; the sum is on its way. */
  closed: boolean;
}

const RETRY_MS = 100;
const ROUNDS_KEPT = 8;
const SUBMIT_DEADLINE_MS = 5000;

export class Aggregator {
  readonly #options: AggregatorOptions;
  readonly #committee: Uint8Array;
  readonly #rounds = new Map<bigint, OpenRound>();
  readonly #servers = new Map<string, ServerClient>();
  readonly #stop = new AbortController();
  #unlisten: () => void = () => undefined;
  #working: Promise<unknown> = Promise.resolve();

  constructor(options: AggregatorOptions) {
    this.#options = options;
    this.#committee = committeeId(options.config, "zipnet");
  }

  /** Ed25519 key that signs this aggregator's sums. */
  get publicKey(): Uint8Array {
    return this.#options.key.publicKey;
  }

  /** The newest round; undefined before the first. */
  get newest(): OpenRound | undefined {
    return [...this.#rounds.values()].at(-1);
  }

  start(): void {
    this.#unlisten = this.#options.feed.listen({
      header: (certified) => {
        const work = this.#follow(certified).catch((error: unknown) => {
          if (!this.#stop.signal.aborted) this.#options.log.warn("a round could not be followed", errorFields(error));
        });
        this.#working = Promise.all([this.#working, work]);
      },
    });
  }

  #server(address: string): ServerClient {
    let client = this.#servers.get(address);
    if (client === undefined) {
      client = connectServer(this.#options.config, address);
      this.#servers.set(address, client);
    }
    return client;
  }

  /** From a certified header to its sum at the servers. */
  async #follow({ outcome }: CertifiedOutcome): Promise<void> {
    const { clock, log, config } = this.#options;
    const header = outcome.kind === "result" ? tryDecode(ROUND_HEADER, outcome.commitment) : undefined;
    if (header === undefined || Number(header.closeMs) <= clock.nowMs()) return;
    const round = await this.#begin(header);
    if (round === undefined) return;
    const { signal } = this.#stop;
    // Looked at often enough to send early when nobody is missing, and to close on time.
    while (!signal.aborted && !round.fold.complete && clock.nowMs() < Number(header.closeMs)) {
      await pause(Math.min(20, Number(header.closeMs) - clock.nowMs()), signal);
    }
    round.closed = true;
    const { participants } = round.fold;
    this.#options.meters.gauge("lattice_zipnet_participants", participants);
    log.info("round closed", { slot: header.slot, participants, clients: header.clientsCount });
    if (participants >= config.zipnet.content.participantsMin && !signal.aborted) await this.#handUp(round);
  }

  async #begin(header: RoundHeader): Promise<OpenRound | undefined> {
    const digest = headerDigest(this.#committee, header);
    const roster = await this.#roster(header);
    if (roster === undefined) return undefined;
    const fold = new Fold({ committee: this.#committee, header, headerDigest: digest, roster });
    await this.#options.store.begin(header.slot, (raw) => fold.accept(raw));
    const round: OpenRound = { header, fold, closed: false };
    this.#rounds.set(header.rho, round);
    for (const rho of this.#rounds.keys()) {
      if (this.#rounds.size <= ROUNDS_KEPT) break;
      this.#rounds.delete(rho);
    }
    return round;
  }

  /** The clients behind the header's root, from whichever server tells. */
  async #roster(header: RoundHeader): Promise<Fold["round"]["roster"] | undefined> {
    const { servers, clock, log } = this.#options;
    const { signal } = this.#stop;
    for (let turn = 0; !signal.aborted && clock.nowMs() < Number(header.closeMs); turn++) {
      const addresses = servers();
      const address = addresses[turn % Math.max(addresses.length, 1)];
      if (address !== undefined) {
        try {
          const answer = await this.#server(address).getRoster({ slot: header.slot }, { signal });
          const roster = answer.clients.map(fromWireClient).map((keys) => ({
            ...keys,
            id: clientId(this.#committee, keys),
          }));
          const ids = roster.map(({ id }) => id);
          if (equalBytes(rosterRoot(this.#committee, ids), header.clientsRoot)) return roster;
          log.warn("a server's roster is not the header's", { slot: header.slot });
        } catch (error) {
          if (!signal.aborted) log.debug("no roster yet", errorFields(error));
        }
      }
      await pause(RETRY_MS, signal);
    }
    return undefined;
  }

  /**
   * Takes one envelope. Resolves when it is on disk and in the sum.
   * @returns true when the identical envelope had been received before
   * @throws Fault NO_ROUND, ROUND_CLOSED, MALFORMED, WRONG_ROUND, BAD_VECTOR, NOT_IN_ROSTER, ENVELOPE_CONFLICT, BAD_SIGNATURE
   */
  async submit(raw: Uint8Array): Promise<boolean> {
    const { meters, store } = this.#options;
    const envelope = tryDecode(ENVELOPE, raw);
    if (envelope === undefined) throw faultOf({ reason: "MALFORMED", detail: "not an envelope" });
    const round = this.#rounds.get(envelope.rho);
    if (round === undefined) throw fault("NO_ROUND", `round ${envelope.rho} is not open here`);
    const late = round.closed || this.#options.clock.nowMs() >= Number(round.header.closeMs);
    if (late) throw fault("ROUND_CLOSED", `round ${envelope.rho} takes no more envelopes`);
    const result = round.fold.accept(raw);
    if (typeof result !== "string") {
      meters.count("lattice_zipnet_envelopes_total", 1, { result: result.reason });
      throw faultOf(result);
    }
    meters.count("lattice_zipnet_envelopes_total", 1, { result });
    if (result === "repeated") return true;
    await store.put(round.header.slot, raw);
    return false;
  }

  /** Gives the sum to f + 1 servers; one that fails is passed over for the next. */
  async #handUp({ header, fold }: OpenRound): Promise<void> {
    const { config, servers, key, clock, log } = this.#options;
    const aggregate = encode(AGGREGATE, signAggregate(key, this.#committee, fold.aggregate(key.publicKey)));
    const addresses = servers();
    const wanted = faultsTolerated(config.zipnet.policy, addresses.length) + 1;
    const until = Number(header.closeMs) + 3 * config.zipnet.content.patienceMs;
    const given = new Set<string>();
    const first = Number(header.slot % BigInt(Math.max(addresses.length, 1)));
    for (let turn = first; given.size < wanted && !this.#stop.signal.aborted; turn++) {
      const address = addresses[turn % Math.max(addresses.length, 1)];
      if (address === undefined || clock.nowMs() >= until) break;
      if (given.has(address)) continue;
      try {
        await this.#server(address).submitAggregate(
          { aggregate },
          { signal: this.#stop.signal, deadlineMs: Math.min(SUBMIT_DEADLINE_MS, until - clock.nowMs()) },
        );
        given.add(address);
      } catch (error) {
        log.warn("a server did not take the sum", { slot: header.slot, ...errorFields(error) });
        await pause(RETRY_MS / 2, this.#stop.signal);
      }
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#unlisten();
    await this.#working;
    for (const client of this.#servers.values()) client.close();
    await this.#options.store.close();
  }
}

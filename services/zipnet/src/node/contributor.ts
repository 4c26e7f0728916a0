/**
 * What a server judges for itself before it takes its pads off a sum, because a corrupt majority *is* `apply`
 * (protocols.md §1, "Servers"): its own key in the header, the pinned operators, the roster, the minimum, who signed,
 * and its own column of key commitments. One partial per round ever.
 */
import { setImmediate } from "node:timers/promises";
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { type Refusal, refuse } from "@lattice/organism/machine.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import type { RoundHeader } from "@lattice/organism/outcomes/zipnet.ts";
import { type Aggregate, indexesOf } from "../core/aggregate.ts";
import { verifyProof } from "../core/envelope.ts";
import { shapeOf } from "../core/header.ts";
import { keyCommitment, PadAccumulator, segmentKeys } from "../core/pads.ts";
import { roundKey } from "../core/ratchet.ts";
import { rosterRoot } from "../core/registration.ts";
import { checkServerKey } from "../core/server-key.ts";
import type { Client, Command, Round, State } from "../core/types.ts";
import type { RatchetStore, ServerSide } from "./ratchet-store.ts";

/** Participants between two looks at the event loop: a few milliseconds of work. */
const SLICE = 32;

export interface ContributorOptions {
  readonly config: LatticeConfig;
  readonly server: ServerSide;
  readonly store: RatchetStore;
  readonly state: () => State;
  readonly log: Logger;
}

type Word = Extract<Command, { type: "partial" | "withhold" }>;

/** Aggregates whose signatures have been verified here already, newest last. */
const VERIFIED_KEPT = 64;

export class Contributor {
  readonly #options: ContributorOptions;
  readonly #verified = new Set<string>();

  constructor(options: ContributorOptions) {
    this.#options = options;
  }

  /** The clients of a round by id; undefined when state no longer knows one of them. */
  #clients(state: State, ids: readonly Uint8Array[]): Client[] | undefined {
    const byId = new Map([...state.clients.values()].map((client) => [toHex(client.id), client]));
    const clients = ids.flatMap((id) => byId.get(toHex(id)) ?? []);
    return clients.length === ids.length ? clients : undefined;
  }

  /** Checks that every participant signed what the aggregate says it signed. Off and on the event loop. */
  async verify(round: Round, aggregate: Aggregate, digest: Uint8Array): Promise<Refusal | undefined> {
    const key = toHex(digest);
    if (this.#verified.has(key)) return undefined;
    const { committee } = this.#options.server;
    const { rho, headerDigest, roster } = round;
    const participants = indexesOf(aggregate.participants, roster.length) ?? [];
    const clients = this.#clients(this.#options.state(), roster);
    if (clients === undefined) return refuse("NOT_IN_ROSTER", "a client of the round is no longer registered");
    for (const [turn, index] of participants.entries()) {
      const client = clients[index];
      const proof = aggregate.proofs[turn];
      if (client === undefined || proof === undefined) return refuse("BAD_AGGREGATE", "a proof is missing");
      if (!verifyProof(client.envelopeKey, { committee, rho, headerDigest, client: client.id }, proof)) {
        return refuse("BAD_AGGREGATE", "a participant did not sign its envelope");
      }
      if (turn % SLICE === SLICE - 1) await setImmediate();
    }
    this.#verified.add(key);
    if (this.#verified.size > VERIFIED_KEPT) this.#verified.delete([...this.#verified][0] ?? key);
    return undefined;
  }

  /** What is wrong with the header of a round, as this server sees it. */
  #checkHeader(header: RoundHeader, round: Round): Refusal | undefined {
    const { config, server } = this.#options;
    const { operators, participantsMin } = config.zipnet.content;
    for (const key of header.servers) {
      const refusal = checkServerKey(server.committee, operators, key);
      if (refusal !== undefined) return refusal;
    }
    const own = header.servers[server.member];
    if (own === undefined || own.serial !== server.serial || !equalBytes(own.key, server.key.publicKey)) {
      return refuse("HEADER_SERIAL", "the header has another key of this server");
    }
    if (header.clientsCount !== round.roster.length || header.clientsCount < participantsMin) {
      return refuse("HEADER_ROSTER", `${header.clientsCount} clients in the header`);
    }
    if (!equalBytes(header.clientsRoot, rosterRoot(server.committee, round.roster))) {
      return refuse("HEADER_ROSTER", "the roster is not the header's");
    }
    return undefined;
  }

  /** Agrees on keys with clients that are new in this round, before anybody waits for it. */
  async prepare(slot: bigint): Promise<void> {
    const state = this.#options.state();
    const clients = this.#clients(state, state.rounds.get(slot)?.roster ?? []) ?? [];
    for (const [turn, client] of clients.entries()) {
      this.#options.store.admit(client);
      if (turn % SLICE === SLICE - 1) await setImmediate();
    }
  }

  /** This server's one word on round ρ of `slot`; undefined when it has none (the round then expires). */
  async contribute(slot: bigint, rho: bigint): Promise<Word | undefined> {
    const { config, server, store, log } = this.#options;
    const round = this.#options.state().rounds.get(slot);
    const [standing] = round?.aggregates ?? [];
    if (round === undefined || standing === undefined || !round.folded || round.rho !== rho) return undefined;
    const { aggregate, digest } = standing;
    const { last } = store;
    if (last !== undefined && last.rho === rho) {
      if (equalBytes(last.aggregate, digest))
        return { type: "partial", slot, rho, aggregate: digest, vector: last.vector };
      log.error("contributed to another aggregate of this round; withheld", { slot, reason: "PARTIAL_GIVEN" });
      return undefined;
    }
    const withhold = (reason: string, clients: Uint8Array[] = []): Word => {
      log.warn("contribution withheld", { slot, reason, clients: clients.length });
      return { type: "withhold", slot, rho, aggregate: digest, clients };
    };
    const { header, headerDigest } = round;
    const wrong = this.#checkHeader(header, round) ?? (await this.verify(round, aggregate, digest));
    if (wrong !== undefined) return withhold(wrong.reason);
    const clients = this.#clients(this.#options.state(), round.roster);
    const participants = indexesOf(aggregate.participants, round.roster.length);
    if (clients === undefined || participants === undefined) return withhold("NOT_IN_ROSTER");
    if (participants.length < config.zipnet.content.participantsMin) return withhold("TOO_FEW_PARTICIPANTS");

    const shape = shapeOf(config);
    const pads = new PadAccumulator(shape);
    const bad: Uint8Array[] = [];
    for (const [turn, index] of participants.entries()) {
      const client = clients[index];
      if (client === undefined) return withhold("NOT_IN_ROSTER");
      store.admit(client);
      const ratchet = store.at(client, rho);
      if (ratchet === undefined) {
        log.error("a ratchet is beyond this round", { slot, reason: "PARTIAL_GIVEN" });
        return withhold("PARTIAL_GIVEN");
      }
      const keys = segmentKeys(roundKey(ratchet, headerDigest), "zipnet/pad/v1", shape.segments);
      const committed = aggregate.proofs[turn]?.commitments[server.member];
      const expected = keyCommitment(headerDigest, client.id, server.member, keys);
      if (committed === undefined || !equalBytes(committed, expected)) bad.push(client.id);
      else pads.fold(keys);
      ratchet.fill(0);
      if (turn % SLICE === SLICE - 1) await setImmediate();
    }
    if (bad.length > 0) return withhold("CLIENT_STRUCK", bad);
    const vector = pads.vector();
    for (const client of clients) store.admit(client);
    // Another contribution may have been made while this one was computed.
    if (store.last !== undefined && store.last.rho >= rho && store.last !== last) return undefined;
    const registered = [...this.#options.state().clients.values()];
    await store.commit({ slot, rho, aggregate: digest, vector }, registered);
    return { type: "partial", slot, rho, aggregate: digest, vector };
  }
}

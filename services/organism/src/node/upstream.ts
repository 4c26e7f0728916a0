/**
 * Follows upstream committees: subscribes to f + 1 of their members, verifies every certificate at the door, and keeps
 * what this committee's log has not observed yet (log.md §8). Bodies are fetched once by hash, from whoever has them.
 */

import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { bytes, count, encode, equalBytes, fixed, struct, text, u64 } from "../codec/codec.ts";
import { checkUpstream } from "../committee/committee.ts";
import type { CertifiedOutcome, Outcome } from "../committee/outcome.ts";
import type { Roster } from "../committee/roster.ts";
import { rosterQuorum } from "../committee/roster.ts";
import { openFrom } from "../crypto/box.ts";
import { type SigningKey, signTagged } from "../crypto/ed25519.ts";
import { blake3, hash } from "../crypto/hash.ts";
import type { AgreementKey } from "../crypto/x25519.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import { committeeId, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Upstream } from "../machine.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Clock } from "../ports.ts";
import { type Client, connectService } from "../rpc/client.ts";
import { fromWireOutcome } from "./committee-wire.ts";

/** Where members of each organism answer, by member index. Hints: nothing is trusted because of its address. */
export type Endpoints = { readonly [O in Organism]: readonly string[] };

export const BODY_REQUEST_TAG = "lattice/body/request/v1";
export const BODY_BOX_INFO = "lattice/body/box/v1";
const BODY_REQUEST = struct({
  committee: fixed(32),
  stage: text(32),
  slot: u64,
  organism: text(16),
  index: count,
  signedAtMs: u64,
});

/** What a member signs when it asks for a body that is not public. */
export function bodyRequestDigest(request: {
  readonly committee: Uint8Array;
  readonly stage: string;
  readonly slot: bigint;
  readonly organism: string;
  readonly index: number;
  readonly signedAtMs: bigint;
}): Uint8Array {
  return hash(BODY_REQUEST_TAG, BODY_REQUEST, request);
}

const BODY_AAD = struct({ committee: fixed(32), stage: text(32), slot: u64, bodyHash: bytes(32) });

/** Binds a sealed body to what was asked for. */
export function bodyAad(committee: Uint8Array, stage: string, slot: bigint, bodyHash: Uint8Array): Uint8Array {
  return encode(BODY_AAD, { committee, stage, slot, bodyHash });
}

export interface UpstreamOptions {
  readonly config: LatticeConfig;
  readonly self: Organism;
  readonly index: number;
  readonly memberKey: SigningKey;
  readonly boxKey: AgreementKey;
  readonly rosters: { readonly [O in Organism]: Roster };
  readonly endpoints: () => Endpoints;
  readonly clock: Clock;
  readonly log: Logger;
  /** The oldest slot still wanted. */
  readonly fromSlot: () => bigint;
  /** True for what the log knows already. */
  readonly known: (organism: Organism, outcome: Outcome) => boolean;
  readonly onOutcome: (organism: Organism, certified: CertifiedOutcome) => void;
}

const RECONNECT_MS = 250;
const BODY_DEADLINE_MS = 3000;

export class UpstreamFollower {
  readonly #options: UpstreamOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>[] = [];
  readonly #clients = new Map<string, Client<typeof CommitteeService>>();

  constructor(options: UpstreamOptions) {
    this.#options = options;
  }

  follow(upstream: readonly Upstream[]): void {
    const stages = new Map<Organism, string[]>();
    for (const { organism, stage } of upstream) stages.set(organism, [...(stages.get(organism) ?? []), stage]);
    for (const [organism, wanted] of stages) {
      const roster = this.#options.rosters[organism];
      const streams = rosterQuorum(this.#options.config, organism, roster).faults + 1;
      for (let offset = 0; offset < streams; offset++) this.#running.push(this.#run(organism, wanted, offset));
    }
  }

  #client(organism: Organism, address: string): Client<typeof CommitteeService> {
    const key = `${organism} ${address}`;
    let client = this.#clients.get(key);
    if (client === undefined) {
      client = connectService(CommitteeService, address, { committee: committeeId(this.#options.config, organism) });
      this.#clients.set(key, client);
    }
    return client;
  }

  /** One subscription: sticks to a member until it fails or falls silent, then moves on to the next. */
  async #run(organism: Organism, stages: readonly string[], offset: number): Promise<void> {
    const { config, endpoints, index, log } = this.#options;
    const silenceMs = Math.max(3 * config.slotMs, 6000);
    for (let turn = index + offset; !this.#stop.signal.aborted; turn++) {
      const addresses = endpoints()[organism];
      const address = addresses[turn % Math.max(addresses.length, 1)];
      if (address !== undefined) {
        const silence = new AbortController();
        let timer = setTimeout(() => silence.abort(), silenceMs);
        try {
          const signal = AbortSignal.any([this.#stop.signal, silence.signal]);
          const stream = this.#client(organism, address).watchOutcomes(
            { stage: "", fromSlot: this.#options.fromSlot() },
            { signal },
          );
          for await (const { event } of stream) {
            clearTimeout(timer);
            timer = setTimeout(() => silence.abort(), silenceMs);
            if (event.case !== "outcome") continue;
            const certified = fromWireOutcome(event.value);
            if (certified === undefined || !stages.includes(certified.outcome.stage)) continue;
            this.#take(organism, certified, address);
          }
        } catch (error) {
          if (!this.#stop.signal.aborted)
            log.debug("upstream stream ended", { upstream: organism, ...errorFields(error) });
        } finally {
          clearTimeout(timer);
        }
      }
      await pause(RECONNECT_MS * (0.5 + Math.random()), this.#stop.signal);
    }
  }

  #take(organism: Organism, certified: CertifiedOutcome, _address: string): void {
    const { config, known, log, onOutcome, fromSlot } = this.#options;
    if (certified.outcome.slot < fromSlot() || known(organism, certified.outcome)) return;
    const refusal = checkUpstream(config, organism, certified);
    if (refusal !== undefined) {
      log.warn("an upstream member sent an outcome that does not verify", {
        upstream: organism,
        reason: refusal.reason,
      });
      return;
    }
    onOutcome(organism, certified);
  }

  /** @throws Fault UPSTREAM_UNREACHABLE */
  async fetchBody(organism: Organism, outcome: Outcome): Promise<Uint8Array> {
    const { config, index, self, memberKey, boxKey, clock, endpoints } = this.#options;
    const committee = committeeId(config, organism);
    const { stage, slot, bodyHash } = outcome;
    const fault = faultsOf(self, COMMON_FAULTS);
    if (bodyHash === undefined) throw fault("OUTCOME_UNKNOWN", `${organism}/${stage} of slot ${slot} has no body`);
    const addresses = endpoints()[organism];
    let last: unknown;
    for (let turn = 0; turn < addresses.length; turn++) {
      const address = addresses[(index + turn) % addresses.length];
      if (address === undefined) continue;
      const signedAtMs = BigInt(clock.nowMs());
      const digest = bodyRequestDigest({ committee, stage, slot, organism: self, index, signedAtMs });
      try {
        const response = await this.#client(organism, address).getBody(
          {
            stage,
            slot,
            requesterOrganism: self,
            requesterIndex: index,
            signedAtMs,
            signature: signTagged(memberKey, BODY_REQUEST_TAG, digest),
          },
          { deadlineMs: BODY_DEADLINE_MS },
        );
        const body =
          response.sealedBody.length > 0
            ? openFrom(
                boxKey,
                new TextEncoder().encode(BODY_BOX_INFO),
                bodyAad(committee, stage, slot, bodyHash),
                response.sealedBody,
              )
            : response.body;
        if (body !== undefined && equalBytes(blake3(body), bodyHash)) return body;
        last = new Error("the body does not match its hash");
      } catch (error) {
        last = error;
      }
    }
    throw fault(
      "UPSTREAM_UNREACHABLE",
      `no member of ${organism} gave the body of ${stage} of slot ${slot}: ${message(last)}`,
    );
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#running);
    for (const client of this.#clients.values()) client.close();
  }
}

function message(error: unknown): string {
  return error instanceof Error ? error.message.slice(0, 200) : "no member answered";
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}

/**
 * Fetches bodies of upstream outcomes once by hash, from whoever has them, over a call that names and proves who asks;
 * what is not public comes back sealed to the asking member's box key.
 */
import { bytes, count, encode, equalBytes, fixed, struct, text, u64 } from "../codec/codec.ts";
import type { Outcome } from "../committee/outcome.ts";
import { openFrom } from "../crypto/box.ts";
import { type SigningKey, signTagged } from "../crypto/ed25519.ts";
import { blake3, hash } from "../crypto/hash.ts";
import type { AgreementKey } from "../crypto/x25519.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import { committeeId, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Clock } from "../ports.ts";
import type { Endpoints, OutcomeFollower } from "./outcome-follower.ts";

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

export interface BodyFetcherOptions {
  readonly config: LatticeConfig;
  readonly self: Organism;
  readonly index: number;
  readonly memberKey: SigningKey;
  readonly boxKey: AgreementKey;
  readonly endpoints: () => Endpoints;
  readonly clock: Clock;
  /** Lends its connections. */
  readonly follower: OutcomeFollower;
}

const BODY_DEADLINE_MS = 3000;

export class BodyFetcher {
  readonly #options: BodyFetcherOptions;

  constructor(options: BodyFetcherOptions) {
    this.#options = options;
  }

  /** @throws Fault UPSTREAM_UNREACHABLE */
  async fetch(organism: Organism, outcome: Outcome): Promise<Uint8Array> {
    const { config, index, self, memberKey, boxKey, clock, endpoints, follower } = this.#options;
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
        const response = await follower.client(organism, address).getBody(
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
}

function message(error: unknown): string {
  return error instanceof Error ? error.message.slice(0, 200) : "no member answered";
}

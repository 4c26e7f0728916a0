/**
 * atelier in a simulation: real attributes, proposals, sealed bodies, and judgement by rebuilding. Only the execution
 * is not: the block carries every message and pays what the auction says, some blind winners excepted.
 */
import type { AtelierSettings } from "@lattice/atelier/config.ts";
import { attributesHold, blockAttributes } from "@lattice/atelier/core/attributes.ts";
import {
  CANDIDATE,
  type Candidate,
  type CandidateBody,
  candidateFrom,
  type Entry,
  type OrderRow,
} from "@lattice/atelier/core/candidate.ts";
import { BODY_BOX_INFO, bodyAad, candidateFact, SIGNED_ATTRIBUTES } from "@lattice/atelier/core/codec.ts";
import { winningBundles } from "@lattice/atelier/core/inputs.ts";
import { createMachine } from "@lattice/atelier/core/machine.ts";
import {
  type AtelierCommand,
  type AtelierDuty,
  type AtelierState,
  attributesTopic,
  CANDIDATE_TOPIC,
  STAGE,
} from "@lattice/atelier/core/types.ts";
import { originOf, slotOutcomes } from "@lattice/atelier/core/upstream.ts";
import { definition as real } from "@lattice/atelier/definition.ts";
import { messagesOf, type OutcomeWithBody } from "@lattice/atelier/evm/slot-inputs.ts";
import type { AtelierHost } from "@lattice/atelier/node/feed.ts";
import { decode, encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { openAsOne, sealToAll } from "@lattice/organism/crypto/box.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Submission } from "@lattice/organism/machine.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import type { SimChain } from "../chain.ts";

const ASK_EVERY_MS = 120;

export function simAtelier(
  chain: () => SimChain,
  reachable: (self: number) => boolean,
): OrganismDefinition<AtelierState, AtelierCommand, AtelierDuty, AtelierSettings> {
  return {
    organism: "atelier",
    settings: real.settings,
    createMachine: (config) => createMachine(config),
    createNode(host) {
      const effects = new SimAtelier(host, chain, reachable);
      return {
        execute: (duty) => effects.execute(duty),
        services: [],
        bodies: { [STAGE]: { readers: ["atelier", "relay", "tally"], publicWhenLanded: true } },
        start: async () => effects.start(),
      };
    },
  };
}

class SimAtelier {
  readonly #host: AtelierHost;
  readonly #chain: () => SimChain;
  readonly #reachable: (self: number) => boolean;
  readonly #said = new Set<string>();
  readonly #saying = new Set<string>();

  constructor(host: AtelierHost, chain: () => SimChain, reachable: (self: number) => boolean) {
    this.#host = host;
    this.#chain = chain;
    this.#reachable = reachable;
  }

  start(): void {
    this.#host.timers.every(ASK_EVERY_MS, () => this.#ask());
  }

  #ask(): void {
    const { config, clock, self } = this.#host;
    if (!this.#host.caughtUp() || !this.#reachable(self)) return;
    const now = slotAt(config, clock.nowMs());
    for (const slot of [now, now + 1n]) {
      const topic = attributesTopic(this.#chain().head.hash);
      const key = `${slot}/${topic}`;
      if (slot <= 0n || this.#said.has(key) || this.#saying.has(key)) continue;
      const signed = this.#chain().attributes(slot);
      if (signed === undefined || !attributesHold(config, slot, signed)) continue;
      this.#saying.add(key);
      this.#host
        .submit({ type: "saw", topic, slot, fact: encode(SIGNED_ATTRIBUTES, signed) })
        .then(
          (refusal) => {
            if (refusal === undefined || refusal.reason === "DUPLICATE") this.#said.add(key);
          },
          () => undefined,
        )
        .finally(() => this.#saying.delete(key));
    }
    if (this.#said.size > 256) this.#said.clear();
  }

  async execute(duty: AtelierDuty): Promise<Submission<AtelierCommand> | undefined> {
    const candidate = await this.#build(duty.slot);
    if (candidate === undefined) return undefined;
    return duty.type === "propose" ? this.#propose(candidate) : this.#judge(duty.slot, candidate);
  }

  #propose({ commitment, commitmentBytes, bodyBytes }: Candidate): Submission<AtelierCommand> {
    const { committee, roster, self, random } = this.#host;
    const { slot, parentHash, candidateVersion, bodyHash } = commitment;
    const recipients = roster.members.map(({ index, boxKey }) => ({ index, publicKey: boxKey }));
    const aad = bodyAad({ committee, slot, parentHash, candidateVersion, author: self, bodyHash });
    const sealedBody = sealToAll(recipients, BODY_BOX_INFO, aad, bodyBytes, random);
    return {
      type: "machine",
      command: {
        type: "proposal",
        slot,
        parentHash,
        candidateVersion,
        commitment: commitmentBytes,
        bodyHash,
        sealedBody,
      },
    };
  }

  async #judge(slot: bigint, own: Candidate): Promise<Submission<AtelierCommand> | undefined> {
    const { committee, self, secrets } = this.#host;
    const { parentHash } = own.commitment;
    for (const proposal of this.#host.state().slots.get(slot)?.proposals ?? []) {
      const { author, candidateVersion, commitment, sealedBody } = proposal;
      if (sealedBody.length === 0 || !equalBytes(proposal.parentHash, parentHash)) continue;
      const { bodyHash } = decode(CANDIDATE, commitment);
      const aad = bodyAad({ committee, slot, parentHash, candidateVersion, author, bodyHash });
      const body = openAsOne(self, agreementKey(secrets.boxKey), BODY_BOX_INFO, aad, sealedBody);
      const right =
        body !== undefined && equalBytes(blake3(body), bodyHash) && equalBytes(commitment, own.commitmentBytes);
      if (!right) continue;
      await this.#host.bodies.put(slot, body);
      return { type: "saw", topic: CANDIDATE_TOPIC, slot, fact: candidateFact(commitment) };
    }
    return undefined;
  }

  async #withBody(organism: Organism, outcome: Outcome): Promise<OutcomeWithBody> {
    const body = outcome.bodyHash === undefined ? undefined : await this.#host.fetchBody(organism, outcome);
    return { outcome, body };
  }

  async #build(slot: bigint): Promise<Candidate | undefined> {
    const { config } = this.#host;
    const carrySlots = BigInt(config.atelier.content.carrySlots);
    const attributes = this.#host.state().slots.get(slot)?.attributes.at(-1);
    const outcomes = slotOutcomes(this.#host, slot, carrySlots);
    if (attributes === undefined || outcomes === undefined) return undefined;
    const unsealed = await this.#withBody("unseal", outcomes.unsealed);
    const auction = await this.#withBody("offer", outcomes.auction);
    const frozen =
      unsealed.outcome.kind === "skipped" ? undefined : decode(UNSEALED, unsealed.outcome.commitment).blind;
    const bundles =
      auction.outcome.kind === "result" && auction.body !== undefined
        ? winningBundles(auction.outcome.commitment, auction.body, frozen)
        : [];
    const pool = messagesOf(unsealed);
    const entries = pool.map(
      ({ messageId, rawTransaction }): Entry => ({ type: "pool", messageId, raw: rawTransaction, refund: undefined }),
    );
    const table = bundles.map((bundle): OrderRow => {
      // A blind winner in four does not pay in the block: what it owes is charged to its escrow.
      const fails = bundle.class === "blind" && ((bundle.bidId[0] ?? 0) & 3) === 0;
      const dropped = bundle.problem !== undefined;
      return {
        bidId: bundle.bidId,
        class: bundle.class,
        status: dropped ? "dropped" : fails ? "failed" : "landed",
        reason: dropped ? "not-in-blind-set" : fails ? "reverted" : undefined,
        searcher: bundle.searcher,
        escrowAccount: bundle.escrowAccount,
        references: [...bundle.references],
        paymentWei: dropped || fails ? 0n : bundle.clearingWei,
        valueWei: dropped ? 0n : bundle.clearingWei,
        gasUsed: 21_000n,
      };
    });
    const zero = new Uint8Array(32);
    const unsealedOrigin = originOf(outcomes.unsealed);
    const auctionOrigin = originOf(outcomes.auction);
    const seed = Buffer.from(
      [slot, toHex(attributes.parentHash), toHex(unsealedOrigin ?? zero), toHex(auctionOrigin ?? zero)].join("/"),
    );
    const blockHash = blake3(seed);
    const body: CandidateBody = {
      version: 1,
      slot,
      candidateVersion: 0,
      attributes: blockAttributes(attributes),
      unsealed: unsealedOrigin,
      auction: auctionOrigin,
      entries,
      exclusions: [],
      table,
      carry: [],
      appliedHints: [],
      header: {
        number: attributes.parentNumber + 1n,
        stateRoot: blockHash,
        transactionsRoot: zero,
        receiptsRoot: zero,
        logsBloom: new Uint8Array(256),
        gasUsed: 21_000n,
        baseFeePerGas: 7n,
        withdrawalsRoot: zero,
        blobGasUsed: 0n,
        excessBlobGas: 0n,
        requestsHash: undefined,
      },
      executionRequests: [],
      blockHash,
      feesWei: 0n,
    };
    return candidateFrom(body);
  }
}

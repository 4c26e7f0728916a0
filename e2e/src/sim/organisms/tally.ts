/** tally in a simulation: real attribution, batches and signatures; blocks and contract are the simulated chain's. */
import { decode, encode } from "@lattice/organism/codec/codec.ts";
import { signDigest } from "@lattice/organism/crypto/secp256k1.ts";
import type { Submission } from "@lattice/organism/machine.ts";
import { CANDIDATE_BODY } from "@lattice/organism/outcomes/atelier.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import type { MemberHost, OrganismDefinition } from "@lattice/organism/service.ts";
import type { TallySettings } from "@lattice/tally/config.ts";
import { batchDigest, openBatch, signaturesOf } from "@lattice/tally/core/batch.ts";
import { isFinal, rangeToScan } from "@lattice/tally/core/chain-fact.ts";
import { CHAIN_FACT } from "@lattice/tally/core/codec.ts";
import { createMachine } from "@lattice/tally/core/machine.ts";
import { attributeLanded, candidateIn } from "@lattice/tally/core/slot-attribution.ts";
import type { TallyCommand, TallyDuty, TallyState } from "@lattice/tally/core/types.ts";
import { definition as real } from "@lattice/tally/definition.ts";
import type { SimChain } from "../chain.ts";

type Host = MemberHost<TallyState, TallyCommand, TallySettings>;

export function simTally(
  chain: () => SimChain,
  reachable: (self: number) => boolean,
): OrganismDefinition<TallyState, TallyCommand, TallyDuty, TallySettings> {
  return {
    organism: "tally",
    settings: real.settings,
    createMachine,
    createNode(host) {
      const effects = new SimTally(host, chain);
      return {
        execute: async (duty) => (reachable(host.self) ? effects.execute(duty) : undefined),
        services: [],
        bodies: {},
      };
    },
  };
}

class SimTally {
  readonly #host: Host;
  readonly #chain: () => SimChain;
  readonly #kept = new Set<bigint>();

  constructor(host: Host, chain: () => SimChain) {
    this.#host = host;
    this.#chain = chain;
  }

  async execute(duty: TallyDuty): Promise<Submission<TallyCommand> | undefined> {
    switch (duty.type) {
      case "read-chain":
        return this.#readChain(duty.slot, duty.topic);
      case "attribute":
        return this.#attribute(duty.slot, duty.topic);
      case "keep-body": {
        const outcome = this.#host.observed("atelier", "candidate", duty.slot);
        if (this.#kept.has(duty.slot) || outcome === undefined) return undefined;
        await this.#host.fetchBody("atelier", outcome);
        this.#kept.add(duty.slot);
        return undefined;
      }
      case "attest":
        return this.#attest(duty.batch);
      case "post":
        this.#post(duty.batch);
        return undefined;
    }
  }

  #readChain(slot: bigint, topic: string): Submission<TallyCommand> | undefined {
    const { finalityDepth } = this.#host.config.tally.content;
    const candidate = candidateIn(this.#host.observed("atelier", "candidate", slot));
    const chain = this.#chain();
    if (candidate === undefined || this.#host.state().next !== slot) return undefined;
    if (!isFinal(candidate.blockNumber, { latest: chain.head.number, finalized: undefined }, finalityDepth)) {
      return undefined;
    }
    const standing = chain.block(candidate.blockNumber);
    const { scanned } = this.#host.state();
    const { first, last } = rangeToScan({ scanned }, candidate.blockNumber);
    const end = last < first ? scanned : chain.block(last);
    if (standing === undefined || end === undefined) return undefined;
    const range = chain.blocks.filter(({ number }) => number >= first && number <= last);
    const fact = encode(CHAIN_FACT, {
      version: 1,
      standing: { number: standing.number, hash: standing.hash, parentHash: standing.parentHash },
      fromBlock: first,
      scanned: { number: end.number, hash: end.hash },
      collected: range.flatMap(({ collected }) => collected),
      posted: range.flatMap(({ posted }) => posted),
    });
    return { type: "saw", topic, slot, fact };
  }

  async #attribute(slot: bigint, topic: string): Promise<Submission<TallyCommand> | undefined> {
    const { config } = this.#host;
    const outcome = this.#host.observed("atelier", "candidate", slot);
    const candidate = candidateIn(outcome);
    if (outcome === undefined || candidate === undefined) return undefined;
    const body = decode(CANDIDATE_BODY, await this.#host.fetchBody("atelier", outcome));
    const state = this.#host.state();
    if (state.next !== slot || state.chain === undefined) return undefined;
    const auction = this.#host.observed("offer", "auction", slot);
    const { commitment } = attributeLanded({ config, slot, candidate, body, auction, collected: state.collected });
    return { type: "saw", topic, slot, fact: encode(ATTRIBUTION, commitment) };
  }

  #attest(batch: bigint): Submission<TallyCommand> | undefined {
    const { config, secrets } = this.#host;
    const open = openBatch(this.#host.state());
    if (open?.attestation.batch !== batch || secrets.signerKey === undefined) return undefined;
    const signature = signDigest(secrets.signerKey, batchDigest(config, open.attestation));
    return { type: "machine", command: { type: "attestationShare", batch, signature } };
  }

  #post(batch: bigint): void {
    const { config, roster } = this.#host;
    const open = openBatch(this.#host.state());
    if (open?.attestation.batch !== batch) return;
    // The contract checks as many signatures as the threshold; without them it takes nothing.
    if (signaturesOf(config, roster, open) !== undefined) this.#chain().post(open.attestation);
  }
}

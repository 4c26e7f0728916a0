/**
 * A chain with one sequencer and the settlement contract, as far as organisms can tell: attributes before a slot, a
 * block or none in it, a signed word about it afterwards, events of the contract in its blocks.
 */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { type LatticeConfig, latticeId, slotAt, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import {
  type SequencerAcknowledgement,
  type SequencerAttributes,
  signAcknowledgement,
  signAttributes,
} from "@lattice/organism/outcomes/sequencer.ts";
import type { Attestation } from "@lattice/tally/core/attestation.ts";
import { type CollectedCharge, candidateIn } from "@lattice/tally/core/slot-attribution.ts";
import type { PostedEvent } from "@lattice/tally/core/types.ts";
import { GENESIS_MS } from "./dealing.ts";
import type { SeededRandom } from "./random.ts";
import type { VirtualTime } from "./virtual-time.ts";

export interface SimBlock {
  readonly number: bigint;
  readonly hash: Uint8Array;
  readonly parentHash: Uint8Array;
  readonly slot: bigint;
  /** Payments to the contract, when it is a candidate's block. */
  readonly paymentsWei: bigint;
  readonly collected: readonly CollectedCharge[];
  readonly posted: readonly PostedEvent[];
}

export const ESCROW_WEI = 1_000_000_000n;

export class SimChain {
  readonly blocks: SimBlock[] = [];
  readonly #config: LatticeConfig;
  readonly #key: Uint8Array;
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  readonly #candidate: (slot: bigint) => CertifiedOutcome | undefined;
  readonly #words = new Map<bigint, SequencerAcknowledgement>();
  /** Posted, not yet in a block. */
  readonly #mempool: Attestation[] = [];
  readonly taken = new Map<string, bigint>();
  #postedBatch = 0n;
  /** How often a slot ends without the lattice's block although there is one. */
  refuses = 0.05;

  constructor(options: {
    readonly config: LatticeConfig;
    readonly sequencerKey: Uint8Array;
    readonly time: VirtualTime;
    readonly random: SeededRandom;
    readonly candidate: (slot: bigint) => CertifiedOutcome | undefined;
  }) {
    this.#config = options.config;
    this.#key = options.sequencerKey;
    this.#time = options.time;
    this.#random = options.random;
    this.#candidate = options.candidate;
    const zero = new Uint8Array(32);
    const genesis = blake3(Buffer.from("sim/genesis"));
    this.blocks.push({
      number: 0n,
      hash: genesis,
      parentHash: zero,
      slot: 0n,
      paymentsWei: 0n,
      collected: [],
      posted: [],
    });
    this.#schedule(1n);
  }

  get head(): SimBlock {
    const head = this.blocks.at(-1);
    if (head === undefined) throw new Error("a chain has a genesis");
    return head;
  }

  #nowMs(): number {
    return GENESIS_MS + this.#time.nowMs;
  }

  #schedule(slot: bigint): void {
    const atMs = slotStartMs(this.#config, slot) + this.#config.slotMs * 0.25;
    this.#time.after(atMs - this.#nowMs(), () => {
      this.#end(slot);
      this.#schedule(slot + 1n);
    });
  }

  /** The slot's quarter is over: the certified candidate stands, or something else does. */
  #end(slot: bigint): void {
    const { head } = this;
    const certified = this.#candidate(slot);
    const candidate = candidateIn(certified?.outcome);
    const fits = candidate !== undefined && equalBytes(candidate.parentHash, head.hash);
    const common = { version: 1 as const, latticeId: latticeId(this.#config), slot, parentHash: head.hash };
    if (fits && !this.#random.chance(this.refuses)) {
      this.#append(slot, candidate.blockHash, candidate.paymentsWei);
      this.#words.set(slot, { ...common, blockHash: candidate.blockHash, outcome: "accepted", reason: "" });
    } else if (this.#random.chance(0.5)) {
      const hash = blake3(Buffer.from(`sim/fallback/${slot}/${toHex(head.hash)}`));
      this.#append(slot, hash, 0n);
      this.#words.set(slot, { ...common, blockHash: hash, outcome: "fallback", reason: "late" });
    } else {
      this.#words.set(slot, { ...common, blockHash: new Uint8Array(32), outcome: "none", reason: "late" });
    }
  }

  #append(slot: bigint, hash: Uint8Array, paymentsWei: bigint): void {
    const { head } = this;
    const number = head.number + 1n;
    const collected: CollectedCharge[] = [];
    const posted: PostedEvent[] = [];
    for (const attestation of this.#mempool.splice(0)) {
      if (attestation.batch !== this.#postedBatch + 1n) continue;
      this.#postedBatch = attestation.batch;
      posted.push({
        batch: attestation.batch,
        root: attestation.root,
        total: attestation.total,
        blockNumber: number,
      });
      for (const { bidId, wei } of attestation.charges) {
        const key = toHex(bidId);
        if (this.taken.has(key)) continue;
        this.taken.set(key, wei);
        collected.push({ bidId, wei });
      }
    }
    this.blocks.push({ number, hash, parentHash: head.hash, slot, paymentsWei, collected, posted });
  }

  attributes(slot: bigint): { readonly attributes: SequencerAttributes; readonly signature: Uint8Array } | undefined {
    const now = this.#nowMs();
    const fromMs = slotStartMs(this.#config, slot) - this.#config.slotMs * 0.74;
    if (now < fromMs || slotAt(this.#config, now) > slot) return undefined;
    const { head } = this;
    const attributes: SequencerAttributes = {
      version: 1,
      latticeId: latticeId(this.#config),
      chainId: this.#config.chainId,
      slot,
      parentHash: head.hash,
      parentNumber: head.number,
      timestampS: BigInt(Math.floor(slotStartMs(this.#config, slot) / 1000)),
      prevRandao: new Uint8Array(32),
      feeRecipient: new Uint8Array(20).fill(7),
      gasLimit: 30_000_000n,
      parentBeaconBlockRoot: new Uint8Array(32),
      extraData: new Uint8Array(),
    };
    return { attributes, signature: signAttributes(this.#key, attributes) };
  }

  acknowledgement(
    slot: bigint,
  ): { readonly acknowledgement: SequencerAcknowledgement; readonly signature: Uint8Array } | undefined {
    const acknowledgement = this.#words.get(slot);
    if (acknowledgement === undefined) return undefined;
    return { acknowledgement, signature: signAcknowledgement(this.#key, acknowledgement) };
  }

  block(number: bigint): SimBlock | undefined {
    return this.blocks[Number(number)];
  }

  /** A signed batch, on its way into a block. */
  post(attestation: Attestation): void {
    if (attestation.batch <= this.#postedBatch) return;
    if (this.#mempool.some(({ batch }) => batch === attestation.batch)) return;
    this.#mempool.push(attestation);
  }

  escrowOf(_account: Uint8Array): bigint {
    return ESCROW_WEI;
  }
}

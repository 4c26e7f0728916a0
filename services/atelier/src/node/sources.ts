/** What a slot's block is built from, gathered: observed outcomes, and their bodies fetched ahead of need. */
import { CodecError } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { MemberHost } from "@lattice/organism/service.ts";
import type { BlockAttributes } from "../core/candidate.ts";
import { BodyMismatch } from "../core/inputs.ts";
import { slotOutcomes } from "../core/upstream.ts";
import { messagesOf, type OutcomeWithBody, rulesOf, type SlotSources } from "../evm/slot-inputs.ts";

type SourceHost = Pick<MemberHost<unknown, unknown, unknown>, "config" | "observed" | "fetchBody">;

export class Sources {
  readonly #host: SourceHost;
  readonly #decodeAhead: (raws: readonly Uint8Array[]) => Promise<void>;
  readonly #prefetched = new Map<string, Promise<void>>();

  /** @param decodeAhead recovers senders of transactions before a block needs them */
  constructor(host: SourceHost, decodeAhead: (raws: readonly Uint8Array[]) => Promise<void>) {
    this.#host = host;
    this.#decodeAhead = decodeAhead;
  }

  /**
   * Undefined while an outcome is missing.
   * @throws Fault UPSTREAM_UNREACHABLE while a body is nowhere to be had
   */
  async gather(slot: bigint, attributes: BlockAttributes): Promise<SlotSources | undefined> {
    const { config } = this.#host;
    const outcomes = slotOutcomes(this.#host, slot, BigInt(config.atelier.content.carrySlots));
    if (outcomes === undefined) return undefined;
    const [unsealed, auction, ...earlier] = await Promise.all([
      this.#withBody("unseal", outcomes.unsealed),
      this.#withBody("offer", outcomes.auction),
      ...outcomes.earlier.map((outcome) => this.#withBody("unseal", outcome)),
    ]);
    return { slot, candidateVersion: 0, attributes, rules: rulesOf(config), unsealed, auction, earlier };
  }

  /** Starts fetching what is known of a slot already; failures show in `gather`. */
  prefetch(slot: bigint): void {
    const upstream = [
      ["unseal", "unsealed"],
      ["offer", "auction"],
    ] as const;
    for (const [organism, stage] of upstream) {
      const outcome = this.#host.observed(organism, stage, slot);
      const key = `${organism}/${slot}`;
      if (outcome === undefined || this.#prefetched.has(key)) continue;
      const fetched = this.#withBody(organism, outcome).then(async (each) => {
        if (organism === "unseal") await this.#decodeAhead(messagesOf(each).map((message) => message.rawTransaction));
      });
      this.#prefetched.set(
        key,
        // What is wrong with a body is said where it is needed; here another try is enough.
        fetched.catch((error: unknown) => {
          if (!(error instanceof BodyMismatch || error instanceof CodecError)) this.#prefetched.delete(key);
        }),
      );
    }
  }

  /** Lets go of slots below `slot`. */
  forget(slot: bigint): void {
    for (const key of [...this.#prefetched.keys()]) {
      if (BigInt(key.slice(key.indexOf("/") + 1)) < slot) this.#prefetched.delete(key);
    }
  }

  async #withBody(organism: Organism, outcome: Outcome): Promise<OutcomeWithBody> {
    const body = outcome.bodyHash === undefined ? undefined : await this.#host.fetchBody(organism, outcome);
    return { outcome, body };
  }
}

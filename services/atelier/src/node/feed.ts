/**
 * What this member takes in from outside, in the background: the sequencer's attributes, which it says in the log; the
 * chain's blocks; upstream bodies ahead of need.
 */
import { setTimeout as pause } from "node:timers/promises";
import { encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { errorFields } from "@lattice/organism/observe/logger.ts";
import type { MemberHost } from "@lattice/organism/service.ts";
import type { AtelierSettings } from "../config.ts";
import { attributesHold } from "../core/attributes.ts";
import { SIGNED_ATTRIBUTES, type SignedAttributes } from "../core/codec.ts";
import { type AtelierCommand, type AtelierState, attributesTopic, STAGE } from "../core/types.ts";
import type { Chain } from "./chain.ts";
import { fetchAttributes } from "./clients.ts";
import type { Sources } from "./sources.ts";

const TICK_MS = 40;
/** Attributes that are known are asked for again, since a reorganisation changes them. */
const AGAIN_MS = 250;
const SLOTS_KEPT = 4n;

export type AtelierHost = MemberHost<AtelierState, AtelierCommand, AtelierSettings>;

interface Heard {
  /** Hex of the parents whose attributes are in the log in this member's name. */
  readonly said: Set<string>;
  /** The sequencer's latest word. */
  latest: SignedAttributes | undefined;
  askAtMs: number;
}

export class Feed {
  readonly #host: AtelierHost;
  readonly #chain: Chain;
  readonly #sources: Sources;
  readonly #signal: AbortSignal;
  readonly #heard = new Map<bigint, Heard>();
  readonly #loops: Promise<void>[] = [];

  constructor(host: AtelierHost, chain: Chain, sources: Sources, signal: AbortSignal) {
    this.#host = host;
    this.#chain = chain;
    this.#sources = sources;
    this.#signal = signal;
  }

  start(): void {
    this.#loops.push(
      this.#loop(() => this.#attributes()),
      this.#loop(() => this.#chain.follow(this.#wantedParent())),
      this.#loop(async () => this.#prefetch()),
    );
  }

  /** Resolves once nothing runs any more; the signal must have been aborted. */
  async stopped(): Promise<void> {
    await Promise.all(this.#loops);
  }

  async #loop(work: () => Promise<void>): Promise<void> {
    while (!this.#signal.aborted) {
      try {
        await work();
      } catch (error) {
        if (!this.#signal.aborted) this.#host.log.warn("intake failed; it is tried again", errorFields(error));
      }
      await pause(TICK_MS, undefined, { signal: this.#signal }).catch(() => undefined);
    }
  }

  /** The running slot and the next, while they are undecided. */
  #slots(): bigint[] {
    const now = slotAt(this.#host.config, this.#host.clock.nowMs());
    return [now, now + 1n].filter((slot) => slot > 0n && this.#host.outcome(STAGE, slot) === undefined);
  }

  async #attributes(): Promise<void> {
    const slots = this.#slots();
    for (const slot of slots) {
      const heard = this.#heard.get(slot) ?? { said: new Set(), latest: undefined, askAtMs: 0 };
      this.#heard.set(slot, heard);
      if (performance.now() >= heard.askAtMs) await this.#ask(slot, heard);
    }
    const [first] = slots;
    if (first === undefined) return;
    for (const slot of [...this.#heard.keys()]) if (slot + SLOTS_KEPT < first) this.#heard.delete(slot);
  }

  async #ask(slot: bigint, heard: Heard): Promise<void> {
    const { config, settings, log } = this.#host;
    const signed = await fetchAttributes(settings.ATELIER_SEQUENCER_URL, slot, this.#signal);
    if (signed === undefined) return;
    heard.askAtMs = performance.now() + AGAIN_MS;
    if (!attributesHold(config, slot, signed)) {
      log.warn("the sequencer's attributes are not its own, or not for this slot", { slot });
      return;
    }
    heard.latest = signed;
    const { parentHash } = signed.attributes;
    const key = toHex(parentHash);
    if (heard.said.has(key) || !this.#host.caughtUp()) return;
    const topic = attributesTopic(parentHash);
    const refusal = await this.#host.submit({
      type: "saw",
      topic,
      slot,
      fact: encode(SIGNED_ATTRIBUTES, signed),
    });
    if (refusal === undefined || refusal.reason === "DUPLICATE") heard.said.add(key);
    else log.debug("attributes were not taken", { slot, ...refusal });
  }

  /** The newest parent that somebody will build on, as far as it is known: agreed, or just heard. */
  #wantedParent(): Uint8Array | undefined {
    const state = this.#host.state();
    for (const slot of this.#slots().reverse()) {
      const agreed = state.slots.get(slot)?.attributes.at(-1)?.parentHash;
      const heard = this.#heard.get(slot)?.latest?.attributes.parentHash;
      const lacking = [heard, agreed].find((parent) => parent !== undefined && !this.#chain.state.has(parent));
      if (lacking !== undefined) return lacking;
      if (agreed !== undefined && heard !== undefined && equalBytes(agreed, heard)) return agreed;
    }
    return undefined;
  }

  #prefetch(): void {
    const now = slotAt(this.#host.config, this.#host.clock.nowMs());
    for (const slot of [now, now + 1n, now + 2n]) this.#sources.prefetch(slot);
    this.#sources.forget(now - SLOTS_KEPT);
  }
}

/** What this gateway knows of recent slots: verified outcomes of all six organisms, kept in memory, watchable. */
import { equalBytes, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome, Outcome } from "@lattice/organism/committee/outcome.ts";
import { type LatticeConfig, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import { ACCEPTED } from "@lattice/organism/outcomes/relay.ts";
import type { Clock } from "@lattice/organism/ports.ts";
import { LiveQueue } from "@lattice/organism/rpc/live-queue.ts";
import { gatewayFault } from "./faults.ts";

/** Slots kept. */
export const SLOTS_KEPT = 512n;
/** Every decision of a slot, in pipeline order. */
export const ALL_STAGES: readonly { readonly organism: Organism; readonly stage: string }[] = [
  { organism: "zipnet", stage: "header" },
  { organism: "zipnet", stage: "broadcast" },
  { organism: "offer", stage: "blind" },
  { organism: "unseal", stage: "unsealed" },
  { organism: "offer", stage: "auction" },
  { organism: "atelier", stage: "candidate" },
  { organism: "relay", stage: "accepted" },
  { organism: "tally", stage: "attribution" },
];
/** Events that a watcher may lag behind: everything held, and as much again. */
const WATCH_BUFFER = 2 * Number(SLOTS_KEPT) * ALL_STAGES.length;

export interface KnownOutcome {
  readonly organism: Organism;
  readonly certified: CertifiedOutcome;
  readonly verifiedAtMs: number;
}

/** What a watcher is told: an outcome, or that the gateway is still there. */
export type SlotEvent =
  | { readonly type: "outcome"; readonly known: KnownOutcome }
  /** The slot that runs now. */
  | { readonly type: "heartbeat"; readonly slot: bigint };

export interface SlotBookOptions {
  readonly config: LatticeConfig;
  readonly clock: Clock;
  readonly log: Logger;
}

export class SlotBook {
  readonly #slots = new Map<bigint, Map<string, KnownOutcome>>();
  readonly #listeners = new Set<(known: KnownOutcome) => void>();
  readonly #options: SlotBookOptions;
  #newest: bigint;

  constructor(options: SlotBookOptions) {
    this.#options = options;
    // A gateway that starts late asks for recent slots only, not for all of history.
    this.#newest = slotAt(options.config, options.clock.nowMs());
  }

  /** The oldest slot still of interest. */
  get oldest(): bigint {
    return this.#newest > SLOTS_KEPT ? this.#newest - SLOTS_KEPT : 1n;
  }

  knows(organism: Organism, outcome: Outcome): boolean {
    const known = this.get(organism, outcome.stage, outcome.slot)?.certified.outcome;
    return known !== undefined && known.kind === outcome.kind && equalBytes(known.commitment, outcome.commitment);
  }

  /** Takes a verified outcome. The first of a slot and stage stands. */
  note(organism: Organism, certified: CertifiedOutcome): void {
    const { slot, stage } = certified.outcome;
    if (slot < this.oldest) return;
    const stages = this.#slots.get(slot) ?? new Map<string, KnownOutcome>();
    const key = `${organism}/${stage}`;
    if (stages.has(key)) {
      if (!this.knows(organism, certified.outcome))
        this.#options.log.error("a committee has certified two outcomes for one slot", { organism, stage, slot });
      return;
    }
    const known: KnownOutcome = { organism, certified, verifiedAtMs: this.#options.clock.nowMs() };
    stages.set(key, known);
    this.#slots.set(slot, stages);
    if (slot > this.#newest) {
      this.#newest = slot;
      for (const old of this.#slots.keys()) if (old < this.oldest) this.#slots.delete(old);
    }
    for (const listener of this.#listeners) listener(known);
  }

  get(organism: Organism, stage: string, slot: bigint): KnownOutcome | undefined {
    return this.#slots.get(slot)?.get(`${organism}/${stage}`);
  }

  /** A slot's outcomes in pipeline order. */
  slot(slot: bigint): KnownOutcome[] {
    const stages = this.#slots.get(slot);
    if (stages === undefined) return [];
    return ALL_STAGES.flatMap(({ organism, stage }) => {
      const known = stages.get(`${organism}/${stage}`);
      return known === undefined ? [] : [known];
    });
  }

  /** The slot whose accepted header is this block (32 bytes); undefined for blocks that are not this lattice's. */
  slotOfBlock(blockHash: Uint8Array): bigint | undefined {
    for (const [slot, stages] of this.#slots) {
      const accepted = stages.get("relay/accepted")?.certified.outcome;
      if (accepted?.kind !== "result") continue;
      const header = tryDecode(ACCEPTED, accepted.commitment);
      if (header !== undefined && equalBytes(header.blockHash, blockHash)) return slot;
    }
    return undefined;
  }

  onOutcome(listener: (known: KnownOutcome) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * What is held from `fromSlot` on (0: nothing), then live, with a heartbeat every slot. Ends when `signal` aborts.
   * @throws Fault OUTCOME_TOO_OLD with the oldest slot, SLOW_CONSUMER when the reader lags too far behind
   */
  async *watch(fromSlot: bigint, signal: AbortSignal): AsyncGenerator<SlotEvent, void, void> {
    const { config, clock } = this.#options;
    const { oldest } = this;
    if (fromSlot > 0n && fromSlot < oldest) {
      throw gatewayFault("OUTCOME_TOO_OLD", `the oldest slot held is ${oldest}`, { oldest_slot: oldest.toString() });
    }
    const queue = new LiveQueue<SlotEvent>(WATCH_BUFFER, signal, "gateway");
    if (fromSlot > 0n) {
      const held = [...this.#slots.keys()].filter((slot) => slot >= fromSlot).sort((a, b) => (a < b ? -1 : 1));
      for (const slot of held) for (const known of this.slot(slot)) queue.push({ type: "outcome", known });
    }
    const stop = this.onOutcome((known) => {
      if (known.certified.outcome.slot >= fromSlot) queue.push({ type: "outcome", known });
    });
    const beat = setInterval(() => {
      queue.push({ type: "heartbeat", slot: slotAt(config, clock.nowMs()) });
    }, config.slotMs);
    try {
      yield* queue;
    } finally {
      clearInterval(beat);
      stop();
    }
  }
}

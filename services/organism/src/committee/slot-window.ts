/**
 * The slots that a committee still talks about: from SLOTS_KEPT below the lowest undecided one to WINDOW_AHEAD beyond log
 * time. What lies below is forgotten. Both ends are moved by entries alone, so alike on all members.
 */
import { type LatticeConfig, slotAt } from "../identity/lattice-config.ts";
import { lowestUndecided } from "./guest-view.ts";
import { emptySlot, type SharedState, SKIP_SPAN, SLOTS_KEPT, type SlotRecord, WINDOW_AHEAD } from "./state.ts";

/** The first slot of every lattice; slot 0 is the time before. */
export const FIRST_SLOT = 1n;

export class SlotWindow {
  readonly #config: LatticeConfig;
  readonly #shared: SharedState;

  constructor(config: LatticeConfig, shared: SharedState) {
    this.#config = config;
    this.#shared = shared;
  }

  /** The slot that log time is in. */
  get now(): bigint {
    return slotAt(this.#config, Number(this.#shared.logTimeMs));
  }

  /** The lowest slot whose `stage` is not decided. */
  floor(stage: string): bigint {
    return this.#shared.floors.get(stage) ?? FIRST_SLOT;
  }

  /** The lowest slot of which a stage is undecided. */
  get lowest(): bigint {
    return lowestUndecided(this.#shared.floors, FIRST_SLOT);
  }

  contains(slot: bigint): boolean {
    return slot >= this.#shared.collapsedBelow && slot <= this.now + WINDOW_AHEAD;
  }

  /** The highest slot a Skip may name now; it moves on as slots are decided. */
  get skipLimit(): bigint {
    return this.#shared.collapsedBelow + SKIP_SPAN;
  }

  /** What there is about a slot; from now on there is something. */
  record(slot: bigint): SlotRecord {
    let record = this.#shared.slots.get(slot);
    if (record === undefined) {
      record = emptySlot();
      this.#shared.slots.set(slot, record);
    }
    return record;
  }

  /** Forgets what lies SLOTS_KEPT below the lowest undecided slot. @returns below which slot; undefined: there is nothing new */
  collapse(): bigint | undefined {
    const shared = this.#shared;
    const below = this.lowest - SLOTS_KEPT;
    if (below <= shared.collapsedBelow) return undefined;
    for (const slot of [...shared.slots.keys()]) if (slot < below) shared.slots.delete(slot);
    shared.collapsedBelow = below;
    return below;
  }
}

/**
 * Closes: each member says once per stage of a slot what it had received in time. A close counts once q members closed
 * and every input that f + 1 of them listed has landed (log.md §5).
 */
import { toHex } from "../codec/codec.ts";
import { type Refusal, refuse } from "../machine.ts";
import type { Epochs } from "./epochs.ts";
import { LISTED_ONCE } from "./rules.ts";
import type { SlotWindow } from "./slot-window.ts";
import { CLOSE_INPUTS_PER_AUTHOR, CLOSES_PER_AUTHOR, type CloseRecord, type SharedState } from "./state.ts";

interface Awaited {
  /** Whether a member that lists an input twice counts once. */
  readonly once: boolean;
  readonly hashes: readonly Uint8Array[];
  missing: Uint8Array | undefined;
}

export class Closes {
  readonly #shared: SharedState;
  readonly #window: SlotWindow;
  readonly #epochs: Epochs;
  /** Of closes that wait: what they wait for, and which of it was missing when last looked. Undefined after another word. */
  readonly #awaited = new WeakMap<CloseRecord, Awaited>();
  /** Below this slot nothing listed is kept; undefined: that is to be looked at. */
  #forgottenBelow: bigint | undefined;

  constructor(shared: SharedState, window: SlotWindow, epochs: Epochs) {
    this.#shared = shared;
    this.#window = window;
    this.#epochs = epochs;
  }

  /** The state has become another: what was derived of it is looked up anew. */
  reread(): void {
    this.#forgottenBelow = undefined;
  }

  add(author: number, stage: string, slot: bigint, inputs: Uint8Array[]): Refusal | undefined {
    if (!this.#window.contains(slot)) return refuse("SLOT_OUT_OF_WINDOW", `slot ${slot} is outside the window`);
    if (slot < this.#window.lowest) return refuse("SLOT_DECIDED", `everything of slot ${slot} is decided`);
    if (!this.#epochs.hasSeat(author, slot)) return refuse("NOT_AUTHOR", `member ${author} is none of slot ${slot}`);
    const closes = this.#shared.slots.get(slot)?.closes ?? new Map<string, CloseRecord>();
    const record = closes.get(stage) ?? { done: false, by: new Map() };
    if (record.by.has(author)) return refuse("DUPLICATE", `member ${author} has closed ${stage} of slot ${slot}`);
    const said = [...closes.values()].flatMap((each) => each.by.get(author)?.length ?? []);
    if (said.length >= CLOSES_PER_AUTHOR) return refuse("MALFORMED", `more than ${CLOSES_PER_AUTHOR} closes of a slot`);
    if (said.reduce((total, each) => total + each, inputs.length) > CLOSE_INPUTS_PER_AUTHOR) {
      return refuse("TOO_LARGE", `more than ${CLOSE_INPUTS_PER_AUTHOR} inputs in closes of a slot`);
    }
    record.by.set(author, inputs);
    this.#awaited.delete(record);
    this.#window.record(slot).closes.set(stage, record);
    return undefined;
  }

  /**
   * Looks after every entry at all that wait: whatever it was, it may be what was missing.
   * @param hasInput whether an input has landed
   * @param closed told of each that counts now, before the next is looked at
   */
  ripen(
    hasInput: (stage: string, slot: bigint, hash: Uint8Array) => boolean,
    closed: (stage: string, slot: bigint) => void,
  ): void {
    // In slot and stage order: a restored snapshot holds the same entries in another insertion order.
    const lowest = this.#window.lowest;
    const once = this.#shared.rules.active >= LISTED_ONCE;
    const waiting: bigint[] = [];
    for (const [slot, { closes }] of this.#shared.slots) if (slot >= lowest && isWaiting(closes)) waiting.push(slot);
    for (const slot of waiting.sort((a, b) => (a < b ? -1 : 1))) {
      const closes = this.#shared.slots.get(slot)?.closes ?? new Map<string, CloseRecord>();
      const { quorum, faults } = this.#epochs.quorumAt(slot);
      for (const stage of [...closes.keys()].sort()) {
        const record = closes.get(stage);
        if (record === undefined || record.done || record.by.size < quorum) continue;
        // One member may list many, and may make all wait: they are counted and looked up once, not after every entry.
        const known = this.#awaited.get(record);
        const awaited: Awaited =
          known?.once === once ? known : { once, hashes: listedBy(record, faults + 1, once), missing: undefined };
        this.#awaited.set(record, awaited);
        const lacks = (hash: Uint8Array): boolean => !hasInput(stage, slot, hash);
        if (awaited.missing !== undefined && lacks(awaited.missing)) continue;
        awaited.missing = awaited.hashes.find(lacks);
        if (awaited.missing !== undefined) continue;
        record.done = true;
        closed(stage, slot);
      }
    }
    if (once) this.#forget();
    else this.#forgottenBelow = undefined;
  }

  /** Megabytes of each author and slot that nobody reads any more; who has closed is still known. */
  #forget(): void {
    const { lowest } = this.#window;
    if (this.#forgottenBelow === lowest) return;
    this.#forgottenBelow = lowest;
    for (const [slot, { closes }] of this.#shared.slots) {
      if (slot >= lowest) continue;
      for (const { by } of closes.values()) {
        for (const [author, inputs] of by) if (inputs.length > 0) by.set(author, []);
      }
    }
  }
}

/** True when there are closes that do not count yet: of few slots, whatever entry it is. */
function isWaiting(closes: ReadonlyMap<string, CloseRecord>): boolean {
  for (const { done } of closes.values()) if (!done) return true;
  return false;
}

/**
 * Inputs that at least so many members listed.
 * @param once false: a member that lists one twice counts twice
 */
function listedBy({ by }: CloseRecord, members: number, once: boolean): Uint8Array[] {
  const listed = new Map<string, { hash: Uint8Array; times: number }>();
  for (const inputs of by.values()) {
    const own = new Set<string>();
    for (const hash of inputs) {
      const key = toHex(hash);
      if (once && own.has(key)) continue;
      own.add(key);
      listed.set(key, { hash, times: (listed.get(key)?.times ?? 0) + 1 });
    }
  }
  return [...listed.values()].flatMap(({ hash, times }) => (times >= members ? [hash] : []));
}

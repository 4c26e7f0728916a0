/** Facts about the outside world: each member says once per topic and slot what it saw. One counts when q saw it alike. */
import { equalBytes } from "../codec/codec.ts";
import { type Refusal, refuse } from "../machine.ts";
import type { Epochs } from "./epochs.ts";
import type { SlotWindow } from "./slot-window.ts";
import { FACT_BYTES_PER_AUTHOR, FACTS_PER_AUTHOR, type FactRecord, type SharedState } from "./state.ts";

export class Facts {
  readonly #shared: SharedState;
  readonly #window: SlotWindow;
  readonly #epochs: Epochs;

  constructor(shared: SharedState, window: SlotWindow, epochs: Epochs) {
    this.#shared = shared;
    this.#window = window;
    this.#epochs = epochs;
  }

  /** Takes what one member saw. @returns "agreed" for the one that makes the quorum */
  add(author: number, topic: string, slot: bigint, fact: Uint8Array): Refusal | "agreed" | undefined {
    if (!this.#window.contains(slot)) return refuse("SLOT_OUT_OF_WINDOW", `slot ${slot} is outside the window`);
    if (!this.#epochs.hasSeat(author, slot)) return refuse("NOT_AUTHOR", `member ${author} is none of slot ${slot}`);
    const facts = this.#shared.slots.get(slot)?.facts ?? new Map<string, FactRecord>();
    const record = facts.get(topic) ?? { agreed: false, by: new Map<number, Uint8Array>() };
    // Nothing follows from it any more. Who comes late with what the others agreed on may still say so.
    if (!record.agreed && slot < this.#window.lowest) {
      return refuse("SLOT_DECIDED", `everything of slot ${slot} is decided`);
    }
    if (record.by.has(author)) return refuse("DUPLICATE", `member ${author} has spoken of ${topic} in slot ${slot}`);
    const said = [...facts.values()].flatMap((each) => each.by.get(author)?.length ?? []);
    if (said.length >= FACTS_PER_AUTHOR) return refuse("MALFORMED", `more than ${FACTS_PER_AUTHOR} facts of a slot`);
    if (said.reduce((total, each) => total + each, fact.length) > FACT_BYTES_PER_AUTHOR) {
      return refuse("TOO_LARGE", `more than ${FACT_BYTES_PER_AUTHOR} bytes of facts of a slot`);
    }
    record.by.set(author, fact);
    this.#window.record(slot).facts.set(topic, record);
    const alike = [...record.by.values()].filter((other) => equalBytes(other, fact)).length;
    if (record.agreed || alike < this.#epochs.quorumAt(slot).quorum) return undefined;
    record.agreed = true;
    return "agreed";
  }
}

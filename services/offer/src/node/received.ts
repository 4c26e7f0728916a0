/**
 * What this member received at its own door and in time: the content of its Close (log.md §5).
 *
 * Listed are bids that have been applied, and bids that were published and for longer than a patience did not come
 * back: those the broker may be holding. A bid that is merely on its way is left out, so that a searcher who sends
 * two bids under one nonce to two members cannot make the close wait for the refused one.
 */
import { compareBytes, fromHex } from "@lattice/organism/codec/codec.ts";
import { Fault } from "@lattice/organism/fault.ts";
import type { Refusal } from "@lattice/organism/machine.ts";
import type { CloseStage } from "../core/types.ts";

type Fate = { readonly type: "pending"; readonly sinceMs: number } | { readonly type: "applied" };

export class ReceivedBids {
  readonly #bids = new Map<bigint, Map<string, { readonly stage: CloseStage; fate: Fate }>>();

  pending(stage: CloseStage, slot: bigint, id: string, nowMs: number): void {
    const known = this.#bids.get(slot) ?? new Map();
    if (!known.has(id)) known.set(id, { stage, fate: { type: "pending", sinceMs: nowMs } });
    this.#bids.set(slot, known);
  }

  /** Knows of a bid while it is put into the log, and what that came to. @throws what `submit` throws */
  async during(
    stage: CloseStage,
    slot: bigint,
    id: string,
    nowMs: number,
    submit: () => Promise<Refusal | undefined>,
  ): Promise<Refusal | undefined> {
    const again = this.#bids.get(slot)?.has(id) === true;
    this.pending(stage, slot, id, nowMs);
    try {
      const refusal = await submit();
      if (refusal === undefined || refusal.reason === "DUPLICATE") this.applied(slot, id);
      else this.refused(slot, id);
      return refusal;
    } catch (error) {
      // What was not even said, as in a burst that is more than the log takes, never comes: a close would wait for it.
      const said = error instanceof Fault && error.reason === "FATE_UNKNOWN";
      if (!said && !again) this.refused(slot, id);
      throw error;
    }
  }

  applied(slot: bigint, id: string): void {
    const bid = this.#bids.get(slot)?.get(id);
    if (bid !== undefined) bid.fate = { type: "applied" };
  }

  refused(slot: bigint, id: string): void {
    this.#bids.get(slot)?.delete(id);
  }

  /** Ascending ids. */
  list(stage: CloseStage, slot: bigint, nowMs: number, patienceMs: number): Uint8Array[] {
    const listed: Uint8Array[] = [];
    for (const [id, bid] of this.#bids.get(slot) ?? []) {
      const counts = bid.fate.type === "applied" || nowMs - bid.fate.sinceMs > patienceMs;
      if (bid.stage === stage && counts) listed.push(fromHex(id));
    }
    return listed.sort(compareBytes);
  }

  forget(belowSlot: bigint): void {
    for (const slot of [...this.#bids.keys()]) if (slot < belowSlot) this.#bids.delete(slot);
  }
}

/** When things happen in a slot, from the lattice config alone. */
import { type LatticeConfig, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";

/** Unix ms. */
export interface SlotTimes {
  /** From here on members that have no outcome of offer's `blind` stage say so. */
  readonly noBlindMs: number;
  /** Shares are released from here on, not before. */
  readonly sharesMs: number;
  /** From here on the slot may expire, and nothing of it is opened any more. */
  readonly expiryMs: number;
}

/**
 * Expiry = pool deadline + patience + margin. The margin, a third of patience, is what one fact that was said at the
 * last moment needs to be ordered: a slot whose shares are out should rather be decided late than thrown away after
 * its members have read it. It is no longer than that because the builders are waiting.
 */
export function slotTimes(config: LatticeConfig, slot: bigint): SlotTimes {
  const startMs = slotStartMs(config, slot);
  const { sharesMs, poolMs, patienceMs } = config.unseal.content;
  const { blindCloseMs, patienceMs: offerPatienceMs } = config.offer.content;
  return {
    noBlindMs: startMs - blindCloseMs + offerPatienceMs,
    sharesMs: startMs - sharesMs,
    expiryMs: startMs - poolMs + patienceMs + Math.floor(patienceMs / 3),
  };
}

/** How long the next member waits for the one before it to log the freeze record. */
export function freezeStepMs(config: LatticeConfig): number {
  return Math.floor(config.unseal.content.patienceMs / 6);
}

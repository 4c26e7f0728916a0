/** Which key to seal to, believed for its certificate alone. Pure. */
import { CodecError } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { KitProblem, verifyRoster } from "@lattice/organism/node/kit.ts";

export interface SealingKey {
  /** Compressed G1 point, 48 bytes. */
  readonly key: Uint8Array;
  readonly epoch: bigint;
  /** The slots it serves, both included. */
  readonly fromSlot: bigint;
  readonly toSlot: bigint;
}

/** Why a certified roster gives no key for a slot. */
export type SealingKeyRefusal = "not-certified" | "no-key" | "slot-not-served";

/**
 * The key that bids of `slot` are sealed to. `roster` is what any member's `GetSealingKey` answers
 * (`fromWireOutcome`); it is checked under the certificate key that the config pins.
 */
export function sealingKeyOf(
  config: LatticeConfig,
  roster: CertifiedOutcome,
  slot: bigint,
): SealingKey | { readonly refusal: SealingKeyRefusal } {
  try {
    const { sealingKey, epoch, activationSlot, sealingUntilSlot } = verifyRoster(config, "offer", roster);
    if (sealingKey === undefined) return { refusal: "no-key" };
    if (slot < activationSlot || slot > sealingUntilSlot) return { refusal: "slot-not-served" };
    return { key: sealingKey, epoch, fromSlot: activationSlot, toSlot: sealingUntilSlot };
  } catch (error) {
    if (error instanceof KitProblem || error instanceof CodecError) return { refusal: "not-certified" };
    throw error;
  }
}

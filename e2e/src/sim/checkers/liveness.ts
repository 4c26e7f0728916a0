/** I15: with everything healed and at most f corrupt members, every stage comes back, soon, and stays. */
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import type { World } from "../world.ts";

/** Slots after the heal that a lattice may need. */
const RECOVERY_SLOTS = 8;
/** Until when there are faults, of all slots. */
export const HEALED_AFTER = 0.4;
/** Fewer slots than this leave none to judge. */
export const LIVENESS_SLOTS_MIN = 36;
/** Slots by which the last stages trail behind: finality, and a restart's catching up. */
const TRAIL_SLOTS = 5;

interface Demand {
  readonly stage: string;
  /** In how many of the judged slots there must be more than Skipped. */
  readonly share: number;
}

/**
 * Judges the slots between recovery and the trail.
 * @returns what is missing; undefined when all is well
 */
export function missingLiveness(world: World, slots: number, mode: "liveness" | "calm"): string | undefined {
  const from = mode === "calm" ? 6 : Math.floor(slots * HEALED_AFTER) + RECOVERY_SLOTS;
  const to = slots - TRAIL_SLOTS;
  const allHonest = world.hosts.every(({ honest }) => honest);
  // A corrupt zipnet server ends every round by withholding, and shows itself by it: that is in the trust table.
  const zipnetWorks = world.of("zipnet").every(({ honest }) => honest);
  const most = mode === "calm" ? 1 : allHonest ? 0.7 : 0.25;
  const demands: readonly Demand[] = [
    { stage: "zipnet/header", share: most },
    ...(zipnetWorks ? [{ stage: "zipnet/broadcast", share: most }] : []),
    ...(zipnetWorks ? [{ stage: "unseal/unsealed", share: most }] : []),
    { stage: "offer/blind", share: most },
    ...(zipnetWorks ? [{ stage: "offer/auction", share: most }] : []),
    { stage: "atelier/candidate", share: most },
    { stage: "relay/accepted", share: most },
    { stage: "tally/attribution", share: most },
  ];
  for (const organism of ORGANISMS) {
    for (const host of world.of(organism)) {
      if (host.honest && !(host.alive && host.member?.ready() === true)) return `${host.address} is not ready`;
    }
  }
  for (const { stage, share } of demands) {
    let good = 0;
    let all = 0;
    for (let slot = from; slot < to; slot++) {
      all += 1;
      const kind = world.certificates.get(`${stage}/${slot}`)?.outcome.kind;
      if (kind === "result" || kind === "empty") good += 1;
    }
    if (all > 0 && good < all * share) return `${stage}: ${good} of ${all} slots from ${from} on`;
  }
  return undefined;
}

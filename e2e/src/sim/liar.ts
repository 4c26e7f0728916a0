/** Brokers that lie to whole committees: to be survived without a second certificate, not without a stop. */
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { SLOT_MS, type World } from "./world.ts";

/** Slots before the first lie, and after the last one: members compare heads once a slot. */
export const LIE_FROM_SLOT = 4;
export const FOUND_AFTER_SLOTS = 5;
const ROLLED_BACK_MOST = 60;

/** Lets the brokers of some committees lie once, at a time of their own. */
export function beginLies(world: World, slots: number): void {
  const random = world.random.fork("lies");
  const chosen = ORGANISMS.filter(() => random.chance(0.5));
  for (const organism of chosen.length > 0 ? chosen : [random.pick(ORGANISMS)]) {
    const atSlot = random.between(LIE_FROM_SLOT, Math.max(LIE_FROM_SLOT + 1, slots - FOUND_AFTER_SLOTS));
    const kind = random.chance(0.6) ? "fork" : "rollback";
    world.time.after(atSlot * SLOT_MS, () => {
      const broker = world.brokers[organism];
      world.lies.set(organism, { kind, atSlot });
      world.count(`broker ${kind}`);
      world.note(`broker ${kind} ${organism}`);
      if (kind === "rollback") {
        broker.rollBack(1 + random.below(ROLLED_BACK_MOST));
        return;
      }
      const honest = world.of(organism).filter(({ honest }) => honest);
      const others = 1 + random.below(honest.length - 1);
      const branch = broker.fork(honest.slice(0, others).map(({ index }) => index));
      // A corrupt member takes part on both sides, with all that it has said so far.
      for (const host of world.of(organism)) if (!host.honest && host.alive) world.double(host, branch);
    });
  }
}

/** Members that are killed (F1 to F3). */
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { backAgain, type Cell, HOLD, victim } from "../cell.ts";

export function killCells(): Cell[] {
  const singles = ORGANISMS.map(
    (organism): Cell => ({
      name: `kill-${organism}`,
      family: "F1",
      injects: `kill -9 of ${organism}-1, started again after the hold`,
      holdSlots: HOLD,
      bound: 6,
      async inject(world) {
        await world.kill(victim(organism));
        return () => backAgain(world, victim(organism));
      },
    }),
  );
  const phases = [0, 20, 40, 60, 80].map((percent, turn): Cell => {
    const organism = ORGANISMS[turn] ?? "zipnet";
    return {
      name: `kill-phase-${percent}`,
      family: "F2",
      injects: `kill -9 of ${organism}-0 at ${percent} % of a slot, started again at once`,
      holdSlots: 1,
      bound: 6,
      async inject(world) {
        const { slotMs, genesisMs } = world.lattice.config;
        const into = (((Date.now() - genesisMs) % slotMs) + slotMs) % slotMs;
        await world.ms((slotMs - into + (slotMs * percent) / 100) % slotMs);
        await world.kill(victim(organism, 0));
        await backAgain(world, victim(organism, 0));
        return () => undefined;
      },
    };
  });
  const loops = ORGANISMS.map(
    (organism): Cell => ({
      name: `crash-loop-${organism}`,
      family: "F3",
      injects: `kill -9 of ${organism}-2 every 1.5 s, started again each time`,
      holdSlots: HOLD,
      bound: 6,
      async inject(world) {
        let over = false;
        const looping = (async () => {
          while (!over) {
            await world.kill(victim(organism, 2));
            world.start(victim(organism, 2));
            await world.ms(1500);
          }
        })();
        return async () => {
          over = true;
          await looping;
          await backAgain(world, victim(organism, 2));
        };
      },
    }),
  );
  return [...singles, ...phases, ...loops];
}

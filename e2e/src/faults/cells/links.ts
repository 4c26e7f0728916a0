/** Links that are slow, break, or lose, repeat, reorder and damage what passes (F11 to F13, F18). */
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { backAgain, type Cell, HOLD, onLinks, victim } from "../cell.ts";
import type { Conditions } from "../fault-link.ts";
import type { World } from "../world.ts";

export function linkCells(): Cell[] {
  const slow: Conditions = { delayMs: 400, jitterMs: 100, bytesPerSecond: 125_000 };
  const everyNats = (world: World) => world.network.members.flatMap((member) => world.network.natsOf(member));
  return [
    ...ORGANISMS.map(
      (organism): Cell => ({
        name: `slow-link-${organism}`,
        family: "F11",
        injects: `${organism}-1: 400 to 500 ms each way and 1 Mbit/s on every link`,
        holdSlots: HOLD,
        bound: 6,
        effect: "delayed",
        inject: onLinks((world) => world.network.linksOf(victim(organism)), slow),
      }),
    ),
    ...ORGANISMS.map(
      (organism): Cell => ({
        name: `resets-${organism}`,
        family: "F12",
        injects: `every connection of ${organism}-0 is reset every 2 s`,
        holdSlots: HOLD,
        bound: 6,
        effect: "reset",
        inject: onLinks((world) => world.network.linksOf(victim(organism, 0)), { resetEveryMs: 2000 }),
      }),
    ),
    {
      name: "loss-everywhere",
      family: "F12",
      injects: "5 % of what all members and the broker say to one another is lost on its way and has to be sent again",
      holdSlots: HOLD,
      bound: 6,
      effect: "delayed",
      inject: onLinks(everyNats, { loss: 0.05 }),
    },
    {
      name: "duplicates-in",
      family: "F13",
      injects:
        "each message of all members is put into the log twice, the second time under an id that the broker does not know",
      holdSlots: HOLD,
      bound: 4,
      effect: "duplicated",
      inject: onLinks(everyNats, { messages: { direction: "up", duplicate: 1 } }),
    },
    {
      name: "duplicates-out",
      family: "F13",
      injects: "each message is delivered to each member twice",
      holdSlots: HOLD,
      bound: 8,
      effect: "duplicated",
      inject: onLinks(everyNats, { messages: { direction: "down", duplicate: 0.2 } }),
    },
    {
      name: "reorder-in",
      family: "F13",
      injects: "what a member publishes goes into the log in another order, over a window of 8",
      holdSlots: HOLD,
      bound: 8,
      effect: "reordered",
      inject: onLinks(everyNats, { messages: { direction: "up", reorderWindow: 8 } }),
    },
    {
      name: "reorder-out",
      family: "F13",
      injects: "relay's members are delivered the log in another order, over a window of 4",
      holdSlots: HOLD,
      bound: 8,
      effect: "reordered",
      inject: onLinks((world) => [0, 1, 2].flatMap((index) => world.network.natsOf(victim("relay", index))), {
        messages: { direction: "down", reorderWindow: 4 },
      }),
    },
    {
      name: "drop-in",
      family: "F12",
      injects: "every tenth message of all members vanishes on its way into the log, on a connection that lives",
      holdSlots: HOLD,
      bound: 8,
      effect: "dropped",
      inject: onLinks(everyNats, { messages: { direction: "up", drop: 0.1 } }),
    },
    {
      name: "corrupt-in",
      family: "F18",
      injects: "one bit of every tenth message of all members is another when it enters the log",
      holdSlots: HOLD,
      bound: 8,
      effect: "corrupted",
      inject: onLinks(everyNats, { messages: { direction: "up", corrupt: 0.1 } }),
    },
    {
      name: "corrupt-out",
      family: "F18",
      injects:
        "one bit of every tenth message is another when relay-2 is delivered it; what stops over another chain is started again",
      holdSlots: HOLD,
      bound: 8,
      effect: "corrupted",
      async inject(world) {
        const committee = [0, 1, 2].map((index) => victim("relay", index));
        const damaged = victim("relay", 2);
        const before = world.logOf(damaged).length;
        world.network.set(world.network.natsOf(damaged), { messages: { direction: "down", corrupt: 0.1 } });
        let over = false;
        const again = (async () => {
          while (!over) {
            for (const member of committee) world.start(member);
            await world.ms(1000);
          }
        })();
        return async () => {
          // Its own links only now mended: until then it reads another chain whenever it comes back.
          world.network.mend();
          await world.slots(2);
          over = true;
          await again;
          for (const member of committee) await backAgain(world, member);
          if (!/another chain|LOG_FORKED/.test(world.logOf(damaged).slice(before)))
            throw new Error("it did not say that it read another chain");
        };
      },
    },
  ];
}

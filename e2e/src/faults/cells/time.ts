/** Clocks that are wrong, and members that stand still (F14, F15). */
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { type Cell, HOLD, victim } from "../cell.ts";
import type { MemberId } from "../fault-network.ts";

export function timeCells(): Cell[] {
  const clock = (name: string, member: MemberId, injects: string, text: () => string): Cell => ({
    name,
    family: "F14",
    injects,
    holdSlots: HOLD,
    bound: 8,
    async inject(world) {
      world.setClock(member, text());
      return () => world.setClock(member, "0");
    },
  });
  const skews: readonly (readonly [string, number, Organism])[] = [
    ["+0.5 s", 500, "zipnet"],
    ["-0.5 s", -500, "unseal"],
    ["+5 s", 5000, "offer"],
    ["-5 s", -5000, "atelier"],
    ["+1 h", 3_600_000, "relay"],
    ["-1 h", -3_600_000, "tally"],
  ];
  const pauses: readonly (readonly [Organism, number])[] = [
    ["zipnet", 1],
    ["unseal", 1],
    ["offer", 5],
    ["atelier", 5],
    ["relay", 30],
  ];
  return [
    ...skews.map(([label, ms, organism]) =>
      clock(
        `clock-${label.replaceAll(" ", "")}-${organism}`,
        victim(organism, 2),
        `the clock of ${organism}-2 jumps by ${label} and back after the hold`,
        () => `${ms}`,
      ),
    ),
    clock("clock-frozen-offer", victim("offer", 0), "the clock of offer-0 stands still", () => `=${Date.now()}`),
    ...pauses.map(
      ([organism, seconds]): Cell => ({
        name: `pause-${organism}-${seconds}s`,
        family: "F15",
        injects: `SIGSTOP of ${organism}-0 for ${seconds} s, then it goes on as if nothing had been`,
        holdSlots: 0,
        bound: 8,
        async inject(world) {
          world.signal(victim(organism, 0), "SIGSTOP");
          await world.ms(seconds * 1000);
          return () => world.signal(victim(organism, 0), "SIGCONT");
        },
      }),
    ),
  ];
}

/** Members and committees that do not reach one another (F8 to F10). */
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { type Cell, HOLD, onLinks, victim } from "../cell.ts";
import type { Conditions } from "../fault-link.ts";

export function partitionCells(): Cell[] {
  const cut: Conditions = { cut: "both" };
  // Between committees of which one follows the other.
  const edges: readonly (readonly [Organism, Organism])[] = [
    ["zipnet", "unseal"],
    ["offer", "unseal"],
    ["offer", "tally"],
    ["unseal", "atelier"],
    ["offer", "atelier"],
    ["atelier", "relay"],
    ["relay", "tally"],
  ];
  return [
    ...ORGANISMS.map(
      (organism): Cell => ({
        name: `minority-${organism}`,
        family: "F8",
        injects: `${organism}-1 is cut off from the broker and from every other member`,
        holdSlots: HOLD,
        bound: 8,
        effect: "held",
        inject: onLinks((world) => world.network.linksOf(victim(organism)), cut),
      }),
    ),
    ...ORGANISMS.map(
      (organism): Cell => ({
        name: `majority-${organism}`,
        family: "F8",
        injects: `${organism}-0 and ${organism}-1 are cut off from the broker and from every other member`,
        holdSlots: HOLD,
        bound: 10,
        effect: "held",
        inject: onLinks((world) => [0, 1].flatMap((index) => world.network.linksOf(victim(organism, index))), cut),
      }),
    ),
    ...ORGANISMS.map(
      (organism): Cell => ({
        name: `deaf-${organism}`,
        family: "F9",
        injects: `${organism}-2 can send to the broker and hears nothing from it`,
        holdSlots: HOLD,
        bound: 8,
        effect: "held",
        inject: onLinks((world) => world.network.natsOf(victim(organism, 2)), { cut: "down" }),
      }),
    ),
    ...edges.map(
      ([from, to]): Cell => ({
        name: `edge-${from}-${to}`,
        family: "F10",
        injects: `no member of ${to} reaches any of ${from}, nor the other way round`,
        holdSlots: HOLD,
        bound: 8,
        effect: "held",
        inject: onLinks((world) => [...world.network.edge(from, to), ...world.network.edge(to, from)], cut),
      }),
    ),
  ];
}

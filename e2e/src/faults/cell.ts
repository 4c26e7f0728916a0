/** One cell of the fault matrix, and the steps that several of them share. */
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Conditions, FaultLink, LinkCounts } from "./fault-link.ts";
import type { MemberId } from "./fault-network.ts";
import type { World } from "./world.ts";

export interface Cell {
  readonly name: string;
  /** Row of the fault matrix: F1 … F18, or F0 for none. */
  readonly family: string;
  readonly injects: string;
  readonly holdSlots: number;
  /** Slots after mending within which one goes through all five organisms again. */
  readonly bound: number;
  /** What the links must have done, or the cell was void. */
  readonly effect?: keyof LinkCounts;
  /** Needs disks that can be filled. */
  readonly smallDisks?: boolean;
  /** Makes it wrong. @returns what mends it */
  inject(world: World): Promise<() => Promise<void> | void>;
}

/** How many slots most cells hold what they do. */
export const HOLD = 2;

/** The member that a cell harms. */
export function victim(organism: Organism, index = 1): MemberId {
  return { organism, index };
}

/** Sets conditions on links, and mends the whole network afterwards. */
export function onLinks(pick: (world: World) => readonly FaultLink[], conditions: Conditions) {
  return async (world: World) => {
    world.network.set(pick(world), conditions);
    return () => world.network.mend();
  };
}

/** Starts a member again. @throws when it does not get ready */
export async function backAgain(world: World, member: MemberId): Promise<void> {
  world.start(member);
  if (!(await world.ready(member))) throw new Error(`${member.organism}-${member.index} is not ready again`);
}

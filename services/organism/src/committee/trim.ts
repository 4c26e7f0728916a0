/** How far a log may be trimmed: below the second newest certified checkpoint whose snapshot q members hold (log.md §6). Pure. */
import type { Checkpoint } from "./checkpoint.ts";

export interface Trimmable {
  /** Which generation's log. */
  readonly generation: bigint;
  /** The position after which it must be kept. */
  readonly position: bigint;
}

/**
 * @param held per member, certified checkpoints whose snapshots it says it holds, each checked
 * @returns undefined while nothing may go
 */
export function trimmableBelow(held: readonly (readonly Checkpoint[])[], quorum: number): Trimmable | undefined {
  let generation = 0n;
  for (const { generation: each } of held.flat()) if (each > generation) generation = each;
  const holders = new Map<bigint, number>();
  for (const member of held) {
    const positions = new Set(member.filter((each) => each.generation === generation).map(({ position }) => position));
    for (const position of positions) holders.set(position, (holders.get(position) ?? 0) + 1);
  }
  const newest = [...holders.keys()].sort((a, b) => (a < b ? 1 : -1));
  const position = newest.slice(1).find((each) => (holders.get(each) ?? 0) >= quorum);
  return position === undefined ? undefined : { generation, position };
}

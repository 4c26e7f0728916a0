/** log.md §4: only who said two things is taken for a fraud; crashes, lost disks, backups and doubled processes are none. */
import { Broken, type Checker } from "../observer.ts";
import type { World } from "../world.ts";

export function frauds(world: () => World): Checker {
  const name = "no honest member is taken for a fraud";
  const told = new Set<string>();
  return {
    name,
    applied({ organism }, replica) {
      for (const { member, kind } of replica.blocked) {
        if (world().host(organism, member).honest) throw new Broken(name, `${organism}/${member}: ${kind}`);
        const key = `${organism}/${member}`;
        if (!told.has(key)) world().count("corrupt key blocked");
        told.add(key);
      }
    },
  };
}

/** Whatever the logs have carried is looked for in what guests are given (../../invariants/guest-remains.ts). */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { lowestUndecided } from "@lattice/organism/committee/guest-view.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Duty, Machine } from "@lattice/organism/machine.ts";
import { AHEAD, type Canary, canariesOf, remains } from "../../invariants/guest-remains.ts";
import { Broken, type Checker } from "../observer.ts";
import type { World } from "../world.ts";

const LOOKED_EVERY = 256n;
const CANARIES_AT_ONCE = 500;

export function nothingRemains(world: () => World): Checker {
  const name = "guests are given nothing of what is over";
  const planted = new Map<Organism, { readonly slot: bigint; readonly canary: Canary }[]>();
  const machines = new Map<Organism, Machine<unknown, unknown, Duty>>();
  const machineOf = (organism: Organism): Machine<unknown, unknown, Duty> => {
    const known = machines.get(organism) ?? world().machine(organism);
    machines.set(organism, known);
    return known;
  };
  const looked = new Map<Organism, bigint>();
  return {
    name,
    stored(organism, _position, raw) {
      const { slot } = world();
      const list = planted.get(organism) ?? [];
      planted.set(organism, list);
      for (const canary of canariesOf(machineOf(organism), raw)) list.push({ slot, canary });
      if (list.length > 40 * CANARIES_AT_ONCE) list.splice(0, 20 * CANARIES_AT_ONCE);
    },
    applied({ organism, honest }, replica) {
      const { position } = replica;
      if (!honest || position % LOOKED_EVERY !== 0n || (looked.get(organism) ?? 0n) >= position) return;
      looked.set(organism, position);
      const floors = new Map(replica.machine.stages.map((stage) => [stage, replica.floor(stage)]));
      const decidedBelow = lowestUndecided(floors, 1n);
      const over = (planted.get(organism) ?? []).filter(({ slot }) => slot + AHEAD < decidedBelow);
      const newest = over.slice(-CANARIES_AT_ONCE).map(({ canary }) => canary);
      if (newest.length === 0) return;
      const [first] = remains(organism, machineOf(organism), replica.guestView(), newest);
      if (first === undefined) return;
      const what = `${first.kind} ${toHex(first.bytes.subarray(0, 16))}…`;
      throw new Broken(name, `${organism}: ${what} is in what guests are given at position ${position}`);
    },
  };
}

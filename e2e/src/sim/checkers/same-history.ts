/** I5: any two members' logs are the same as far as both have read, and a member reads them in order. */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { Broken, type Checker, type Place } from "../observer.ts";

export function sameHistory(): Checker {
  const name = "same history";
  const heads = new Map<Organism, Map<bigint, Uint8Array>>();
  /** By process: each has a place of its own. */
  const positions = new Map<Place, bigint>();
  return {
    name,
    applied(place, { position, head }) {
      const { organism, index, run } = place;
      const before = positions.get(place);
      positions.set(place, position);
      if (before !== undefined && position !== before + 1n) {
        throw new Broken(name, `${organism}/${index}#${run} went from position ${before} to ${position}`);
      }
      const known = heads.get(organism) ?? new Map<bigint, Uint8Array>();
      heads.set(organism, known);
      const first = known.get(position);
      if (first === undefined) known.set(position, head);
      else if (first !== head && !equalBytes(first, head)) {
        throw new Broken(name, `${organism}/${index}#${run} has another chain head at position ${position}`);
      }
    },
  };
}

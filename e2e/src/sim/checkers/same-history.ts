/** I5: any two members' logs are the same as far as both have read, and a member reads them in order. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { Broken, type Checker } from "../observer.ts";

export function sameHistory(): Checker {
  const name = "same history";
  const heads = new Map<string, string>();
  const positions = new Map<string, bigint>();
  return {
    name,
    applied({ organism, index, run }, replica) {
      const member = `${organism}/${index}#${run}`;
      const before = positions.get(member);
      positions.set(member, replica.position);
      if (before !== undefined && replica.position !== before + 1n) {
        throw new Broken(name, `${member} went from position ${before} to ${replica.position}`);
      }
      const key = `${organism} ${replica.position}`;
      const head = toHex(replica.head);
      const known = heads.get(key);
      if (known === undefined) heads.set(key, head);
      else if (known !== head)
        throw new Broken(name, `${member} has another chain head at position ${replica.position}`);
    },
  };
}

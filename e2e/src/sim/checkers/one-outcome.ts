/** I3: one outcome per stage and slot, whoever decides it, whenever; and a decided slot stays decided. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { hashBytes } from "@lattice/organism/crypto/hash.ts";
import type { Decision } from "@lattice/organism/machine.ts";
import { Broken, type Checker } from "../observer.ts";

const EMPTY = new Uint8Array();

export function decisionName({
  kind,
  commitment,
  bodyHash,
}: Pick<Decision, "kind" | "commitment" | "bodyHash">): string {
  return `${kind} ${toHex(hashBytes("sim/decision", commitment))} ${toHex(bodyHash ?? EMPTY)}`;
}

export function oneOutcome(): Checker {
  const name = "one outcome per stage and slot";
  const decisions = new Map<string, string>();
  const taken = new Map<string, bigint>();
  return {
    name,
    decided({ organism, index, run }, decision, stands, { position }) {
      if (!stands) return;
      const { stage, slot } = decision;
      const key = `${organism}/${stage}/${slot}`;
      const own = `${key} ${index}#${run}`;
      const before = taken.get(own);
      if (before !== undefined && before !== position) {
        throw new Broken(name, `${key}: ${index} decided it at position ${before} and at ${position}`);
      }
      taken.set(own, position);
      const said = decisionName(decision);
      const known = decisions.get(key);
      if (known === undefined) decisions.set(key, said);
      else if (known !== said) throw new Broken(name, `${key}: ${known} and, on member ${index}, ${said}`);
    },
  };
}

/**
 * Minor rule versions inside a family: what `apply` does may change without a new lattice, because members agree in the
 * log from which position on it does. Pure.
 *
 * Each process says once per incarnation up to which version it can follow. As soon as a quorum says v or more, state
 * records "v from position p", `ACTIVATION_ENTRIES` ahead. Whoever cannot follow knows it from then on, and stops after
 * position p − 1. At p the quorum must still stand; otherwise the plan lapses, and is made again when it stands again.
 * So no version ever governs that fewer than a quorum of speaking members can follow, and up to p all builds are alike.
 */
import { count, type Infer, optional, struct, text, u64 } from "../codec/codec.ts";

/** Which versions a build can follow, both ends included. */
export interface RuleRange {
  readonly lowest: number;
  readonly highest: number;
}

/** The rules that every log begins with. */
export const FIRST_RULES = 1;
/** What this build can follow. A new version is one more, and has a line in docs/protocol/rules.md. */
export const RULES: RuleRange = { lowest: 1, highest: 7 };
/** How many entries lie between the quorum and the first entry under the new rules: time to see who is left behind. */
export const ACTIVATION_ENTRIES = 64n;

/**
 * From here on, log time counts each member's newest clock. Before, it counted the furthest one that the member ever had:
 * once two of three had been ahead, though never both at a time, log time was ahead as well and stayed there.
 */
export const NEWEST_CLOCKS = 2;

/**
 * From here on, shares are taken without a look until there are enough of them; then their combination is looked at once,
 * and the single ones only when it is no certificate. Before, each was verified as it came.
 */
export const SHARES_TOGETHER = 3;

/**
 * From here on a roster may have another number of members and another sealing threshold than the one before. A slot's
 * quorum is that of its epoch; clocks count of members of the epoch in force only.
 */
export const OTHER_SIZES = 4;

/**
 * From here on a roster may begin an era, which is to say name a new certificate key, and members tell each other in the
 * log of eras that have begun upstream (eras.ts).
 */
export const ERAS = 5;

/**
 * From here on a proof of two entries counts against whoever sits where it says, also when its roster is of an era that is
 * over and forgotten (fraud.ts). Before, it is refused.
 */
export const PROOFS_BY_SEAT = 6;

/**
 * From here on a close waits for what f + 1 different members list, and what was listed for decided slots is forgotten
 * (closes.ts). Before, whoever listed an input f + 1 times made all wait for it.
 */
export const LISTED_ONCE = 7;

/** A build's name, for people. */
export const BUILD = text(32);

const PLAN = struct({ version: count, from: u64 });
/** A version that governs from `from` on, if a quorum still says that it can follow. */
export type RulePlan = Infer<typeof PLAN>;

export const RULES_STATE = struct({
  /** What governs the last entry applied. */
  active: count,
  /** The first position that it governed; 0: from the beginning. */
  since: u64,
  next: optional(PLAN),
});
export type RulesState = Infer<typeof RULES_STATE>;

/** What one member's process says of itself. */
export const RULES_SAID = struct({ highest: count, build: BUILD });
export type RulesSaid = Infer<typeof RULES_SAID>;

/** The log goes on by rules that this build does not have: it must stop rather than guess. */
export class RulesUnknown extends Error {
  override readonly name = "RulesUnknown";
  readonly reason = "RULES_UNKNOWN";
  /** The version that is needed. */
  readonly version: number;

  /** @param from the first position that it governs, when that is known */
  constructor(version: number, speaks: RuleRange, from: bigint | undefined, builds: readonly string[] = []) {
    const where = from === undefined ? "" : ` from position ${from} on`;
    const known = builds.length === 0 ? "" : ` (members run ${builds.join(", ")})`;
    super(
      `rules ${version} govern${where}, this build speaks ${speaks.lowest} to ${speaks.highest}: ` +
        `install one that speaks ${version}${known}`,
    );
    this.version = version;
  }
}

export function speaks({ lowest, highest }: RuleRange, version: number): boolean {
  return version >= lowest && version <= highest;
}

/**
 * The highest version above `active` that at least `quorum` of these say they can follow.
 * @param said what each member that counts says; 0 for nothing
 */
export function agreedRules(said: readonly number[], quorum: number, active: number): number | undefined {
  const agreed = [...said].sort((a, b) => b - a)[quorum - 1] ?? 0;
  return agreed > active ? agreed : undefined;
}

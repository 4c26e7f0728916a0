/** Before an era begins: do all other committees know what one is? Whoever is downstream would stop following. */
import { faultsTolerated } from "@lattice/organism/committee/quorum.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { askCommittee } from "./committee-view.ts";
import { rulesProblem } from "./proposal.ts";

/** Asks the committees but `organism`. @returns what is against it, one line for each committee */
export async function followProblems(
  config: LatticeConfig,
  organism: Organism,
  addresses: { readonly [O in Organism]: readonly string[] },
): Promise<string[]> {
  const problems = await Promise.all(
    ORGANISMS.filter((each) => each !== organism).map(async (each) => {
      const faults = faultsTolerated(config[each].policy, addresses[each].length);
      return rulesProblem(each, await askCommittee(config, each, addresses[each]), faults) ?? [];
    }),
  );
  return problems.flat();
}

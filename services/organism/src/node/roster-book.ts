/**
 * The rosters of all six committees as this process knows them: the kit's, and those that followed. Rosters are
 * certified under keys that the lattice config pins, so whoever hands them over need not be trusted.
 */

import { rosterAt } from "../committee/epochs.ts";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import { checkRoster, type Roster } from "../committee/roster.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import { fromWireOutcome } from "./committee-wire.ts";
import type { CommitteeClient, Endpoints } from "./outcome-follower.ts";

/** Rosters of one committee that are kept; the newest. */
const KEPT = 16;
const ASK_DEADLINE_MS = 3000;

export interface RosterBookOptions {
  readonly config: LatticeConfig;
  /** The kit's. */
  readonly rosters: { readonly [O in Organism]: Roster };
  readonly log: Logger;
}

/** Which roster a slot belongs to. */
export interface RosterView {
  at(organism: Organism, slot: bigint): Roster;
}

/** One roster for all slots. */
export function lastingRosters(rosters: { readonly [O in Organism]: Roster }): RosterView {
  return { at: (organism) => rosters[organism] };
}

export class RosterBook implements RosterView {
  readonly #options: RosterBookOptions;
  readonly #known: Record<Organism, Roster[]>;

  constructor(options: RosterBookOptions) {
    this.#options = options;
    const first = ORGANISMS.map((organism): [Organism, Roster[]] => [organism, [options.rosters[organism]]]);
    this.#known = Object.fromEntries(first) as Record<Organism, Roster[]>;
  }

  /** The roster of an organism for a slot, as far as it is known here. */
  at(organism: Organism, slot: bigint): Roster {
    return rosterAt(this.#known[organism], slot);
  }

  /** The newest roster known here; its slots may be to come. */
  newest(organism: Organism): Roster {
    const newest = this.#known[organism].at(-1);
    if (newest === undefined) throw new RangeError("a committee has a roster");
    return newest;
  }

  /** True when it is a roster of that organism, newer than all that were known. */
  learn(organism: Organism, certified: CertifiedOutcome): boolean {
    const known = this.#known[organism];
    const newest = known.at(-1);
    if (newest !== undefined && certified.outcome.epoch <= newest.epoch) return false;
    const checked = checkRoster(this.#options.config, organism, certified);
    if ("problem" in checked) {
      this.#options.log.warn("a roster that does not stand was passed over", {
        organism,
        problem: checked.problem,
      });
      return false;
    }
    if (newest !== undefined && checked.roster.activationSlot <= newest.activationSlot) return false;
    known.push(checked.roster);
    if (known.length > KEPT) known.shift();
    return true;
  }

  /** Asks one member of each of `organisms` for its rosters; `turn` picks the member. */
  async ask(
    organisms: readonly Organism[],
    turn: number,
    endpoints: () => Endpoints,
    client: (organism: Organism, address: string) => CommitteeClient,
  ): Promise<void> {
    await Promise.all(
      organisms.map(async (organism) => {
        try {
          const addresses = endpoints()[organism];
          const address = addresses[turn % Math.max(addresses.length, 1)];
          if (address === undefined) return;
          const { rosters } = await client(organism, address).getRosters({}, { deadlineMs: ASK_DEADLINE_MS });
          for (const wire of rosters) {
            const certified = fromWireOutcome(wire);
            if (certified !== undefined) this.learn(organism, certified);
          }
        } catch (error) {
          this.#options.log.debug("no rosters from a member", { organism, ...errorFields(error) });
        }
      }),
    );
  }
}

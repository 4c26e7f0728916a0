/** What holds of certificate keys that follow one another (docs/protocol/eras.md), as checkers. */
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { Broken } from "../observer.ts";
import { eraLinks } from "./epochs.ts";
import type { LogChecker } from "./observer.ts";
import type { LogWorld } from "./world.ts";

/** Slots that a member has to look for shares of an epoch that it has just forgotten. */
const ERASED_AFTER_SLOTS = 4n;

/** The key of a slot's era certifies it, and no other: neither the one before after the border, nor the next one before it. */
function ownEra(world: () => LogWorld): LogChecker {
  const name = "a slot is certified in its own era";
  /** Epochs whose eras have begun: a log that cannot forget says so, or a certificate of such an era is there. */
  const begun = new Set<bigint>();
  const judge = (outcome: Outcome, by: string): void => {
    const { epoch, slot, stage } = outcome;
    for (const { roster } of eraLinks(world().epochs)) {
      const { epoch: first, activationSlot: border } = roster;
      const wrong = epoch >= first ? slot < border : slot >= border && begun.has(first);
      if (!wrong) continue;
      throw new Broken(name, `${by}: ${stage} of slot ${slot} in epoch ${epoch}; an era begins with ${border}`);
    }
  };
  return {
    name,
    applied({ honest }, replica) {
      if (!honest || world().epochs.length === 1 || world().lies.length > 0) return;
      for (const { link, epoch } of replica.eras()) if (link !== undefined) begun.add(epoch);
    },
    certified({ run }, { outcome }) {
      for (const { roster } of eraLinks(world().epochs)) if (roster.epoch <= outcome.epoch) begun.add(roster.epoch);
      judge(outcome, run);
    },
    finished(each) {
      for (const { outcome } of each.certificates.values()) judge(outcome, "somebody");
    },
  };
}

/** log.md §7: what a member holds of an epoch goes with it, so that nobody can collect it later. */
function erased(): LogChecker {
  const name = "shares of an epoch that is over are erased";
  return {
    name,
    finished(world) {
      for (const { honest, name: by, replica, keys } of world.ready) {
        const [oldest] = replica?.rosters ?? [];
        if (!honest || replica === undefined || oldest === undefined) continue;
        if (replica.collapsedBelow < oldest.activationSlot + ERASED_AFTER_SLOTS) continue;
        const [held] = keys.epochs;
        if (held !== undefined && held < oldest.epoch) throw new Broken(name, `${by} holds those of epoch ${held}`);
      }
    },
  };
}

export function eraCheckers(world: () => LogWorld): readonly LogChecker[] {
  return [ownEra(world), erased()];
}

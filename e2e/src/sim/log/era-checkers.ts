/** What holds of certificate keys that follow one another (docs/protocol/eras.md), as checkers. */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { Broken } from "../observer.ts";
import { eraLinks } from "./epochs.ts";
import type { LogChecker, LogReplica } from "./observer.ts";
import type { LogMember, LogWorld } from "./world.ts";

/** How long a disk, however slow, may take to keep what it is given. */
const KEPT_AFTER_MS = 1000;
/** How many borders a member was beyond, and how often it had forgotten something by then. */
interface Standing {
  readonly borders: number;
  readonly forgot: number;
}
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

/**
 * What a key that is over certifies stands for nobody whose own log is beyond its era: no other beginning of an era, no
 * state, no generation. Whoever was away since before the border, or has forgotten it, has only others' words until a
 * checkpoint is certified in the new era.
 */
function overIsOver(world: () => LogWorld): LogChecker {
  const name = "a key that is over is believed by nobody";
  const beyond = new Map<LogMember, Standing>();
  /** By process: what it stands beyond, until it has had the time to keep that in mind. */
  const young = new Map<string, Standing & { readonly atMs: number }>();
  const bordersBefore = (epoch: bigint): number =>
    eraLinks(world().epochs).filter(({ roster }) => roster.epoch <= epoch).length;
  const chains = new WeakMap<LogReplica, number>();
  return {
    name,
    applied({ honest, host, run }, replica) {
      if (!honest || world().epochs.length === 1) return;
      // From the thief's hands or from somebody's who has believed them.
      const stolen = host.disk.snapshots.find((each) => world().thief.has(each));
      if (stolen !== undefined) {
        world().misled(host, stolen.checkpoint);
        return;
      }
      const eras = replica.eras();
      if (eras.length === 1) return;
      if (chains.get(replica) !== eras.length) {
        chains.set(replica, eras.length);
        const dealt = eraLinks(world().epochs);
        for (const { link, number, key } of eras) {
          if (link === undefined || dealt.some(({ certificateKey }) => equalBytes(certificateKey, key))) continue;
          throw new Broken(name, `${run}: era ${number} begins with a roster under a key that was over`);
        }
      }
      const { forgot } = host;
      const borders = bordersBefore(replica.roster.epoch);
      const since = young.get(run);
      const atMs = world().time.nowMs;
      const before = beyond.get(host);
      const further = before?.forgot !== forgot || before.borders < borders;
      if (since?.borders !== borders || since.forgot !== forgot) young.set(run, { borders, forgot, atMs });
      else if (further && atMs > since.atMs + KEPT_AFTER_MS && !host.wasFull) beyond.set(host, { borders, forgot });
    },
    stolen(host, { epoch, generation, position }) {
      const stands = beyond.get(host);
      if (!host.honest || stands?.forgot !== host.forgot || bordersBefore(epoch) >= stands.borders) return;
      throw new Broken(name, `${host.name} goes on from a state of position ${generation}/${position}`);
    },
  };
}

export function eraCheckers(world: () => LogWorld): readonly LogChecker[] {
  return [ownEra(world), overIsOver(world), erased()];
}

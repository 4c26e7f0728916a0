/**
 * Which epoch a committee is due, if any: a refresh on the schedule, with another certificate key now and then, or the replacement of a seat whose key was proven to
 * say two things. A function of what is certified, of the slot that runs and of the standbys, so that stewards who know
 * the same come to the same succession, to the byte, without talking. Pure.
 */
import type { Succession } from "@lattice/organism/ceremony/succession.ts";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { ERAS_MAX, eraNumberOf, newestEra } from "@lattice/organism/committee/eras.ts";
import type { CommitteeView } from "./committee-view.ts";
import { earliestActivation, propose } from "./proposal.ts";
import { type Standby, standbyOf } from "./standby.ts";

/** In slots; the same for every steward of a committee. */
export interface Schedule {
  /** Fresh shares at every multiple of it; never when left out. */
  readonly refreshEvery?: bigint;
  /** The first refresh at or after every multiple of it begins an era; never when left out. */
  readonly eraEvery?: bigint;
  /** How long stewards may come one after the other. */
  readonly gather: bigint;
  /** What a ceremony and its announcement may take after that. */
  readonly ceremony: bigint;
}

export interface Facts {
  readonly view: CommitteeView;
  /** Member keys, hex, that a fraud proof stands against. */
  readonly proven: ReadonlySet<string>;
  /** Those that were known before their seat was blocked. */
  readonly standbys: readonly Standby[];
  /** The slot that runs now. */
  readonly nowSlot: bigint;
}

export type Due =
  | { readonly type: "nothing" }
  | {
      readonly type: "waiting";
      readonly why: "refresh" | "blocked";
      readonly problems: readonly string[];
      /** Seats that nobody stands by for. */
      readonly missing: readonly number[];
    }
  | {
      readonly type: "epoch";
      readonly why: "refresh" | "blocked";
      /** The seat that its standby takes. */
      readonly replaced: number | undefined;
      readonly succession: Succession;
    };

/** From its last call on a ceremony begins with whoever is there; from its end on its roster would come too late. */
export function limitsOf(
  { config, activationSlot }: Pick<Succession, "config" | "activationSlot">,
  { ceremony }: Schedule,
): { readonly lastCall: bigint; readonly end: bigint } {
  const end = activationSlot - earliestActivation(config.pipelineDepth, 1n);
  return { lastCall: end - ceremony, end };
}

/** The first multiple of `grid` whose last call is to come. */
function nextActivation(grid: bigint, pipelineDepth: number, { ceremony }: Schedule, nowSlot: bigint): bigint {
  const soonest = nowSlot + earliestActivation(pipelineDepth, 1n) + ceremony + 1n;
  return ((soonest + grid - 1n) / grid) * grid;
}

/** @param activation instead of the next one: an attempt that has begun */
export function dueEpoch(facts: Facts, schedule: Schedule, activation?: bigint): Due {
  return facts.view.seats.some(({ blocked }) => blocked)
    ? dueReplacement(facts, schedule, activation)
    : dueRefresh(facts, schedule, activation);
}

function dueReplacement(
  { view, proven, standbys, nowSlot }: Facts,
  schedule: Schedule,
  activation: bigint | undefined,
): Due {
  const why = "blocked";
  const blocked = view.seats.filter((seat) => seat.blocked);
  const convicted = blocked.filter(({ memberKey }) => proven.has(toHex(memberKey)));
  if (convicted.length === 0) {
    const seats = blocked.map(({ index }) => index).join(", ");
    return {
      type: "waiting",
      why,
      problems: [`member ${seats} is called blocked, and nobody shows a proof`],
      missing: [],
    };
  }
  const judged = convicted.map(({ index }) => ({ index, ...standbyOf(view.roster, index, standbys) }));
  const problems = judged.flatMap((each) => ("problem" in each ? each.problem : []));
  const missing = judged.flatMap((each) => ("problem" in each ? each.index : []));
  // One seat at a time: the first that somebody stands by for.
  for (const each of judged) {
    if ("problem" in each) continue;
    const { member } = each.standby;
    if (proven.has(toHex(member.memberKey))) {
      problems.push(`the standby of seat ${each.index} has said two things itself`);
      continue;
    }
    const proposed = propose(view, {
      replace: each.index,
      with: member,
      activationSlot: activation ?? nextActivation(schedule.gather, view.config.pipelineDepth, schedule, nowSlot),
      nowSlot,
    });
    if ("succession" in proposed) return { type: "epoch", why, replaced: each.index, succession: proposed.succession };
    problems.push(...proposed.problems);
  }
  return { type: "waiting", why, problems, missing };
}

/** Also when the refresh that should have begun it came to nothing: the next one does. */
function eraIsDue({ eras, roster }: CommitteeView, { eraEvery }: Schedule, activationSlot: bigint): boolean {
  if (eraEvery === undefined || eraNumberOf(roster) >= ERAS_MAX) return false;
  return activationSlot / eraEvery > newestEra(eras).fromSlot / eraEvery;
}

function dueRefresh({ view, nowSlot }: Facts, schedule: Schedule, activation: bigint | undefined): Due {
  const { refreshEvery } = schedule;
  if (refreshEvery === undefined) return { type: "nothing" };
  const { config } = view;
  const activationSlot = activation ?? nextActivation(refreshEvery, config.pipelineDepth, schedule, nowSlot);
  const { lastCall } = limitsOf({ config, activationSlot }, schedule);
  const begun = nowSlot + schedule.gather >= lastCall;
  if (!begun || view.roster.activationSlot >= activationSlot) return { type: "nothing" };
  const newEra = eraIsDue(view, schedule, activationSlot);
  const proposed = propose(view, { replace: undefined, with: undefined, activationSlot, nowSlot, newEra });
  if ("succession" in proposed) {
    return { type: "epoch", why: "refresh", replaced: undefined, succession: proposed.succession };
  }
  return { type: "waiting", why: "refresh", problems: proposed.problems, missing: [] };
}

/**
 * What a committee's next roster may be, judged before anybody deals a share: one member at a time, only while the
 * committee is healthy, and nothing that the lattice id or the settlement contract fixes. Pure.
 */
import type { FoundingMember } from "@lattice/organism/ceremony/founding.ts";
import type { Succession } from "@lattice/organism/ceremony/succession.ts";
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { sizeBound } from "@lattice/organism/committee/epochs.ts";
import { ERAS_MAX, eraNumberOf } from "@lattice/organism/committee/eras.ts";
import { sealingThreshold } from "@lattice/organism/committee/roster.ts";
import { ERAS } from "@lattice/organism/committee/rules.ts";
import { WINDOW_AHEAD } from "@lattice/organism/committee/state.ts";
import { isSigningPublicKey } from "@lattice/organism/crypto/ed25519.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { type Answer, type CommitteeView, isCalledBlocked } from "./committee-view.ts";

/** Refused, and where to read on. */
export const RETIRE = "that takes another lattice: docs/operators.md, “What an epoch cannot change”";
/** Slots that a committee may be behind the clock and still be called healthy. */
const BEHIND_MAX = 64n;
/** Sealing keys serve until an epoch replaces them. */
const NO_LAST_SLOT = (1n << 63n) - 1n;

export interface ProposalRequest {
  /** The seat to be taken by somebody else; undefined: the same members with fresh shares. */
  readonly replace: number | undefined;
  /** Public half of whoever takes it, or the further one. */
  readonly with: FoundingMember | undefined;
  /** One seat more, at the end, or the last one given up. */
  readonly seats?: "add" | "drop";
  /** Shares that open a slot from then on (unseal, offer). */
  readonly sealingThreshold?: number;
  /** The epoch begins an era: another certificate key. */
  readonly newEra?: boolean;
  readonly activationSlot: bigint;
  /** The slot that runs now. */
  readonly nowSlot: bigint;
}

/** The first slot that an epoch may begin with when its roster is in the log during `slot`. */
export function earliestActivation(pipelineDepth: number, slot: bigint): bigint {
  const depth = BigInt(pipelineDepth);
  return slot + (depth > WINDOW_AHEAD ? depth : WINDOW_AHEAD) + 1n;
}

/** Why nothing may be changed now, as readable lines; empty while the committee is healthy. @param leaving the seat given up */
export function healthProblems(view: CommitteeView, leaving: number | undefined, nowSlot: bigint): string[] {
  const problems: string[] = [];
  const { roster, seats, decidedSlot, quorum } = view;
  if (roster.activationSlot > decidedSlot) {
    problems.push(
      `epoch ${roster.epoch} begins with slot ${roster.activationSlot}, which is not decided yet: one at a time`,
    );
  }
  if ([...view.knownBy.keys()].some((epoch) => epoch > roster.epoch)) {
    problems.push(`some members know a roster after epoch ${roster.epoch}: wait until all do`);
  }
  if (nowSlot - decidedSlot > BEHIND_MAX) {
    problems.push(`slot ${decidedSlot} is the last one decided, ${nowSlot} runs: the committee stands still`);
  }
  for (const { index, blocked, problem } of seats) {
    if (problem === undefined || index === leaving || blocked) continue;
    problems.push(`member ${index} is away (${problem}): bring it back first`);
  }
  const staying = seats.filter(({ index, live, blocked }) => live && !blocked && index !== leaving).length;
  if (staying < quorum.quorum) {
    problems.push(`${staying} members stay and speak, a quorum is ${quorum.quorum}`);
  }
  const blocked = seats.filter((seat) => seat.blocked).map(({ index }) => index);
  if (blocked.length > 0 && (leaving === undefined || !blocked.includes(leaving))) {
    problems.push(`member ${blocked.join(", ")} is blocked for saying two things: replace it first`);
  }
  return problems;
}

/** The seat that must be replaced before anything else: one whose key is blocked. */
export function seatToReplace(view: CommitteeView): number | undefined {
  return view.seats.find(({ blocked }) => blocked)?.index;
}

function newcomerProblems(view: CommitteeView, seat: number, newcomer: FoundingMember, adds: boolean): string[] {
  const { config, organism, roster, answers, quorum } = view;
  const problems: string[] = [];
  // A further seat is like any other in what it holds.
  const before = roster.members[adds ? 0 : seat];
  if (before === undefined) return [`${organism} has members 0 to ${roster.members.length - 1}, no member ${seat}`];
  for (const { index, memberKey, boxKey } of roster.members) {
    if (equalBytes(memberKey, newcomer.memberKey)) problems.push(`member ${index} has that member key already`);
    if (equalBytes(boxKey, newcomer.boxKey)) problems.push(`member ${index} has that box key already`);
  }
  if (!isSigningPublicKey(newcomer.memberKey)) problems.push("its member key is not an Ed25519 public key");
  if (isCalledBlocked(answers, quorum, newcomer.memberKey)) {
    problems.push("that member key was proven to say two things, and nothing is taken from it: it needs another");
  }
  const hex = (bytes: Uint8Array | undefined): string => (bytes === undefined ? "none" : toHex(bytes));
  if (hex(newcomer.signer) !== hex(before.signer)) {
    problems.push(
      `signer ${hex(newcomer.signer)}: the settlement contract knows ${hex(before.signer)} for member ${seat} (ceremony member --keep keeps it); ${RETIRE}`,
    );
  }
  const operator = organism === "zipnet" ? config.zipnet.content.operators[seat] : undefined;
  if (newcomer.operator !== undefined && hex(newcomer.operator) !== hex(operator)) {
    problems.push(
      `operator ${hex(newcomer.operator)}: the lattice id fixes ${hex(operator)} for member ${seat} (ceremony member --keep keeps it); ${RETIRE}`,
    );
  }
  return problems;
}

/** What keeps a committee from having `count` members, or the sealing threshold that was asked for. */
function sizeProblems({ config, organism, roster }: CommitteeView, request: ProposalRequest, count: number): string[] {
  const { seats, with: newcomer, replace } = request;
  const problems: string[] = [];
  if (seats !== undefined) {
    const bound = sizeBound(organism, roster.members.length);
    if (bound !== undefined) problems.push(`${bound}; ${RETIRE}`);
    const { membersMin, membersMax } = config[organism].policy;
    if (count < membersMin || count > membersMax) {
      problems.push(`${count} members: the lattice id fixes ${membersMin} to ${membersMax}; ${RETIRE}`);
    }
    if (replace !== undefined) problems.push("a seat is replaced, added or given up: one at a time");
    if ((seats === "add") !== (newcomer !== undefined)) {
      problems.push(
        seats === "add"
          ? "whoever takes the further seat makes its keys first"
          : "nobody takes a seat that is given up",
      );
    }
  }
  const seals = organism === "unseal" || organism === "offer";
  if (!seals) {
    if (request.sealingThreshold !== undefined) problems.push(`${organism} seals nothing: it has no threshold`);
    return problems;
  }
  const least = config[organism].content.threshold;
  const threshold = request.sealingThreshold ?? sealingThreshold(config, organism, roster);
  if (threshold < least || threshold > count) {
    problems.push(`sealing threshold ${threshold}: ${least} (the lattice config's) to ${count} (all members)`);
  }
  return problems;
}

/**
 * Why a committee cannot be said to go by rules that know of eras; undefined when it does. Rules are part of its log: when
 * f + 1 members say which govern, an honest one does, and who lags or lies says nothing against it.
 */
export function rulesProblem(organism: Organism, answers: readonly Answer[], faults: number): string | undefined {
  const said = answers.filter(({ problem, rules }) => problem === undefined && rules !== undefined);
  if (said.filter(({ rules = 0 }) => rules >= ERAS).length > faults) return undefined;
  if (said.length === 0) return `${organism}: nobody answers, so nobody says whether it can follow an era`;
  const each = said.map(({ index, rules }) => `member ${index} rules ${rules}`).join(", ");
  return `${organism}: ${each}; ${ERAS} are needed, as f + 1 members say`;
}

/** What keeps a committee from another certificate key. */
function eraProblems({ organism, answers, roster, quorum }: CommitteeView): string[] {
  const behind = rulesProblem(organism, answers, quorum.faults);
  const problems = behind === undefined ? [] : [behind];
  if (eraNumberOf(roster) >= ERAS_MAX) problems.push(`${organism} has had ${ERAS_MAX} eras: there are no more`);
  return problems;
}

/** The agreed terms of the next ceremony, or every reason against it. */
export function propose(
  view: CommitteeView,
  request: ProposalRequest,
): { readonly succession: Succession } | { readonly problems: readonly string[] } {
  const { roster, config, organism } = view;
  const { with: newcomer, activationSlot, nowSlot, seats, sealingThreshold: threshold } = request;
  const last = roster.members.length - 1;
  const replace = seats === undefined ? request.replace : undefined;
  const problems = healthProblems(view, seats === "drop" ? last : replace, nowSlot);
  const count = roster.members.length + (seats === "add" ? 1 : seats === "drop" ? -1 : 0);
  problems.push(...sizeProblems(view, request, count));
  if (seats === undefined && (replace === undefined) !== (newcomer === undefined)) {
    problems.push(
      replace === undefined
        ? "a newcomer needs a seat: which member does it replace?"
        : `whoever takes the seat of member ${replace} makes its keys first: builder ceremony member, then --with`,
    );
  }
  const taken = seats === "add" ? last + 1 : replace;
  if (taken !== undefined && newcomer !== undefined)
    problems.push(...newcomerProblems(view, taken, newcomer, seats === "add"));
  const earliest = earliestActivation(config.pipelineDepth, nowSlot);
  if (activationSlot < earliest) {
    problems.push(`slot ${activationSlot} is too near: ${earliest} at the earliest, and the ceremony takes its time`);
  }
  if (request.newEra === true) problems.push(...eraProblems(view));
  if (problems.length > 0) return { problems };
  const stay = seats === "drop" ? roster.members.slice(0, last) : roster.members;
  const members = stay.map((member, index) => {
    const { memberKey, boxKey, signer } = index === replace && newcomer !== undefined ? newcomer : member;
    return { memberKey, boxKey, ...(signer === undefined ? {} : { signer }) };
  });
  if (seats === "add" && newcomer !== undefined) members.push(newcomer);
  const stated = {
    ...(threshold === undefined ? {} : { sealingThreshold: threshold }),
    ...(request.newEra === true ? { newEra: true } : {}),
  };
  return {
    succession: { config, organism, from: roster, members, activationSlot, sealingUntilSlot: NO_LAST_SLOT, ...stated },
  };
}

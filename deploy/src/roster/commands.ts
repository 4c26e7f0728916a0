/** What `builder roster …` does. Every function returns the exit code; data goes to stdout, everything else to stderr. */
import { existsSync, readFileSync } from "node:fs";
import { ceremonyId } from "@lattice/organism/ceremony/plan.ts";
import { type Succession, successionPlan } from "@lattice/organism/ceremony/succession.ts";
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { certificateKeyOf, type Eras, eraNumberOf } from "@lattice/organism/committee/eras.ts";
import { type CertifiedOutcome, checkOutcome } from "@lattice/organism/committee/outcome.ts";
import { ROSTER_STAGE, type Roster, rosterQuorum } from "@lattice/organism/committee/roster.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { committeeId, latticeId, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { fromWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import {
  readCertifiedRosters,
  readConfig,
  readEndpoints,
  readEras,
  readRosters,
  rostersToJson,
} from "@lattice/organism/node/kit.ts";
import { connectAny } from "@lattice/organism/rpc/client.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { readably, say } from "../ceremony/commands.ts";
import { memberFromJson, PUBLIC_MEMBER, parseFile } from "../ceremony/founding-file.ts";
import { CeremonyProblem } from "../ceremony/member-folder.ts";
import { readSuccession, successionToJson } from "../ceremony/reshare.ts";
import { UsageProblem } from "../cli/expected.ts";
import { writeWhole } from "../cli/whole-file.ts";
import { askCommittee, type CommitteeView, judgeCommittee } from "./committee-view.ts";
import { followProblems } from "./followers.ts";
import { healthProblems, propose, seatToReplace } from "./proposal.ts";

export interface RosterOptions {
  readonly config: string;
  readonly endpoints: string;
  readonly organism: Organism;
  readonly json: boolean;
}

/** @throws CeremonyProblem when too few members answer to say what the roster is */
export async function look({ config: file, endpoints, organism }: Omit<RosterOptions, "json">): Promise<CommitteeView> {
  await initCrypto();
  const config = readConfig(file);
  const view = judgeCommittee(
    config,
    organism,
    await askCommittee(config, organism, readEndpoints(endpoints)[organism]),
  );
  if ("problem" in view) throw new CeremonyProblem(view.problem);
  return view;
}

function viewToJson(view: CommitteeView, nowSlot: bigint, problems: readonly string[]) {
  const { roster, quorum, config } = view;
  return {
    lattice_id: toHex(latticeId(config)),
    organism: view.organism,
    certificate_key: toHex(certificateKeyOf(config, view.organism, roster)),
    era: eraNumberOf(roster),
    eras: view.eras.map(({ number, epoch, fromSlot, key }) => ({
      era: number,
      from_epoch: epoch.toString(),
      from_slot: fromSlot.toString(),
      certificate_key: toHex(key),
    })),
    epoch: roster.epoch.toString(),
    activation_slot: roster.activationSlot.toString(),
    now_slot: nowSlot.toString(),
    decided_slot: view.decidedSlot.toString(),
    ...(roster.sealingKey === undefined ? {} : { sealing_key: toHex(roster.sealingKey) }),
    members: quorum.members,
    quorum: quorum.quorum,
    margin: view.margin,
    healthy: problems.length === 0,
    problems,
    seats: view.seats.map(({ index, memberKey, address, live, blocked, problem }) => ({
      index,
      member_key: toHex(memberKey),
      address,
      live,
      blocked,
      ...(problem === undefined ? {} : { problem }),
    })),
  };
}

/** Shows the roster in force and whether it may be changed now. Exits 3 when it may not. */
export function showRoster(options: RosterOptions): Promise<number> {
  return readably(async () => {
    const view = await look(options);
    const nowSlot = slotAt(view.config, Date.now());
    const blocked = seatToReplace(view);
    const problems = healthProblems(view, blocked, nowSlot);
    const found = viewToJson(view, nowSlot, problems);
    if (options.json) process.stdout.write(`${JSON.stringify(found, null, 2)}\n`);
    else {
      const { epoch, activation_slot, margin, quorum } = found;
      const lines = [
        `${view.organism}: epoch ${epoch} from slot ${activation_slot}; ${found.members} members, quorum ${quorum}, margin ${margin}`,
        `slot ${nowSlot} runs, ${view.decidedSlot} is decided; certificate key ${found.certificate_key}, of era ${found.era}`,
        ...(found.sealing_key === undefined ? [] : [`sealing key ${found.sealing_key}`]),
        ...found.seats.map(
          ({ index, address, member_key, problem }) =>
            `  member ${index}  ${address}  ${member_key.slice(0, 16)}…  ${problem ?? "live"}`,
        ),
      ];
      process.stdout.write(`${lines.join("\n")}\n`);
    }
    for (const problem of problems) say(problem);
    if (blocked !== undefined) {
      say(
        `member ${blocked} must be replaced: builder roster propose --organism ${view.organism} --with <member.json> …`,
      );
    }
    return problems.length === 0 && blocked === undefined ? EXIT.ok : EXIT.degraded;
  });
}

export interface ProposeOptions extends RosterOptions {
  readonly replace?: number;
  readonly with?: string;
  readonly refresh: boolean;
  readonly add: boolean;
  readonly drop: boolean;
  readonly threshold?: number;
  readonly newEra: boolean;
  readonly activationSlot?: bigint;
  readonly inSlots: bigint;
  readonly everySlots?: bigint;
  readonly out: string;
}

/** When the epoch begins: named, so many slots ahead, or the next multiple at least that far ahead. */
export function activationOf(
  options: Pick<ProposeOptions, "activationSlot" | "inSlots" | "everySlots">,
  nowSlot: bigint,
): bigint {
  const { activationSlot, inSlots, everySlots } = options;
  if (activationSlot !== undefined) return activationSlot;
  const soonest = nowSlot + inSlots;
  return everySlots === undefined ? soonest : ((soonest + everySlots - 1n) / everySlots) * everySlots;
}

/** Writes the succession file of the next epoch, or says every reason why there can be none now. */
export function proposeRoster(options: ProposeOptions): Promise<number> {
  return readably(async () => {
    const others = [options.with !== undefined, options.drop].filter(Boolean).length;
    // An era alone is a refresh with another certificate key.
    const ways = others + (options.refresh || (options.newEra && others === 0) ? 1 : 0);
    if (ways !== 1 || (options.add && options.with === undefined)) {
      throw new UsageProblem(
        "one of: --with <member.json> (a seat changes hands), --add --with <member.json> (a further seat), --drop (the last seat goes), --refresh (fresh shares); --new-era with any of them, or alone",
      );
    }
    const seats = options.add ? "add" : options.drop ? "drop" : undefined;
    const view = await look(options);
    const nowSlot = slotAt(view.config, Date.now());
    const newcomer = options.with === undefined ? undefined : parseFile(PUBLIC_MEMBER, options.with, "member");
    if (newcomer?.organism !== undefined && newcomer.organism !== view.organism) {
      throw new CeremonyProblem(`${options.with}: made for ${newcomer.organism}, not for ${view.organism}`);
    }
    const judged = propose(view, {
      replace: options.replace ?? (newcomer === undefined || options.add ? undefined : seatToReplace(view)),
      with: newcomer === undefined ? undefined : memberFromJson(newcomer),
      activationSlot: activationOf(options, nowSlot),
      nowSlot,
      ...(seats === undefined ? {} : { seats }),
      ...(options.threshold === undefined ? {} : { sealingThreshold: options.threshold }),
      ...(options.newEra ? { newEra: true } : {}),
    });
    if (options.newEra) {
      const behind = await followProblems(view.config, view.organism, readEndpoints(options.endpoints));
      if (behind.length > 0) throw new CeremonyProblem(behind.join("\n"));
    }
    if ("problems" in judged) throw new CeremonyProblem(judged.problems.join("\n"));
    const { succession } = judged;
    const text = successionToJson(succession, view.certified, view.links);
    if (existsSync(options.out) && readFileSync(options.out, "utf8") !== text) {
      throw new CeremonyProblem(`${options.out}: holds another proposal; it is not overwritten`);
    }
    writeWhole(options.out, text);
    process.stdout.write(`${JSON.stringify(planToJson(succession), null, 2)}\n`);
    return EXIT.ok;
  });
}

export interface KitOptions {
  readonly config: string;
  readonly endpoints: string;
  readonly rosters: string;
  readonly out: string;
}

/**
 * Writes a kit's rosters with the links of every era that f + 1 members of its committee tell of. Exits 3 when so few of a
 * committee answered that it may have begun an era that is missing.
 */
export function writeKit(options: KitOptions): Promise<number> {
  return readably(async () => {
    await initCrypto();
    const config = readConfig(options.config);
    const certified = readCertifiedRosters(options.rosters);
    const rosters = readRosters(options.rosters, config);
    const addresses = readEndpoints(options.endpoints);
    const kits = readEras(options.rosters, config);
    const watch = new EraWatch({ config, addresses: (organism) => addresses[organism], eras: kits });
    await Promise.all(ORGANISMS.map((organism) => watch.ask(organism)));
    writeWhole(options.out, rostersToJson(certified, watch.book.all));
    const eras = ORGANISMS.map((organism) => [organism, watch.of(organism).length - 1] as const);
    process.stdout.write(`${JSON.stringify({ eras: Object.fromEntries(eras) })}\n`);
    const unheard = ORGANISMS.filter((organism) => {
      const asked = new Set(addresses[organism]).size;
      const answered = watch.answered(organism);
      const needed = rosterQuorum(config, organism, rosters[organism]).faults + 1;
      if (answered < needed)
        say(`${organism}: ${answered} of ${asked} members answered, ${needed} are needed: an era may be missing`);
      return answered < needed;
    });
    return unheard.length === 0 ? EXIT.ok : EXIT.degraded;
  });
}

/** What operators compare before they take part. */
export function planToJson(succession: Succession) {
  const plan = successionPlan(succession);
  const { organism, from, members, activationSlot } = succession;
  const replaced = members.findIndex(
    ({ memberKey }, index) => !equalBytes(memberKey, from.members[index]?.memberKey ?? new Uint8Array()),
  );
  return {
    organism,
    ceremony: toHex(ceremonyId(plan)),
    epoch: (from.epoch + 1n).toString(),
    activation_slot: activationSlot.toString(),
    ...(replaced < 0 || replaced >= from.members.length ? {} : { replaced }),
    ...(succession.newEra === true ? { era: eraNumberOf(from) + 1 } : {}),
    members: members.length,
    keys: Object.fromEntries(
      plan.keys.map(({ name, threshold, source }) => [name, { threshold, kept: source.type === "reshare" }]),
    ),
    // Participant i uses the ceremony broker's participant-<i>.json.
    participants: plan.participants.map(toHex),
  };
}

export interface StatusOptions extends Omit<RosterOptions, "config" | "organism"> {
  readonly succession: string;
  readonly waitS: number;
}

interface Step {
  readonly step: "certified" | "announced" | "joined" | "active" | "healthy";
  readonly done: boolean;
  readonly detail: string;
}

/** How far a proposed epoch has come. Exits 0 when all of it is done, 3 while it is not, 1 when it never will be. */
export function rosterStatus(options: StatusOptions): Promise<number> {
  return readably(async () => {
    await initCrypto();
    const succession = readSuccession(options.succession);
    const until = Date.now() + options.waitS * 1000;
    for (;;) {
      const { steps, lost } = await stepsOf(succession, options.endpoints);
      const done = steps.every((step) => step.done);
      if (done || lost !== undefined || Date.now() >= until) {
        if (options.json) {
          process.stdout.write(`${JSON.stringify({ organism: succession.organism, done, steps }, null, 2)}\n`);
        } else for (const step of steps) say(`${step.done ? "✓" : "·"} ${step.step}: ${step.detail}`);
        if (lost === undefined) return done ? EXIT.ok : EXIT.degraded;
        say(lost);
        return EXIT.failed;
      }
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  });
}

const sameRoster = (roster: Roster, { from, members, activationSlot, newEra }: Succession): boolean =>
  roster.epoch === from.epoch + 1n &&
  eraNumberOf(roster) === eraNumberOf(from) + (newEra === true ? 1 : 0) &&
  roster.activationSlot === activationSlot &&
  roster.members.length === members.length &&
  roster.members.every(({ memberKey }, i) => equalBytes(memberKey, members[i]?.memberKey ?? new Uint8Array()));

async function stepsOf(
  succession: Succession,
  endpoints: string,
): Promise<{ readonly steps: readonly Step[]; readonly lost?: string }> {
  const { config, organism, from, activationSlot } = succession;
  const epoch = from.epoch + 1n;
  const addresses = readEndpoints(endpoints)[organism];
  const answers = await askCommittee(config, organism, addresses);
  const nowSlot = slotAt(config, Date.now());
  const view = judgeCommittee(config, organism, answers);
  const having = answers.filter(({ rosters = [] }) => rosters.some(({ roster }) => sameRoster(roster, succession)));
  const taken = "problem" in view ? undefined : view;
  const announced = taken !== undefined && sameRoster(taken.roster, succession);
  const steps: Step[] = [
    {
      step: "certified",
      done: having.length > 0,
      detail: `${having.length} of ${addresses.length} members have the roster of epoch ${epoch}`,
    },
    {
      step: "announced",
      done: announced,
      detail: announced ? "a quorum has taken it up" : "not yet taken up by a quorum",
    },
  ];
  if (announced) {
    const away = taken.seats.filter(({ live }) => !live).map(({ index, problem }) => `member ${index}: ${problem}`);
    steps.push({
      step: "joined",
      done: away.length === 0,
      detail: away.join("; ") || "every seat answers under its key of this epoch",
    });
    const first = nowSlot < activationSlot ? undefined : await firstOutcome(succession, addresses, taken.eras);
    const wait =
      nowSlot < activationSlot ? `begins with slot ${activationSlot}, ${nowSlot} runs` : "nothing certified in it yet";
    steps.push({
      step: "active",
      done: first !== undefined,
      detail:
        first === undefined
          ? wait
          : `slot ${first.slot} (${first.stage}) is certified in it, under ${succession.newEra === true ? "its own" : "the same"} key`,
    });
    const problems = healthProblems(taken, undefined, nowSlot);
    steps.push({
      step: "healthy",
      done: problems.length === 0,
      detail: problems.join("; ") || `margin ${taken.margin}`,
    });
    return { steps };
  }
  if (taken !== undefined && taken.roster.epoch >= epoch) {
    return { steps, lost: `${organism} is in epoch ${taken.roster.epoch} with another roster than this proposal's` };
  }
  if (nowSlot >= activationSlot) {
    return {
      steps,
      lost: `slot ${activationSlot} has passed before the roster was announced: propose again, further ahead`,
    };
  }
  return { steps };
}

const FIRST_OUTCOME_MS = 3000;

/** Something that the committee certified in the new epoch. */
async function firstOutcome(
  { config, organism, from, activationSlot }: Succession,
  addresses: readonly string[],
  eras: Eras,
): Promise<CertifiedOutcome["outcome"] | undefined> {
  const client = connectAny(CommitteeService, addresses, { committee: committeeId(config, organism) });
  try {
    const signal = AbortSignal.timeout(FIRST_OUTCOME_MS);
    for await (const { event } of client.watchOutcomes({ stage: "", fromSlot: activationSlot }, { signal })) {
      const certified = event.case === "outcome" ? fromWireOutcome(event.value) : undefined;
      if (certified === undefined) continue;
      const { outcome } = certified;
      const inside = outcome.stage !== ROSTER_STAGE && outcome.epoch > from.epoch && outcome.slot >= activationSlot;
      if (inside && checkOutcome(config, organism, certified, eras) === undefined) return outcome;
    }
  } catch {
    // Nobody says so yet.
  } finally {
    client.close();
  }
  return undefined;
}

/**
 * One operator's steward of one seat: watches the committee from outside, and when an epoch is due (steward-plan.ts) writes the
 * succession file and takes its member's part in the ceremony, as `roster propose` and `ceremony reshare` do when
 * somebody types them. Whatever it does follows from what is certified and from the files in its folders, so it may be
 * killed at any point.
 */
import { existsSync, lstatSync, readdirSync, realpathSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import type { Ceremony } from "@lattice/organism/ceremony/ceremony.ts";
import type { Phase } from "@lattice/organism/ceremony/message.ts";
import { ceremonyId } from "@lattice/organism/ceremony/plan.ts";
import { CeremonyInterrupted } from "@lattice/organism/ceremony/run-ceremony.ts";
import { type Succession, successionPlan } from "@lattice/organism/ceremony/succession.ts";
import { encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { eraNumberOf } from "@lattice/organism/committee/eras.ts";
import { ROSTER, type Roster } from "@lattice/organism/committee/roster.ts";
import { type LatticeConfig, slotAt, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { errorFields, type Logger } from "@lattice/organism/observe/logger.ts";
import type { Meters } from "@lattice/organism/observe/meters.ts";
import type { Clock } from "@lattice/organism/ports.ts";
import { parseFile } from "../ceremony/founding-file.ts";
import { CeremonyProblem } from "../ceremony/member-folder.ts";
import {
  holdsShareOf,
  readSuccession,
  rosterOfShares,
  signingKeyIn,
  successionToJson,
  takeShare,
} from "../ceremony/reshare.ts";
import { askCommittee, type CommitteeView, judgeCommittee } from "./committee-view.ts";
import { provenKeys } from "./proven-keys.ts";
import { judgeStandby, STANDBY_FILE, type Standby, standbyOf } from "./standby.ts";
import { replaceFile, StewardMemory } from "./steward-memory.ts";
import { type Due, dueEpoch, type Facts, limitsOf, type Schedule } from "./steward-plan.ts";

export interface StewardOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  /** Where members answer, by index; read again at every look. */
  readonly addresses: () => readonly string[];
  /** What other committees, asked for it, say against an era of this one (followers.ts). */
  readonly followProblems: () => Promise<readonly string[]>;
  /** The folder of the member that holds the seat, or a link to it, which is then moved when a standby takes over. */
  readonly memberDir: string;
  /** The folder of whoever takes the seat when its key is blocked. */
  readonly standbyDir?: string | undefined;
  /** Every operator's standby, as `builder roster standby` prints them: `*.json`. */
  readonly standbysDir?: string | undefined;
  /** The steward's own memory, and the succession file of the attempt that runs. */
  readonly stateDir: string;
  /** The ceremonies' nats-servers, and the seat's credential there. */
  readonly nats: readonly string[];
  readonly credentials: string;
  readonly schedule: Schedule;
  readonly everyMs: number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly meters: Meters;
}

type Epoch = Extract<Due, { type: "epoch" }>;

interface Attempt {
  readonly id: string;
  readonly why: "refresh" | "blocked" | "late";
  readonly succession: Succession;
  /** Member keys that were blocked when it began. */
  readonly blocked: string;
  readonly stop: AbortController;
  /** Whom the ceremony waits for. */
  awaited: string;
  awaitedBefore: string;
  ended: Promise<void>;
}

interface OwnSeat {
  readonly index: number;
  readonly folder: string;
}

/** An absent participant is waited for in the other phases for this part of the time that a ceremony may take. */
const PHASES_IN_CEREMONY = 6n;
/** Shares of an epoch that is announced already are asked for in its ceremony's log for so long. */
const LATE_MS = 60_000;
/** How long its end may hold up the process's. */
const DRAIN_MS = 5000;

const blockedKeys = ({ seats }: CommitteeView): string =>
  seats.flatMap(({ blocked, memberKey }) => (blocked ? toHex(memberKey) : [])).join();
const same = (one: Roster, other: Roster): boolean => equalBytes(encode(ROSTER, one), encode(ROSTER, other));
const idOf = (succession: Succession): string => toHex(ceremonyId(successionPlan(succession)));

/** Is this the roster that the succession was to make? */
function makes({ from, members, activationSlot }: Succession, roster: Roster): boolean {
  return (
    roster.epoch === from.epoch + 1n &&
    roster.activationSlot === activationSlot &&
    roster.members.length === members.length &&
    roster.members.every(({ memberKey }, i) => equalBytes(memberKey, members[i]?.memberKey ?? new Uint8Array()))
  );
}

export class Steward {
  readonly #options: StewardOptions;
  readonly #memory: StewardMemory;
  #attempt: Attempt | undefined;
  #ready = false;
  #proven: ReadonlySet<string> = new Set();
  #waitsFor = "";
  readonly #told = new Set<string>();
  /** Ceremonies whose newest attempt has failed here: another one is asked for. */
  readonly #failed = new Set<string>();
  /** Ceremonies in which this seat has no share to get. */
  readonly #missed = new Set<string>();
  /** Not before, by `performance.now()`. */
  #pauseUntil = 0;

  /** @throws CeremonyProblem */
  constructor(options: StewardOptions) {
    this.#options = options;
    this.#memory = new StewardMemory(options.stateDir);
  }

  /** It saw the committee when it last looked, and has a seat in it. */
  get ready(): boolean {
    return this.#ready;
  }

  get #succession(): string {
    return join(this.#options.stateDir, "succession.json");
  }

  /** Looks and acts until `signal` aborts; a ceremony that runs is left so that it goes on at the next start. */
  async run(signal: AbortSignal): Promise<void> {
    const { everyMs, log } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#look();
      } catch (error) {
        this.#ready = false;
        if (error instanceof CeremonyProblem) this.#wait(error.message);
        else log.error("the steward could not look; it looks again", errorFields(error));
      }
      await pause(everyMs * (0.75 + Math.random() / 2), signal);
    }
    this.#attempt?.stop.abort();
    // Whatever holds it up, a broker that does not answer: it may be left at any point.
    await Promise.race([this.#attempt?.ended, new Promise((resolve) => setTimeout(resolve, DRAIN_MS).unref())]);
  }

  async #look(): Promise<void> {
    const { config, organism, addresses, clock, meters } = this.#options;
    const view = judgeCommittee(config, organism, await askCommittee(config, organism, addresses()));
    if ("problem" in view) {
      this.#ready = false;
      this.#wait(view.problem);
      return;
    }
    const own = this.#ownSeat(view.roster);
    this.#ready = own !== undefined;
    meters.gauge("lattice_steward_epoch", Number(view.roster.epoch));
    if (own !== undefined) this.#handOver(own);
    this.#proven = await provenKeys(view, this.#proven);
    const nowSlot = slotAt(config, clock.nowMs());
    const standbys = this.#standbys(view);
    if (this.#attempt !== undefined) {
      this.#watch(this.#attempt, view, nowSlot);
      return;
    }
    if (own === undefined) {
      this.#wait(`no seat of ${organism} in epoch ${view.roster.epoch} is held by a key of these folders`);
      return;
    }
    if (await this.#late(view, own)) return;
    const due = this.#due({ view, proven: this.#proven, standbys, nowSlot });
    const problems = due.type === "epoch" && due.succession.newEra === true ? await this.#options.followProblems() : [];
    if (problems.length > 0) this.#wait(problems.join("; "));
    else this.#act(view, own, due);
  }

  /** What is due; an attempt that has begun stays while its time has not run out. */
  #due(facts: Facts): Due {
    const { schedule } = this.#options;
    const begun = this.#begun();
    const goesOn = begun !== undefined && same(begun.from, facts.view.roster);
    if (goesOn && facts.nowSlot < limitsOf(begun, schedule).end) {
      const due = dueEpoch(facts, schedule, begun.activationSlot);
      if (due.type === "epoch" && idOf(due.succession) === idOf(begun)) return due;
    }
    return dueEpoch(facts, schedule);
  }

  /** The attempt that was begun last; a file that is damaged counts for none: the memory knows what was begun. */
  #begun(): Succession | undefined {
    if (!existsSync(this.#succession)) return undefined;
    try {
      return readSuccession(this.#succession);
    } catch (error) {
      if (!(error instanceof CeremonyProblem) && !(error instanceof KitProblem)) throw error;
      this.#once(error.message);
      return undefined;
    }
  }

  #act(view: CommitteeView, own: OwnSeat, due: Due): void {
    const { meters } = this.#options;
    meters.gauge("lattice_steward_standby_missing", due.type === "waiting" ? due.missing.length : 0);
    if (due.type !== "epoch") {
      this.#wait(due.type === "waiting" ? due.problems.join("; ") : "");
      return;
    }
    const { succession, replaced } = due;
    const epoch = succession.from.epoch + 1n;
    const folder = replaced === own.index ? this.#options.standbyDir : own.folder;
    const key = succession.members[own.index]?.memberKey ?? new Uint8Array();
    if (folder === undefined || !equalBytes(signingKeyIn(folder)?.publicKey ?? new Uint8Array(), key)) {
      this.#wait(`the standby that is known for seat ${own.index} does not lie in this steward's folder`);
      return;
    }
    const held = rosterOfShares({ ...succession, eras: view.eras }, folder);
    // The members announce it; what a crash has left of the ceremony is wiped by taking part once more.
    const made = held !== undefined && makes(succession, held);
    if (made && !existsSync(join(folder, "ceremony"))) {
      this.#wait("");
      return;
    }
    // Until its first slot has passed unannounced, an earlier attempt's roster may still be taken up.
    if (held !== undefined && !made && held.activationSlot > view.decidedSlot) {
      this.#wait(`an earlier attempt has made shares for slot ${held.activationSlot}: it may still be announced`);
      return;
    }
    if (!this.#memory.mayBegin(epoch, succession.activationSlot, idOf(succession))) {
      this.#wait(`another ceremony was begun for slot ${succession.activationSlot}: the next one that is possible`);
      return;
    }
    if (performance.now() < this.#pauseUntil) return;
    this.#begin(view, due, { index: own.index, folder }, held !== undefined && !made);
  }

  #begin(view: CommitteeView, { why, succession, replaced }: Epoch, own: OwnSeat, discard: boolean): void {
    const id = idOf(succession);
    const { lastCall, end } = limitsOf(succession, this.#options.schedule);
    this.#memory.begin(succession.from.epoch + 1n, succession.activationSlot, id);
    replaceFile(this.#succession, successionToJson(succession, view.certified, view.links));
    this.#options.log.info("an epoch is due: this seat takes part in its ceremony", {
      why,
      ceremony: id,
      epoch: succession.from.epoch + 1n,
      replaced,
      activation_slot: succession.activationSlot,
      last_call: lastCall,
      end,
    });
    this.#take({ why, succession, id, own, discard, blocked: blockedKeys(view), replaced }, (phase, awaited) =>
      this.#patienceMs(succession, replaced, phase, awaited),
    );
  }

  /** Everybody is waited for until the last call, but for whoever has lost its seat; then nobody for long. */
  #patienceMs(succession: Succession, replaced: number | undefined, phase: Phase, awaited: readonly number[]): number {
    const { config, schedule, clock } = this.#options;
    if (phase === "enrol") {
      if (awaited.every((who) => who === replaced)) return 0;
      const { lastCall } = limitsOf(succession, schedule);
      if (clock.nowMs() < slotStartMs(config, lastCall)) return Number.POSITIVE_INFINITY;
    }
    return (Number(schedule.ceremony) * config.slotMs) / Number(PHASES_IN_CEREMONY);
  }

  #take(
    part: Pick<Attempt, "why" | "succession" | "id" | "blocked"> & {
      readonly own: OwnSeat;
      readonly discard: boolean;
      readonly replaced?: number | undefined;
    },
    patienceMs: (phase: Phase, awaited: readonly number[]) => number,
  ): void {
    const { nats, credentials, clock, log, everyMs, meters } = this.#options;
    const { why, succession, id, own, discard, blocked, replaced } = part;
    const stop = new AbortController();
    const attempt: Attempt = {
      id,
      why,
      succession,
      blocked,
      stop,
      awaited: "",
      awaitedBefore: "",
      ended: Promise.resolve(),
    };
    const work = async (): Promise<void> => {
      let end = "failed";
      try {
        const code = await takeShare({
          directory: own.folder,
          succession: this.#succession,
          nats,
          credentials,
          place: own.index,
          retry: this.#failed.has(id),
          discard,
          clock,
          patienceMs,
          signal: stop.signal,
          tell: (line) => log.info(line.trim()),
          publish: () => undefined,
          onApplied: (ceremony) => {
            attempt.awaited = awaitedIn(ceremony, replaced);
          },
        });
        if (code === EXIT.ok) end = "done";
        else this.#failed.add(id);
      } catch (error) {
        if (error instanceof CeremonyInterrupted) end = "interrupted";
        else log.warn("a ceremony has failed; tried again", { ceremony: id, ...errorFields(error) });
      }
      meters.count("lattice_steward_ceremonies_total", 1, { why, end });
      if (why === "late" && end !== "done") {
        this.#missed.add(id);
        log.warn("this seat has no share of the epoch: it gets one with the next", {
          epoch: succession.from.epoch + 1n,
        });
      }
      // Jitter: whoever failed together does not come back together.
      if (end === "failed") this.#pauseUntil = performance.now() + everyMs * (1 + 3 * Math.random());
      this.#attempt = undefined;
    };
    this.#attempt = attempt;
    attempt.ended = work();
  }

  /** Goes on with an attempt, or gives it up. */
  #watch(attempt: Attempt, view: CommitteeView, nowSlot: bigint): void {
    const { succession, why } = attempt;
    const announced = makes(succession, view.roster);
    const over =
      why === "late" || announced
        ? undefined
        : !same(succession.from, view.roster)
          ? `epoch ${view.roster.epoch} has come from elsewhere`
          : nowSlot >= limitsOf(succession, this.#options.schedule).end
            ? `its roster would come too late for slot ${succession.activationSlot}`
            : blockedKeys(view) !== attempt.blocked
              ? "another key has been blocked"
              : undefined;
    if (over === undefined) {
      // Who is still there at the next look is worth a line.
      const { awaited } = attempt;
      this.#wait(awaited === attempt.awaitedBefore ? awaited : "");
      attempt.awaitedBefore = awaited;
    } else if (!attempt.stop.signal.aborted) {
      this.#options.log.warn("a ceremony is given up", {
        ceremony: attempt.id,
        problem: over,
        waited_for: attempt.awaited,
      });
      attempt.stop.abort();
    }
  }

  /** The others have an epoch already of which this seat has no share: its ceremony's log may still give one. */
  async #late(view: CommitteeView, own: OwnSeat): Promise<boolean> {
    const { config, organism, stateDir } = this.#options;
    const { roster } = view;
    const member = roster.members[own.index];
    if (member === undefined || (await holdsShareOf(own.folder, member.certificateShare))) return false;
    const before = view.answers
      .flatMap(({ rosters = [] }) => rosters)
      .find((each) => each.roster.epoch === roster.epoch - 1n);
    if (before === undefined) return false;
    const { activationSlot, sealingUntilSlot, sealingThreshold } = roster;
    const members = roster.members.map(({ memberKey, boxKey, signer }) => ({
      memberKey,
      boxKey,
      ...(signer === undefined ? {} : { signer }),
    }));
    const newEra = eraNumberOf(roster) > eraNumberOf(before.roster);
    const stated = {
      ...(sealingThreshold === undefined ? {} : { sealingThreshold }),
      ...(newEra ? { newEra } : {}),
    };
    const links = view.links.filter(({ outcome }) => outcome.epoch < roster.epoch);
    const succession = { config, organism, from: before.roster, members, activationSlot, sealingUntilSlot, ...stated };
    const id = idOf(succession);
    if (this.#missed.has(id)) return false;
    replaceFile(join(stateDir, "succession.json"), successionToJson(succession, before.certified, links));
    this.#options.log.warn("an epoch has begun without this seat's share: its ceremony is read again", {
      ceremony: id,
    });
    this.#take({ why: "late", succession, id, own, discard: true, blocked: "" }, () => Number.POSITIVE_INFINITY);
    const { stop, ended } = this.#attempt ?? {};
    const timer = setTimeout(() => stop?.abort(), LATE_MS);
    void ended?.finally(() => clearTimeout(timer));
    return true;
  }

  /** Statements that hold and that were known before their seat was blocked. */
  #standbys(view: CommitteeView): Standby[] {
    const { standbysDir, config, organism, meters, log } = this.#options;
    const names = standbysDir === undefined || !existsSync(standbysDir) ? [] : readdirSync(standbysDir);
    const found: Standby[] = [];
    for (const name of names) {
      if (!name.endsWith(".json")) continue;
      const problem = this.#readStandby(join(standbysDir ?? "", name), found, config, organism);
      if (problem !== undefined) this.#once(`${name}: ${problem}`);
    }
    const open = view.seats.filter(({ blocked }) => !blocked);
    for (const standby of found) {
      const { seat, standsFor, digest } = standby;
      if (open.some(({ index, memberKey }) => index === seat && equalBytes(memberKey, standsFor))) {
        this.#memory.remember(digest);
      } else if (!this.#memory.knows(digest) && view.seats.some(({ memberKey }) => equalBytes(memberKey, standsFor))) {
        this.#once(`the standby of seat ${seat} was not known before its key was blocked: it does not count`);
      }
    }
    const known = found.filter(({ digest }) => this.#memory.knows(digest));
    const served = view.seats.filter(({ index }) => "standby" in standbyOf(view.roster, index, known));
    meters.gauge("lattice_steward_standbys", served.length);
    log.debug("standbys", { seats: served.length });
    return known;
  }

  #readStandby(path: string, found: Standby[], config: LatticeConfig, organism: Organism): string | undefined {
    try {
      const judged = judgeStandby(config, organism, parseFile(STANDBY_FILE, path, "standby"));
      if ("problem" in judged) return judged.problem;
      found.push(judged.standby);
      return undefined;
    } catch (error) {
      if (error instanceof CeremonyProblem) return error.message;
      throw error;
    }
  }

  /** The seat that one of the folders' keys holds. */
  #ownSeat({ members }: Roster): OwnSeat | undefined {
    const { memberDir, standbyDir } = this.#options;
    for (const folder of [memberDir, ...(standbyDir === undefined ? [] : [standbyDir])]) {
      const key = signingKeyIn(folder)?.publicKey;
      const index = members.findIndex(({ memberKey }) => key !== undefined && equalBytes(memberKey, key));
      if (index >= 0) return { index, folder };
    }
    return undefined;
  }

  /** The standby holds the seat: a supervised member finds it behind the link, or somebody is told. */
  #handOver({ index, folder }: OwnSeat): void {
    const { memberDir, standbyDir, log } = this.#options;
    if (standbyDir === undefined || folder !== standbyDir) return;
    if (!lstatSync(memberDir).isSymbolicLink()) {
      this.#once(
        `seat ${index} is the standby's: start its member with LATTICE_KEY_FILE=${join(standbyDir, "key.json")}`,
      );
      return;
    }
    const target = resolve(standbyDir);
    if (realpathSync(memberDir) === realpathSync(target)) return;
    rmSync(`${memberDir}.new`, { force: true });
    // Relative: the folder that both lie in may be moved.
    symlinkSync(relative(realpathSync(dirname(memberDir)), realpathSync(target)), `${memberDir}.new`);
    renameSync(`${memberDir}.new`, memberDir);
    log.warn("the seat's folder is the standby's from now on: its member wants a restart", { seat: index });
  }

  /** Once for each text, until another one is waited for; empty: nothing is. */
  #wait(what: string): void {
    const { log, meters } = this.#options;
    meters.gauge("lattice_steward_waiting", what === "" ? 0 : 1);
    if (what === this.#waitsFor) return;
    this.#waitsFor = what;
    if (what !== "") log.warn("the steward waits", { for: what });
  }

  #once(line: string): void {
    if (this.#told.has(line)) return;
    this.#told.add(line);
    this.#options.log.warn(line);
  }
}

/** Whoever has lost its seat is not waited for. */
function awaitedIn({ awaited, attempt, plan }: Ceremony, replaced: number | undefined): string {
  const wanted = awaited.filter((who) => who !== replaced);
  if (wanted.length === 0) return "";
  const keys = wanted.map((who) => `${who} (${toHex(plan.participants[who] ?? new Uint8Array()).slice(0, 8)}…)`);
  return `participants ${keys.join(", ")} of the ceremony, attempt ${attempt.number}, phase ${attempt.phase}`;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}

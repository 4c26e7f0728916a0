/**
 * One member's part in agreeing where a generation ends: one decision, in rounds, each with a leader (round mod n).
 *
 * report → proposal → prepare → commit → share. Two votes, as in PBFT (Castro and Liskov 1999): a corrupt leader may
 * propose two ends in one round, and a single vote would leave open which of them a quorum has. Shares of the certificate
 * are given only once a quorum has committed, because shares of several rounds combine and commits do not.
 *
 * A report binds: whoever has said how far it has read says nothing more in the log of that generation, because what it
 * would sign there is not in its report. A member that alone had lost its view, and reads on with the others, has to be
 * let go first: a quorum gives up the rounds in which it spoke (`pass`), and none of them has prepared in one.
 *
 * Deterministic and without I/O: messages and time go in, what to do comes out. Whoever carries it out journals it first.
 */
import { equalBytes, toHex } from "../codec/codec.ts";
import {
  chooseEnd,
  chooseReports,
  type Ending,
  type EndMessage,
  type EndReport,
  type EndStatement,
  endMessageHash,
  type GenerationEndPoint,
  lostNeeded,
  type Prepared,
  readEnd,
  sameEnd,
  verifyPrepared,
} from "./generation-end.ts";
import type { Quorum, Roster } from "./roster.ts";

/** How far this member has read, and whether it has seen that the stream does not hold that. */
export interface OwnEnd {
  readonly lost: boolean;
  readonly position: bigint;
  /** Oldest first, the newest at `position`. */
  readonly heads: readonly Uint8Array[];
}

/** What to say next. `end`: only once the state at that point is held. */
export interface EndIntent {
  readonly statement: Exclude<EndStatement, { readonly type: "share" | "pass" }>;
  readonly reach?: GenerationEndPoint;
}

export interface AgreementOptions {
  readonly ending: Ending;
  readonly roster: Roster;
  readonly quorum: Quorum;
  readonly self: number;
  /** How long a round may take at first; it doubles. */
  readonly roundMs: number;
  /** How long a leader waits for further members once a quorum has reported. */
  readonly graceMs: number;
}

/** The longest a round may take, as a multiple of the first. */
const ROUND_GROWTH_MAX = 16;
/** Messages that are known not to be news. */
const HEARD_MAX = 4096;

type Kind = EndStatement["type"];
type Of<K extends Kind> = Extract<EndStatement, { readonly type: K }>;
interface Said<K extends Kind> {
  readonly message: EndMessage;
  readonly statement: Of<K>;
}

export class GenerationAgreement {
  readonly #options: AgreementOptions;
  /** The newest of each kind by each member. */
  readonly #reports = new Map<number, Said<"report">>();
  readonly #proposals = new Map<number, Said<"proposal">>();
  readonly #prepares = new Map<number, Said<"prepare">>();
  readonly #commits = new Map<number, Said<"commit">>();
  readonly #shares = new Map<number, Said<"share">>();
  readonly #passes = new Map<number, Said<"pass">>();
  /** Ends whose entries nobody hands over: reports that hold them are left out of this member's proposals. */
  readonly #unreachable = new Map<string, GenerationEndPoint>();
  readonly #heard = new Set<string>();
  /** Proposals already judged, by hash. */
  readonly #judged = new Map<string, boolean>();
  /** What follows from which reports. */
  #chosen: { readonly of: string; readonly choice: ReturnType<typeof chooseReports> } | undefined;
  #round = 0;
  #roundSince: number | undefined;
  #passedAtMs: number | undefined;
  #quorumSince: number | undefined;
  #locked: Prepared | undefined;
  #decided: GenerationEndPoint | undefined;
  #waits = "";

  constructor(options: AgreementOptions) {
    this.#options = options;
  }

  get round(): number {
    return this.#round;
  }
  /** The end, once a quorum has committed to it. */
  get decided(): GenerationEndPoint | undefined {
    return this.#decided;
  }
  /** What it waits for, for people. */
  get waits(): string {
    return this.#waits;
  }
  /** Members whose reports say that they see it lost. */
  get claims(): number {
    return [...this.#reports.values()].filter(({ statement }) => statement.lost).length;
  }
  /** Enough members say so for one that has seen nothing itself. */
  get convincing(): boolean {
    return this.claims >= lostNeeded(this.#options.quorum);
  }

  /** Everything worth telling others, by hash. */
  messages(): Map<string, Uint8Array> {
    const all = new Map<string, Uint8Array>();
    for (const kept of this.#kept()) for (const { message } of kept.values()) all.set(message.hash, message.raw);
    return all;
  }

  #kept(): readonly ReadonlyMap<number, { readonly message: EndMessage }>[] {
    return [this.#reports, this.#proposals, this.#prepares, this.#commits, this.#shares, this.#passes];
  }

  /** What this member has said itself: to be journaled before anybody hears it. */
  own(): Uint8Array[] {
    const { self } = this.#options;
    return this.#kept().flatMap((kept) => {
      const said = kept.get(self);
      return said === undefined ? [] : [said.message.raw];
    });
  }

  get locked(): Prepared | undefined {
    return this.#locked;
  }

  /** After a restart: what it had said, and the quorum that it knows of. */
  restore(said: readonly Uint8Array[], locked: Prepared | undefined): void {
    this.#locked = locked;
    for (const raw of said) this.receive(raw);
    const { self } = this.#options;
    for (const kept of [this.#reports, this.#prepares, this.#commits, this.#passes]) {
      const round = kept.get(self)?.statement.round ?? 0;
      if (round > this.#round) this.#round = round;
    }
  }

  /** A quorum may have prepared an end, or this member has helped it: it cannot be let go. */
  get #held(): boolean {
    const { self } = this.#options;
    return this.#locked !== undefined || this.#decided !== undefined || this.#shares.has(self);
  }

  /**
   * The round below which a quorum must have given up all before this member may speak in the log again; undefined when
   * it may. `never`: it has seen a quorum prepare.
   */
  get owed(): number | "never" | undefined {
    const { self, quorum } = this.#options;
    const said = [this.#reports, this.#prepares, this.#commits].flatMap(
      (kept) => kept.get(self)?.statement.round ?? [],
    );
    const own = this.#passes.get(self)?.statement.round ?? 0;
    const round = Math.max(own, ...said.map((each) => each + 1));
    if (this.#held) return "never";
    if (round === 0) return undefined;
    const given = [...this.#passes].filter(
      ([member, { statement }]) => statement.round >= round && (member !== self || !this.#prepares.has(self)),
    );
    return own >= round && given.length >= quorum.quorum ? undefined : round;
  }

  /**
   * The round below which this member should give up all, because another one asks for it. One more than its own at a
   * time, and not often: one corrupt member must not use up the rounds that there are.
   */
  passDue(nowMs: number): number | undefined {
    const { self, roundMs } = this.#options;
    if (this.#held || this.#prepares.has(self)) return undefined;
    const own = this.#passes.get(self)?.statement.round ?? 0;
    const asked = Math.max(0, ...[...this.#passes.values()].map(({ statement }) => statement.round));
    if (asked <= own) return undefined;
    const round = Math.min(asked, Math.max(own, this.#round) + 1);
    if (round <= this.#round) return round;
    return this.#passedAtMs !== undefined && nowMs - this.#passedAtMs < roundMs ? undefined : round;
  }

  /** Somebody has prepared an end: such members let nobody go. */
  get anyPrepared(): boolean {
    return this.#prepares.size > 0;
  }

  /** Whether this member has given up all below this round. */
  hasPassed(round: number): boolean {
    return (this.#passes.get(this.#options.self)?.statement.round ?? 0) >= round;
  }

  /** Call it when that was said. */
  passed(nowMs: number): void {
    this.#passedAtMs = nowMs;
  }

  /** Takes note of a message, whoever brings it. @returns true when it is news */
  receive(raw: Uint8Array): boolean {
    const { ending, roster, quorum } = this.#options;
    const hash = endMessageHash(raw);
    if (this.#heard.has(hash)) return false;
    const message = readEnd(ending, roster, raw);
    if (message === undefined) return false;
    if (this.#heard.size >= HEARD_MAX) this.#heard.clear();
    this.#heard.add(hash);
    const { statement } = message;
    switch (statement.type) {
      case "report":
        if (statement.prepared !== undefined && !verifyPrepared(ending, roster, quorum, statement.prepared))
          return false;
        if (statement.round < (this.#passes.get(message.member)?.statement.round ?? 0)) return false;
        return keep(this.#reports, message, statement);
      case "proposal":
        if (message.member !== this.#leader(statement.round)) return false;
        // One report of each member: a longer one would only be in the way of what others say.
        if (statement.reports.length > quorum.members) return false;
        return keep(this.#proposals, message, statement);
      case "prepare":
        return keep(this.#prepares, message, statement);
      case "commit":
        return keep(this.#commits, message, statement);
      case "share":
        if (this.#shares.has(message.member)) return false;
        this.#shares.set(message.member, { message, statement });
        return true;
      case "pass":
        if (!keep(this.#passes, message, statement)) return false;
        this.#givenUp(message.member, statement.round);
        return true;
    }
  }

  /** Its report is of a round that it has given up: nothing follows from it any more, nor does it tell of a loss. */
  #givenUp(member: number, round: number): void {
    const report = this.#reports.get(member);
    if (report !== undefined && report.statement.round < round) this.#reports.delete(member);
    if (member !== this.#options.self || round <= this.#round) return;
    this.#round = round;
    this.#roundSince = undefined;
    this.#quorumSince = undefined;
  }

  /** Nobody hands over what lies before this end. */
  unreachable(end: GenerationEndPoint): void {
    this.#unreachable.set(`${end.position}/${toHex(end.head)}`, end);
  }

  /** The shares for one end, by member. */
  shares(end: GenerationEndPoint): { readonly member: number; readonly share: Of<"share"> }[] {
    return [...this.#shares]
      .filter(([, { statement }]) => sameEnd(statement.end, end))
      .map(([member, { statement }]) => ({ member, share: statement }))
      .sort((a, b) => a.member - b.member);
  }

  /** What to do now. Ask again after every message that was news, and now and then. */
  step(nowMs: number, own: OwnEnd): EndIntent[] {
    this.#settle();
    if (this.#decided !== undefined) {
      this.#waits = `shares of a quorum for the end at position ${this.#decided.position}`;
      return [];
    }
    this.#turn(nowMs);
    const { self } = this.#options;
    const round = this.#round;
    const intents: EndIntent[] = [];
    if (this.#reports.get(self)?.statement.round !== round) {
      const { lost, position, heads } = own;
      const report: EndReport = { round, lost, position, heads: [...heads], prepared: this.#locked };
      return [{ statement: { type: "report", ...report } }];
    }
    const proposed = this.#proposals.get(this.#leader(round));
    if (self === this.#leader(round) && proposed?.statement.round !== round) intents.push(...this.#propose(nowMs));
    if (proposed?.statement.round === round && this.#prepares.get(self)?.statement.round !== round) {
      const { end } = proposed.statement;
      let follows = this.#judged.get(proposed.message.hash);
      if (follows === undefined) {
        follows = this.#follows(proposed.statement);
        this.#judged.set(proposed.message.hash, follows);
      }
      if (follows) intents.push({ statement: { type: "prepare", round, end }, reach: end });
    }
    const prepared = this.#preparedNow();
    if (prepared !== undefined && this.#commits.get(self)?.statement.round !== round) {
      this.#locked = prepared;
      intents.push({ statement: { type: "commit", round, end: prepared.end } });
    }
    return intents;
  }

  /** Rounds go on when one takes too long, and follow those of more members than may be corrupt. */
  #turn(nowMs: number): void {
    const { quorum, self, roundMs } = this.#options;
    this.#roundSince ??= nowMs;
    const others = [...this.#reports].filter(([member]) => member !== self).map(([, { statement }]) => statement.round);
    const ahead = others.sort((a, b) => b - a)[quorum.faults] ?? 0;
    const heard = others.length + 1 >= quorum.quorum;
    if (!heard) this.#roundSince = nowMs;
    // Rounds that an honest member among those who did has given up make none longer.
    const passed = [...this.#passes.values()].map(({ statement }) => statement.round).sort((a, b) => b - a);
    const tried = Math.max(0, this.#round - (passed[quorum.faults] ?? 0));
    const limitMs = roundMs * Math.min(2 ** Math.min(tried, 16), ROUND_GROWTH_MAX);
    const late = heard && nowMs - this.#roundSince >= limitMs;
    const next = ahead > this.#round ? ahead : late ? this.#round + 1 : this.#round;
    if (next === this.#round) return;
    this.#round = next;
    this.#roundSince = nowMs;
    this.#quorumSince = undefined;
  }

  #leader(round: number): number {
    return round % this.#options.quorum.members;
  }

  #propose(nowMs: number): EndIntent[] {
    const { quorum } = this.#options;
    const current = [...this.#reports.values()].filter(({ statement }) => statement.round === this.#round);
    const usable = current.filter(({ statement }) => !this.#holdsUnreachable(statement));
    const choice = this.#choose(usable);
    if ("waits" in choice) {
      this.#waits = choice.waits;
      return [];
    }
    this.#quorumSince ??= nowMs;
    this.#waits = `further members before the end at position ${choice.end.position} is proposed`;
    if (current.length < quorum.members && nowMs - this.#quorumSince < this.#options.graceMs) return [];
    const { end, from } = choice;
    const reports = usable.flatMap(({ statement, message }) => (from.includes(statement) ? [message.raw] : []));
    return [{ statement: { type: "proposal", round: this.#round, end, reports }, reach: end }];
  }

  /** It is asked again and again, and changes with the reports only. */
  #choose(usable: readonly Said<"report">[]): ReturnType<typeof chooseReports> {
    const of = usable.map(({ message }) => message.hash).join();
    if (this.#chosen?.of !== of) {
      const reports = usable.map(({ statement }) => statement);
      this.#chosen = { of, choice: chooseReports(reports, this.#options.quorum) };
    }
    return this.#chosen.choice;
  }

  #holdsUnreachable({ position, heads }: EndReport): boolean {
    return [...this.#unreachable.values()].some((end) => {
      const back = position - end.position;
      const head = back < 0n || back >= BigInt(heads.length) ? undefined : heads.at(-1 - Number(back));
      return head !== undefined && equalBytes(head, end.head);
    });
  }

  /** True when the proposal is what its reports say. */
  #follows({ round, end, reports }: Of<"proposal">): boolean {
    const { ending, roster, quorum } = this.#options;
    const seen = new Map<number, EndReport>();
    for (const raw of reports) {
      const message = readEnd(ending, roster, raw);
      if (message?.statement.type !== "report" || message.statement.round !== round) return false;
      const { prepared } = message.statement;
      if (prepared !== undefined && !verifyPrepared(ending, roster, quorum, prepared)) return false;
      if (seen.has(message.member)) return false;
      seen.set(message.member, message.statement);
    }
    const choice = chooseEnd([...seen.values()], quorum);
    return "end" in choice && sameEnd(choice.end, end);
  }

  /** The end that a quorum has prepared in this round. */
  #preparedNow(): Prepared | undefined {
    const { quorum } = this.#options;
    for (const by of alike(this.#prepares, ({ statement }) => statement.round === this.#round)) {
      const [first] = by;
      if (first === undefined || by.length < quorum.quorum) continue;
      const signed = by.map(({ message: { member, signature } }) => ({ member, signature }));
      return { round: this.#round, end: first.statement.end, by: signed };
    }
    return undefined;
  }

  #settle(): void {
    const { quorum } = this.#options;
    if (this.#decided !== undefined) return;
    for (const by of alike(this.#commits, () => true)) {
      if (by.length >= quorum.quorum) this.#decided = by[0]?.statement.end;
    }
    // Of more members than may be corrupt one has seen the quorum of commits.
    for (const { statement } of this.#shares.values()) {
      if (this.shares(statement.end).length > quorum.faults) this.#decided ??= statement.end;
    }
  }
}

interface InRound<S> {
  readonly message: EndMessage;
  readonly statement: S;
}

/** Keeps the newest of a member; the first one of a round stands. */
function keep<S extends { readonly round: number }>(
  kept: Map<number, InRound<S>>,
  message: EndMessage,
  statement: S,
): boolean {
  const before = kept.get(message.member);
  if (before !== undefined && before.statement.round >= statement.round) return false;
  kept.set(message.member, { message, statement });
  return true;
}

/** Votes of one round for one end, together. */
function alike<S extends { readonly round: number; readonly end: GenerationEndPoint }>(
  votes: ReadonlyMap<number, InRound<S>>,
  counts: (said: InRound<S>) => boolean,
): InRound<S>[][] {
  const groups = new Map<string, InRound<S>[]>();
  for (const said of votes.values()) {
    if (!counts(said)) continue;
    const { round, end } = said.statement;
    const key = `${round}/${end.position}/${toHex(end.head)}`;
    groups.set(key, [...(groups.get(key) ?? []), said]);
  }
  return [...groups.values()];
}

/**
 * Judges an exported log offline, by the lattice config alone: applies every entry to a machine of its own and compares
 * what comes of it with what members certified (log.md §2, §6). Pure.
 *
 * A log may hold what no honest member wrote: whoever can reach the broker can put it there, and all members refuse it
 * alike. So an entry that is refused before it takes its place in a lane is a *suspect*: it is cleared when a quorum has
 * certified a state after it, or f + 1 members signed the chain that contains it. What is not cleared is what is wrong.
 */
import { CodecError, encode, equalBytes, toHex } from "../codec/codec.ts";
import { type LatticeConfig, latticeId } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Duty, Machine } from "../machine.ts";
import { type CertifiedCheckpoint, CHECKPOINT, type Checkpoint, checkCheckpoint, stateHash } from "./checkpoint.ts";
import { type Applied, Committee } from "./committee.ts";
import { decodeEntry } from "./entry.ts";
import { type Eras, pinnedEras } from "./eras.ts";
import { verifyHead } from "./heads.ts";
import type { LogRecord } from "./log-export.ts";
import { type CertifiedOutcome, checkOutcome, type Outcome, outcomeDigest } from "./outcome.ts";
import { checkRoster, ROSTER_STAGE, type Roster } from "./roster.ts";
import { RulesUnknown } from "./rules.ts";

/** Why an export does not hold. */
export type LogFault =
  /** Records in another order, or bytes that are none. */
  | "MALFORMED"
  /** The file ends before its end record. */
  | "TRUNCATED"
  /** Another lattice, committee or generation. */
  | "ANOTHER_LOG"
  /** A certificate of a roster, an outcome or a checkpoint that the key of its era does not verify. */
  | "BAD_CERTIFICATE"
  /** The state to begin with is not the one that was certified. */
  | "BAD_STATE"
  /** From here on rules govern that this build does not have: a newer one can go on. */
  | "RULES_UNKNOWN"
  /** Positions do not follow one another. */
  | "HOLE"
  /** An entry that members cannot have taken: signature, sequence, previous hash or stated head. */
  | "BAD_ENTRY"
  /** q members certified another state than the entries lead to. */
  | "STATE_DIFFERS"
  /** A certified outcome is not what the entries decide. */
  | "OUTCOME_DIFFERS"
  /** Members signed another chain. */
  | "HEAD_DIFFERS";

/** The first thing that is wrong. */
export interface LogProblem {
  readonly reason: LogFault;
  /** Where in the log, when it is about one position. */
  readonly position: bigint | undefined;
  /** Who wrote it, as far as it says. */
  readonly author: number | undefined;
  /** One sentence without content. */
  readonly detail: string;
}

/** What was checked. */
export interface LogFindings {
  readonly organism: Organism;
  readonly generation: bigint;
  /** First and last position; the first is one more than the last when there are no entries. */
  readonly fromPosition: bigint;
  readonly toPosition: bigint;
  readonly head: Uint8Array;
  readonly stateHash: Uint8Array;
  /** Entries that had no effect, as all members saw them. */
  readonly refused: number;
  /** Certified checkpoints that the entries lead to: in the log itself, or handed over with it. */
  readonly checkpoints: number;
  /** Decisions that the entries lead to, and how many of them came with a certificate that fits. */
  readonly decided: number;
  readonly outcomes: number;
  /** Outcomes handed over whose slots lie outside of the entries. */
  readonly notCovered: number;
  /** Up to here a quorum certified the state, or f + 1 members signed the chain; what follows is its authors' word. */
  readonly vouchedTo: bigint;
  /** Members that signed this chain. */
  readonly heads: readonly number[];
}

export interface LogVerifierOptions<State, Command, D extends Duty> {
  readonly config: LatticeConfig;
  /** The organism's own machine. */
  readonly createMachine: (organism: Organism, roster: Roster) => Machine<State, Command, D>;
  /** Other than the default in tests only. */
  readonly checkpointEvery?: { readonly entries: bigint; readonly slots: bigint };
  readonly activationEntries?: bigint;
}

/** Refusals after which an entry has not taken its place, though an honest member may have written it. */
const HARMLESS = new Set(["VIEW_TOO_OLD", "KEY_BLOCKED"]);
/** Entries remembered for telling a repetition from another entry under the same number. */
const LANDED_MAX = 65_536;
const PHASES: readonly LogRecord["type"][] = ["header", "roster", "start", "entry", "outcome", "end"];

interface Decided {
  readonly position: bigint;
  readonly digest: Uint8Array;
  certified: boolean;
}

export class LogVerifier<State, Command, D extends Duty> {
  readonly #options: LogVerifierOptions<State, Command, D>;
  readonly #rosters: Roster[] = [];
  /** As the rosters that came with the log tell of them. */
  #told: Eras = [];
  readonly #checkpoints = new Map<bigint, Checkpoint>();
  readonly #decided = new Map<string, Decided>();
  /** Entry hashes that have landed, by author, lane and number; the newest. */
  readonly #landed = new Map<string, string>();
  /** How far each member signed this chain; undefined for one that signed another. */
  readonly #heads = new Map<number, bigint | undefined>();
  #header: Extract<LogRecord, { type: "header" }> | undefined;
  #committee: Committee<State, Command, D> | undefined;
  #suspects: LogProblem[] = [];
  #phase = 0;
  #from = 1n;
  #records = 0;
  #entries = 0n;
  #refused = 0;
  #certified = 0;
  #outcomes = 0;
  #notCovered = 0;
  #vouchedTo = 0n;
  #ended = false;

  constructor(options: LogVerifierOptions<State, Command, D>) {
    this.#options = options;
  }

  /** The next record. @returns the first thing that is wrong with the log so far */
  take(record: LogRecord): LogProblem | undefined {
    const phase = PHASES.indexOf(record.type === "checkpoint" || record.type === "head" ? "outcome" : record.type);
    const misplaced =
      this.#ended ||
      phase < this.#phase ||
      (record.type !== "header" && this.#header === undefined) ||
      (record.type === "header" && this.#header !== undefined) ||
      (record.type === "start" && this.#phase === phase) ||
      (phase > 1 && this.#rosters.length === 0);
    if (misplaced) return problem("MALFORMED", `record ${this.#records}: a ${record.type} does not belong there`);
    this.#phase = phase;
    this.#records += 1;
    switch (record.type) {
      case "header":
        return this.#takeHeader(record);
      case "roster":
        return this.#takeRoster(record.certified);
      case "start":
        return this.#takeStart(record.certified, record.state);
      case "entry":
        return this.#takeEntry(record.position, record.raw);
      case "outcome":
        return this.#takeOutcome(record.certified);
      case "checkpoint":
        return this.#takeCheckpoint(record.certified);
      case "head":
        return this.#takeHead(record);
      case "end":
        return this.#takeEnd(record);
    }
  }

  /** After the last record. */
  finish(): { readonly holds: LogFindings } | { readonly wrong: LogProblem } {
    const committee = this.#committee;
    if (!this.#ended || committee === undefined) return { wrong: this.#blame("TRUNCATED", "there is no end record") };
    const [suspect] = this.#suspects;
    if (suspect !== undefined) return { wrong: suspect };
    return {
      holds: {
        organism: committee.organism,
        generation: committee.generation,
        fromPosition: this.#from,
        toPosition: committee.position,
        head: committee.head,
        stateHash: committee.stateHash(),
        refused: this.#refused,
        checkpoints: this.#certified,
        decided: this.#decided.size,
        outcomes: this.#outcomes,
        notCovered: this.#notCovered,
        vouchedTo: this.#vouchedTo,
        heads: [...this.#heads].flatMap(([member, to]) => (to === undefined ? [] : [member])).sort((a, b) => a - b),
      },
    };
  }

  /** What is wrong here; an entry before it that nobody vouches for was wrong earlier. */
  #blame(reason: LogFault, detail: string, position?: bigint, author?: number): LogProblem {
    return this.#suspects[0] ?? problem(reason, detail, position, author);
  }

  #takeHeader(header: Extract<LogRecord, { type: "header" }>): LogProblem | undefined {
    const { config } = this.#options;
    if (!equalBytes(latticeId(header.config), latticeId(config))) {
      return problem("ANOTHER_LOG", `the log is of lattice ${toHex(latticeId(header.config))}`);
    }
    this.#header = header;
    return undefined;
  }

  #takeRoster(certified: CertifiedOutcome): LogProblem | undefined {
    const organism = this.#header?.organism;
    if (organism === undefined) return problem("MALFORMED", "a roster before the header");
    const { config } = this.#options;
    if (this.#told.length === 0) this.#told = pinnedEras(config, organism);
    const checked = checkRoster(config, organism, certified, this.#told);
    if ("problem" in checked) return problem("BAD_CERTIFICATE", `roster: ${checked.problem}`);
    const newest = this.#rosters.at(-1);
    if (newest !== undefined && checked.roster.epoch <= newest.epoch) {
      return problem("MALFORMED", `the roster of epoch ${checked.roster.epoch} does not follow epoch ${newest.epoch}`);
    }
    if (checked.begins !== undefined) this.#told = [...this.#told, checked.begins];
    this.#rosters.push(checked.roster);
    return undefined;
  }

  /** What came with the log, and what the log itself tells of since: the longer of the two. */
  #eras(committee: Committee<State, Command, D>): Eras {
    const own = committee.eras();
    return own.length > this.#told.length ? own : this.#told;
  }

  #begin(): Committee<State, Command, D> | undefined {
    const [first] = this.#rosters;
    if (this.#header === undefined || first === undefined) return undefined;
    const { config, createMachine, checkpointEvery, activationEntries } = this.#options;
    const { organism, generation } = this.#header;
    this.#committee ??= new Committee({
      config,
      roster: first,
      generation,
      machine: createMachine(organism, first),
      ...(checkpointEvery === undefined ? {} : { checkpointEvery }),
      ...(activationEntries === undefined ? {} : { activationEntries }),
    });
    return this.#committee;
  }

  #takeStart(certified: CertifiedCheckpoint, state: Uint8Array): LogProblem | undefined {
    const committee = this.#begin();
    if (committee === undefined) return problem("MALFORMED", "a state before the rosters");
    const { config } = this.#options;
    const { checkpoint } = certified;
    const { position } = checkpoint;
    const refusal = checkCheckpoint(config, committee.organism, certified, this.#eras(committee));
    if (refusal !== undefined) return problem("BAD_CERTIFICATE", refusal.detail, position);
    if (checkpoint.generation !== committee.generation) {
      return problem("ANOTHER_LOG", `the state is of generation ${checkpoint.generation}`, position);
    }
    if (state.length !== checkpoint.stateBytes || !equalBytes(stateHash(state), checkpoint.stateHash)) {
      return problem("BAD_STATE", "the state is not the one that was certified", position);
    }
    try {
      committee.restore(state);
    } catch (error) {
      if (error instanceof RulesUnknown) return problem("RULES_UNKNOWN", error.message, position);
      if (!(error instanceof CodecError)) throw error;
      return problem("BAD_STATE", "the certified state is of another version of the machine", position);
    }
    if (committee.position !== position || !equalBytes(committee.head, checkpoint.head)) {
      return problem("BAD_STATE", "the state is not that of the certified position", position);
    }
    this.#checkpoints.set(position, checkpoint);
    this.#from = position + 1n;
    this.#clear(position);
    return undefined;
  }

  #takeEntry(position: bigint, raw: Uint8Array): LogProblem | undefined {
    const committee = this.#begin();
    if (committee === undefined) return problem("MALFORMED", "an entry before the rosters");
    if (position !== committee.position + 1n) {
      return this.#blame("HOLE", `position ${position} follows ${committee.position}`, position);
    }
    const unknown = committee.unknownRules;
    // Nobody is blamed: what would clear a suspect lies beyond, where this build cannot go.
    if (unknown !== undefined) return problem("RULES_UNKNOWN", unknown.message, position);
    this.#entries += 1n;
    const applied = committee.apply(position, raw);
    for (const outcome of applied.decided) {
      const digest = outcomeDigest(outcome);
      this.#decided.set(keyOf(outcome), { position, digest, certified: false });
    }
    if (applied.checkpoint !== undefined) {
      this.#checkpoints.set(position, applied.checkpoint.checkpoint);
    }
    if (applied.certifiedCheckpoint !== undefined) {
      this.#certified += 1;
      this.#clear(applied.certifiedCheckpoint.position);
    }
    if (applied.refusal !== undefined) this.#refused += 1;
    this.#suspect(raw, applied);
    const { dissent } = applied;
    if (dissent !== undefined && dissent.authors.length >= committee.quorum.quorum) {
      const said = `members ${dissent.authors.join(", ")} certified state ${toHex(dissent.stateHash)}`;
      return this.#blame("STATE_DIFFERS", said, dissent.position);
    }
    return undefined;
  }

  /** Notes what is not as an honest author writes it, until something vouches for it. */
  #suspect(raw: Uint8Array, { position, refusal, landed, entry }: Applied): void {
    let author: number | undefined;
    let place: string | undefined;
    try {
      const { body } = decodeEntry(raw);
      author = body.author;
      place = `${body.author}/${body.incarnation}/${body.lane}/${body.sequence}`;
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
    }
    const hash = entry === undefined ? undefined : toHex(entry);
    if (landed) {
      if (place !== undefined && hash !== undefined) this.#landed.set(place, hash);
      const [oldest] = this.#landed.keys();
      if (this.#landed.size > LANDED_MAX && oldest !== undefined) this.#landed.delete(oldest);
      return;
    }
    if (refusal === undefined || HARMLESS.has(refusal.reason)) return;
    // Said again because its author could not know that it had landed.
    if (place !== undefined && this.#landed.get(place) === hash) return;
    const detail = `${refusal.reason}: ${refusal.detail}`;
    this.#suspects.push(problem("BAD_ENTRY", detail, position, author));
  }

  /** Enough members vouch for everything up to here. */
  #clear(position: bigint): void {
    if (position > this.#vouchedTo) this.#vouchedTo = position;
    this.#suspects = this.#suspects.filter((each) => (each.position ?? 0n) > position);
  }

  #takeCheckpoint(certified: CertifiedCheckpoint): LogProblem | undefined {
    const committee = this.#begin();
    if (committee === undefined) return problem("MALFORMED", "a checkpoint before the rosters");
    const { checkpoint } = certified;
    const { position } = checkpoint;
    const refusal = checkCheckpoint(this.#options.config, committee.organism, certified, this.#eras(committee));
    if (refusal !== undefined) return this.#blame("BAD_CERTIFICATE", refusal.detail, position);
    const outside = position < this.#from || position > committee.position;
    if (checkpoint.generation !== committee.generation || outside) {
      this.#notCovered += 1;
      return undefined;
    }
    const reached = this.#checkpoints.get(position);
    if (reached === undefined || !equalBytes(encode(CHECKPOINT, reached), encode(CHECKPOINT, checkpoint))) {
      const detail =
        reached === undefined
          ? "a certified checkpoint where these entries make none"
          : "the certified checkpoint has another head or state";
      return this.#blame("STATE_DIFFERS", detail, position);
    }
    this.#certified += 1;
    this.#clear(position);
    return undefined;
  }

  #takeOutcome(certified: CertifiedOutcome): LogProblem | undefined {
    const committee = this.#begin();
    if (committee === undefined) return problem("MALFORMED", "an outcome before the rosters");
    const { config } = this.#options;
    const { organism } = committee;
    const { outcome } = certified;
    const named = `${outcome.stage} of slot ${outcome.slot}`;
    const eras = this.#eras(committee);
    const stands =
      outcome.stage === ROSTER_STAGE
        ? "roster" in checkRoster(config, organism, certified, eras)
        : checkOutcome(config, organism, certified, eras) === undefined;
    if (!stands) {
      return this.#blame("BAD_CERTIFICATE", `the certificate of ${named} does not verify`);
    }
    const decided = this.#decided.get(keyOf(outcome));
    const held = decided?.digest ?? digestOf(committee.outcome(outcome.stage, outcome.slot));
    if (outcome.stage === ROSTER_STAGE || held === undefined) {
      this.#notCovered += 1;
      return undefined;
    }
    if (!equalBytes(held, outcomeDigest(outcome))) {
      return this.#blame("OUTCOME_DIFFERS", `the entries decide ${named} otherwise`, decided?.position);
    }
    if (decided?.certified === false) {
      decided.certified = true;
      this.#outcomes += 1;
    }
    return undefined;
  }

  #takeHead({ statement, signature }: Extract<LogRecord, { type: "head" }>): LogProblem | undefined {
    const committee = this.#begin();
    if (committee === undefined) return problem("MALFORMED", "a head before the rosters");
    const { member, position } = statement;
    const known = [...this.#rosters, ...committee.rosters];
    if (!known.some((roster) => verifyHead(roster, { statement, signature }))) {
      return this.#blame("HEAD_DIFFERS", `member ${member} has not signed this`, position, member);
    }
    const head = statement.generation === committee.generation ? committee.headAt(position) : undefined;
    if (head === undefined || position > committee.position) {
      this.#notCovered += 1;
      return undefined;
    }
    const agrees = equalBytes(head, statement.head);
    const before = this.#heads.get(member);
    const parted = this.#heads.has(member) && before === undefined;
    const furthest = before !== undefined && before > position ? before : position;
    this.#heads.set(member, agrees && !parted ? furthest : undefined);
    const faults = committee.quorum.faults;
    // Whoever signed a head vouches for everything before it, and for nothing after it.
    const agreed = [...this.#heads.values()].filter((to) => to !== undefined).sort((a, b) => (a < b ? 1 : -1));
    const vouched = agreed[faults];
    if (vouched !== undefined) this.#clear(vouched);
    if (!agrees && this.#heads.size - agreed.length > faults) {
      return this.#blame("HEAD_DIFFERS", `member ${member} signed another chain`, position, member);
    }
    return undefined;
  }

  #takeEnd(end: Extract<LogRecord, { type: "end" }>): LogProblem | undefined {
    const committee = this.#begin();
    if (committee === undefined) return problem("MALFORMED", "an end before the rosters");
    const { position, head, entries, records } = end;
    if (records !== this.#records - 1 || entries !== this.#entries || position !== committee.position) {
      const detail = `the end says ${entries} entries up to ${position} in ${records} records`;
      return this.#blame(
        "MALFORMED",
        `${detail}; there are ${this.#entries}, ${committee.position}, ${this.#records - 1}`,
      );
    }
    if (!equalBytes(head, committee.head)) {
      return this.#blame("HEAD_DIFFERS", "the end says another chain head than the entries lead to", position);
    }
    this.#ended = true;
    return undefined;
  }
}

function problem(reason: LogFault, detail: string, position?: bigint, author?: number): LogProblem {
  return { reason, detail, position, author };
}

function keyOf({ stage, slot }: Outcome): string {
  return `${stage}/${slot}`;
}

function digestOf(outcome: Outcome | undefined): Uint8Array | undefined {
  return outcome === undefined ? undefined : outcomeDigest(outcome);
}

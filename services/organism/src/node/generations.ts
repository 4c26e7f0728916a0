/**
 * Which generation's log a member reads, and until when (docs/decisions/0030). Looks where a log ends before reading it;
 * stops all reading, doing and saying in it once it has lost what was read, or others show that they have gone on; carries
 * out what the members agree on then, and reads the log of the generation that begins.
 *
 * Where a generation ends is agreed on in `GenerationChange`; what a member does at the end of a log is its own business.
 */
import { equalBytes } from "../codec/codec.ts";
import type { Applied } from "../committee/committee.ts";
import type { Quorum } from "../committee/roster.ts";
import { RulesUnknown } from "../committee/rules.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import { type Log, pause, type Timers } from "../ports.ts";
import type { Appender } from "./appender.ts";
import type { EntryTail } from "./entry-tail.ts";
import type { Birth, GenerationChange } from "./generation-change.ts";
import type { GenerationLog } from "./generation-log.ts";
import type { Halt } from "./halt.ts";
import type { IntegrityWatch } from "./integrity-watch.ts";
import { endOfLog, LogReading, type LogReadingOptions, type Loss } from "./log-reading.ts";
import type { LogState } from "./member-start.ts";
import { watchOthers } from "./others-go-on.ts";
import type { OwnStanding } from "./own-standing.ts";
import type { ReadMarks } from "./read-marks.ts";
import { readOne } from "./read-one.ts";

/** How often a member looks for the log of a generation that has been agreed on, and how many looks lie between two lines about it. */
const PRESENT_PAUSE_MS = 250;
const PRESENT_LOOKS = 120;
/** How long a member that others see on another chain looks for what its own log shows now. */
const FORK_LOOK_MS = 5000;
/** Long enough for everybody's next look at heads. */
const FORK_HEARD_SLOTS = 2;

export interface GenerationsOptions {
  readonly committee: {
    readonly generation: bigint;
    readonly position: bigint;
    readonly quorum: Quorum;
    apply(position: bigint, raw: Uint8Array): Applied;
  };
  readonly log: Pick<GenerationLog, "present" | "use" | "lastPosition" | "consume">;
  /** Opens the log of a later generation. */
  readonly nextLog: ((generation: bigint) => Promise<Log>) | undefined;
  readonly tail: Pick<EntryTail, "read" | "keepFrom"> | undefined;
  readonly marks: Pick<ReadMarks, "furthest" | "forget">;
  /** Without it a lost log stops the member. */
  readonly change:
    | Pick<
        GenerationChange<unknown, unknown, never>,
        "active" | "bound" | "withdraw" | "hear" | "start" | "later" | "began" | "close"
      >
    | undefined;
  readonly integrity: Pick<IntegrityWatch<unknown, unknown, never>, "begin" | "heads" | "blockedAnywhere">;
  readonly standing: Pick<OwnStanding, "checkKey" | "checkRules">;
  /** What says this member's words, once it has said any. */
  readonly appender: () => Pick<Appender, "suspend" | "consumed" | "forget"> | undefined;
  readonly reading: Pick<LogReadingOptions, "deliver" | "signedBy" | "keyOf" | "verify">;
  readonly halt: Halt;
  readonly slotMs: number;
  readonly timers: Timers;
  readonly logger: Logger;
  /** This process has taken part before, in this generation or another. */
  readonly started: () => boolean;
  /** A log is about to be read, up to `target` before the member takes part. */
  readonly onReading: (target: bigint) => void;
  /** Everything is read that was there: the member takes part from here on. */
  readonly onReached: () => Promise<void>;
  /** Makes the beginning of the next generation this member's state. */
  readonly onBirth: (birth: Birth) => Promise<void>;
}

export class Generations {
  readonly #options: GenerationsOptions;
  #reading: LogReading | undefined;
  /** Settles once nothing more is done with the log that was last turned to. */
  #busy: Promise<void> = Promise.resolve();
  /** Settles once what was read before a restart is in the state, or never will be: what is reported of it binds. */
  #recalled: Promise<boolean> = Promise.resolve(true);
  #ending = false;
  #following = false;
  #turning = false;
  /** A look at what others read, and the generation that it is of. */
  #forking: { readonly generation: bigint; readonly looking: Promise<void> } | undefined;

  constructor(options: GenerationsOptions) {
    this.#options = options;
  }

  /** Between two generations: nothing is read, done or said in the log. */
  get ending(): boolean {
    return this.#ending;
  }

  /** Others are on another chain: until it is known what that means, not a word. */
  get forking(): boolean {
    return this.#forking?.generation === this.#options.committee.generation;
  }

  /** Resolves once the log is read that was there, or is known not to be readable; in the end of a generation at once. */
  async begin(state: LogState): Promise<void> {
    if (state === "there") await this.#read();
    // Others can ask this member for the beginning of this generation meanwhile.
    else if (state === "awaited") this.#goOn(() => this.#readWhenPresent());
    else this.lose({ reason: "LOG_LOST", detail: state.lost });
  }

  /** Call it whenever something was applied, and when the member falls silent or is to end. */
  moved(): void {
    this.#reading?.moved();
  }

  /** Resolves once nothing is read any more. Stop what it waits for before. */
  async settled(): Promise<void> {
    await this.#busy;
  }

  /** Reads the log of this generation to its end, and takes part. */
  async #read(): Promise<void> {
    const { committee, log, marks, halt, standing, integrity, change, started, onReading } = this.#options;
    const { generation } = committee;
    // Enough others have said meanwhile that this generation is over, or a later one is read already.
    const over = (): boolean => this.#ending || halt.draining || committee.generation !== generation;
    const target = await endOfLog(log, marks.furthest()).catch((error: unknown) => {
      if (over()) return undefined;
      throw error;
    });
    if (target === undefined || over()) return;
    if (typeof target !== "bigint") return this.lose(target);
    onReading(target);
    const reading = this.#newReading();
    this.#reading = reading;
    this.#busy = reading.run();
    await reading.reaches(target);
    if (over()) return;
    standing.checkKey();
    if (!halt.silent) await integrity.begin();
    // What it sees at its first start others hear before it stops: it is served from here on, and silent in the log.
    if (!started() && this.forking) return;
    if (this.forking) await this.#forking?.looking;
    if (halt.silent || over()) return;
    // It is served meanwhile: others may wait for the same.
    if (change?.bound === true) this.#withdraw(change);
    else await this.#options.onReached();
  }

  #newReading(): LogReading {
    const { committee, log, reading, halt, slotMs, timers, logger } = this.#options;
    return new LogReading({
      ...reading,
      log,
      committee,
      over: () => this.#ending || halt.silent || halt.draining,
      onLost: (loss) => this.lose(loss),
      halt,
      slotMs,
      timers,
      logger,
    });
  }

  /** It has said where this generation ends, and reads on in it: it says nothing here before the others let it. */
  #withdraw(change: NonNullable<GenerationsOptions["change"]>): void {
    const { halt, onReached } = this.#options;
    change
      .withdraw()
      .then(async (free) => {
        if (free === undefined || halt.silent || this.#ending || halt.draining) return;
        if (free) return onReached();
        const detail = "the others hold this member to what it has said about the end of its generation";
        this.lose({ reason: "LOG_LOST", detail });
      })
      .catch((error: unknown) => {
        if (!halt.draining) halt.fail("LOG_LOST", error instanceof Error ? error.message : "it cannot go on");
      });
  }

  /**
   * The generation may be over. From here on nothing is read, done or said in its log; the others are asked, and when
   * a quorum agrees, the next one begins.
   * @param others this member has not seen it itself
   */
  lose({ reason, detail }: Loss, others = false): void {
    const { committee, change, halt, logger } = this.#options;
    if (halt.silent || halt.draining) return;
    if (change === undefined) {
      halt.fail(reason, detail);
      return;
    }
    if (this.#ending) {
      void this.#recalled.then((recalled) => {
        if (recalled) change.start(!others);
      });
      return;
    }
    const { generation, position } = committee;
    logger.error("the log has lost what was read; the members agree where its generation ends", {
      reason,
      problem: detail,
      generation,
      position,
    });
    this.#cease();
    const recall = this.#busy.then(() => this.#recall());
    this.#recalled = recall.catch(() => false);
    this.#busy = this.#orFail(
      recall.then((recalled) => {
        if (recalled) change.start(!others);
      }),
    );
    if (!others) this.#watchOthers();
  }

  #cease(): void {
    this.#ending = true;
    this.#reading?.end();
    this.#options.appender()?.suspend();
    this.moved();
  }

  /** What was read before a restart and is not in the state yet. @returns false when the member ends before all of it is */
  async #recall(): Promise<boolean> {
    const { committee, tail, standing, halt, appender } = this.#options;
    const { generation } = committee;
    for (;;) {
      const position = committee.position + 1n;
      const raw = await tail?.read(generation, position);
      if (halt.draining) return false;
      if (raw === undefined) return true;
      standing.checkRules();
      if (halt.silent) return false;
      const applied = committee.apply(position, raw);
      appender()?.consumed(applied);
    }
  }

  /** It may have lost its own view only. */
  #watchOthers(): void {
    const { committee, marks, integrity, halt, slotMs, timers, logger } = this.#options;
    const { generation } = committee;
    watchOthers({
      furthest: marks.furthest(),
      integrity,
      quorum: () => committee.quorum,
      // A committee that goes on writes something in every slot.
      everyMs: slotMs,
      over: () => !this.#ending || halt.draining || committee.generation !== generation,
      onGoOn: () => this.#forgetOwnView(),
      timers,
      logger,
    });
  }

  /**
   * What it has read since its last certified snapshot is not what a quorum goes on with: it is read anew, by the next process.
   * Its promises stay.
   */
  async #forgetOwnView(): Promise<void> {
    const { committee, change, tail, marks, halt } = this.#options;
    const { generation, position } = committee;
    await change?.close();
    await tail?.keepFrom(generation + 1n, 0n);
    await marks.forget();
    halt.fail("OTHERS_GO_ON", `a quorum reads on past position ${position}, which this member does not: it reads anew`);
  }

  /** f + 1 others are on another chain: either the stream has replaced what this member read, or the broker forks. */
  forked(detail: string): void {
    if (this.forking) return;
    const { committee, halt, logger } = this.#options;
    const { generation } = committee;
    const looking = this.#lookAtFork(detail)
      .catch((error: unknown) => {
        if (halt.silent) throw error;
        if (this.#ending || halt.draining || committee.generation !== generation) return;
        // What the others have read is known without it.
        logger.error("what the log shows now cannot be looked at", errorFields(error));
        halt.fail("LOG_FORKED", detail);
      })
      .finally(() => {
        if (this.#forking?.looking === looking) this.#forking = undefined;
      });
    this.#forking = { generation, looking };
  }

  async #lookAtFork(detail: string): Promise<void> {
    if (this.#ending) return;
    const { committee, log, tail, change, halt, slotMs, timers, started } = this.#options;
    const { generation, position } = committee;
    // What was seen of a generation says nothing of the next one, which may begin while it is looked at.
    const over = (): boolean => this.#ending || halt.draining || committee.generation !== generation;
    const kept = await tail?.read(generation, position).catch(() => undefined);
    if (over()) return;
    if (change !== undefined && kept !== undefined) {
      const now = await readOne(log, position, { timers, withinMs: FORK_LOOK_MS }).catch(() => undefined);
      if (over()) return;
      if (now !== undefined && !equalBytes(now, kept)) {
        const what = `the log holds something else at position ${position} than what was read`;
        return this.lose({ reason: "LOG_REPLACED", detail: what });
      }
    }
    // The others may be agreeing on the end, and need what this member has read.
    await change?.hear();
    // Who stops again at each start would never be heard by those on the other chain, who compare heads once a slot.
    if (!started() && !over()) await pause(timers, FORK_HEARD_SLOTS * slotMs, halt.signal);
    if (!over()) halt.fail("LOG_FORKED", detail);
  }

  /** Somebody says that the generation is over. Only a certificate shows it: then this member goes on there. */
  async follow(): Promise<void> {
    const { committee, change, halt, logger } = this.#options;
    if (change === undefined || this.#following || this.#ending || halt.draining || halt.silent) return;
    const { generation } = committee;
    this.#following = true;
    try {
      const found = await change.later();
      if (found === undefined || this.#ending || halt.draining || committee.generation !== generation) return;
      this.#cease();
      await this.#busy;
      await this.turn({ certified: found.certified, state: found.state, applied: undefined });
    } catch (error) {
      if (error instanceof RulesUnknown) return halt.fail("RULES_UNKNOWN", error.message);
      logger.warn("a later generation cannot be taken from a peer", errorFields(error));
      // Nothing is read any more, and it is not in the later one either: it asks again until it is.
      if (this.#ending) change.start(false);
    } finally {
      this.#following = false;
    }
  }

  /** The next generation, certified by a quorum: goes on from its beginning. Whoever comes second, of two who show it, is late. */
  async turn(birth: Birth): Promise<void> {
    const { committee, log, change, halt, onBirth } = this.#options;
    const { generation } = birth.certified.checkpoint;
    if (this.#turning || generation <= committee.generation) return;
    this.#turning = true;
    try {
      await onBirth(birth);
    } finally {
      this.#turning = false;
    }
    if (halt.draining || halt.silent) return;
    change?.began();
    this.#goOn(async () => {
      const next = await this.#open(generation);
      if (next === undefined) return;
      await log.use(next, generation);
      await this.#readWhenPresent();
    });
  }

  /**
   * The log of a later generation, which may take as long as its broker is away: a member that ends does not wait for it.
   * @returns undefined when nothing is to be read there any more
   */
  async #open(generation: bigint): Promise<Log | undefined> {
    const { committee, nextLog, halt } = this.#options;
    const opened = nextLog?.(generation);
    if (opened === undefined) return undefined;
    const stopped = new Promise<undefined>((resolve) => {
      if (halt.signal.aborted) resolve(undefined);
      halt.signal.addEventListener("abort", () => resolve(undefined), { once: true });
    });
    const next = await Promise.race([opened, stopped]);
    if (next !== undefined && !halt.draining && committee.generation === generation) return next;
    // Nobody reads it: it is closed whenever it comes.
    opened.then((late) => late.close()).catch(() => undefined);
    return undefined;
  }

  #goOn(read: () => Promise<void>): void {
    this.#ending = true;
    this.#busy = this.#orFail(read());
  }

  #orFail(doing: Promise<void>): Promise<void> {
    const { halt } = this.#options;
    return doing.catch((error: unknown) => {
      if (halt.draining) return;
      const detail = error instanceof Error ? error.message : "what was read cannot be gone on with";
      halt.fail("LOG_LOST", detail);
    });
  }

  /** The log of this generation is made by whoever runs the broker, once a member shows the certificate of its beginning. */
  async #readWhenPresent(): Promise<void> {
    const { committee, log, change, halt, timers, logger } = this.#options;
    const { generation } = committee;
    for (let looks = 0; !(await log.present()); looks++) {
      if (looks % PRESENT_LOOKS === 0) logger.warn("waiting for the log of a generation", { generation });
      await pause(timers, PRESENT_PAUSE_MS, halt.signal);
      if (halt.draining || committee.generation !== generation) return;
    }
    if (halt.draining || committee.generation !== generation) return;
    // The others have read and lost it: a stream that is made anew under its name is no log of it.
    if (change?.active === true) return;
    this.#ending = false;
    await this.#read();
  }
}

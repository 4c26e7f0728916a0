/**
 * One reading of a generation's log, from where the committee stands until somebody ends it: verifies bursts beside the event
 * loop, hands on every message in its order, and tells a log that has lost what was read from one that is only silent.
 */
import type { ReadEntry } from "../committee/entry.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import { everyWhenDone, HistoryGone, type Log, LogLost, type LogMessage, type Timers } from "../ports.ts";
import type { Halt } from "./halt.ts";
import { Intake, type IntakeOptions } from "./intake.ts";

/** Why the generation may be over: its log does not hold what was read of it. */
export interface Loss {
  readonly reason: "LOG_LOST" | "LOG_ROLLED_BACK" | "LOG_REPLACED";
  readonly detail: string;
}

/** How often at most it is looked whether anything came. */
const LOOK_MS = 1000;

export interface LogReadingOptions extends Pick<IntakeOptions, "signedBy" | "keyOf" | "verify"> {
  readonly log: Pick<Log, "consume" | "lastPosition">;
  /** How far was applied: the committee itself. */
  readonly committee: { readonly position: bigint };
  readonly deliver: (message: LogMessage, read: ReadEntry | undefined) => void;
  /** Nothing is to be read any more: the member ends, or the generation does. */
  readonly over: () => boolean;
  readonly onLost: (loss: Loss) => void;
  readonly halt: Pick<Halt, "fail" | "signal" | "silent">;
  readonly slotMs: number;
  readonly timers: Timers;
  readonly logger: Logger;
}

export class LogReading {
  readonly #options: LogReadingOptions;
  readonly #reading = new AbortController();
  #moved: () => void = () => undefined;

  constructor(options: LogReadingOptions) {
    this.#options = options;
  }

  /** Resolves once nothing more is handed on, whatever the reason, which is told before. */
  async run(): Promise<void> {
    const { log, committee, deliver, signedBy, keyOf, verify, timers, halt, onLost } = this.#options;
    const reading = this.#reading.signal;
    const signal = AbortSignal.any([halt.signal, reading]);
    const intake = new Intake({
      deliver: (message, read) => {
        if (reading.aborted) return;
        try {
          deliver(message, read);
        } catch (error) {
          if (halt.silent) throw error;
          this.#failed(message, error);
        }
      },
      signedBy,
      keyOf,
      timers,
      verify,
    });
    try {
      await log
        .consume(committee.position + 1n, (message) => intake.take(message), signal)
        // Whatever ends the reading comes after what was read.
        .finally(() => intake.drained());
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof HistoryGone) halt.fail("HISTORY_GONE", error.message);
      else if (error instanceof LogLost && error.history) onLost({ reason: "LOG_LOST", detail: error.message });
      else halt.fail("LOG_LOST", error instanceof Error ? error.message : "the log cannot be read");
    }
  }

  /** Half of it may be in the state: were it handed on again, as a log does that is read on, this member would go another way than the others. */
  #failed({ position }: LogMessage, error: unknown): void {
    const { halt } = this.#options;
    this.end();
    const problem = error instanceof Error ? error.message : String(error);
    halt.fail("APPLY_FAILED", `the entry at position ${position} cannot be applied: ${problem}`);
  }

  /** Resolves once everything up to `target` is applied, or nothing is to be read any more. */
  async reaches(target: bigint): Promise<void> {
    const { committee, over } = this.#options;
    const reached = new Promise<void>((resolve) => {
      this.#moved = () => {
        if (committee.position >= target || over()) resolve();
      };
      this.#moved();
    });
    const stopLooking = this.#watchEnd(target);
    await reached;
    stopLooking();
    this.#moved = () => undefined;
  }

  /** Call it whenever something was applied, or when what is `over` may have changed. */
  moved(): void {
    this.#moved();
  }

  /** Nothing more is handed on. */
  end(): void {
    this.#reading.abort();
  }

  /** A log that is put back while it is read may never get to `target` again. @returns what ends looking */
  #watchEnd(target: bigint): () => void {
    const { log, committee, timers, slotMs, over, onLost, logger } = this.#options;
    let before = committee.position;
    const look = async (): Promise<void> => {
      const { position } = committee;
      if (position > before) {
        before = position;
        return;
      }
      logger.warn("waiting for the log", { position, to_position: target });
      const last = await log.lastPosition(target);
      if (last >= target || over() || committee.position >= target) return;
      const detail = `the log ends at ${last}, it ended at ${target} when this member began to read it`;
      onLost({ reason: "LOG_ROLLED_BACK", detail });
    };
    return everyWhenDone(timers, Math.max(slotMs, LOOK_MS), () =>
      look().catch((error: unknown) => {
        if (error instanceof LogLost && error.history) onLost({ reason: "LOG_LOST", detail: error.message });
        else logger.warn("the end of the log cannot be asked for", errorFields(error));
      }),
    );
  }
}

/**
 * Where a log ends, before anything of it is read; or that it has lost what was.
 * @param read how far this member is known to have read it
 */
export async function endOfLog(log: Pick<Log, "lastPosition">, read: bigint): Promise<bigint | Loss> {
  try {
    const last = await log.lastPosition(read);
    if (last >= read) return last;
    return { reason: "LOG_ROLLED_BACK", detail: `the log ends at ${last}, this member has applied ${read}` };
  } catch (error) {
    if (!(error instanceof LogLost) || !error.history) throw error;
    return { reason: "LOG_LOST", detail: error.message };
  }
}

/** Starts processes of a local lattice again when they end by themselves, as an operator's supervisor would. */
import { EXIT } from "@lattice/organism/node/exit.ts";
import type { ManagedProcess } from "./processes.ts";

const FIRST_PAUSE_MS = 2000;
const LONGEST_PAUSE_MS = 60_000;
/** Whoever has run for so long begins with the shortest pause again. */
const SOUND_MS = 120_000;

/**
 * How long to wait before a process is started again; undefined: it stays down.
 * @param code what it ended with; null when a signal ended it: somebody wants it down
 * @param failures how often in a row it has failed before
 * @param persistent whether a failure is tried again: with stewards, a member whose key was blocked comes back with its standby's
 */
export function pauseBeforeRestartMs(code: number | null, failures: number, persistent: boolean): number | undefined {
  if (code === EXIT.again) return 0;
  if (code !== EXIT.failed || !persistent) return undefined;
  return Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures);
}

export class Supervisor {
  readonly #persistent: boolean;
  readonly #say: (line: string) => void;
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(options: { readonly persistent: boolean; readonly say: (line: string) => void }) {
    this.#persistent = options.persistent;
    this.#say = options.say;
  }

  watch(process: ManagedProcess): void {
    const { name } = process;
    let failures = 0;
    let startedAt = performance.now();
    const restart = (): void => {
      if (process.running) return;
      this.#say(`${name} is started again`);
      startedAt = performance.now();
      process.start();
    };
    process.onExit = (code) => {
      this.#say(`${name} ended by itself (exit code ${code ?? "none"}): ${process.tail(2)}`);
      if (performance.now() - startedAt > SOUND_MS) failures = 0;
      const pauseMs = pauseBeforeRestartMs(code, failures, this.#persistent);
      if (pauseMs === undefined) return;
      if (pauseMs === 0) return restart();
      failures += 1;
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        restart();
      }, pauseMs);
      this.#timers.add(timer);
    };
  }

  /** Whoever waits to be started again stays down. */
  release(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }
}

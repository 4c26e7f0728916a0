/** Exit codes of every process and command of the project (docs/operators.md). */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  degraded: 3,
  timedOut: 4,
  precondition: 5,
  /** Ended so that it can load its state anew: start it again at once. */
  again: 6,
  interrupted: 130,
} as const;

/** What such a member needs is elsewhere and certified: the log, or the others, have gone on without it. */
const LEFT_BEHIND: ReadonlySet<string> = new Set(["HISTORY_GONE", "OTHERS_GO_ON"]);

/**
 * How a member ends that must not go on, by its reason; everything else wants to be looked at.
 */
export function exitCodeOf(reason: string): number {
  if (reason === "RULES_UNKNOWN") return EXIT.precondition;
  return LEFT_BEHIND.has(reason) ? EXIT.again : EXIT.failed;
}

/** Exit codes of every process and command of the project (docs/operators.md). */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  degraded: 3,
  timedOut: 4,
  precondition: 5,
  interrupted: 130,
} as const;

/** Seeds that have found a bug, and what it was: they are run with every change. */
export interface Regression {
  readonly seed: number;
  readonly slots: number;
  /** What was wrong, in the past tense. */
  readonly found: string;
}

export const REGRESSIONS: readonly Regression[] = [];

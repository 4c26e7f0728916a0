/** A member's wall clock; in a throw-away lattice it may be made wrong, to see what a wrong clock does. */
import { readFileSync } from "node:fs";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Clock } from "../ports.ts";
import { KitProblem } from "./kit.ts";

const LOOK_AGAIN_MS = 200;

/**
 * Unix time in ms. With `file`, plus the whole number of ms that stands there, looked up several times a second; a file
 * that is absent or holds anything else means a right clock, and `=<ms>` one that stands still at that time.
 * @throws KitProblem when a file is named and the lattice is not throw-away
 */
export function memberClock(file: string | undefined, config: Pick<LatticeConfig, "throwAway">): Clock {
  if (file === undefined) return { nowMs: () => Date.now() };
  if (!config.throwAway)
    throw new KitProblem("LATTICE_TEST_CLOCK_FILE: only a throw-away lattice may have wrong clocks");
  let lookedAt = Number.NEGATIVE_INFINITY;
  let wrong: (nowMs: number) => number = (nowMs) => nowMs;
  return {
    nowMs: () => {
      const monotonic = performance.now();
      if (monotonic - lookedAt > LOOK_AGAIN_MS) {
        lookedAt = monotonic;
        wrong = readWrongness(file);
      }
      return wrong(Date.now());
    },
  };
}

function readWrongness(file: string): (nowMs: number) => number {
  let text: string;
  try {
    text = readFileSync(file, "utf8").trim();
  } catch {
    return (nowMs) => nowMs;
  }
  const match = /^(=?)(-?\d{1,15})$/.exec(text);
  const value = Number(match?.[2] ?? 0);
  return match?.[1] === "=" ? () => value : (nowMs) => nowMs + value;
}

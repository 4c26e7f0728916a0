/** Runs the cases of one target and reports. Each case has a seed of its own, so one can be repeated alone. */
import { Dice } from "./dice.ts";
import type { OpenTarget, Target } from "./target.ts";

export interface Report {
  readonly target: string;
  readonly cases: number;
  readonly refused: number;
  readonly accepted: number;
  readonly seconds: number;
  readonly findings: readonly { readonly case: number; readonly problem: string; readonly input: string }[];
}

export interface RunOptions {
  readonly cases: number;
  readonly seed: string;
  /** Only this case. */
  readonly only?: number;
}

/**
 * A case that takes longer hangs, or is an invitation to be overloaded. Of processor time: how long it takes by the clock is
 * the machine's business.
 */
const CASE_MS_MAX = 3000;
/** A target that fails everywhere need not be tried further. */
const FINDINGS_MAX = 20;

export async function runTarget(target: Target, { cases, seed, only }: RunOptions): Promise<Report> {
  const startedMs = performance.now();
  const open = await target.open(new Dice(`${seed}/${target.name}`));
  const counts = { refused: 0, accepted: 0 };
  const findings: { case: number; problem: string; input: string }[] = [];
  let done = 0;
  try {
    for (let n = only ?? 0; n < (only === undefined ? cases : only + 1); n++) {
      const problem = await one(open, new Dice(`${seed}/${target.name}/${n}`), n, counts);
      done += 1;
      if (problem !== undefined) findings.push({ case: n, problem, input: open.lastInput?.() ?? "" });
      if (findings.length >= FINDINGS_MAX) break;
    }
  } finally {
    await open.close?.();
  }
  return { target: target.name, cases: done, ...counts, seconds: (performance.now() - startedMs) / 1000, findings };
}

async function one(
  open: OpenTarget,
  dice: Dice,
  n: number,
  counts: { refused: number; accepted: number },
): Promise<string | undefined> {
  const started = process.cpuUsage();
  let timer: NodeJS.Timeout | undefined;
  try {
    const answer = open.run(dice, n);
    const verdict =
      answer instanceof Promise
        ? await Promise.race([
            answer,
            new Promise<never>((_, reject) => {
              timer = setTimeout(() => reject(new Error("no answer: it hangs")), 10 * CASE_MS_MAX);
            }),
          ]).finally(() => clearTimeout(timer))
        : answer;
    counts[verdict] += 1;
    const { user, system } = process.cpuUsage(started);
    const tookMs = (user + system) / 1000;
    return tookMs > CASE_MS_MAX ? `took ${tookMs.toFixed(0)} ms of processor time` : undefined;
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}\n${error.stack ?? ""}` : String(error);
  }
}

/** What a cell's result looks like: a line for people, a row for programs, and a table of many runs' rows. */
import type { CellResult } from "./run-cells.ts";

const MARKS = { passed: "✓", failed: "×", void: "○" } as const;

/** For people. */
export function resultLine(each: CellResult): string {
  const { cell, result, slotsLost, recoverySlots, acknowledged, silenceMs, reasons, lostAt } = each;
  const resumed = each.resumedAfterMs === null ? "" : `, consumption back ${each.resumedAfterMs} ms after the broker`;
  const stages = Object.entries(lostAt).map(([where, count]) => `${count} ${where}`);
  const figures = `lost ${slotsLost ?? "?"}, back after ${recoverySlots ?? "?"} slots, ${acknowledged} acknowledged, longest silence ${(silenceMs / 1000).toFixed(1)} s${resumed}, load ${each.load}`;
  const why = reasons.length === 0 ? "" : `: ${reasons.slice(0, 3).join("; ")}`;
  return `${MARKS[result]} ${cell} (${figures})${stages.length === 0 ? "" : ` [${stages.join(", ")}]`}${why}`;
}

/** For programs. */
export function resultRow(each: CellResult) {
  return {
    cell: each.cell,
    family: each.family,
    injects: each.injects,
    result: each.result,
    reasons: each.reasons,
    slots_lost: each.slotsLost,
    recovery_slots: each.recoverySlots,
    lost_at: each.lostAt,
    acknowledged: each.acknowledged,
    silence_ms: each.silenceMs,
    resumed_after_ms: each.resumedAfterMs,
    load: each.load,
    slots: each.slots,
  };
}

interface NotedCell {
  readonly cell: string;
  readonly family: string;
  readonly result: string;
  readonly slots_lost: number | null;
  readonly recovery_slots: number | null;
  readonly resumed_after_ms: number | null;
  /** Absent from runs of earlier versions. */
  readonly load?: number;
  readonly run: string;
}

/**
 * A Markdown table of a `--out` file: a line a cell, its last run, and how its runs before that one ended.
 * @param text one row a line; of two with the same run and cell the later one counts
 */
export function tableOf(text: string): string {
  const runs = new Map<string, Map<string, NotedCell>>();
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    const row = JSON.parse(line) as NotedCell;
    const own = runs.get(row.cell) ?? new Map<string, NotedCell>();
    own.set(row.run, row);
    runs.set(row.cell, own);
  }
  const rows = [...runs.values()].map((own) => [...own.values()]);
  const lines = rows.flatMap((own) => {
    const last = own.at(-1);
    if (last === undefined) return [];
    const before = own.slice(0, -1).map(({ result }) => result);
    const ended = `${last.result}${before.length === 0 ? "" : ` (before: ${before.join(", ")})`}`;
    const back = last.resumed_after_ms === null ? "" : `${last.resumed_after_ms} ms`;
    const figures = `${last.slots_lost ?? "–"} / ${last.recovery_slots ?? "–"}`;
    return [`| ${last.family} | ${last.cell} | ${ended} | ${figures} | ${back} | ${last.load ?? ""} |`];
  });
  const family = (line: string): number => Number(/F(\d+)/.exec(line)?.[1] ?? 0);
  lines.sort((a, b) => family(a) - family(b));
  return `| | cell | went | lost / back | consumption | load |\n|---|---|---|---|---|---|\n${lines.join("\n")}\n`;
}

/** `npm run e2e -- faults …`: see USAGE. */
import { appendFileSync, readFileSync } from "node:fs";
import { chooseMode, onInterrupt } from "@lattice/deploy/local/session.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readArguments, usageError } from "../command-line.ts";
import { ScenarioContext, ScenarioFailure } from "../scenarios/scenario.ts";
import type { Cell } from "./cell.ts";
import { resultLine, resultRow, tableOf } from "./cell-report.ts";
import { BASELINE, CELLS } from "./cells.ts";
import { namespacesPermitted, runInNamespace } from "./network-namespace.ts";
import { inOwnNamespace, PacketFilter } from "./packet-filter.ts";
import { type BatchResult, type CellResult, runCells } from "./run-cells.ts";

const USAGE =
  "usage: npm run e2e -- faults [--cell NAME…] [--list] [--json] [--seed N] [--slot-ms N] [--minutes N] [--out FILE] [--network namespace|links] [--keep], or: faults --table FILE";
const SLOT_MS = 4000;

function usage(problem: string): never {
  return usageError(USAGE, problem);
}

function argumentsOf(args: readonly string[]) {
  return readArguments(USAGE, {
    args: [...args],
    allowPositionals: true,
    options: {
      cell: { type: "string", multiple: true, default: [] },
      list: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
      seed: { type: "string", default: "1" },
      "slot-ms": { type: "string", default: String(SLOT_MS) },
      minutes: { type: "string" },
      network: { type: "string" },
      out: { type: "string" },
      table: { type: "string" },
    },
  });
}

/**
 * Who cuts and loses: the kernel, in a network namespace that the run has for itself, or the TCP relays of the links.
 * `entered` is what a run is told that has been started inside.
 */
function networkOf(wanted: string | undefined): "namespace" | "links" | "entered" {
  if (wanted === undefined) return namespacesPermitted() ? "namespace" : "links";
  if (wanted === "namespace" || wanted === "links" || (wanted === "entered" && inOwnNamespace())) return wanted;
  return usage("--network: namespace or links is expected");
}

/** @returns the exit code */
async function enter(args: readonly string[], say: (line: string) => void): Promise<number> {
  if (!namespacesPermitted()) {
    say("--network namespace: a network namespace with iptables needs root; --network links does without");
    return EXIT.precondition;
  }
  // Inside there is no network to fetch a broker from.
  await chooseMode(false, say);
  const script = process.argv[1] ?? "";
  return runInNamespace([process.execPath, script, "faults", ...args, "--network", "entered"]);
}

/** Cells by name or by family (`F8`), all when none is named, the one without a fault before them. */
export function chosenCells(wanted: readonly string[]): readonly Cell[] {
  if (wanted.length === 0) return CELLS;
  const chosen = wanted.flatMap((name) => {
    const found = CELLS.filter((cell) => cell.name === name || cell.family === name);
    if (found.length === 0) usage(`no cell ${name}; --list names them`);
    return found;
  });
  return [BASELINE, ...chosen.filter((cell) => cell !== BASELINE)];
}

function list(json: boolean): void {
  if (json) {
    const rows = CELLS.map(({ name, family, injects, bound }) => ({ name, family, injects, bound }));
    process.stdout.write(`${JSON.stringify({ schema_version: 1, cells: rows }, null, 2)}\n`);
    return;
  }
  const width = Math.max(...CELLS.map(({ name }) => name.length));
  for (const { name, family, injects } of CELLS)
    process.stdout.write(`${family.padEnd(3)}  ${name.padEnd(width)}  ${injects}\n`);
}

/** @returns the exit code */
export async function runFaults(args: readonly string[]): Promise<number> {
  const { values, positionals } = argumentsOf(args);
  if (positionals.length > 0) usage(`${positionals[0]}: cells are named with --cell`);
  if (values.table !== undefined) {
    process.stdout.write(tableOf(readFileSync(values.table, "utf8")));
    return EXIT.ok;
  }
  const slotMs = Number(values["slot-ms"]);
  if (!Number.isInteger(slotMs) || slotMs < 1000 || slotMs > 60_000) usage("--slot-ms: 1000 to 60000 is expected");
  const seed = Number(values.seed);
  if (!Number.isSafeInteger(seed) || seed < 0) usage("--seed: a whole number is expected");
  const startedAtMs = Date.now();
  const minutes = values.minutes === undefined ? undefined : Number(values.minutes);
  if (minutes !== undefined && !(minutes > 0)) usage("--minutes: a number above 0 is expected");
  if (values.list) {
    list(values.json);
    return EXIT.ok;
  }
  const cells = chosenCells(values.cell);
  const say = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };
  const show = (line: string): void => {
    (values.json ? process.stderr : process.stdout).write(`${line}\n`);
  };
  const network = networkOf(values.network);
  if (network === "namespace") return enter(args, say);
  const kind = network === "entered" ? "namespace" : "links";
  say(`cuts and loss: ${kind === "namespace" ? "dropped packets, in a network namespace" : "TCP relays"}`);
  // One line a cell as it ends, and again when the run has been judged: the last line of a cell counts.
  const note = (each: CellResult, judged: boolean): void => {
    if (values.out === undefined) return;
    const at = new Date(startedAtMs).toISOString();
    const run = { run: at, seed, slot_ms: slotMs, network: kind, judged };
    appendFileSync(values.out, `${JSON.stringify({ ...run, ...resultRow(each) })}\n`);
  };
  const abort = new AbortController();
  const off = onInterrupt(abort, say);
  const context = new ScenarioContext({ slotMs, say, signal: abort.signal });
  let batch: BatchResult;
  try {
    batch = await runCells(context, cells, {
      seed,
      ...(kind === "namespace" ? { filter: new PacketFilter() } : {}),
      smallDisks: cells.some(({ smallDisks }) => smallDisks === true),
      ...(minutes === undefined ? {} : { cellsMs: minutes * 60_000 }),
      onResult: (result) => {
        show(resultLine(result));
        note(result, false);
      },
    });
  } catch (error) {
    if (abort.signal.aborted) return EXIT.interrupted;
    if (!(error instanceof ScenarioFailure)) throw error;
    say(error.message);
    return EXIT.precondition;
  } finally {
    await context.end(values.keep);
    off();
  }
  for (const each of batch.cells) note(each, true);
  const count = (wanted: CellResult["result"]): number => batch.cells.filter(({ result }) => result === wanted).length;
  const [passed, failed, nothing] = [count("passed"), count("failed"), count("void")];
  for (const problem of batch.problems) show(`× ${problem}`);
  if (values.json) {
    const rows = batch.cells.map(resultRow);
    const report = {
      schema_version: 1,
      seed,
      slot_ms: slotMs,
      network: kind,
      duration_ms: Date.now() - startedAtMs,
      passed,
      failed,
      void: nothing,
      acknowledged: batch.acknowledged,
      problems: batch.problems,
      cells: rows,
    };
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  }
  show(`${passed} passed, ${failed} failed, ${nothing} void; ${batch.acknowledged} operations in the ledger`);
  if (abort.signal.aborted) return EXIT.interrupted;
  // A cell in which too little happened shows nothing: not green.
  return failed === 0 && nothing === 0 && passed > 0 && batch.problems.length === 0 ? EXIT.ok : EXIT.failed;
}

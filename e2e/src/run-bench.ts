/**
 * `npm run bench [-- --json] [-- <part of a name>]`: every `*.bench.ts` that exports `bench()`, one after another, each in
 * a process of its own, against its peer in the same run. Medians and ratios for people; raw rows with `--json`.
 */
import { spawn } from "node:child_process";
import { glob } from "node:fs/promises";
import { availableParallelism, cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readArguments, usageError } from "./command-line.ts";

const USAGE = `usage: npm run bench -- [PART OF A NAME…] [--json]
Each benchmark runs its peer and us in one run. Medians and ratios; raw rows with --json.`;

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const DEADLINE_MS = 600_000;

/** What the project aims at, by benchmark: its `ratio` against the peer measured beside it. */
const AIMS: Readonly<Record<string, { readonly at: "most" | "least"; readonly ratio: number; readonly what: string }>> =
  {
    checkpoint: { at: "most", ratio: 0.5, what: "a checkpoint's pause over the same two encodings made plainly" },
    ceremony: { at: "most", ratio: 1, what: "5-of-7 key generation over 3 s, resharing over 2 s: the larger" },
    join: { at: "most", ratio: 1, what: "a fresh member's join with a 10 MB snapshot over 5 s" },
    "log-cluster": {
      at: "least",
      ratio: 0.7,
      what: "throughput at 64 in flight on three replicas, over JetStream + fsync + signature",
    },
    restart: { at: "most", ratio: 1, what: "restart with 100,000 entries, 1,000 after the snapshot, over 2 s" },
    log: { at: "most", ratio: 1.2, what: "append → applied on all members, over JetStream + fsync + signature" },
    pads: { at: "least", ratio: 0.35, what: "pads' throughput over raw AES-128-CTR" },
    ibe: { at: "least", ratio: 5, what: "tlock-js's time a message over ours" },
    unary: { at: "most", ratio: 1.5, what: "a unary read over bare grpc-js" },
  };

type Json = Readonly<Record<string, unknown>>;

interface Row {
  readonly file: string;
  readonly name: string;
  readonly seconds: number;
  readonly result?: Json;
  readonly problem?: string;
}

/** Runs one benchmark in this process and prints its result as the last line. */
async function one(file: string): Promise<void> {
  const module = (await import(pathToFileURL(file).href)) as { bench?: () => Promise<unknown> | unknown };
  if (typeof module.bench !== "function") process.exit(EXIT.precondition);
  const result = await module.bench();
  process.stdout.write(`\n${JSON.stringify(result)}\n`, () => process.exit(EXIT.ok));
}

function runOne(file: string): Promise<Row> {
  const name = file.slice(file.lastIndexOf("/") + 1).replace(/\.bench\.ts$/, "");
  const startedAtMs = Date.now();
  return new Promise((resolve) => {
    const child = spawn(
      process.execPath,
      ["--disable-warning=ExperimentalWarning", fileURLToPath(import.meta.url), "--one", join(ROOT, file)],
      { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"], timeout: DEADLINE_MS },
    );
    let out = "";
    let err = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    child.once("close", (code) => {
      const seconds = (Date.now() - startedAtMs) / 1000;
      if (code === EXIT.precondition) {
        resolve({ file, name, seconds, result: { note: `measures by itself: node ${file}` } });
        return;
      }
      try {
        const parsed: unknown = JSON.parse(out.trimEnd().split("\n").at(-1) ?? "");
        const result = Array.isArray(parsed) ? { rows: parsed } : (parsed as Json);
        resolve({ file, name: typeof result["name"] === "string" ? result["name"] : name, seconds, result });
      } catch {
        const line = err.split("\n").find((each) => each.includes("Error")) ?? `ended with exit code ${code}`;
        resolve({ file, name, seconds, problem: line.trim() });
      }
    });
  });
}

const number = (value: number): string =>
  Number.isInteger(value) ? String(value) : Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);

/** One value in a line: numbers short, lists of numbers as their count and median. */
function shown(value: unknown): string {
  if (typeof value === "number") return number(value);
  if (Array.isArray(value) && value.every((each) => typeof each === "number")) {
    const sorted = (value as number[]).toSorted((a, b) => a - b);
    return `median ${number(sorted[sorted.length >> 1] ?? Number.NaN)} of ${sorted.length}`;
  }
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function linesOf({ name, file, seconds, result, problem }: Row): string[] {
  const head = `${name}  (${file}, ${seconds.toFixed(0)} s)`;
  if (result === undefined) return [head, `  failed: ${problem ?? "no result"}`];
  const lines = [head];
  for (const [key, value] of Object.entries(result)) {
    if (key === "name") continue;
    if (key !== "rows" || !Array.isArray(value)) {
      lines.push(`  ${key}: ${shown(value)}`);
      continue;
    }
    for (const row of value as readonly unknown[]) {
      if (typeof row !== "object" || row === null) lines.push(`  - ${shown(row)}`);
      else
        lines.push(
          `  - ${Object.entries(row)
            .map(([field, cell]) => (typeof cell === "string" ? cell : `${field} ${shown(cell)}`))
            .join(", ")}`,
        );
    }
  }
  const { aim, met } = aimOf(name, result);
  if (aim !== undefined) lines.push(`  aim: ${aim}: ${met ? "met" : "missed"}`);
  return lines;
}

function aimOf(name: string, result: Json): { readonly aim?: string; readonly met?: boolean } {
  const aim = AIMS[name];
  const ratio = result["ratio"];
  if (aim === undefined || typeof ratio !== "number") return {};
  const met = aim.at === "most" ? ratio <= aim.ratio : ratio >= aim.ratio;
  return { aim: `ratio at ${aim.at} ${aim.ratio} (${aim.what}), measured ${number(ratio)}`, met };
}

const { values, positionals } = readArguments(USAGE, {
  allowPositionals: true,
  options: { json: { type: "boolean", default: false }, one: { type: "string" } },
});
if (values.one !== undefined) await one(values.one);
else {
  const files: string[] = [];
  for await (const file of glob("{services/*,gateway,deploy,e2e}/src/**/*.bench.ts", { cwd: ROOT })) files.push(file);
  const wanted = files.sort().filter((file) => positionals.every((part) => file.includes(part)));
  if (wanted.length === 0) usageError(USAGE, `no benchmark is called ${positionals.join(" ")}`);
  const rows: Row[] = [];
  for (const file of wanted) {
    process.stderr.write(`${file} …\n`);
    const row = await runOne(file);
    rows.push(row);
    if (!values.json) process.stdout.write(`${linesOf(row).join("\n")}\n\n`);
  }
  if (values.json) {
    const machine = {
      cpus: availableParallelism(),
      model: cpus()[0]?.model ?? "unknown",
      memory_mb: Math.round(totalmem() / 1e6),
      node: process.version,
    };
    const benchmarks = rows.map((row) => ({ ...row, ...aimOf(row.name, row.result ?? {}) }));
    process.stdout.write(`${JSON.stringify({ schema_version: 1, machine, benchmarks }, null, 2)}\n`);
  }
  process.exit(rows.every(({ result }) => result !== undefined) ? EXIT.ok : EXIT.failed);
}

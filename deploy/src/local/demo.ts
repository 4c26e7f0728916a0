/**
 * `npm run demo`: a lattice from nothing, N slots of it, and down again; what happened as one JSON object. Whether it was
 * right is not for this program to say: a separate one judges the exported outcomes and the chain.
 */
import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { type LatticeConfig, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { slotTraceIds } from "@lattice/organism/observe/tracing.ts";
import { callJsonRpc } from "../chain/json-rpc-call.ts";
import { type Arrival, type Collector, IN_SLOT, STAGES } from "./collector.ts";
import { exportRun, readTraffic, type SlotRange, writeExport } from "./export.ts";
import type { LocalLattice, Mode } from "./lattice.ts";
import { residentMbOf } from "./memory.ts";
import { type OutcomeDetails, outcomeDetails } from "./outcome-details.ts";
import { chooseMode, Interrupted, newDirectory, onInterrupt, ROOT, Session, shownPath } from "./session.ts";
import { SlotTable } from "./table.ts";
import type { LedgerLine } from "./traffic/ledger.ts";
import { identityLines, readable } from "./up.ts";

export interface DemoOptions {
  readonly slots: number;
  readonly slotMs: number;
  readonly json: boolean;
  readonly embedded: boolean;
  readonly nats: number;
  readonly keep: boolean;
  readonly keys: LatticeConfig["keys"];
}

/** One decision as the JSON shows it. */
export interface ReportedOutcome extends OutcomeDetails {
  readonly stage: string;
  /** `result`, `empty`, `skipped`, or `undecided` when the run ended without it. */
  readonly kind: string;
}

export interface ReportedSlot {
  readonly slot: number;
  readonly outcomes: Readonly<Record<Organism, unknown>>;
  readonly trace_id: string;
}

export interface ReportedClaim {
  readonly recipient: string;
  readonly amount_wei: string;
  readonly tx_hash: string;
}

/** What `--json` prints. Fields are only ever added. */
export interface DemoReport {
  readonly schema_version: 1;
  readonly lattice_id: string;
  readonly name: string;
  readonly chain_id: number;
  readonly keys: string;
  readonly mode: Mode;
  readonly slot_ms: number;
  /** From the start of this lattice to the first complete slot: decided by zipnet, unseal, offer, atelier and relay,
   * nothing skipped, its block taken. Null when there was none. */
  readonly startup_ms: number | null;
  readonly first_complete_slot: number | null;
  readonly members: Readonly<Record<Organism, number>>;
  readonly slots: readonly ReportedSlot[];
  /** Share of these slots in which every organism's last word is a Result. */
  readonly result_share: number;
  readonly chain: { readonly client: string; readonly head: number; readonly blocks: readonly string[] };
  readonly claims: readonly ReportedClaim[];
  readonly invariants: Readonly<Record<string, boolean>>;
  readonly violations: readonly string[];
  /** Counts that the judging program made on the way. */
  readonly observed: Readonly<Record<string, number>>;
  /** Resident memory per process before the end, MB. */
  readonly rss_mb: Readonly<Record<string, number>>;
  readonly rss_mb_member_median: number | null;
}

export interface RunOptions {
  readonly slots: number;
  readonly slotMs: number;
  readonly mode: Mode;
  readonly directory: string;
  readonly say: (line: string) => void;
  readonly signal?: AbortSignal;
  /** Where the live table goes. */
  readonly table?: NodeJS.WriteStream;
  /** 1 or 3; 1 by default. */
  readonly natsServers?: number;
  /** Where a new lattice's group keys come from; dealt by default. */
  readonly keys?: LatticeConfig["keys"];
  readonly logLevel?: string;
  readonly traceFile?: string;
  /** Fault scenarios: slots may be skipped, the sequencer may fall back. */
  readonly faultsAllowed?: boolean;
  /** Go on until a claim has been paid; true unless said otherwise. */
  readonly waitForClaim?: boolean;
  /** Called when the slots that count begin; the run does not end before it has resolved. */
  readonly during?: (session: Session, first: bigint) => Promise<void>;
}

export interface RunResult {
  readonly report: DemoReport;
  /** True when everything that was waited for came before its deadline. */
  readonly inTime: boolean;
}

/** How long the first complete slot may take. */
const STARTUP_DEADLINE_MS = 180_000;
/** Slots until the sample users have funded their escrow and begun. */
const BOOTSTRAP_SLOTS = 20;
/** Slots after the last one in which finality, attribution and a claim's payment may still come. */
const TAIL_SLOTS = 40;
const INVARIANTS_SCRIPT = join(ROOT, "e2e", "src", "invariants", "main.ts");
const INVARIANTS_DEADLINE_MS = 180_000;

/** Runs a lattice for some slots and has what happened judged. It is down when this returns or throws. */
export async function runSlots(options: RunOptions): Promise<RunResult> {
  const { signal, slots, slotMs } = options;
  let table: SlotTable | undefined;
  const say = (line: string): void => {
    if (table === undefined) options.say(line);
    else table.say(line);
  };
  const session = await Session.start({
    directory: options.directory,
    mode: options.mode,
    slotMs,
    progress: say,
    ...(signal === undefined ? {} : { signal }),
    ...(options.natsServers === undefined ? {} : { natsServers: options.natsServers }),
    ...(options.keys === undefined ? {} : { keys: options.keys }),
    ...(options.logLevel === undefined ? {} : { logLevel: options.logLevel }),
    ...(options.traceFile === undefined ? {} : { traceFile: options.traceFile }),
  });
  const { lattice, collector } = session;
  try {
    for (const line of identityLines(lattice)) say(line);
    if (options.table !== undefined) {
      const footer = (): string => `gateway ${lattice.gatewayUrl}`;
      table = new SlotTable({ collector, stream: options.table, footer });
      table.start();
    }
    const outcome = await follow(session, { ...options, say });
    await session.stopTraffic();
    if (signal?.aborted === true) throw new Interrupted("interrupted");
    const judged = outcome.range === undefined ? NOT_JUDGED : await judge(session, outcome.range, options);
    const report = reportOf(session, outcome, judged, slots);
    table?.stop();
    table = undefined;
    say("stopping");
    await session.stop();
    return { report, inTime: outcome.inTime };
  } catch (error) {
    table?.stop();
    table = undefined;
    await session.kill();
    throw error;
  }
}

interface Followed {
  readonly firstComplete: bigint | undefined;
  readonly startupMs: number | undefined;
  readonly range: SlotRange | undefined;
  readonly inTime: boolean;
}

/** Waits for the first complete slot, for the users to begin, for N slots, for finality and for a paid claim. */
async function follow(session: Session, options: RunOptions): Promise<Followed> {
  const { collector, lattice } = session;
  const { say, signal, slots, slotMs } = options;
  let firstComplete: bigint | undefined;
  const started = await collector.until(
    () => {
      firstComplete ??= collector.slots().find((slot) => collector.complete(slot));
      return firstComplete !== undefined;
    },
    STARTUP_DEADLINE_MS,
    signal,
  );
  if (!started || firstComplete === undefined) {
    say(`no slot went through the first five organisms within ${STARTUP_DEADLINE_MS / 1000} s`);
    return { firstComplete: undefined, startupMs: undefined, range: undefined, inTime: false };
  }
  const startupMs = completedAtMs(collector, firstComplete) - lattice.startedAtMs;
  say(`first complete slot: ${firstComplete}, ${(startupMs / 1000).toFixed(1)} s after the start`);

  let first: bigint | undefined;
  const began = await collector.until(
    () => {
      first = firstUserSlot(readTraffic(lattice.layout));
      return first !== undefined;
    },
    BOOTSTRAP_SLOTS * slotMs,
    signal,
  );
  if (first === undefined || first < firstComplete) first = firstComplete;
  if (!began) say("the sample users did not begin in time");
  const from = first;
  const last = from + BigInt(slots) - 1n;
  say(`slots ${from} to ${last} count; the users began in time for the first of them`);
  const during = options.during?.(session, from);
  const decided = await collector.until(
    () => allDecided(collector, firstComplete ?? from, last),
    (Number(last - collector.newest) + TAIL_SLOTS) * slotMs,
    signal,
  );
  if (!decided) say(`not every slot up to ${last} was decided in time`);
  await during;
  const wanted = options.waitForClaim !== false;
  const claimed = decided && (!wanted || (await untilClaimed(session, options)));
  if (decided && !claimed) say("no claim was paid in time");
  const range = { first_complete: Number(firstComplete), first: Number(from), last: Number(last) };
  return { firstComplete, startupMs, range, inTime: began && decided && claimed };
}

/**
 * The first slot in which all kinds of sample users could take part: its round opens after the first wallet sent, and
 * both kinds of searchers have begun to bid. Before it their escrow is funded: those are bootstrap slots.
 */
export function firstUserSlot(traffic: readonly LedgerLine[]): bigint | undefined {
  const sent = traffic.find((line) => line.type === "transaction" && !line.bootstrap);
  const bids = ["blind", "seen"].map((each) => traffic.find((line) => line.type === "bid" && line.class === each));
  const starts = [...bids, sent].map((line) => (line !== undefined && "slot" in line ? line.slot : undefined));
  if (starts.includes(undefined) || sent?.type !== "transaction") return undefined;
  return BigInt(Math.max(sent.slot + 2, ...starts.filter((slot) => slot !== undefined)));
}

function allDecided(collector: Collector, from: bigint, to: bigint): boolean {
  for (let slot = from; slot <= to; slot++) if (!collector.decided(slot)) return false;
  return true;
}

function completedAtMs(collector: Collector, slot: bigint): number {
  const arrivals = collector.slot(slot).filter(({ organism }) => IN_SLOT.includes(organism));
  return Math.max(...arrivals.map(({ arrivedAtMs }) => arrivedAtMs));
}

/** Refunds are attested in batches and claimed by transactions: the run goes on until one has been paid. */
async function untilClaimed(session: Session, options: RunOptions): Promise<boolean> {
  const { lattice, collector } = session;
  const until = Date.now() + TAIL_SLOTS * options.slotMs;
  let said = false;
  while (Date.now() < until && options.signal?.aborted !== true) {
    if (await hasClaim(lattice)) return true;
    if (!said) options.say("every slot is decided; waiting for a claim to be paid");
    said = true;
    const newest = collector.newest;
    await collector.until(() => collector.newest > newest, 2 * options.slotMs, options.signal);
  }
  return false;
}

/** Whether a claim that the sample users sent has a successful receipt. Judged again, from events, afterwards. */
async function hasClaim(lattice: LocalLattice): Promise<boolean> {
  for (const line of readTraffic(lattice.layout)) {
    if (line.type !== "claim") continue;
    try {
      const receipt = await callJsonRpc({ url: lattice.chainRpc }, "eth_getTransactionReceipt", [line.txHash], {
        deadlineMs: 5000,
      });
      if ((receipt as { status?: string } | null)?.status === "0x1") return true;
    } catch {
      // Not on chain yet: some clients answer an error instead of null.
    }
  }
  return false;
}

interface Judged {
  readonly invariants: Readonly<Record<string, boolean>>;
  readonly violations: readonly string[];
  readonly observed: Readonly<Record<string, number>>;
  readonly claims: readonly ReportedClaim[];
  readonly chain: DemoReport["chain"];
}

const NOT_JUDGED: Judged = {
  invariants: { every_slot_decided: false },
  violations: ["every_slot_decided: there was no complete slot"],
  observed: {},
  claims: [],
  chain: { client: "", head: 0, blocks: [] },
};

/** Exports the run and lets the separate program judge it. */
async function judge(session: Session, range: SlotRange, options: RunOptions): Promise<Judged> {
  const { lattice, collector } = session;
  const file = lattice.layout.path("export.json");
  writeExport(
    file,
    exportRun({
      collector,
      layout: lattice.layout,
      chainRpc: lattice.chainRpc,
      slots: range,
      faultsAllowed: options.faultsAllowed ?? false,
    }),
  );
  return judgeFile(file);
}

/** Runs the judging program on an export. @throws Error when it ends without a verdict */
export function judgeFile(file: string): Promise<Judged> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", INVARIANTS_SCRIPT, file], {
      stdio: ["ignore", "pipe", "inherit"],
      timeout: INVARIANTS_DEADLINE_MS,
    });
    const chunks: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.once("error", reject);
    child.once("close", (code) => {
      try {
        resolve(JSON.parse(Buffer.concat(chunks).toString("utf8")) as Judged);
      } catch {
        reject(new Error(`the invariant checker gave no verdict (exit code ${code ?? "none"})`));
      }
    });
  });
}

function reportOf(session: Session, followed: Followed, judged: Judged, wanted: number): DemoReport {
  const { lattice, collector } = session;
  const { config, rosters, mode } = lattice;
  const first = followed.range?.first;
  const slots = first === undefined ? [] : Array.from({ length: wanted }, (_, index) => BigInt(first + index));
  const memory = residentMbOf([
    ...[...lattice.processes].map(([name, process]) => [name, process.pid] as const),
    ["execution-client", lattice.chain?.program.pid] as const,
    ...(lattice.broker?.cluster.servers ?? []).map(({ program }) => [program.name, program.pid] as const),
  ]);
  const members = Object.entries(memory).filter(([name]) => ORGANISMS.some((each) => name.startsWith(`${each}-`)));
  const results = slots.filter((slot) =>
    ORGANISMS.every((organism) => lastKind(collector, organism, slot) === "result"),
  );
  return {
    schema_version: 1,
    lattice_id: toHex(latticeId(config)),
    name: config.name,
    chain_id: Number(config.chainId),
    keys: config.keys,
    mode,
    slot_ms: config.slotMs,
    startup_ms: followed.startupMs === undefined ? null : Math.round(followed.startupMs),
    first_complete_slot: followed.firstComplete === undefined ? null : Number(followed.firstComplete),
    members: Object.fromEntries(ORGANISMS.map((organism) => [organism, rosters[organism].members.length])) as Record<
      Organism,
      number
    >,
    slots: slots.map((slot) => reportedSlot(lattice, collector, slot)),
    result_share: slots.length === 0 ? 0 : results.length / slots.length,
    chain: judged.chain,
    claims: judged.claims,
    invariants: judged.invariants,
    violations: judged.violations,
    observed: judged.observed,
    rss_mb: memory,
    rss_mb_member_median: median(members.map(([, mb]) => mb)),
  };
}

function lastKind(collector: Collector, organism: Organism, slot: bigint): string | undefined {
  return collector.get(organism, STAGES[organism].at(-1) ?? "", slot)?.certified.outcome.kind;
}

function reportedSlot(lattice: LocalLattice, collector: Collector, slot: bigint): ReportedSlot {
  const outcomes = ORGANISMS.map((organism) => {
    const stages = STAGES[organism].map(
      (stage) => [stage, reported(collector, collector.get(organism, stage, slot), stage)] as const,
    );
    const last = stages.at(-1)?.[1] ?? {};
    const earlier = stages.slice(0, -1);
    return [organism, earlier.length === 0 ? last : { ...last, stages: Object.fromEntries(earlier) }] as const;
  });
  return {
    slot: Number(slot),
    outcomes: Object.fromEntries(outcomes) as Record<Organism, unknown>,
    trace_id: slotTraceIds(latticeId(lattice.config), slot).traceId,
  };
}

function reported(collector: Collector, arrival: Arrival | undefined, stage: string): Record<string, unknown> {
  if (arrival === undefined) return { kind: "undecided", ms_into_slot: null, signers: [], stage };
  const { organism, certified } = arrival;
  const { outcome, signers } = certified;
  return {
    kind: outcome.kind,
    ms_into_slot: collector.msIntoSlot(arrival),
    signers: [...signers],
    stage,
    digest: toHex(arrival.digest),
    served_by: [...arrival.members].sort((a, b) => a - b),
    ...outcomeDetails(organism, outcome),
  };
}

function median(values: readonly number[]): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? null;
}

/** True when this run may be called a success. */
export function succeeded({ report, inTime }: RunResult): boolean {
  return inTime && Object.values(report.invariants).every(Boolean);
}

export async function runDemo(options: DemoOptions): Promise<number> {
  const abort = new AbortController();
  const say = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };
  const off = onInterrupt(abort, say);
  const directory = newDirectory("demo");
  let keep = options.keep;
  try {
    const mode = await chooseMode(options.embedded, say);
    const result = await runSlots({
      slots: options.slots,
      slotMs: options.slotMs,
      mode,
      directory,
      natsServers: options.nats,
      keys: options.keys,
      say,
      signal: abort.signal,
      table: process.stderr,
    });
    const { report } = result;
    for (const line of report.violations) say(`violated: ${line}`);
    if (options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    else process.stdout.write(`${summary(report).join("\n")}\n`);
    if (succeeded(result)) return EXIT.ok;
    keep = true;
    return result.inTime ? EXIT.failed : EXIT.timedOut;
  } catch (error) {
    const known = readable(error);
    keep ||= known?.code !== EXIT.interrupted;
    if (known === undefined) throw error;
    say(known.line);
    return known.code;
  } finally {
    off();
    if (keep) say(`everything of this run is in ${shownPath(directory)}`);
    else rmSync(directory, { recursive: true, force: true });
  }
}

/** The report for people. */
export function summary(report: DemoReport): string[] {
  const { slots, invariants, startup_ms: startup, claims, chain, rss_mb_member_median: rss } = report;
  const holding = Object.values(invariants).filter(Boolean).length;
  return [
    `${slots.length} slots on the ${report.mode} log at ${report.slot_ms} ms, ${Math.round(report.result_share * 100)} % Results`,
    `first complete slot after ${startup === null ? "never" : `${(startup / 1000).toFixed(1)} s`}`,
    `chain: ${chain.client}, ${chain.head} blocks; claims paid: ${claims.length}`,
    ...(rss === null ? [] : [`member memory, median: ${rss} MB`]),
    `invariants: ${holding} of ${Object.keys(invariants).length} hold`,
    ...Object.entries(invariants).map(([name, holds]) => `  ${holds ? "✓" : "×"} ${name}`),
  ];
}

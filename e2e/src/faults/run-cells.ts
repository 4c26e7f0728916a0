/**
 * Runs cells one after another in one lattice: warm, inject, hold, mend, a slot goes through again, everybody agrees; at
 * the end the ledger is held against the log and a separate program judges all that was certified.
 */
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { IN_SLOT, STAGES } from "@lattice/deploy/local/collector.ts";
import { judgeFile } from "@lattice/deploy/local/demo.ts";
import { exportRun, readTraffic, writeExport } from "@lattice/deploy/local/export.ts";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { ScenarioContext } from "../scenarios/scenario.ts";
import { ask, landed } from "../scenarios/users.ts";
import type { Cell } from "./cell.ts";
import { memberName } from "./fault-network.ts";
import { World, type WorldOptions } from "./world.ts";

export interface CellResult {
  readonly cell: string;
  readonly family: string;
  readonly injects: string;
  /** `void`: too little happened for it to mean anything. */
  result: "passed" | "failed" | "void";
  readonly reasons: string[];
  /** Slots from the first touched to the first complete one after mending that were not complete. */
  readonly slotsLost: number | null;
  /** From the slot that ran at mending to the first complete one from there on. */
  readonly recoverySlots: number | null;
  /** At which stage lost slots ended, and how: `unseal/unsealed skipped` → how many. */
  readonly lostAt: Readonly<Record<string, number>>;
  /** Operations acknowledged to the ledger's writers meanwhile. */
  readonly acknowledged: number;
  /** The longest time without such an acknowledgement. */
  readonly silenceMs: number;
  /** From the stream having a leader again until every writer had consumed something new; null where it never had none. */
  readonly resumedAfterMs: number | null;
  /** What wanted to run on each processor at its end, of everything on the machine: above 1 slots are lost by themselves. */
  readonly load: number;
  readonly slots: readonly [number, number];
}

export interface BatchResult {
  readonly cells: readonly CellResult[];
  /** Of the whole run, where no cell can be named. */
  readonly problems: readonly string[];
  readonly acknowledged: number;
}

const WARM_SLOTS = 25;
/** A slot is known to have gone through a while after it; the one before a cell may have been the last one's. */
const WARM_AGO = 3n;
const RECOVERY_SLOTS_MAX = 20;
const ACKNOWLEDGED_MIN = 10;
const STARTUP_SLOTS = 90;
/** Fewer are a busy moment. */
const CHAIN_SILENCES = 3;
/** Wants things to have happened that faults may keep from happening; or asked here in another way. */
const NOT_JUDGED = /^(claim_paid|transactions_in_block_or_told|blind_bundle_landed|seen_bundle_landed): /;
const ACCOUNTED_SLOTS = 15;

/** @throws ScenarioFailure where there is no nats-server */
export async function runCells(
  context: ScenarioContext,
  cells: readonly Cell[],
  options: WorldOptions & {
    readonly onResult?: (result: CellResult) => void;
    /** From the first cell on: none begins after it, the run is judged as far as it came. */
    readonly cellsMs?: number;
  },
): Promise<BatchResult> {
  const world = await World.start(context, options);
  const { collector } = world.session;
  const started = await collector.until(
    () => collector.slots().some((slot) => through(world, slot)),
    STARTUP_SLOTS * context.slotMs,
    context.signal,
  );
  if (!started) return { cells: [], problems: ["no slot went through before the first cell"], acknowledged: 0 };
  const first = collector.slots().find((slot) => through(world, slot)) ?? 1n;
  const results: CellResult[] = [];
  const untilMs = performance.now() + (options.cellsMs ?? Number.POSITIVE_INFINITY);
  const interrupted = (): boolean => context.signal?.aborted === true;
  for (const cell of cells) {
    if (interrupted() || performance.now() > untilMs) break;
    const result = await runCell(world, cell);
    // What an interrupt cut short shows nothing.
    if (interrupted()) break;
    results.push(result);
    options.onResult?.(result);
  }
  const problems = await judgeBatch(world, first, results);
  return { cells: results, problems, acknowledged: world.ledger.acknowledged.length };
}

async function runCell(world: World, cell: Cell): Promise<CellResult> {
  const { context, session, ledger, network } = world;
  const { collector } = session;
  const reasons: string[] = [];
  const voids: string[] = [];
  const completeFrom = (from: bigint): bigint | undefined =>
    collector.slots().find((slot) => slot >= from && through(world, slot));

  const missing = cell.smallDisks === true && world.natsDisks.length === 0;
  const from = world.slot;
  const fromMs = performance.now();
  const acknowledgedBefore = ledger.acknowledged.length;
  const effectBefore = cell.effect === undefined ? 0 : network.count(cell.effect);
  const silentBefore = chainSilences(world);
  let recovered: bigint | undefined;
  let mended = from;
  if (missing) voids.push("disks that can be filled need the right to mount them");
  else {
    const warm = await collector.until(
      () => completeFrom(from - WARM_AGO) !== undefined,
      WARM_SLOTS * context.slotMs,
      context.signal,
    );
    if (!warm) voids.push(`no slot went through within ${WARM_SLOTS} slots before it began`);
    const touched = world.slot;
    try {
      const mend = await cell.inject(world);
      try {
        await world.slots(cell.holdSlots);
      } finally {
        await mend();
      }
    } catch (error) {
      reasons.push(error instanceof Error ? (error.message.split("\n", 1)[0] ?? error.name) : String(error));
      network.mend();
    }
    mended = world.slot;
    await collector.until(
      () => completeFrom(mended) !== undefined,
      RECOVERY_SLOTS_MAX * context.slotMs,
      context.signal,
    );
    recovered = completeFrom(mended);
    // Nothing of the lattice's: without its answers there is no block, whatever members do.
    const silent = chainSilences(world) - silentBefore;
    const late = silent >= CHAIN_SILENCES ? voids : reasons;
    const chain = silent >= CHAIN_SILENCES ? `; the execution client left ${silent} calls without an answer` : "";
    if (recovered === undefined) late.push(`no slot went through within ${RECOVERY_SLOTS_MAX} slots${chain}`);
    else if (recovered - mended > BigInt(cell.bound))
      late.push(`the first slot went through after ${recovered - mended}, at most ${cell.bound} are allowed${chain}`);
    for (const member of network.members) {
      if (!world.running(member)) {
        reasons.push(`${memberName(member)} ended: ${lastLine(world.logOf(member))}`);
        world.start(member);
      }
      if (!(await world.ready(member))) reasons.push(`${memberName(member)} is not ready`);
    }
    reasons.push(...(await world.differing()));
    if (collector.conflicts.length > 0) reasons.push("two certificates for one decision");
    mended = mended < touched ? touched : mended;
  }
  const acknowledged = ledger.acknowledged.length - acknowledgedBefore;
  if (!missing && acknowledged < ACKNOWLEDGED_MIN) voids.push(`only ${acknowledged} operations were acknowledged`);
  if (cell.effect !== undefined && network.count(cell.effect) === effectBefore)
    voids.push(`nothing was ${cell.effect} on any link`);
  let lost = 0;
  const lostAt: Record<string, number> = {};
  for (let slot = from; slot < (recovered ?? world.slot); slot++) {
    if (through(world, slot)) continue;
    lost += 1;
    const where = endedAt(world, slot);
    lostAt[where] = (lostAt[where] ?? 0) + 1;
  }
  return {
    cell: cell.name,
    family: cell.family,
    injects: cell.injects,
    result: reasons.length > 0 ? "failed" : voids.length > 0 ? "void" : "passed",
    reasons: [...reasons, ...voids],
    slotsLost: recovered === undefined ? null : lost,
    recoverySlots: recovered === undefined ? null : Number(recovered - mended),
    lostAt,
    acknowledged,
    silenceMs: Math.round(ledger.longestSilenceMs(fromMs)),
    resumedAfterMs: rounded(ledger.resumedAfterMs(fromMs)),
    load: Math.round((10 * (loadavg()[0] ?? 0)) / availableParallelism()) / 10,
    slots: [Number(from), Number(recovered ?? world.slot)],
  };
}

/**
 * Decided by five organisms, its messages opened, its block taken. An auction may have been skipped: with slots this short
 * on a small machine searchers' bids come late also without a fault.
 */
function through({ session: { collector } }: World, slot: bigint): boolean {
  if (!collector.decided(slot, IN_SLOT)) return false;
  const kind = (organism: Organism, stage: string): string | undefined =>
    collector.get(organism, stage, slot)?.certified.outcome.kind;
  const opened = [kind("zipnet", "broadcast"), kind("unseal", "unsealed")].every((each) => each !== "skipped");
  return opened && kind("atelier", "candidate") === "result" && kind("relay", "accepted") === "result";
}

/** The first stage of a slot that is undecided or skipped, or that the sequencer took another block. */
function endedAt({ session: { collector } }: World, slot: bigint): string {
  for (const organism of IN_SLOT) {
    for (const stage of STAGES[organism]) {
      const kind = collector.get(organism, stage, slot)?.certified.outcome.kind;
      if (stage === "auction" && kind === "skipped") continue;
      if (kind === undefined || kind === "skipped") return `${organism}/${stage} ${kind ?? "undecided"}`;
    }
  }
  return `relay/accepted ${collector.get("relay", "accepted", slot)?.certified.outcome.kind ?? "undecided"}`;
}

/** Calls to the chain's execution client that its sequencer has given up. No cell touches that client. */
function chainSilences({ lattice }: World): number {
  const file = lattice.layout.log("sequencer");
  return existsSync(file) ? readFileSync(file, "utf8").split("the execution client fails").length - 1 : 0;
}

function rounded(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms);
}

function lastLine(text: string): string {
  return (text.trimEnd().split("\n").at(-1) ?? "").slice(0, 200);
}

/** The ledgers and the judge. What names a slot is put down to the cells that ran then. */
async function judgeBatch(world: World, first: bigint, results: readonly CellResult[]): Promise<string[]> {
  const { session, lattice, context, ledger, nats } = world;
  const { collector } = session;
  await session.stopTraffic();
  const problems = await unaccounted(world);
  problems.push(...(await ledger.finish(nats.urls)).map((problem) => `ledger: ${problem}`));
  const decided = (): bigint | undefined => collector.slots().findLast((slot) => collector.decided(slot));
  const last = decided() ?? first;
  const file = lattice.layout.path("export.json");
  const range = { first_complete: Number(first), first: Number(first), last: Number(last) };
  writeExport(
    file,
    exportRun({ collector, layout: lattice.layout, chainRpc: lattice.chainRpc, slots: range, faultsAllowed: true }),
  );
  const judged = await judgeFile(file);
  for (const violation of judged.violations) {
    if (NOT_JUDGED.test(violation)) continue;
    const slot = Number(/slot (\d+)/.exec(violation)?.[1] ?? Number.NaN);
    const cells = results.filter(({ slots: [from, to] }) => slot >= from && slot <= to);
    if (cells.length === 0) problems.push(violation);
    for (const cell of cells) {
      cell.result = "failed";
      cell.reasons.push(violation);
    }
  }
  const traffic = readTraffic(lattice.layout).filter(({ type }) => type === "transaction" || type === "bid").length;
  if (traffic < results.length) problems.push(`void: users did only ${traffic} things`);
  context.say(`${Object.keys(judged.invariants).length} invariants judged over slots ${first} to ${last}`);
  return problems;
}

/** Transactions that were acknowledged to a user, have not landed, and whose sender is not told why. */
async function unaccounted({ lattice, context, session }: World): Promise<string[]> {
  const hashes = readTraffic(lattice.layout).flatMap((line) => (line.type === "transaction" ? [line.hash] : []));
  const open = new Map(hashes.map((hash) => [hash, "was acknowledged, did not land, and its sender is not told"]));
  const until = Date.now() + ACCOUNTED_SLOTS * context.slotMs;
  while (open.size > 0 && Date.now() < until && context.signal?.aborted !== true) {
    for (const hash of [...open.keys()]) {
      try {
        if (await accounted(lattice, hash)) open.delete(hash);
      } catch (error) {
        // A client that is late at this moment is asked again.
        open.set(hash, `is not known of: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    const { newest } = session.collector;
    if (open.size > 0) await session.collector.until(() => session.collector.newest > newest, 2 * context.slotMs);
  }
  // An interrupt leaves them no time to land.
  if (context.signal?.aborted === true) return [];
  return [...open].map(([hash, what]) => `transaction ${hash} ${what}`);
}

async function accounted(lattice: LocalLattice, hash: string): Promise<boolean> {
  if ((await landed(lattice, hash)) !== undefined) return true;
  const { result } = await ask(lattice.gatewayUrl, "lattice_getSubmission", [hash]);
  return (result as { status?: string } | undefined)?.status === "failed";
}

/**
 * What a run of a lattice leaves for whoever wants to check it: certified outcomes as canonical bytes, the config, the
 * certified rosters and the links between eras that they verify under, and what the sample users were told. Nothing in it is a producer's count.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { encode, toHex } from "@lattice/organism/codec/codec.ts";
import { CERTIFIED } from "@lattice/organism/committee/outcome.ts";
import { configToHex } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { linksToJson } from "@lattice/organism/node/era-book.ts";
import type { Arrival, Collector } from "./collector.ts";
import type { Layout } from "./layout.ts";
import type { LedgerLine } from "./traffic/ledger.ts";

export interface ExportedOutcome {
  readonly organism: Organism;
  /** CERTIFIED, canonical bytes as hex. */
  readonly certified: string;
  /** The members that served it. */
  readonly members: readonly number[];
  readonly arrived_at_ms: number;
}

/** Slots as decimal numbers. `first_complete` ≤ `first` ≤ `last`. */
export interface SlotRange {
  /** From here on every slot must be decided. */
  readonly first_complete: number;
  /** The slots that count; before it users had not begun. */
  readonly first: number;
  readonly last: number;
}

export interface RunExport {
  readonly schema_version: 1;
  /** LatticeConfig, canonical bytes as hex. */
  readonly config: string;
  /** Certified rosters, canonical bytes as hex. */
  readonly rosters: Readonly<Record<Organism, string>>;
  /** Certified rosters that began other eras than the first, by organism and oldest first, canonical bytes as hex. */
  readonly eras?: Readonly<Partial<Record<Organism, readonly string[] | undefined>>>;
  readonly slots: SlotRange;
  /** Fault scenarios let slots be skipped and the sequencer fall back. */
  readonly faults_allowed: boolean;
  readonly outcomes: readonly ExportedOutcome[];
  readonly traffic: readonly LedgerLine[];
  readonly chain_rpc: string;
}

export interface ExportOptions {
  readonly collector: Collector;
  readonly layout: Layout;
  readonly chainRpc: string;
  readonly slots: SlotRange;
  readonly faultsAllowed: boolean;
}

export function exportRun({ collector, layout, chainRpc, slots, faultsAllowed }: ExportOptions): RunExport {
  const arrivals = [...collector.slots().flatMap((slot) => collector.slot(slot)), ...collector.conflicts];
  return {
    schema_version: 1,
    config: configToHex(collector.config),
    rosters: JSON.parse(readFileSync(layout.rosters, "utf8")) as Record<Organism, string>,
    eras: linksToJson(collector.eras.book.all),
    slots,
    faults_allowed: faultsAllowed,
    outcomes: arrivals.map(exported),
    traffic: readTraffic(layout),
    chain_rpc: chainRpc,
  };
}

function exported({ organism, certified, members, arrivedAtMs }: Arrival): ExportedOutcome {
  return {
    organism,
    certified: toHex(encode(CERTIFIED, certified)),
    members: [...members].sort((a, b) => a - b),
    arrived_at_ms: Math.round(arrivedAtMs),
  };
}

export function writeExport(path: string, run: RunExport): void {
  writeFileSync(path, JSON.stringify(run), { mode: 0o600 });
}

/** What the sample users have written down so far; a line that is being written is left for the next time. */
export function readTraffic(layout: Layout): LedgerLine[] {
  let text: string;
  try {
    text = readFileSync(layout.path("traffic.jsonl"), "utf8");
  } catch {
    return [];
  }
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as LedgerLine);
}

/**
 * The machine of the ledger's committee: what each writer's operations were and in which order they came, in a state that
 * stays small however many there are, so that every member's state says by itself whether one is lost, doubled or late.
 */

import { type Infer, list, map, struct, u64 } from "@lattice/organism/codec/codec.ts";
import { type LatticeConfig, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { type Duty, type Machine, refuse } from "@lattice/organism/machine.ts";
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { z } from "zod";

/** A writer counts its operations up from 0. What it gave up leaves a gap, or none. */
export interface Operation {
  readonly writer: bigint;
  readonly number: bigint;
}

const WRITERS_MAX = 16;
/** A gap begins with an operation whose fate its writer did not learn. */
const RUNS_MAX = 65_536;
/** Enough to know that something is wrong, and what. */
const LATE_MAX = 256;

const COMMAND = struct({ writer: u64, number: u64 });
const HELD = struct({
  /** Numbers that came, from and to alike included, in order. */
  runs: list(struct({ from: u64, to: u64 }), RUNS_MAX),
  /** What came when it, or one after it, had come already. */
  late: list(u64, LATE_MAX),
});
export const LEDGER_STATE = struct({ writers: map(u64, HELD, WRITERS_MAX) });
export type LedgerState = Infer<typeof LEDGER_STATE>;

/** @returns false when there is no room for it */
export function record({ writers }: LedgerState, { writer, number }: Operation): boolean {
  const held = writers.get(writer) ?? { runs: [], late: [] };
  const run = held.runs.at(-1);
  if (run !== undefined && number <= run.to) {
    if (held.late.length === LATE_MAX) return false;
    held.late.push(number);
  } else if (run !== undefined && number === run.to + 1n) run.to = number;
  else {
    if (held.runs.length === RUNS_MAX || (!writers.has(writer) && writers.size === WRITERS_MAX)) return false;
    held.runs.push({ from: number, to: number });
  }
  writers.set(writer, held);
  return true;
}

/**
 * Every acknowledged operation is in the state, nothing came twice, and each writer's operations came in its order.
 * @returns one line per violation
 */
export function checkLedger(acknowledged: readonly Operation[], { writers }: LedgerState): string[] {
  const problems: string[] = [];
  const late = new Set<string>();
  for (const [writer, held] of writers) {
    for (const number of held.late) {
      const key = `${writer}/${number}`;
      const twice = late.has(key) || held.runs.some(({ from, to }) => from <= number && number <= to);
      late.add(key);
      problems.push(twice ? `operation ${key} was applied twice` : `operation ${key} was applied after a later one`);
    }
  }
  for (const { writer, number } of acknowledged) {
    const runs = writers.get(writer)?.runs ?? [];
    if (runs.some(({ from, to }) => from <= number && number <= to) || late.has(`${writer}/${number}`)) continue;
    problems.push(`operation ${writer}/${number} was acknowledged and is not there`);
  }
  return problems;
}

/** Its slots all expire: they are there for what the runtime keeps and forgets by slots. */
export function ledgerMachine(config: LatticeConfig): Machine<LedgerState, Operation, Duty> {
  return {
    organism: "relay",
    stages: ["accepted"],
    upstream: [],
    state: LEDGER_STATE,
    command: COMMAND,
    genesis: () => ({ writers: new Map() }),
    apply(state, event) {
      if (event.type !== "command") return undefined;
      const { writer, number } = event.command;
      return record(state, event.command) ? undefined : refuse("NO_ROOM", `operation ${writer}/${number}`);
    },
    duties: () => [],
    skipAtMs: (_stage, slot) => slotStartMs(config, slot) + config.slotMs,
    hasInput: () => false,
    forGuests: (state) => state,
    collapse: () => undefined,
  };
}

export type NoSettings = Record<string, never>;

export const ledgerDefinition: OrganismDefinition<LedgerState, Operation, Duty, NoSettings> = {
  organism: "relay",
  settings: z.record(z.string(), z.never()),
  createMachine: ledgerMachine,
  createNode: () => ({ execute: async () => undefined, services: [], bodies: {} }),
};

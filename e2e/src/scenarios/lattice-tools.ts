/** What several scenarios ask of a running lattice. */
import { readFileSync } from "node:fs";
import { judgeFile } from "@lattice/deploy/local/demo.ts";
import { exportRun, writeExport } from "@lattice/deploy/local/export.ts";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import { http } from "@lattice/deploy/local/layout.ts";
import type { Session } from "@lattice/deploy/local/session.ts";
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { committeeId, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { readEndpoints } from "@lattice/organism/node/kit.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { CommitteeService, type GetStatusResponse } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import type { ScenarioContext } from "./scenario.ts";

/** The slot that is running now. */
export function slotNow(lattice: LocalLattice): bigint {
  return slotAt(lattice.config, Date.now());
}

/** Waits for the first complete slot. */
export function firstComplete(context: ScenarioContext, session: Session): Promise<boolean> {
  const { collector } = session;
  return context.waitFor("a slot goes through five organisms", session, 45, () =>
    collector.slots().some((slot) => collector.complete(slot)),
  );
}

/** Waits for a complete slot from `from` on. */
export function completeFrom(
  context: ScenarioContext,
  session: Session,
  from: bigint,
  name: string,
  slots = 12,
): Promise<boolean> {
  const { collector } = session;
  return context.waitFor(name, session, slots, () =>
    collector.slots().some((slot) => slot >= from && collector.complete(slot)),
  );
}

/** Waits until one committee has certified every decision of a slot from `from` on, and one of them at least a Result. */
export function goesOn(
  context: ScenarioContext,
  session: Session,
  organism: Organism,
  from: bigint,
  name: string,
): Promise<boolean> {
  const { collector } = session;
  const result = (slot: bigint): boolean =>
    collector.slot(slot).some((each) => each.organism === organism && each.certified.outcome.kind === "result");
  return context.waitFor(name, session, 20, () =>
    collector.slots().some((slot) => slot >= from && collector.decided(slot, [organism]) && result(slot)),
  );
}

/** What one member says of itself; undefined when it does not answer. */
export async function statusOf(
  lattice: LocalLattice,
  organism: Organism,
  index: number,
): Promise<GetStatusResponse | undefined> {
  const address = readEndpoints(lattice.layout.endpoints)[organism][index];
  if (address === undefined) return undefined;
  const client = connectService(CommitteeService, address, {
    committee: committeeId(lattice.config, organism),
    deadlineMs: 3000,
  });
  try {
    return await client.getStatus({});
  } catch {
    return undefined;
  } finally {
    client.close();
  }
}

/** Whether /readyz of a member answers 200. */
export async function isReady(lattice: LocalLattice, organism: Organism, index: number): Promise<boolean> {
  const port = lattice.ports.members[organism][index]?.metrics ?? 0;
  try {
    const response = await fetch(`${http(port)}/readyz`, { signal: AbortSignal.timeout(1000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}

/** One gauge of a member, as its metrics endpoint shows it; undefined while it does not. */
export async function metricOf(
  lattice: LocalLattice,
  organism: Organism,
  index: number,
  name: string,
): Promise<number | undefined> {
  const port = lattice.ports.members[organism][index]?.metrics ?? 0;
  try {
    const response = await fetch(`${http(port)}/metrics`, { signal: AbortSignal.timeout(1000) });
    const line = (await response.text()).split("\n").find((each) => new RegExp(`^${name}[{ ]`).test(each));
    return line === undefined ? undefined : Number(line.replace(/^[^{ ]*(\{[^}]*\})?\s+/, "").split(" ")[0]);
  } catch {
    return undefined;
  }
}

/** Asks again until it is so, or the deadline has passed. */
export async function eventually(deadlineMs: number, look: () => Promise<boolean>): Promise<boolean> {
  const until = Date.now() + deadlineMs;
  while (!(await look())) {
    if (Date.now() > until) return false;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return true;
}

/** Two members have the same chain head and the same state at the same position of the log. */
export async function agree(lattice: LocalLattice, organism: Organism, one: number, other: number): Promise<boolean> {
  let compared = false;
  let same = true;
  await eventually(60_000, async () => {
    const [a, b] = await Promise.all([statusOf(lattice, organism, one), statusOf(lattice, organism, other)]);
    if (a === undefined || b === undefined || a.position !== b.position || a.position === 0n) return false;
    compared = true;
    same = equalBytes(a.chainHead, b.chainHead) && equalBytes(a.stateHash, b.stateHash);
    return true;
  });
  return compared && same;
}

/** Exports what was collected so far and notes every invariant as a check, except those that `except` names. */
export async function judgeFaulty(
  context: ScenarioContext,
  session: Session,
  range: { readonly first: bigint; readonly last: bigint },
  except: readonly string[] = [],
): Promise<void> {
  const { lattice, collector } = session;
  const file = lattice.layout.path("export.json");
  const slots = { first_complete: Number(range.first), first: Number(range.first), last: Number(range.last) };
  writeExport(
    file,
    exportRun({ collector, layout: lattice.layout, chainRpc: lattice.chainRpc, slots, faultsAllowed: true }),
  );
  const judged = await judgeFile(file);
  for (const [name, holds] of Object.entries(judged.invariants)) {
    if (except.includes(name)) continue;
    context.check(
      `invariant ${name}`,
      holds,
      judged.violations.find((line) => line.startsWith(`${name}:`)),
    );
  }
}

/** Lines of all logs that say what must not be said. */
export function logLines(lattice: LocalLattice, pattern: RegExp): string[] {
  return [...lattice.processes.keys()].flatMap((name) => {
    let text: string;
    try {
      text = readFileSync(lattice.layout.log(name), "utf8");
    } catch {
      return [];
    }
    return text
      .split("\n")
      .filter((line) => pattern.test(line))
      .map((line) => `${name}: ${line.slice(0, 300)}`);
  });
}

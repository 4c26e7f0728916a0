/** What must hold whatever a broker, a crash or a flood did to a lattice, asked from outside: over gRPC and on the chain. */
import type { Arrival } from "@lattice/deploy/local/collector.ts";
import { readTraffic } from "@lattice/deploy/local/export.ts";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import type { Session } from "@lattice/deploy/local/session.ts";
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { checkOutcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { fromWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { judgeFaulty, slotNow } from "./lattice-tools.ts";
import { committeeClient } from "./member-log.ts";
import type { ScenarioContext } from "./scenario.ts";
import { ask, landed } from "./users.ts";

/** Slots that an acknowledged transaction gets to land. */
const ACCOUNTED_SLOTS = 30;
/** Invariants that say that something must have landed: not owed by slots that were skipped. */
const NOT_OWED = ["claim_paid", "transactions_in_block_or_told", "blind_bundle_landed", "seen_bundle_landed"] as const;

/** No member of any committee, asked one by one, has anybody's key among those proven to say two things. */
export async function nobodyIsBlamed(context: ScenarioContext, lattice: LocalLattice): Promise<void> {
  for (const organism of ORGANISMS) {
    const blamed: string[] = [];
    let answers = 0;
    for (const { index } of lattice.rosters[organism].members) {
      const client = committeeClient(lattice, organism, index);
      try {
        const { frauds } = await client.listFrauds({}, { deadlineMs: 3000 });
        const { members } = await client.getStatus({}, { deadlineMs: 3000 });
        answers += 1;
        for (const { memberIndex } of frauds) blamed.push(`${organism}-${index} blames ${memberIndex}`);
        for (const each of members) if (each.blocked) blamed.push(`${organism}-${index} blocks ${each.index}`);
      } catch {
        // It is not up; enough of the others have to be.
      } finally {
        client.close();
      }
    }
    const asked = answers >= 2;
    context.check(`no key of ${organism} is blocked`, asked && blamed.length === 0, blamed[0] ?? `${answers} answers`);
  }
}

interface Served {
  readonly absent: string[];
  readonly different: string[];
}

/** Asks one member for each of these outcomes of its committee, by stage and slot, and compares. */
async function compareServed(
  { lattice, collector }: Session,
  organism: Organism,
  index: number,
  known: readonly Arrival[],
): Promise<Served> {
  const client = committeeClient(lattice, organism, index);
  const served: Served = { absent: [], different: [] };
  try {
    for (const { organism: of, certified, digest } of known) {
      if (of !== organism) continue;
      const { stage, slot } = certified.outcome;
      const answer = await client.getOutcome({ stage, slot }, { deadlineMs: 3000 }).catch(() => undefined);
      const found = answer?.outcome === undefined ? undefined : fromWireOutcome(answer.outcome);
      const name = `${organism}-${index}, ${stage} of slot ${slot}`;
      if (found === undefined) served.absent.push(name);
      else {
        const same = equalBytes(outcomeDigest(found.outcome), digest);
        const eras = collector.eras.of(organism);
        if (!same || checkOutcome(lattice.config, organism, found, eras) !== undefined) served.different.push(name);
      }
    }
  } finally {
    client.close();
  }
  return served;
}

/** All that was certified so far. */
export function certifiedSoFar({ collector }: Session): Arrival[] {
  return collector.slots().flatMap((slot) => collector.slot(slot));
}

/**
 * What was certified before is served as it was by every member of these committees.
 * @param emptied members whose disk was lost: they may not have it, and must not have anything else
 */
export async function historyIsKept(
  context: ScenarioContext,
  session: Session,
  known: readonly Arrival[],
  organisms: readonly Organism[] = ORGANISMS,
  emptied: readonly string[] = [],
): Promise<void> {
  for (const organism of organisms) {
    const wrong: string[] = [];
    let asked = 0;
    for (const { index } of session.lattice.rosters[organism].members) {
      const { absent, different } = await compareServed(session, organism, index, known);
      const excused = emptied.includes(`${organism}-${index}`);
      if (!excused) asked += 1;
      wrong.push(...different.map((each) => `${each}: another one`));
      if (!excused) wrong.push(...absent.map((each) => `${each}: gone`));
    }
    const count = known.filter((each) => each.organism === organism).length;
    // tally waits for finality: early on it has nothing yet.
    context.check(
      `${organism} serves what was certified before, as it was`,
      asked > 0 && (count > 0 || organism === "tally") && wrong.length === 0,
      wrong[0] ?? `${count} outcomes`,
    );
  }
}

/** Waits until each of these has landed, or its sender can learn why not. @returns those of which neither comes */
export async function unaccounted(
  context: ScenarioContext,
  { lattice, collector }: Session,
  hashes: readonly string[],
): Promise<string[]> {
  const open = new Set(hashes);
  const until = slotNow(lattice) + BigInt(ACCOUNTED_SLOTS);
  while (open.size > 0 && slotNow(lattice) < until && context.signal?.aborted !== true) {
    for (const hash of [...open]) {
      if ((await landed(lattice, hash)) !== undefined) open.delete(hash);
      else {
        const { result } = await ask(lattice.gatewayUrl, "lattice_getSubmission", [hash]);
        if ((result as { status?: string } | undefined)?.status === "failed") open.delete(hash);
      }
    }
    const { newest } = collector;
    if (open.size > 0) await collector.until(() => collector.newest > newest, 2 * context.slotMs);
  }
  return [...open];
}

/** Transactions that the sample users were told are accepted. Ends those users. */
export async function acknowledgedIsKept(context: ScenarioContext, session: Session): Promise<void> {
  await session.stopTraffic();
  const sent = readTraffic(session.lattice.layout).flatMap((line) => (line.type === "transaction" ? [line.hash] : []));
  const open = await unaccounted(context, session, sent);
  context.check(
    "every acknowledged transaction landed, or its sender can learn why not",
    sent.length > 0 && open.length === 0,
    open[0] ?? `${sent.length} transactions`,
  );
}

/** Never two certificates for one decision, by whomever they are served; what was certified follows from what went in. */
export async function oneHistory(context: ScenarioContext, session: Session, first: bigint): Promise<void> {
  const { collector } = session;
  const [conflict] = collector.conflicts;
  context.check(
    "no outcome was certified twice",
    conflict === undefined,
    conflict && `${conflict.organism}/${conflict.certified.outcome.stage} of slot ${conflict.certified.outcome.slot}`,
  );
  const last = collector.slots().findLast((slot) => collector.decided(slot)) ?? first;
  await judgeFaulty(context, session, { first, last }, NOT_OWED);
}

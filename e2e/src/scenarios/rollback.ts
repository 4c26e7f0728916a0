/**
 * The broker comes back with an older store than the one it acknowledged from, once under running members and once while all
 * are down: nobody writes on it, the members agree where the log ended and go on in its next generation.
 */
import { cpSync, renameSync } from "node:fs";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import { at } from "@lattice/deploy/local/layout.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { acknowledgedIsKept, certifiedSoFar, historyIsKept, nobodyIsBlamed, oneHistory } from "./integrity-checks.ts";
import {
  agree,
  completeFrom,
  eventually,
  firstComplete,
  isReady,
  logLines,
  metricOf,
  slotNow,
} from "./lattice-tools.ts";
import { openMemberLog } from "./member-log.ts";
import { type Scenario, type ScenarioContext, ScenarioFailure } from "./scenario.ts";

/** A quorum reports, proposes, votes twice and certifies; then the keeper makes the stream. */
const NEXT_GENERATION_MS = 90_000;

/** Where each committee's log of a generation ends, as one of its members is shown it; -1 where there is none. */
async function lengths(lattice: LocalLattice, generation: bigint): Promise<Map<Organism, bigint>> {
  const found = new Map<Organism, bigint>();
  const servers = lattice.ports.nats.map(({ client }) => `nats://${at(client)}`);
  for (const organism of ORGANISMS) {
    const log = await openMemberLog(lattice, organism, 0, servers, generation);
    found.set(organism, (await log.present()) ? await log.lastPosition() : -1n);
    await log.close();
  }
  return found;
}

async function everybodyIn(context: ScenarioContext, lattice: LocalLattice, generation: bigint): Promise<void> {
  const behind: string[] = [];
  const there = await eventually(NEXT_GENERATION_MS, async () => {
    behind.length = 0;
    for (const organism of ORGANISMS) {
      for (const { index } of lattice.rosters[organism].members) {
        const is = await metricOf(lattice, organism, index, "lattice_generation");
        if (is !== Number(generation) || !(await isReady(lattice, organism, index)))
          behind.push(`${organism}-${index}`);
      }
    }
    return behind.length === 0;
  });
  context.check(`every member goes on in generation ${generation}`, there, behind.join());
}

export const scenario: Scenario = {
  name: "rollback",
  description: "the broker's store is put back to an older copy, twice: nobody speaks on it, a next generation goes on",
  async run(context) {
    const session = await context.start({ mode: await context.natsOnly() });
    const { lattice } = session;
    if (!(await firstComplete(context, session))) return;
    const first = slotNow(lattice);
    const members = ORGANISMS.flatMap((organism) =>
      lattice.rosters[organism].members.map(({ index }) => ({ organism, index, name: `${organism}-${index}` })),
    );
    const broker = lattice.broker;
    if (broker === undefined) throw new ScenarioFailure("there is no broker");
    const store = broker.cluster.storeDir(0);
    const told = (pattern: RegExp, name: string): void => {
      const said = logLines(lattice, pattern);
      const silent = members.filter((each) => !said.some((line) => line.startsWith(`${each.name}:`)));
      context.check(name, silent.length === 0, silent.map((each) => each.name).join());
    };

    for (const generation of [1n, 2n]) {
      const running = generation === 1n;
      const over = generation - 1n;
      context.say("the broker dies, its store is copied, it comes back");
      await lattice.broker?.kill();
      cpSync(store, `${store}-${over}`, { recursive: true });
      await lattice.startBroker();
      const goOn = `slots go on after its restart in generation ${over}`;
      await completeFrom(context, session, slotNow(lattice) + 2n, goOn, 20);
      const known = certifiedSoFar(session);
      const before = await lengths(lattice, over);

      context.say(`the broker dies, and comes back with the old copy${running ? "" : "; so do all members"}`);
      await lattice.broker?.kill();
      if (!running) for (const { name } of members) await lattice.process(name).kill();
      renameSync(store, `${store}-true-${over}`);
      cpSync(`${store}-${over}`, store, { recursive: true });
      await lattice.startBroker();
      const old = await lengths(lattice, over);
      const shorter = ORGANISMS.every((organism) => (old.get(organism) ?? 0n) < (before.get(organism) ?? 0n));
      context.check(`each log of generation ${over} is shorter than it was`, shorter);
      if (!running) for (const { organism, index } of members) lattice.startMember(organism, index);
      await everybodyIn(context, lattice, generation);
      told(running ? /LOG_LOST|LOG_REPLACED|LOG_ROLLED_BACK/ : /LOG_ROLLED_BACK/, "every member has said why");
      await completeFrom(context, session, slotNow(lattice) + 2n, `slots go on in generation ${generation}`, 30);
      const now = await lengths(lattice, over);
      const spoken = ORGANISMS.filter((organism) => now.get(organism) !== old.get(organism));
      context.check("nobody has written a word on the old copy", spoken.length === 0, spoken.join());
      await historyIsKept(context, session, known);
    }
    for (const organism of ORGANISMS) {
      for (const other of [1, 2]) {
        const alike = await agree(lattice, organism, 0, other);
        context.check(`${organism}: members 0 and ${other} have one head and one state`, alike);
      }
    }
    await nobodyIsBlamed(context, lattice);
    const accused = logLines(lattice, /two things|KEY_BLOCKED/);
    context.check("nobody is taken for a fraud", accused.length === 0, accused[0]);
    await acknowledgedIsKept(context, session);
    await oneHistory(context, session, first);
  },
};

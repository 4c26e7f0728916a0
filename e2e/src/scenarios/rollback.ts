/** The broker comes back with an older store than the one it acknowledged from: members stop rather than speak on it. */
import { cpSync, renameSync } from "node:fs";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { acknowledgedIsKept, certifiedSoFar, historyIsKept, nobodyIsBlamed, oneHistory } from "./integrity-checks.ts";
import { completeFrom, eventually, firstComplete, isReady, logLines, slotNow } from "./lattice-tools.ts";
import { openMemberLog } from "./member-log.ts";
import { type Scenario, ScenarioFailure } from "./scenario.ts";

/** Where each committee's log ends, as one of its members is shown it. */
async function lengths(lattice: LocalLattice): Promise<Map<Organism, bigint>> {
  const found = new Map<Organism, bigint>();
  for (const organism of ORGANISMS) {
    const log = await openMemberLog(lattice, organism, 0);
    found.set(organism, await log.lastPosition());
    await log.close();
  }
  return found;
}

export const scenario: Scenario = {
  name: "rollback",
  description: "the broker's store is put back to an older copy: members stop and say so, and go on with the true one",
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
    context.say("the broker dies, its store is copied, it comes back");
    await broker.kill();
    cpSync(store, `${store}-old`, { recursive: true });
    await lattice.startBroker();
    await completeFrom(context, session, slotNow(lattice) + 2n, "slots go on after its restart", 20);

    const known = certifiedSoFar(session);
    const before = await lengths(lattice);
    context.say("the broker dies, and comes back with the old copy");
    await lattice.broker?.kill();
    renameSync(store, `${store}-true`);
    cpSync(`${store}-old`, store, { recursive: true });
    await lattice.startBroker();
    const old = await lengths(lattice);
    const shorter = ORGANISMS.every((organism) => (old.get(organism) ?? 0n) < (before.get(organism) ?? 0n));
    context.check("each log is shorter than it was", shorter);
    const stopped = async (): Promise<boolean> => members.every(({ name }) => !lattice.process(name).running);
    context.check("every member stops", await eventually(60_000, stopped));
    const silence = async (name: string): Promise<void> => {
      const now = await lengths(lattice);
      const spoken = ORGANISMS.filter((organism) => now.get(organism) !== old.get(organism));
      context.check(name, spoken.length === 0, spoken.join());
    };
    await silence("nobody has written a word on the old copy");
    const said = logLines(lattice, /LOG_LOST|LOG_ROLLED_BACK/);
    const silent = members.filter(({ name }) => !said.some((line) => line.startsWith(`${name}:`)));
    context.check("and says why", silent.length === 0, silent.map(({ name }) => name).join());
    for (const { organism, index } of members) lattice.startMember(organism, index);
    context.check("started again on that log, every member stops again", await eventually(60_000, stopped));
    await silence("and has written nothing on it");
    const rolledBack = members.filter(
      ({ name }) => !logLines(lattice, /LOG_ROLLED_BACK/).some((line) => line.startsWith(`${name}:`)),
    );
    context.check("and calls it rolled back", rolledBack.length === 0, rolledBack.map(({ name }) => name).join());

    context.say("the broker gets its true store back");
    await lattice.broker?.kill();
    renameSync(store, `${store}-rolled-back`);
    renameSync(`${store}-true`, store);
    await lattice.startBroker();
    for (const { organism, index } of members) lattice.startMember(organism, index);
    const ready = await eventually(90_000, async () => {
      const all = await Promise.all(members.map(({ organism, index }) => isReady(lattice, organism, index)));
      return all.every(Boolean);
    });
    context.check("every member is ready again", ready);
    await completeFrom(context, session, slotNow(lattice) + 2n, "slots go on", 30);
    const after = await lengths(lattice);
    for (const organism of ORGANISMS) {
      const [was, is] = [before.get(organism) ?? 0n, after.get(organism) ?? 0n];
      context.check(`${organism} goes on in its true log`, is > was, `${was} → ${is}`);
    }
    await historyIsKept(context, lattice, known);
    await nobodyIsBlamed(context, lattice);
    const accused = logLines(lattice, /two things|KEY_BLOCKED/);
    context.check("nobody is taken for a fraud", accused.length === 0, accused[0]);
    await acknowledgedIsKept(context, session);
    await oneHistory(context, session, first);
  },
};

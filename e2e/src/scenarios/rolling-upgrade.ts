/** Every member of every committee is stopped and started again with a newer rule version while slots go on. */
import { RULES } from "@lattice/organism/committee/rules.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import {
  agree,
  completeFrom,
  eventually,
  firstComplete,
  isReady,
  judgeFaulty,
  logLines,
  slotNow,
  statusOf,
} from "./lattice-tools.ts";
import type { Scenario } from "./scenario.ts";

/** The newest version, and the one before it, which everybody begins with. */
const NEW = RULES.highest;
const OLD = NEW - 1;
/** Whose last member is forgotten until it has stopped by itself. */
const FORGETFUL: Organism = "relay";
/** A slot in which a member of its committee is away may be lost, and what was begun before. */
const SLOTS_PER_RESTART = 3;

export const scenario: Scenario = {
  name: "rolling-upgrade",
  description:
    "each member of each committee in turn restarts with newer rules while slots go on: one position, one state, one who was forgotten stops and comes back",
  async run(context) {
    const upgraded = new Set<string>();
    const session = await context.start({
      mode: await context.natsOnly(),
      memberSettings: (organism, index): Record<string, string> =>
        upgraded.has(`${organism}-${index}`) ? {} : { LATTICE_TEST_RULES_MAX: String(OLD) },
    });
    const { lattice, collector } = session;
    if (!(await firstComplete(context, session))) return;
    const first = slotNow(lattice);
    const begun = await eventually(40 * context.slotMs, async () => {
      const all = await Promise.all(ORGANISMS.map((organism) => statusOf(lattice, organism, 0)));
      return all.every((status) => status?.rules?.active === OLD && status.rules.highest === OLD);
    });
    context.check("everybody begins with the rules before the newest", begun);
    let restarts = 0;

    const upgrade = async (organism: Organism, index: number): Promise<void> => {
      const name = `${organism}-${index}`;
      context.say(`${name} is stopped and started with rules ${NEW}`);
      upgraded.add(name);
      restarts += 1;
      await lattice.process(name).stop();
      lattice.startMember(organism, index);
      context.check(`${name} is ready again`, await eventually(60_000, () => isReady(lattice, organism, index)));
    };
    const position = async (organism: Organism): Promise<string> => {
      const count = lattice.rosters[organism].members.length;
      const all = await Promise.all(Array.from({ length: count }, (_, index) => statusOf(lattice, organism, index)));
      const said = all.map((status) => `${status?.rules?.active ?? "?"}@${status?.rules?.sincePosition ?? "?"}`);
      return [...new Set(said)].join();
    };

    for (const organism of ORGANISMS) {
      const count = lattice.rosters[organism].members.length;
      for (let index = 0; index < count; index++) {
        const last = index === count - 1;
        if (last && organism === FORGETFUL) {
          const name = `${organism}-${index}`;
          context.say(`${name} is forgotten`);
          const stopped = await eventually(40 * context.slotMs, async () => !lattice.process(name).running);
          context.check(`${name} stops by itself`, stopped);
          const why = logLines(lattice, /RULES_UNKNOWN/).filter((line) => line.startsWith(name));
          context.check(
            `${name} says which build is needed`,
            why.some((line) => line.includes(`install one that speaks ${NEW}`)),
            why[0],
          );
          await completeFrom(context, session, slotNow(lattice) + 2n, `slots go on without ${name}`);
        }
        await upgrade(organism, index);
        if (index === 0) {
          context.check(`${organism}: both versions have the same state`, await agree(lattice, organism, 0, 1));
        }
      }
      const active = await eventually(40 * context.slotMs, async () =>
        new RegExp(`^${NEW}@[1-9]\\d*$`).test(await position(organism)),
      );
      context.check(`${organism}: all took the rules up at one position`, active, await position(organism));
      context.check(`${organism}: one state afterwards`, await agree(lattice, organism, 0, count - 1));
    }
    const lastSlot = slotNow(lattice);
    await completeFrom(context, session, lastSlot + 2n, "slots go on under the new rules");

    for (const organism of ORGANISMS) {
      const status = await statusOf(lattice, organism, 0);
      const blamed = status?.members.filter(({ blocked, differs }) => blocked || differs).map(({ index }) => index) ?? [
        0,
      ];
      context.check(`${organism}: nobody is taken for a fraud`, blamed.length === 0, blamed.join());
    }
    const stopped = logLines(lattice, /this member must stop/).filter((line) => !line.includes("RULES_UNKNOWN"));
    context.check("nobody else had to stop", stopped.length === 0, stopped[0]);
    const slots = collector.slots().filter((slot) => slot >= first && slot <= lastSlot);
    const lost = slots.filter((slot) => !collector.complete(slot)).length;
    context.say(`${slots.length} slots, ${lost} of them incomplete, ${restarts} restarts`);
    context.check("no slot is lost beyond what restarts cost", lost <= restarts * SLOTS_PER_RESTART, `${lost} lost`);
    const last = collector.slots().findLast((slot) => collector.decided(slot)) ?? first;
    await judgeFaulty(context, session, { first, last }, ["claim_paid"]);
  },
};

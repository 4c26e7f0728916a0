/** One member of each committee dies in turn, without warning, and comes back. */
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import {
  agree,
  completeFrom,
  eventually,
  firstComplete,
  isReady,
  judgeFaulty,
  slotNow,
  statusOf,
} from "./lattice-tools.ts";
import type { Scenario } from "./scenario.ts";

/** From the kill to a slot that nobody of the dead member's committee had begun. */
const SLOTS_BEGUN = 3n;

export const scenario: Scenario = {
  name: "kill-one",
  description: "kill -9 of one member of each committee in turn while slots go on; each comes back to the same history",
  async run(context) {
    const session = await context.start({ mode: await context.natsOnly() });
    const { lattice, collector } = session;
    if (!(await firstComplete(context, session))) return;
    const first = slotNow(lattice);
    for (const [turn, organism] of ORGANISMS.entries()) {
      const index = turn % lattice.rosters[organism].members.length;
      const name = `${organism}-${index}`;
      const before = await statusOf(lattice, organism, index);
      context.say(`kill -9 ${name}`);
      await lattice.process(name).kill();
      const killedAt = slotNow(lattice);
      if (organism === "zipnet") {
        // Anonymity needs every server: its slots wait for the one that is gone, and are decided as Skipped.
        const target = killedAt + SLOTS_BEGUN;
        await context.waitFor(`slots are decided while ${name} is dead`, session, 14, () =>
          collector.decided(target, ["zipnet", "unseal", "offer"]),
        );
      } else {
        await completeFrom(context, session, killedAt + SLOTS_BEGUN, `slots go on while ${name} is dead`);
      }
      lattice.startMember(organism, index);
      context.check(`${name} is ready again`, await eventually(60_000, () => isReady(lattice, organism, index)));
      const other = (index + 1) % lattice.rosters[organism].members.length;
      context.check(`${name} has the others' history`, await agree(lattice, organism, index, other));
      const after = await statusOf(lattice, organism, index);
      const own = (status: typeof before): bigint =>
        status?.members.find((each) => each.index === index)?.incarnation ?? 0n;
      context.check(`${name} speaks as a new incarnation`, own(after) > own(before), `${own(before)} → ${own(after)}`);
      await completeFrom(context, session, slotNow(lattice) + 2n, `slots go on with ${name} back`);
    }
    const last = collector.slots().findLast((slot) => collector.decided(slot)) ?? first;
    await judgeFaulty(context, session, { first, last }, ["claim_paid"]);
  },
};

/** Three committees take up another certificate key each, while slots go on: upstream, downstream, gateway and clients follow. */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { ERAS } from "@lattice/organism/committee/rules.ts";
import { latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { readConfig } from "@lattice/organism/node/kit.ts";
import { oneHistory } from "./integrity-checks.ts";
import { completeFrom, eventually, firstComplete, slotNow, statusOf } from "./lattice-tools.ts";
import { NextEpoch } from "./next-epoch.ts";
import type { Scenario } from "./scenario.ts";

const CHANGED: readonly Organism[] = ["zipnet", "unseal", "atelier"];
const IN_SLOTS = 40;

export const scenario: Scenario = {
  name: "new-era",
  description: "zipnet, unseal and atelier change their certificate keys while slots go on, and everybody follows",
  async run(context) {
    const session = await context.start({ mode: await context.natsOnly() });
    const { lattice, collector } = session;
    if (!(await firstComplete(context, session))) return;
    const first = slotNow(lattice);
    const id = toHex(latticeId(lattice.config));
    const ruled = await eventually(60 * context.slotMs, async () => {
      const all = await Promise.all(ORGANISMS.map((organism) => statusOf(lattice, organism, 0)));
      return all.every((status) => (status?.rules?.active ?? 0) >= ERAS);
    });
    if (!context.check(`everybody goes by rules ${ERAS}`, ruled)) return;
    const epochs = CHANGED.map((organism) => ({
      organism,
      epoch: new NextEpoch(context, lattice, { organism, inSlots: IN_SLOTS, newEra: true }),
    }));
    let last = 0n;
    for (const { epoch } of epochs) {
      if (!(await epoch.healthy())) return;
      const activation = await epoch.propose();
      if (activation === undefined) return;
      if (!(await epoch.reshare())) return;
      if (activation > last) last = activation;
    }
    for (const { epoch } of epochs) await epoch.reached("announced", 60);
    await completeFrom(context, session, last + 1n, "slots go through when all three are in their new era", 70);
    for (const { organism, epoch } of epochs) {
      await epoch.reached(undefined, 60);
      await collector.eras.ask(organism);
      const eras = collector.eras.of(organism);
      const [pinned, next] = [eras[0]?.key, eras[1]?.key];
      const changed = pinned !== undefined && next !== undefined && !equalBytes(pinned, next);
      context.check(`${organism}: another certificate key, as f + 1 members tell`, eras.length === 2 && changed);
    }
    await oneHistory(context, session, first);
    context.check("the lattice id is the same", toHex(latticeId(readConfig(lattice.layout.config))) === id);
  },
};

/** Proactive refresh of three committees at once: certificate and builder keys stay, sealing keys are fresh, slots go on. */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { checkRoster, type Roster } from "@lattice/organism/committee/roster.ts";
import { latticeId } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { fromWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { readConfig } from "@lattice/organism/node/kit.ts";
import { completeFrom, firstComplete } from "./lattice-tools.ts";
import { committeeClient } from "./member-log.ts";
import { NextEpoch } from "./next-epoch.ts";
import type { Scenario } from "./scenario.ts";

const REFRESHED: readonly Organism[] = ["unseal", "offer", "atelier"];
const IN_SLOTS = 34;

export const scenario: Scenario = {
  name: "reshare",
  description:
    "unseal, offer and atelier take up fresh shares of the same keys, and fresh sealing keys, while slots go on",
  async run(context) {
    const session = await context.start({ mode: await context.natsOnly() });
    const { lattice } = session;
    if (!(await firstComplete(context, session))) return;
    const id = toHex(latticeId(lattice.config));
    const epochs = REFRESHED.map((organism) => ({
      organism,
      epoch: new NextEpoch(context, lattice, { organism, inSlots: IN_SLOTS }),
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
    await completeFrom(context, session, last + 1n, "slots go through when all three are in their new epoch", 70);
    for (const { organism, epoch } of epochs) {
      await epoch.reached(undefined, 60);
      const before = lattice.rosters[organism];
      const now = await newest(organism);
      if (!context.check(`${organism} is in epoch 1`, now?.epoch === 1n) || now === undefined) continue;
      const others = now.members.every(
        ({ certificateShare }, index) =>
          !equalBytes(certificateShare, before.members[index]?.certificateShare ?? new Uint8Array()),
      );
      context.check(`${organism}: every share is another, under the key that the config pins`, others);
      if (organism === "atelier") continue;
      const fresh = toHex(now.sealingKey ?? new Uint8Array()) !== toHex(before.sealingKey ?? new Uint8Array());
      context.check(`${organism}: the sealing key is fresh`, fresh && now.sealingKey?.length === 48);
    }
    context.check("the lattice id is the same", toHex(latticeId(readConfig(lattice.layout.config))) === id);

    /** The newest roster that member 0 serves, under the pinned key. */
    async function newest(organism: Organism): Promise<Roster | undefined> {
      const client = committeeClient(lattice, organism, 0);
      try {
        const { rosters } = await client.getRosters({});
        const certified = fromWireOutcome(rosters.at(-1) ?? rosters[0] ?? missing());
        const checked = certified === undefined ? undefined : checkRoster(lattice.config, organism, certified);
        return checked === undefined || "problem" in checked ? undefined : checked.roster;
      } finally {
        client.close();
      }
    }
  },
};

function missing(): never {
  throw new Error("a member without a roster");
}

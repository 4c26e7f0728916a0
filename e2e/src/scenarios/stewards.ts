/** A lattice that refreshes itself: a steward of each of the eighteen seats, as `npm start -- --stewards` has them. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { http } from "@lattice/deploy/local/layout.ts";
import { residentMbOf } from "@lattice/deploy/local/memory.ts";
import { stewardName } from "@lattice/deploy/local/stewards.ts";
import { askCommittee, judgeCommittee } from "@lattice/deploy/roster/committee-view.ts";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { readConfig, readEndpoints } from "@lattice/organism/node/kit.ts";
import { completeFrom, eventually, firstComplete, slotNow } from "./lattice-tools.ts";
import type { Scenario } from "./scenario.ts";

const REFRESH_EVERY = 30;
/** Slots until a refresh that may be missed once is in force. */
const PATIENCE = 2 * REFRESH_EVERY + 10;
const KILLED = stewardName("offer", 1);

export const scenario: Scenario = {
  name: "stewards",
  description: "all six committees get fresh shares twice with nobody typing, one steward killed between",
  async run(context) {
    const stewards = { refreshEverySlots: REFRESH_EVERY };
    const session = await context.start({ mode: await context.natsOnly(), stewards });
    const { lattice } = session;
    const id = toHex(latticeId(lattice.config));
    if (!(await firstComplete(context, session))) return;
    const seats = ORGANISMS.flatMap((organism) =>
      lattice.rosters[organism].members.map(({ index }) => ({ organism, index, name: stewardName(organism, index) })),
    );

    if (!(await refreshed(1n))) return;
    await completeFrom(context, session, slotNow(lattice) + 1n, "slots go through with fresh shares", 16);
    const { processes } = lattice;
    const memory = seats.map(({ name }) => [name, lattice.process(name).pid] as const);
    context.say(`memory of the stewards, MB: ${Object.values(residentMbOf(memory)).join(" ")}`);
    await lattice.process(KILLED).kill();
    lattice.process(KILLED).start();
    if (!(await refreshed(2n))) return;
    await completeFrom(context, session, slotNow(lattice) + 1n, "slots go through with the next ones", 16);

    context.check("the lattice id is the same", toHex(latticeId(readConfig(lattice.layout.config))) === id);
    const down = [...processes].filter(([, { running }]) => !running).map(([name]) => name);
    context.check("nobody has ended", down.length === 0, down.join());
    const silent = await Promise.all(seats.map(({ organism, index, name }) => shownEpoch(organism, index, name)));
    const wrong = silent.flatMap((each) => each ?? []);
    context.check("each steward's metrics show the epoch", wrong.length === 0, wrong.join("; "));
    const unsound = seats.filter(({ name }) => /"level":"error"/.test(lattice.process(name).tail(2000)));
    context.check("no steward has logged an error", unsound.length === 0, unsound.map(({ name }) => name).join());
    const kept = await eventually(50 * context.slotMs, async () => sharesKept().length === 0);
    context.check("shares that are over are erased", kept, sharesKept().join());

    async function shownEpoch(organism: Organism, index: number, name: string): Promise<string | undefined> {
      const port = lattice.layout.loadPorts().stewards?.metrics[organism][index] ?? 0;
      const text = await (await fetch(`${http(port)}/metrics`)).text();
      const epoch = /^lattice_steward_epoch\{[^}]*\} (\d+)$/m.exec(text)?.[1];
      return Number(epoch) >= 2 ? undefined : `${name} shows epoch ${epoch}`;
    }

    /** Seats that still hold what they signed with in epoch 1. Tally's slots follow the chain, however far behind that is. */
    function sharesKept(): string[] {
      return seats.flatMap(({ organism, index }) => {
        if (organism === "tally") return [];
        const shares = readdirSync(join(lattice.layout.holder(organism, index), "shares"));
        return shares.includes("1.json") ? [`${organism}-${index}`] : [];
      });
    }

    /** Until each of the six committees is in epoch `epoch` or a later one, and has decided a slot of it. */
    async function refreshed(epoch: bigint): Promise<boolean> {
      const missing = new Map<Organism, string>(ORGANISMS.map((organism) => [organism, "not seen"]));
      await eventually(PATIENCE * context.slotMs, async () => {
        const endpoints = readEndpoints(lattice.layout.endpoints);
        for (const organism of [...missing.keys()]) {
          const answers = await askCommittee(lattice.config, organism, endpoints[organism]);
          const view = judgeCommittee(lattice.config, organism, answers);
          const problem =
            "problem" in view
              ? view.problem
              : view.roster.epoch < epoch || view.decidedSlot < view.roster.activationSlot
                ? `epoch ${view.roster.epoch} from slot ${view.roster.activationSlot}, slot ${view.decidedSlot} is decided`
                : undefined;
          if (problem === undefined) missing.delete(organism);
          else missing.set(organism, problem);
        }
        return missing.size === 0;
      });
      const detail = [...missing].map(
        ([organism, problem]) =>
          `${organism}: ${problem} (${lattice.process(stewardName(organism, 0)).tail(2).slice(0, 600)})`,
      );
      return context.check(
        `all six committees are in epoch ${epoch}`,
        missing.size === 0,
        detail.length === 0 ? undefined : detail.join(" | "),
      );
    }
  },
};

/** Members that crash, lose their disk, come back from a backup or run twice: nobody is ever taken for a fraud. */
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { freePorts } from "@lattice/deploy/local/free-ports.ts";
import { at } from "@lattice/deploy/local/layout.ts";
import { memberEnvironment, memberScript } from "@lattice/deploy/local/members.ts";
import { ManagedProcess } from "@lattice/deploy/local/processes.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { acknowledgedIsKept, certifiedSoFar, historyIsKept, nobodyIsBlamed, oneHistory } from "./integrity-checks.ts";
import { agree, completeFrom, eventually, firstComplete, isReady, logLines, slotNow } from "./lattice-tools.ts";
import type { Scenario } from "./scenario.ts";

export const scenario: Scenario = {
  name: "honest-crash",
  description:
    "kill -9 in mid-slot, a lost disk, a restored backup, a doubled process: no proof, no accusation, slots go on",
  async run(context) {
    const session = await context.start({ mode: await context.natsOnly() });
    const { lattice } = session;
    const { layout, ports } = lattice;
    if (!(await firstComplete(context, session))) return;
    const first = slotNow(lattice);
    const known = certifiedSoFar(session);
    const again = async (organism: Organism, index: number, what: string): Promise<void> => {
      lattice.startMember(organism, index);
      context.check(
        `${organism}-${index} is ready after ${what}`,
        await eventually(60_000, () => isReady(lattice, organism, index)),
      );
    };
    const backup = layout.path("backup");
    await lattice.process("offer-1").kill();
    cpSync(layout.data("offer", 1), backup, { recursive: true });
    await again("offer", 1, "a kill -9 while its folder was copied");

    for (const round of [1, 2]) {
      await lattice.process("unseal-0").kill();
      await again("unseal", 0, `kill -9 number ${round}`);
    }

    await lattice.process("relay-1").kill();
    rmSync(layout.data("relay", 1), { recursive: true });
    await again("relay", 1, "it lost its disk");

    await lattice.process("offer-1").kill();
    rmSync(layout.data("offer", 1), { recursive: true });
    cpSync(backup, layout.data("offer", 1), { recursive: true });
    await again("offer", 1, "a restore from a backup");

    const twin = layout.path("twin");
    mkdirSync(twin, { recursive: true });
    cpSync(layout.data("tally", 2), twin, { recursive: true });
    const [grpc = 0, metrics = 0] = await freePorts(2);
    const environment = {
      ...memberEnvironment({ layout, ports, slotMs: context.slotMs, logLevel: "info" }, "tally", 2),
      LATTICE_DATA_DIR: twin,
      LATTICE_LISTEN: at(grpc),
      LATTICE_METRICS_LISTEN: at(metrics),
    };
    const doubled = new ManagedProcess({
      name: "tally-2-twin",
      script: memberScript("tally"),
      environment,
      logFile: layout.log("tally-2-twin"),
    });
    context.onEnd(() => doubled.stop());
    doubled.start();
    const older = lattice.process("tally-2");
    context.check(
      "of two processes of one member one stops",
      await eventually(60_000, async () => !older.running || !doubled.running),
    );
    context.check("and one of them is left", older.running || doubled.running);

    await completeFrom(context, session, slotNow(lattice) + 3n, "slots go on", 30);
    await doubled.stop();
    if (!older.running) lattice.startMember("tally", 2);
    context.check("tally-2 is ready, alone again", await eventually(60_000, () => isReady(lattice, "tally", 2)));
    await nobodyIsBlamed(context, lattice);
    const accused = logLines(lattice, /two things|another chain|LOG_FORKED|KEY_BLOCKED|a promise would be broken/);
    context.check("nobody accuses anybody, nobody was about to break a promise", accused.length === 0, accused[0]);
    for (const organism of ["offer", "unseal", "relay", "tally"] as const) {
      const [index, other] = organism === "unseal" ? [0, 1] : organism === "tally" ? [2, 0] : [1, 0];
      context.check(`${organism}-${index} has the others' history`, await agree(lattice, organism, index, other));
    }
    await historyIsKept(context, session, known, ["offer", "unseal", "relay"], ["offer-1", "relay-1"]);
    await acknowledgedIsKept(context, session);
    await oneHistory(context, session, first);
  },
};

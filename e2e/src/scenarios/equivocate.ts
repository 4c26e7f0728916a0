/** A corrupt member says two things in one place: every honest member has the proof, its key is blocked, slots go on. */
import { randomBytes } from "node:crypto";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runFraudFetch } from "@lattice/deploy/cli/fraud-fetch.ts";
import { runFraudVerify } from "@lattice/deploy/cli/fraud-verify.ts";
import { completeFrom, eventually, firstComplete, isReady, logLines, slotNow, statusOf } from "./lattice-tools.ts";
import { committeeClient, openMemberLog, StolenVoice } from "./member-log.ts";
import type { Scenario } from "./scenario.ts";

const ORGANISM = "relay";
const LIAR = 2;
const HONEST = [0, 1];

export const scenario: Scenario = {
  name: "equivocate",
  description:
    "a member's key signs two entries in one place: proven, committed, served, verified offline; slots go on",
  async run(context) {
    const session = await context.start({ mode: await context.natsOnly() });
    const { lattice } = session;
    if (!(await firstComplete(context, session))) return;
    const status = await statusOf(lattice, ORGANISM, LIAR);
    const incarnation = status?.members.find(({ index }) => index === LIAR)?.incarnation ?? 0n;
    await lattice.process(`${ORGANISM}-${LIAR}`).kill();
    context.say(`${ORGANISM}-${LIAR} is corrupt from here on`);
    const voice = new StolenVoice(lattice, ORGANISM, LIAR, incarnation + 1n, new Uint8Array(randomBytes(32)));
    const log = await openMemberLog(lattice, ORGANISM, LIAR);
    const asks = HONEST.map((index) => committeeClient(lattice, ORGANISM, index));
    const [first] = asks;
    try {
      if (first === undefined) return;
      const head = await first.getHead({ position: (1n << 63n) - 1n });
      const skip = (toSlot: bigint) => ({ type: "skip", stage: "accepted", toSlot }) as const;
      const entries = [voice.join(head), voice.say(skip(0n), head, false), voice.say(skip(1n), head, true)];
      for (const [index, raw] of entries.entries()) await log.append("ctl", raw, `corrupt.${incarnation}.${index}`);
      const known = async (): Promise<boolean> => {
        const all = await Promise.all(asks.map((client) => client.listFrauds({}).catch(() => undefined)));
        return all.every((answer) => answer?.frauds.length === 1 && answer.frauds[0]?.memberIndex === LIAR);
      };
      context.check("every honest member has the fraud in its state", await eventually(20_000, known));
      for (const [index, client] of asks.entries()) {
        await context.attempt(`${ORGANISM}-${index} serves a proof that verifies offline`, async () => {
          const [record] = (await client.listFrauds({})).frauds;
          const { proof } = await client.getFraud({ proofHash: record?.proofHash ?? new Uint8Array() });
          const file = lattice.layout.path(`proof-${index}.fraud`);
          writeFileSync(file, proof);
          const lines: string[] = [];
          const output = { data: (line: string) => lines.push(line), problem: (line: string) => lines.push(line) };
          const code = await runFraudVerify(file, { config: lattice.layout.config, json: true }, output);
          const verdict = JSON.parse(lines[0] ?? "{}") as Record<string, unknown>;
          return code === 0 && verdict["organism"] === ORGANISM && verdict["member_index"] === LIAR;
        });
        const members = (await client.getStatus({})).members.filter(({ blocked }) => blocked);
        context.check(`${ORGANISM}-${index} shows it blocked`, members.length === 1 && members[0]?.index === LIAR);
      }
      await context.attempt("`fraud fetch` writes the proof down", async () => {
        const said: string[] = [];
        const output = { data: (line: string) => said.push(line), problem: (line: string) => said.push(line) };
        const { config, endpoints } = lattice.layout;
        const out = lattice.layout.path("fetched-frauds");
        const code = await runFraudFetch({ config, endpoints, organism: ORGANISM, out, json: false }, output);
        const [name] = code === 0 ? readdirSync(out) : [];
        if (name === undefined) return false;
        return (await runFraudVerify(join(out, name), { config, json: true }, output)) === 0;
      });
      await completeFrom(context, session, slotNow(lattice) + 2n, "slots go on without it");
      const before = (await first.getStatus({})).members.find(({ index }) => index === LIAR)?.incarnation;
      await log.append("ctl", voice.say(skip(2n), head, true), `corrupt.${incarnation}.late`);
      context.say(`${ORGANISM}-${LIAR} is started again with its key`);
      lattice.startMember(ORGANISM, LIAR);
      const process = lattice.process(`${ORGANISM}-${LIAR}`);
      const stopped = await eventually(30_000, async () => !process.running);
      context.check("with that key it does not come back", stopped && !(await isReady(lattice, ORGANISM, LIAR)));
      context.check(
        "it says why",
        logLines(lattice, /KEY_BLOCKED/).some((line) => line.includes(`${ORGANISM}-${LIAR}`)),
      );
      const after = (await first.getStatus({})).members.find(({ index }) => index === LIAR)?.incarnation;
      context.check("nothing more is taken from it", before === after && after === incarnation + 1n);
      await completeFrom(context, session, slotNow(lattice) + 1n, "slots go on");
    } finally {
      for (const client of asks) client.close();
      await log.close();
    }
  },
};

/** Power failure: every process dies at once, the broker and the chain too, and everything is started again. */

import { readTraffic } from "@lattice/deploy/local/export.ts";
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { completeFrom, eventually, firstComplete, judgeFaulty, logLines, slotNow, statusOf } from "./lattice-tools.ts";
import type { Scenario } from "./scenario.ts";
import { ask, landed } from "./users.ts";

const SLOTS_BEFORE = 4n;
/** Slots that a transaction which had not landed before the failure gets afterwards. */
const ACCOUNTED_SLOTS = 30;

export const scenario: Scenario = {
  name: "restart-all",
  description:
    "kill -9 of everything including NATS, start again: state resumes, nothing acknowledged is lost, nobody is a fraud",
  async run(context) {
    const mode = await context.natsOnly();
    const session = await context.start({ mode });
    const { lattice, collector } = session;
    if (!(await firstComplete(context, session))) return;
    await completeFrom(context, session, slotNow(lattice) + SLOTS_BEFORE, "users are being served");

    const members = ORGANISMS.flatMap((organism) =>
      lattice.rosters[organism].members.map(({ index }) => ({ organism, index })),
    );
    const before = await Promise.all(members.map(({ organism, index }) => statusOf(lattice, organism, index)));
    context.say("kill -9 of everything");
    await session.kill();
    context.ended(session);
    const known = collector.slots().flatMap((slot) => collector.slot(slot));
    const acknowledged = readTraffic(lattice.layout).filter((line) => line.type === "transaction");

    const again = await context.start({ mode, traffic: false });
    context.check("everything is ready again", true);
    const after = await Promise.all(
      members.map(async ({ organism, index }) => {
        let status = await statusOf(again.lattice, organism, index);
        await eventually(30_000, async () => {
          status ??= await statusOf(again.lattice, organism, index);
          return status !== undefined;
        });
        return status;
      }),
    );
    for (const [at, { organism, index }] of members.entries()) {
      const [was, is] = [before[at], after[at]];
      const resumed = was !== undefined && is !== undefined && is.position >= was.position;
      context.check(
        `${organism}-${index} resumes its log`,
        resumed,
        `${was?.position ?? "?"} → ${is?.position ?? "?"}`,
      );
    }
    await completeFrom(context, again, slotNow(again.lattice) + 1n, "slots go through again", 20);

    const served = (): typeof known =>
      known.filter(({ organism, certified, digest }) => {
        const found = again.collector.get(organism, certified.outcome.stage, certified.outcome.slot);
        return found !== undefined && equalBytes(found.digest, digest);
      });
    await context.waitFor(
      "every certified outcome is served again, as it was",
      again,
      10,
      () => served().length === known.length,
    );
    context.check("no outcome was decided twice", again.collector.conflicts.length === 0);

    const open = new Set(acknowledged.map(({ hash }) => hash));
    const look = async (): Promise<void> => {
      for (const hash of open) {
        if ((await landed(again.lattice, hash)) !== undefined) open.delete(hash);
        else {
          const { result } = await ask(again.lattice.gatewayUrl, "lattice_getSubmission", [hash]);
          if ((result as { status?: string } | undefined)?.status === "failed") open.delete(hash);
        }
      }
    };
    const until = slotNow(again.lattice) + BigInt(ACCOUNTED_SLOTS);
    do {
      await look();
      const newest = again.collector.newest;
      if (open.size > 0) await again.collector.until(() => again.collector.newest > newest, 2 * context.slotMs);
    } while (open.size > 0 && slotNow(again.lattice) < until && context.signal?.aborted !== true);
    context.check(
      "every acknowledged transaction landed, or its sender can learn why not",
      open.size === 0,
      open.size === 0 ? `${acknowledged.length} transactions` : [...open].join(", "),
    );

    const accused = logLines(again.lattice, /saw another chain|EQUIVOC|SHARE_CONFLICT|SHARE_BEFORE_FREEZE|"fraud"/);
    context.check("nobody is taken for a fraud", accused.length === 0, accused[0]);
    const heads = new Set(after.flatMap((status) => (status === undefined ? [] : [toHex(status.committeeId)])));
    context.check("six committees are the ones they were", heads.size === ORGANISMS.length);

    again.startTraffic();
    await completeFrom(context, again, slotNow(again.lattice) + SLOTS_BEFORE, "users are served again", 20);
    await again.stopTraffic();
    const last = again.collector.slots().findLast((slot) => again.collector.decided(slot)) ?? 1n;
    const first = known[0]?.certified.outcome.slot ?? 1n;
    await judgeFaulty(context, again, { first, last }, ["claim_paid", "transactions_in_block_or_told"]);
  },
};

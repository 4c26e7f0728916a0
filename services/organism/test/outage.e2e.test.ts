/** After an outage every slot that passed meanwhile is decided, and certified before it is forgotten. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { Fault } from "../src/fault.ts";
import { committeeId } from "../src/identity/lattice-config.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { type EpochKeys, singleEpochKeys } from "../src/node/epoch-keys.ts";
import { Member } from "../src/node/member.ts";
import { nodeTimers } from "../src/node/node-timers.ts";
import type { Timers } from "../src/ports.ts";
import { DirectCalls } from "../src/testing/direct-calls.ts";
import { dealCommittee, memberOptions } from "./test-lattice.ts";
import { toyDefinition } from "./toy-organism.ts";

before(initCrypto);

const SLOTS = 200n;
/** Nobody closes a slot: each ends by being skipped. */
const definition: typeof toyDefinition = {
  ...toyDefinition,
  createMachine: (...of) => ({ ...toyDefinition.createMachine(...of), duties: () => [] }),
};

type Started = { readonly decidedSlot: () => Promise<bigint>; readonly certified: (slot: bigint) => Promise<boolean> };

/** Three members that were down while the clock went on: nothing of all these slots is decided. */
async function afterOutage(
  own: { readonly epochKeys?: EpochKeys; readonly timers?: Timers },
  work: (committee: Started) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "lattice-outage-"));
  const committee = dealCommittee(3);
  const { config } = committee;
  const calls = new DirectCalls();
  const log = await EmbeddedLog.open(join(directory, "log"));
  const clock = { nowMs: () => config.genesisMs + Number(SLOTS) * config.slotMs };
  const members = await Promise.all(
    [0, 1, 2].map(async (index) => {
      const folder = join(directory, `${index}`);
      const options = await memberOptions({
        committee,
        index,
        log: log.member(index),
        directory: folder,
        clock,
        calls,
      });
      const member = await Member.start({ definition, settings: {}, ...options, ...own });
      calls.serve(`relay-${index}`, member.services);
      return member;
    }),
  );
  const client = calls.connect(CommitteeService)("relay-0", committeeId(config, "relay"));
  try {
    await work({
      decidedSlot: async () => (await client.getStatus({})).decidedSlot,
      certified: (slot) =>
        client.getOutcome({ stage: "accepted", slot }).then(
          () => true,
          (error: unknown) => {
            assert.ok(error instanceof Fault && error.reason === "OUTCOME_UNKNOWN");
            return false;
          },
        ),
    });
  } finally {
    await Promise.all(members.map((member) => member.stop(20)));
    await log.close();
    await rm(directory, { recursive: true, force: true });
  }
}
const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));

test("a committee that was down for many slots certifies each of them", { timeout: 600_000 }, () =>
  afterOutage({}, async ({ certified }) => {
    while (!(await certified(SLOTS - 2n))) await soon();
    const missing: bigint[] = [];
    for (let slot = 1n; slot < SLOTS - 1n; slot++) if (!(await certified(slot))) missing.push(slot);
    assert.deepEqual(missing, []);
  }),
);

test("slots that nobody can certify do not hold up the others for ever", { timeout: 600_000 }, async () => {
  const [secrets] = dealCommittee(3).secrets;
  assert.ok(secrets);
  // Shares of another epoch; and a time that runs a hundred times as fast.
  const epochKeys = singleEpochKeys(99n, secrets);
  const timers = { ...nodeTimers, elapsedMs: () => performance.now() * 100 };
  await afterOutage({ epochKeys, timers }, async ({ decidedSlot, certified }) => {
    while ((await decidedSlot()) < SLOTS - 1n) await soon();
    assert.equal(await certified(1n), false);
  });
});

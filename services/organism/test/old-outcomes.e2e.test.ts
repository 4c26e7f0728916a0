/** Outcomes that a member has let go of: a stream that begins before is OUT_OF_RANGE and names the oldest slot; an archive has them one by one. */
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
import type { Archive } from "../src/node/archive.ts";
import { ArchiveDirectory } from "../src/node/archive-directory.ts";
import { OutcomeArchive } from "../src/node/outcome-archive.ts";
import { DirectCalls } from "../src/testing/direct-calls.ts";
import { outcomeOf } from "./archive-conformance.ts";
import { PATIENCE_MS } from "./patience.ts";
import { dealCommittee, startToyMember } from "./test-lattice.ts";

before(initCrypto);

test("a stream from before the oldest outcome is refused with the oldest slot; one outcome comes from the archive", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lattice-old-"));
  const committee = dealCommittee(3);
  const { config } = committee;
  const calls = new DirectCalls();
  const log = await EmbeddedLog.open(join(directory, "log"));
  const own = await OutcomeArchive.open(join(directory, "member-0"), "relay");
  for (const slot of [500n, 501n]) await own.put(outcomeOf(committee, slot));
  await own.close();
  const kept = await ArchiveDirectory.open(join(directory, "archive"), config, "relay");
  const asked: string[] = [];
  const archive: Archive = {
    snapshots: kept.snapshots,
    putOutcome: (certified) => kept.putOutcome(certified),
    outcome(stage, slot) {
      asked.push(`${stage}/${slot}`);
      return kept.outcome(stage, slot);
    },
    outcomeNames: (slot) => kept.outcomeNames(slot),
  };
  await archive.putOutcome(outcomeOf(committee, 7n));
  await archive.putOutcome(outcomeOf(dealCommittee(3), 8n));
  // Before the first slot: nothing is decided meanwhile.
  const clock = { nowMs: () => config.genesisMs };
  const member = await startToyMember({ committee, index: 0, log: log.member(0), directory, clock, calls, archive });
  try {
    const client = calls.connect(CommitteeService)("relay-0", committeeId(config, "relay"));
    const first = async (fromSlot: bigint): Promise<bigint | undefined> => {
      for await (const { event } of client.watchOutcomes({ stage: "accepted", fromSlot })) {
        if (event.case === "outcome") return event.value.slot;
      }
      return undefined;
    };
    assert.equal(await first(500n), 500n);
    for (const fromSlot of [1n, 499n]) {
      await assert.rejects(first(fromSlot), (error: unknown) => {
        assert.ok(error instanceof Fault);
        assert.deepEqual([error.code, error.reason], ["OUT_OF_RANGE", "OUTCOME_TOO_OLD"]);
        assert.equal(error.metadata["oldest_slot"], "500");
        return true;
      });
    }
    assert.equal((await client.getOutcome({ stage: "accepted", slot: 7n })).outcome?.slot, 7n);
    await assert.rejects(client.getOutcome({ stage: "accepted", slot: 8n }), { reason: "OUTCOME_UNKNOWN" });
    for (const request of [
      { stage: "accepted", slot: 502n },
      { stage: "broadcast", slot: 7n },
    ]) {
      await assert.rejects(client.getOutcome(request), { reason: "OUTCOME_UNKNOWN" });
    }
    assert.deepEqual(asked, ["accepted/7", "accepted/8"], "not for what nobody has decided, nor for what no stage is");
    // An earlier process had no archive, or one that was away.
    const deadline = Date.now() + PATIENCE_MS;
    for (const slot of [500n, 501n]) {
      while ((await kept.outcome("accepted", slot)) === undefined) {
        assert.ok(Date.now() < deadline, `slot ${slot} is outside`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  } finally {
    await member.stop(20);
    await log.close();
    await rm(directory, { recursive: true, force: true });
  }
});

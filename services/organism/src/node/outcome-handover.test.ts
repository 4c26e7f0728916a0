/** An archive that is away for however long gets what it has missed, and it shows when it cannot. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { toHex } from "../codec/codec.ts";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import { latticeId } from "../identity/lattice-config.ts";
import { createNoMeters, type MeterRegistry } from "../observe/meters.ts";
import { dealCommittee } from "../testing/dealt-committee.ts";
import { ManualTimers, settled } from "../testing/manual-timers.ts";
import type { Archive } from "./archive.ts";
import { ArchiveDirectory } from "./archive-directory.ts";
import { OutcomeArchive } from "./outcome-archive.ts";
import { OutcomeHandover } from "./outcome-handover.ts";

const { config } = dealCommittee(3);
const BEHIND = "lattice_archive_behind_slots";
const GONE = "lattice_archive_gone_slots_total";

function certified(slot: bigint, stage = "first"): CertifiedOutcome {
  const outcome = {
    version: 1 as const,
    committee: new Uint8Array(32),
    generation: 0n,
    epoch: 0n,
    slot,
    stage,
    kind: "result" as const,
    commitment: new Uint8Array([Number(slot % 256n)]),
    bodyHash: undefined,
  };
  return { outcome, signature: new Uint8Array(96), signers: [0, 1] };
}

describe("outcomes on their way into the archive", () => {
  let directory: string;
  let own: OutcomeArchive;
  let outside: ArchiveDirectory;
  let timers: ManualTimers;
  let meters: MeterRegistry;
  let said: string[];
  let handover: OutcomeHandover;

  function make(to: Pick<Archive, "putOutcome" | "outcomeNames"> = outside): OutcomeHandover {
    const say = (line: string): void => void said.push(line);
    const logger = { debug: assert.fail, info: say, warn: assert.fail, error: say };
    return new OutcomeHandover({ outside: to, own, stages: ["first", "second"], timers, logger, meters });
  }

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "lattice-handover-"));
    own = await OutcomeArchive.open(join(directory, "own"), "relay", { keptSlots: 8n, segmentRecords: 32 });
    outside = await ArchiveDirectory.open(join(directory, "outside"), config, "relay");
    timers = new ManualTimers();
    meters = createNoMeters();
    said = [];
    handover = make();
  });
  afterEach(async () => {
    await handover.close();
    await own.close();
    await rm(directory, { recursive: true, force: true });
  });

  const place = (): string => join(directory, "outside", toHex(latticeId(config)), "relay", "outcomes");
  /** Nothing can be put there, nor read. */
  const goAway = async (): Promise<void> => {
    await mkdir(dirname(place()), { recursive: true });
    await rm(place(), { recursive: true, force: true });
    await writeFile(place(), "no folder");
  };
  const comeBack = (): Promise<void> => rm(place());

  /** As a member does: kept, then handed over. */
  async function certify(...slots: bigint[]): Promise<void> {
    for (const slot of slots) {
      const kept = own.put(certified(slot));
      handover.hand(certified(slot));
      await kept;
    }
  }

  /** The disk has its own time. */
  async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = Date.now() + 20_000;
    while (!(await condition())) {
      assert.ok(Date.now() < deadline, `not in time: ${what}`);
      await settled();
    }
  }
  const isOutside =
    (slot: bigint, stage = "first") =>
    async (): Promise<boolean> =>
      (await outside.outcome(stage, slot)) !== undefined;
  const told = (line: RegExp) => (): boolean => line.test(said.at(-1) ?? "");

  test("one goes there at once", async () => {
    await certify(1n);
    await until("slot 1", isOutside(1n));
    assert.deepEqual(await outside.outcome("first", 1n), certified(1n));
    assert.deepEqual([said, timers.waiting], [[], 0]);
  });

  test("what an archive that was away has missed comes there once it is back, told of once", async () => {
    await certify(1n);
    await until("slot 1", isOutside(1n));
    await goAway();
    await certify(2n);
    await until("told", told(/does not take/));
    assert.equal(meters.value(BEHIND), 1);
    // Far longer than anything waits for an answer.
    for (let slot = 3n; slot <= 40n; slot++) {
      await certify(slot);
      await timers.advance(60_000);
    }
    await until("waited", () => timers.waiting === 1);
    assert.equal(meters.value(BEHIND), 39);
    await comeBack();
    await timers.advance(60_000);
    await until("told", told(/has all/));
    for (let slot = 2n; slot <= 40n; slot++) assert.deepEqual(await outside.outcome("first", slot), certified(slot));
    assert.equal(await outside.outcome("first", 1n), undefined, "it had that one");
    assert.deepEqual([said.length, meters.value(BEHIND), meters.value(GONE), timers.waiting], [2, 0, 0, 0]);
    await certify(41n);
    await until("slot 41", isOutside(41n));
  });

  test("what the process before has kept and not brought there is found at the start, whatever it was", async () => {
    const slots = [1n, 999n, 1000n, 2500n];
    for (const slot of slots) {
      await own.put(certified(slot));
      await own.put(certified(slot, "second"));
    }
    // No stage of this committee's machine: a roster.
    await own.put(certified(7n, "roster"));
    await outside.putOutcome({ ...certified(999n), signers: [2] });
    handover.begin();
    await until("all", async () => {
      for (const slot of slots) if (!(await isOutside(slot, "second")()) || !(await isOutside(slot)())) return false;
      return true;
    });
    assert.deepEqual((await outside.outcome("first", 999n))?.signers, [2], "what is there first stays");
    assert.equal(await outside.outcome("roster", 7n), undefined);
    assert.deepEqual([said, meters.value(GONE)], [[], 0]);
  });

  test("one that it never takes keeps no other from coming there", async () => {
    let stubborn = true;
    let refusals = 0;
    handover = make({
      outcomeNames: (slot) => outside.outcomeNames(slot),
      async putOutcome(each) {
        if (stubborn && each.outcome.slot === 2n) {
          refusals += 1;
          throw new Error("not this one");
        }
        await outside.putOutcome(each);
      },
    });
    for (const slot of [1n, 2n, 3n, 1003n]) await own.put(certified(slot));
    handover.begin();
    await until("the next in its folder", isOutside(3n));
    await until("one of the next folder", isOutside(1003n));
    await until("waited", () => timers.waiting === 1);
    assert.equal(meters.value(BEHIND), 1002);
    await timers.advance(1000);
    await until("tried again", () => refusals > 1);
    await until("waited", () => timers.waiting === 1);
    stubborn = false;
    await timers.advance(5000);
    await until("told", told(/has all/));
    assert.ok(await isOutside(2n)());
  });

  test("what is let go of while the archive is away is told of, and counted", async () => {
    await goAway();
    await certify(5n);
    await until("told", told(/does not take/));
    // More than are kept in memory.
    const last = 300n;
    await Promise.all(Array.from({ length: Number(last) - 5 }, (_, index) => certify(BigInt(index) + 6n)));
    await until("waited", () => timers.waiting === 1);
    await own.prune(0n);
    const oldest = own.held(["first"], 0n)[0]?.slot ?? 0n;
    assert.ok(oldest > 5n && oldest < last);
    await comeBack();
    await timers.advance(1000);
    await until("told", told(/has all/));
    assert.deepEqual(said.slice(1, 2), ["outcomes are held no longer that the archive may not have"]);
    assert.equal(meters.value(GONE), Number(oldest) - 5);
    for (let slot = oldest; slot <= last; slot++) assert.ok(await isOutside(slot)(), `slot ${slot}`);
  });

  test("whoever ends waits for what is on its way, not for an archive that is away", async () => {
    await goAway();
    await certify(1n);
    await until("waited", () => timers.waiting === 1);
    await handover.close();
    assert.equal(timers.waiting, 0);
    let answer = (): void => undefined;
    let asked = 0;
    const slow = make({
      outcomeNames: async () => new Set<string>(),
      putOutcome: () => {
        asked += 1;
        return new Promise((resolve) => {
          answer = resolve;
        });
      },
    });
    slow.begin();
    await until("asked", () => asked === 1);
    let closed = false;
    const closing = slow.close().then(() => {
      closed = true;
    });
    await settled();
    assert.equal(closed, false);
    answer();
    await closing;
    slow.hand(certified(2n));
    answer();
    await slow.close();
    assert.deepEqual(said.length, 1);
  });
});

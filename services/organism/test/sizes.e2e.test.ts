/** One committee of real members through other sizes: 3, 4, 5, 4 and 3 members, while slots go on. */
import assert from "node:assert/strict";
import { access, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { toHex } from "../src/codec/codec.ts";
import { type CertifiedOutcome, verifyCertificate } from "../src/committee/outcome.ts";
import { faultsTolerated, quorumOf } from "../src/committee/quorum.ts";
import { OTHER_SIZES } from "../src/committee/rules.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { slotAt, slotStartMs } from "../src/identity/lattice-config.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { FileEpochKeys, writeShares } from "../src/node/epoch-keys.ts";
import type { MemberSecrets } from "../src/service.ts";
import { type DealtEpoch, firstEpoch, type NextEpoch, newcomer, nextEpoch } from "../src/testing/dealt-eras.ts";
import { DirectCalls } from "../src/testing/direct-calls.ts";
import { PATIENCE_MS } from "./patience.ts";
import { dealCommittee, startToyMember } from "./test-lattice.ts";

type ToyMember = Awaited<ReturnType<typeof startToyMember>>;

const committee = dealCommittee(3, { genesisMs: 1_790_000_000_000, slotMs: 1000 }, "third");
const { config } = committee;
const quorumAmong = (members: number): number => quorumOf(members, faultsTolerated({ faults: "third" }, members));

/** The same key for the first `count` seats, a newcomer where there was none. */
function reshare(from: DealtEpoch, count: number, activationSlot: bigint): NextEpoch {
  const seats = Array.from({ length: count }, (_, index) => from.secrets[index] ?? newcomer());
  return nextEpoch(from, { activationSlot, seats, threshold: quorumAmong(count) });
}

describe("a committee of 3, 4, 5, 4 and 3 members", () => {
  const calls = new DirectCalls();
  const endpoints = [0, 1, 2, 3, 4].map((index) => `relay-${index}`);
  const members = new Map<number, ToyMember>();
  const fatal: string[] = [];
  const problems: string[] = [];
  /** Positions of the snapshots that member 0 holds. */
  const snapshotsOfFirst: number[] = [];
  const meters = {
    count: () => undefined,
    record: () => undefined,
    gauge: (name: string, value: number) => {
      if (name === "lattice_snapshot_position") snapshotsOfFirst.push(value);
    },
  };
  let directory: string;
  let log: EmbeddedLog;
  let nowMs = slotStartMs(config, 1n);
  const clock = { nowMs: () => nowMs };
  const folder = (index: number): string => join(directory, `keys-${index}`);
  const at = (index: number): ToyMember => members.get(index) ?? assert.fail(`no member ${index}`);

  async function start(index: number, secrets: MemberSecrets): Promise<void> {
    const own = { ...secrets, certificateShare: secrets.certificateShare.slice() };
    const keyFile = join(directory, `key-${index}.json`);
    await writeFile(keyFile, JSON.stringify({ index, certificateShare: toHex(own.certificateShare) }), { mode: 0o400 });
    const epochKeys = await FileEpochKeys.open({
      config,
      organism: "relay",
      index,
      secrets: own,
      first: index < 3 ? committee.rosters.relay : undefined,
      keyFile,
      directory: folder(index),
      onProblem: (problem) => problems.push(problem),
    });
    const member = await startToyMember({
      committee,
      index,
      log: log.member(index),
      directory,
      clock,
      secrets: own,
      epochKeys,
      calls,
      endpoints,
      ...(index === 0 ? { meters } : {}),
      checkpointEvery: { entries: 64n, slots: 4n },
      activationEntries: 4n,
      onFatal: (reason, detail) => fatal.push(`${index}: ${reason}: ${detail}`),
    });
    members.set(index, member);
  }

  async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await holds())) {
      assert.ok(Date.now() < deadline, `in vain: ${what} (${fatal.join("; ")})`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async function passTo(who: readonly number[], slot: bigint): Promise<void> {
    for (let next = slotAt(config, nowMs) + 1n; next <= slot; next++) {
      nowMs = slotStartMs(config, next);
      await until(`slot ${next} is decided`, () => who.every((each) => at(each).committee.floor("accepted") > next));
    }
  }

  async function certified(who: number, slot: bigint): Promise<CertifiedOutcome> {
    for await (const each of at(who).host.watch("accepted", slot, AbortSignal.timeout(PATIENCE_MS))) {
      if (each.outcome.slot === slot) return each;
    }
    throw new Error(`no certificate for slot ${slot}`);
  }

  async function hand(epoch: NextEpoch): Promise<void> {
    await Promise.all(
      epoch.secrets.map(({ certificateShare }, index) =>
        writeShares(folder(index), {
          organism: "relay",
          index,
          epoch: epoch.roster.epoch,
          shares: { certificateShare },
          roster: epoch.certified,
        }),
      ),
    );
  }

  /** The next epoch, announced; not in force yet. */
  async function announced(from: DealtEpoch, count: number, who: number): Promise<NextEpoch> {
    const next = reshare(from, count, slotAt(config, nowMs) + 11n);
    await hand(next);
    await until("the roster is in the log", () => at(who).committee.rosters.at(-1)?.epoch === next.roster.epoch);
    return next;
  }

  /** Passes the border with these members, and says who signed on both of its sides. */
  async function border(who: readonly number[], { roster }: NextEpoch): Promise<void> {
    const { activationSlot: slot, epoch } = roster;
    await passTo(who, slot + 1n);
    const [reader] = who;
    assert.ok(reader !== undefined);
    const [last, first] = [await certified(reader, slot - 1n), await certified(reader, slot)];
    assert.deepEqual([last.outcome.epoch, first.outcome.epoch], [epoch - 1n, epoch]);
    assert.ok(first.signers.length >= quorumAmong(roster.members.length), `signed by ${first.signers.join()}`);
    for (const { outcome, signature } of [last, first]) {
      assert.ok(verifyCertificate(config.relay.policy.certificateKey, outcome, signature), "the key stays");
    }
    await until("alike", () => {
      const positions = new Set(who.map((each) => at(each).committee.position));
      if (positions.size > 1) return false;
      assert.equal(new Set(who.map((each) => toHex(at(each).committee.stateHash()))).size, 1);
      return true;
    });
  }

  before(async () => {
    await initCrypto();
    directory = await mkdtemp(join(tmpdir(), "lattice-sizes-"));
    log = await EmbeddedLog.open(join(directory, "log"), { segmentMessages: 8 });
  });
  after(async () => {
    await Promise.all([...members.values()].map((member) => member.stop(50)));
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });

  test("slots go on through all of them, under one certificate key", async () => {
    await Promise.all([0, 1, 2].map((index) => start(index, committee.secrets[index] ?? assert.fail())));
    await passTo([0, 1, 2], 2n);
    for (let slot = 3n; at(0).committee.rules.active < OTHER_SIZES; slot++) {
      assert.ok(slot < 20n, "a quorum takes up the rules");
      await passTo([0, 1, 2], slot);
    }

    // 3 → 4, f = 0 → 1, q = 2 → 3.
    const four = await announced(firstEpoch(committee, "relay", quorumAmong(3)), 4, 0);
    await start(3, four.secrets[3] ?? assert.fail());
    await border([0, 1, 2, 3], four);
    assert.deepEqual(at(3).committee.quorum, { members: 4, faults: 1, quorum: 3 });

    // The newcomer finds a log without a beginning: it comes from a snapshot, whose author table has grown.
    await passTo([0, 1, 2, 3], slotAt(config, nowMs) + 12n);
    const below = snapshotsOfFirst.at(-2) ?? assert.fail("two snapshots");
    await log.trim(BigInt(below) + 1n);
    assert.ok(log.firstPosition > 1n);
    // 4 → 5, q = 3 → 4; with one of the old away, every one of the other four is needed.
    const five = await announced(four, 5, 0);
    await start(4, five.secrets[4] ?? assert.fail());
    await passTo([0, 1, 2, 3, 4], five.roster.activationSlot - 1n);
    await at(0).stop(100);
    members.delete(0);
    await border([1, 2, 3, 4], five);
    assert.deepEqual((await certified(1, five.roster.activationSlot)).signers, [1, 2, 3, 4]);

    // 5 → 4 → 3: who leaves signs its last slot and ends.
    let from = five;
    for (const count of [4, 3]) {
      const who = [1, 2, 3, 4].filter((index) => index <= count);
      const next = await announced(from, count, 1);
      await passTo(who, next.roster.activationSlot - 1n);
      const stay = who.filter((index) => index < count);
      await border(stay, next);
      await until("who leaves is told", () => fatal.some((line) => line.startsWith(`${count}: SEAT_GIVEN_UP`)));
      await until("its shares are erased", async () => {
        const left = await access(join(folder(count), `${from.roster.epoch}.json`)).then(
          () => true,
          () => false,
        );
        return !left;
      });
      assert.equal(fatal.length, 5 - count, fatal.join("; "));
      await at(count).stop(50);
      members.delete(count);
      from = next;
    }
    await passTo([1, 2], from.roster.activationSlot + 4n);
    assert.deepEqual((await certified(1, from.roster.activationSlot + 3n)).signers, [1, 2]);
    assert.deepEqual(problems, []);
    assert.ok((await readFile(join(folder(1), "4.json"), "utf8")).includes("certificateShare"));
  });
});

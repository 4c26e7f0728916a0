/** Real members on the embedded log go from one rule version to the next, one process after the other, while slots go on. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, before, beforeEach, describe, test } from "node:test";
import { toHex } from "../src/codec/codec.ts";
import { verifyCertificate } from "../src/committee/outcome.ts";
import { type RuleRange, RulesUnknown } from "../src/committee/rules.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { slotAt, slotStartMs } from "../src/identity/lattice-config.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { DirectCalls } from "../src/testing/direct-calls.ts";
import { PATIENCE_MS } from "./patience.ts";
import { dealCommittee, startToyMember } from "./test-lattice.ts";

type ToyMember = Awaited<ReturnType<typeof startToyMember>>;
interface Running {
  readonly index: number;
  readonly member: ToyMember;
  readonly fatal: { readonly reason: string; readonly detail: string }[];
  readonly hashes: Map<bigint, string>;
}

const OLD: RuleRange = { lowest: 1, highest: 1 };
const NEW: RuleRange = { lowest: 1, highest: 2 };
const AHEAD = 12n;

describe("a rolling upgrade", () => {
  const committee = dealCommittee(3);
  const { config } = committee;
  let directory: string;
  let log: EmbeddedLog;
  let calls: DirectCalls;
  let nowMs: number;
  let running: Running[];
  const clock = { nowMs: () => nowMs };

  before(() => initCrypto());
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "lattice-upgrade-"));
    log = await EmbeddedLog.open(join(directory, "log"));
    calls = new DirectCalls();
    nowMs = slotStartMs(config, 1n);
    running = [];
  });
  afterEach(async () => {
    await Promise.all(running.map(({ member }) => member.stop(50)));
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function start(index: number, rules: RuleRange): Promise<Running> {
    const fatal: Running["fatal"] = [];
    const hashes: Running["hashes"] = new Map();
    const member = await startToyMember({
      committee,
      index,
      log: log.member(index),
      directory,
      clock,
      journalIsOld: true,
      calls,
      rules,
      activationEntries: AHEAD,
      checkpointEvery: { entries: 16n, slots: 16n },
      onFatal: (reason, detail) => {
        fatal.push({ reason, detail });
      },
    });
    // What each says of its state, entry by entry, whatever version it runs.
    const { committee: replica } = member;
    const apply = replica.apply.bind(replica);
    replica.apply = (position, raw) => {
      const applied = apply(position, raw);
      hashes.set(position, toHex(replica.stateHash()));
      return applied;
    };
    const started = { index, member, fatal, hashes };
    running.push(started);
    return started;
  }

  async function stop(process: Running): Promise<void> {
    running = running.filter((each) => each !== process);
    calls.gone(`relay-${process.index}`);
    await process.member.stop(50);
  }

  async function until(what: string, holds: () => boolean): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!holds()) {
      assert.ok(performance.now() < deadline, `in vain: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Slots pass, each decided and certified at everyone who is there. */
  async function pass(slots: number): Promise<void> {
    for (let turn = 0; turn < slots; turn++) {
      const slot = slotAt(config, nowMs) + 1n;
      nowMs = slotStartMs(config, slot);
      await until(`slot ${slot}`, () =>
        running.every(({ member, fatal }) => fatal.length > 0 || member.committee.floor("accepted") > slot),
      );
    }
  }

  /** What is alike wherever two have applied the same position. */
  function assertAlike(processes: readonly Running[]): void {
    const all = new Map<bigint, string>();
    for (const { hashes } of processes) {
      for (const [position, hash] of hashes) {
        assert.equal(hash, all.get(position) ?? hash, `position ${position}`);
        all.set(position, hash);
      }
    }
  }

  async function certified({ member }: Running, slot: bigint): Promise<boolean> {
    for await (const { outcome, signature } of member.host.watch("accepted", slot, AbortSignal.timeout(PATIENCE_MS))) {
      if (outcome.slot === slot) return verifyCertificate(config.relay.policy.certificateKey, outcome, signature);
    }
    return false;
  }

  test("slots go on, all take the rules up at the same position, and nobody is taken for a fraud", async () => {
    const old = await Promise.all([0, 1, 2].map((index) => start(index, OLD)));
    await pass(2);
    const upgraded: Running[] = [];
    for (const each of old) {
      await stop(each);
      await pass(1);
      upgraded.push(await start(each.index, NEW));
      await pass(1);
    }
    const active = (): boolean => upgraded.every(({ member }) => member.committee.rules.active === 2);
    for (let turn = 0; turn < 10 && !active(); turn++) await pass(1);
    assert.ok(active(), "within ten slots");
    const since = new Set(upgraded.map(({ member }) => member.committee.rules.since));
    assert.equal(since.size, 1);
    assertAlike([...old, ...upgraded]);
    const last = slotAt(config, nowMs);
    const [first] = upgraded;
    assert.ok(first !== undefined);
    await pass(2);
    for (let slot = 1n; slot <= last; slot++) assert.ok(await certified(first, slot), `slot ${slot}`);
    for (const { member, fatal } of upgraded) {
      assert.deepEqual(fatal, []);
      assert.deepEqual(member.committee.blocked, []);
    }
    // Started again, it knows; as an older build it refuses to.
    const [again] = upgraded;
    assert.ok(again !== undefined);
    await until("a snapshot under the new rules", () => {
      const { rules, position } = again.member.committee;
      return position > rules.since + 20n;
    });
    await stop(again);
    const downgraded = await start(0, OLD).catch((error: unknown) => error);
    const refused =
      downgraded instanceof RulesUnknown
        ? downgraded.message
        : (downgraded as Running).fatal.map(({ reason, detail }) => `${reason} ${detail}`).join();
    assert.match(refused, /rules 2 govern/);
    assert.match(refused, /this build speaks 1 to 1: install one that speaks 2/);
    if (!(downgraded instanceof RulesUnknown)) await stop(downgraded as Running);
    const back = await start(0, NEW);
    await pass(2);
    assert.equal(back.member.ready(), true);
    assertAlike([...upgraded, back]);
  });

  test("one that was left behind stops before the first entry under new rules; a quorum goes on, and it comes back newer", async () => {
    const [a, b, c] = await Promise.all([start(0, NEW), start(1, OLD), start(2, OLD)]);
    await pass(6);
    assert.equal(a.member.committee.rules.next, undefined, "one of three is no quorum");
    await stop(b);
    const newer = await start(1, NEW);
    for (let turn = 0; turn < 10 && c.fatal.length === 0; turn++) await pass(1);
    await until("the third stops", () => c.fatal.length > 0);
    // It stops when the position before has been applied; the others go on from the next entry, whenever that comes.
    for (let turn = 0; turn < 10 && a.member.committee.rules.active !== 2; turn++) await pass(1);
    const since = a.member.committee.rules.since;
    assert.equal(c.fatal[0]?.reason, "RULES_UNKNOWN");
    assert.match(
      c.fatal[0]?.detail ?? "",
      new RegExp(`rules 2 govern from position ${since} on, this build speaks 1 to 1`),
    );
    assert.equal(c.member.committee.position, since - 1n);
    assert.equal(c.member.ready(), false);
    await pass(3);
    assertAlike([a, b, c, newer]);
    await stop(c);
    const third = await start(2, NEW);
    await pass(2);
    assert.equal(third.member.committee.rules.since, since);
    assert.equal(third.member.ready(), true);
    assertAlike([a, newer, third]);
    assert.deepEqual(third.member.committee.blocked, []);
  });
});

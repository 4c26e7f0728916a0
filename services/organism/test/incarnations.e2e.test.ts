/** One key, more than one process or an older memory: nobody is ever heard saying two things. */
import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, before, beforeEach, describe, test } from "node:test";
import { toHex } from "../src/codec/codec.ts";
import { type CommitteeCommand, decodeCommand } from "../src/committee/commands.ts";
import { decodeEntry, type EntryBody } from "../src/committee/entry.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { Fault } from "../src/fault.ts";
import { slotStartMs } from "../src/identity/lattice-config.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { FileSnapshotStore } from "../src/node/snapshot-store.ts";
import type { Log } from "../src/ports.ts";
import { copyFolder } from "../src/testing/copy-folder.ts";
import { PATIENCE_MS } from "./patience.ts";
import { certifyState, dealCommittee, startToyMember } from "./test-lattice.ts";

type ToyMember = Awaited<ReturnType<typeof startToyMember>>;

describe("one voice per key", () => {
  const committee = dealCommittee(3);
  const { config } = committee;
  let directory: string;
  let log: EmbeddedLog;
  let nowMs: number;
  let running: ToyMember[];
  let fatal: string[];
  const clock = { nowMs: () => nowMs };

  before(() => initCrypto());
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "lattice-incarnations-"));
    log = await EmbeddedLog.open(join(directory, "log"));
    nowMs = config.genesisMs;
    running = [];
    fatal = [];
  });
  afterEach(async () => {
    await Promise.all(running.map((member) => member.stop(50)));
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function start(index: number, folder = "first", name = `${folder}/${index}`, own?: Log): Promise<ToyMember> {
    const member = await startToyMember({
      committee,
      index,
      log: own ?? log.member(index),
      directory: join(directory, folder),
      clock,
      journalIsOld: true,
      onFatal: (reason) => fatal.push(`${name} ${reason}`),
    });
    running.push(member);
    return member;
  }
  async function stop(member: ToyMember): Promise<void> {
    running = running.filter((each) => each !== member);
    await member.stop(50);
  }

  /** Everything in the log, in order. */
  async function entries(): Promise<{ readonly body: EntryBody; readonly command: CommitteeCommand }[]> {
    const last = log.lastPosition;
    const found: { body: EntryBody; command: CommitteeCommand }[] = [];
    const stop = new AbortController();
    await log.consume(
      1n,
      ({ position, raw }) => {
        const { body } = decodeEntry(raw);
        found.push({ body, command: decodeCommand(body.command) });
        if (position === last) stop.abort();
      },
      stop.signal,
    );
    return found;
  }
  /** No two bodies of one incarnation under one number, and no two votes or closes of one member that differ. */
  async function assertNobodySaidTwoThings(): Promise<void> {
    const said = new Map<string, string>();
    const once = (key: string, value: string): void => {
      assert.equal(said.get(key) ?? value, value, key);
      said.set(key, value);
    };
    for (const { body, command } of await entries()) {
      const { author, incarnation, lane, sequence } = body;
      // A Join that lost its number to another process's is refused and says nothing: it is followed by a higher one.
      if (command.type !== "join") once(`${author}/${incarnation}/${lane}/${sequence}`, toHex(body.command));
      if (command.type === "vote") {
        for (const { stage, slot, share } of command.votes) once(`${author} votes ${stage}/${slot}`, toHex(share));
      }
      if (command.type === "close") {
        once(`${author} closes ${command.stage}/${command.slot}`, command.inputs.map(toHex).join());
      }
    }
  }
  async function promisesOf(author: number, incarnation: bigint): Promise<bigint[]> {
    const slots = (await entries()).flatMap(({ body, command }) => {
      if (body.author !== author || body.incarnation < incarnation) return [];
      if (command.type === "vote") return command.votes.map(({ slot }) => slot);
      return command.type === "close" ? [command.slot] : [];
    });
    return [...new Set(slots)];
  }

  /** Lets slots pass until `slot`'s outcome is certified at this member. */
  async function certified(member: ToyMember, slot: bigint): Promise<string> {
    nowMs = Math.max(nowMs, slotStartMs(config, slot));
    for await (const { outcome } of member.host.watch("accepted", slot, AbortSignal.timeout(PATIENCE_MS))) {
      if (outcome.slot === slot) return outcome.kind;
    }
    throw new Error(`no certificate for slot ${slot}`);
  }
  async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!(await holds())) {
      assert.ok(performance.now() < deadline, "it does not come");
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
  const add = (slot: bigint) =>
    ({ type: "machine", command: { type: "add", slot, amount: 1, padding: new Uint8Array() } }) as const;

  test("a doubled member: the older process falls silent, the newer one speaks, the committee goes on", async () => {
    const [older, b, c] = await Promise.all([0, 1, 2].map((index) => start(index)));
    assert.ok(older !== undefined && b !== undefined && c !== undefined);
    await certified(b, 1n);
    const newer = await start(0, "second");
    await until(() => fatal.length > 0);
    assert.deepEqual(fatal, ["first/0 SUCCEEDED"]);
    assert.ok(!older.ready() && newer.ready());
    await assert.rejects(
      older.host.submit(add(9n)),
      (error: unknown) => error instanceof Fault && error.reason === "NOT_READY",
    );
    assert.equal(await newer.host.submit(add(9n)), undefined);
    const after = log.lastPosition;
    for (const slot of [2n, 3n, 4n]) await certified(b, slot);
    const late = (await entries()).slice(Number(after)).filter(({ body }) => body.author === 0);
    assert.ok(
      late.every(({ body }) => body.incarnation >= 2n),
      "not a word of the older one",
    );
    await assertNobodySaidTwoThings();
  });

  test("what an older process said lands while a newer one journals its number: that is no newer process", async () => {
    const [older, b] = await Promise.all([0, 1].map((index) => start(index)));
    assert.ok(older !== undefined && b !== undefined);
    await certified(b, 1n);
    await stop(older);
    let late: Uint8Array | undefined;
    const stopReading = new AbortController();
    const last = log.lastPosition;
    await log.consume(
      1n,
      ({ position, raw }) => {
        if (decodeEntry(raw).body.author === 0) late = raw.slice();
        if (position === last) stopReading.abort();
      },
      stopReading.signal,
    );
    let read = 0n;
    const member = await startToyMember({
      committee,
      index: 0,
      log: log.member(0),
      directory: join(directory, "first"),
      clock,
      journalIsOld: true,
      meters: {
        count: () => undefined,
        record: () => undefined,
        gauge: (name, value) => {
          if (name === "lattice_log_position") read = BigInt(value);
        },
      },
      wrapJournal: (journal) => {
        const nextIncarnation = journal.nextIncarnation.bind(journal);
        journal.nextIncarnation = async (atLeast) => {
          await log.append(0, late ?? assert.fail("it has said nothing"));
          await until(() => read > last);
          return nextIncarnation(atLeast);
        };
        return journal;
      },
      onFatal: (reason) => fatal.push(reason),
    });
    running.push(member);
    assert.deepEqual(fatal, []);
    await certified(member, 2n);
  });

  test("a doubled member on one data folder: the journal has one owner, so only one of them can promise", async () => {
    const [older, b] = await Promise.all([0, 1, 2].map((index) => start(index)));
    assert.ok(older !== undefined && b !== undefined);
    await certified(b, 1n);
    const newer = await start(0, "first", "newer");
    nowMs = slotStartMs(config, 2n);
    await until(() => fatal.length > 0);
    assert.match(fatal.join(), /^first\/0 (SUCCEEDED|JOURNAL_LOST)$/);
    await certified(b, 3n);
    assert.ok(newer.ready() && !older.ready());
    await assertNobodySaidTwoThings();
  });

  test("two processes of one member starting at once: one number each, one of them is left", async () => {
    await Promise.all([1, 2].map((index) => start(index)));
    const [x, y] = await Promise.all([start(0, "x"), start(0, "y")]);
    await until(() => fatal.length > 0);
    assert.equal(fatal.length, 1, fatal.join());
    assert.match(fatal[0] ?? "", /^[xy]\/0 SUCCEEDED$/);
    assert.notEqual(x.ready(), y.ready());
    const [, b] = running;
    assert.ok(b !== undefined);
    for (const slot of [1n, 2n]) await certified(b, slot);
    await assertNobodySaidTwoThings();
  });

  test("a member from an old backup promises nothing about slots that were in flight, then takes part", async () => {
    const [a, b, c] = await Promise.all([0, 1, 2].map((index) => start(index)));
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await certified(c, 1n);
    await copyFolder(join(directory, "first", "member-2"), join(directory, "backup", "member-2"));
    // Since then it has promised more, of which the backup knows nothing.
    for (const slot of [2n, 3n, 4n]) await certified(c, slot);
    await stop(c);
    const restored = await start(2, "backup");
    const joined = restored.committee.author(2)?.incarnation ?? 0n;
    const abstainsBelow = 4n + BigInt(config.pipelineDepth) + 1n;
    for (let slot = 5n; slot < abstainsBelow; slot++) await certified(a, slot);
    assert.deepEqual(await promisesOf(2, joined), []);
    // From here on it is needed: only two are left.
    await stop(b);
    assert.equal(await certified(a, abstainsBelow), "empty");
    await certified(restored, abstainsBelow);
    assert.ok((await promisesOf(2, joined)).every((slot) => slot >= abstainsBelow));
    assert.deepEqual(fatal, []);
    await assertNobodySaidTwoThings();
  });

  test("what stands in the log out of its order was said all the same: a backup that knows nothing of it abstains", async () => {
    const wire = log.member(2);
    let loses = false;
    let lost: bigint | undefined;
    // One entry never gets there, however often it is sent; what was sent after it does, and is refused.
    const leaky: Log = {
      lastPosition: (atLeast) => wire.lastPosition(atLeast),
      firstPosition: () => wire.firstPosition(),
      consume: (from, deliver, signal) => wire.consume(from, deliver, signal),
      close: () => wire.close(),
      async append(lane, raw, id) {
        const { body } = decodeEntry(raw);
        if (loses) lost ??= body.sequence;
        if (lost === body.sequence) return await new Promise(() => undefined);
        return await wire.append(lane, raw, id);
      },
    };
    const [a, b, c] = await Promise.all([start(0), start(1), start(2, "first", "first/2", leaky)]);
    await certified(c, 1n);
    await copyFolder(join(directory, "first", "member-2"), join(directory, "backup", "member-2"));
    const { incarnation, ctl } = c.committee.author(2) ?? assert.fail("it has joined");
    loses = true;
    c.host.submit(add(9n)).catch(() => undefined);
    await until(() => lost !== undefined);
    await Promise.all([certified(a, 2n), certified(b, 2n)]);
    await until(async () => (await promisesOf(2, incarnation)).includes(2n));
    await stop(c);
    assert.equal(a.committee.author(2)?.ctl.sequence, ctl.sequence, "nothing of it took effect");

    const restored = await start(2, "backup");
    const joined = restored.committee.author(2)?.incarnation ?? 0n;
    assert.ok(joined > incarnation);
    const abstainsBelow = 2n + BigInt(config.pipelineDepth) + 1n;
    for (let slot = 3n; slot < abstainsBelow; slot++) await certified(a, slot);
    assert.deepEqual(await promisesOf(2, joined), []);
    await stop(b);
    await certified(restored, abstainsBelow);
    assert.ok((await promisesOf(2, joined)).every((slot) => slot >= abstainsBelow));
    assert.deepEqual(fatal, []);
    await assertNobodySaidTwoThings();
  });

  test("a doubled member abstains from what the older process promised until the newer one's Join landed", async () => {
    const [a, b, c] = await Promise.all([0, 1, 2].map((index) => start(index)));
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await certified(c, 1n);
    await copyFolder(join(directory, "first", "member-2"), join(directory, "copy", "member-2"));
    // The newer process has caught up and its journal knows all that the log has; its Join is on its way.
    const wire = log.member(2);
    const { promise: leaves, resolve: leave } = Promise.withResolvers<void>();
    let joins = false;
    const slow: Log = {
      lastPosition: (atLeast) => wire.lastPosition(atLeast),
      firstPosition: () => wire.firstPosition(),
      consume: (from, deliver, signal) => wire.consume(from, deliver, signal),
      close: () => wire.close(),
      async append(lane, raw, id) {
        joins = true;
        await leaves;
        return await wire.append(lane, raw, id);
      },
    };
    const starting = start(2, "copy", "copy/2", slow);
    await until(() => joins);
    // Meanwhile the older one goes on: slot 2 is closed and voted on, and slot 3 after it.
    for (const slot of [2n, 3n]) await certified(c, slot);
    await until(async () => (await promisesOf(2, 1n)).includes(3n));
    leave();
    const copy = await starting;
    await until(() => fatal.length > 0);
    const joined = copy.committee.author(2)?.incarnation ?? 0n;
    const abstainsBelow = 3n + BigInt(config.pipelineDepth) + 1n;
    for (let slot = 4n; slot < abstainsBelow; slot++) await certified(a, slot);
    assert.deepEqual(await promisesOf(2, joined), []);
    await stop(b);
    await certified(a, abstainsBelow);
    await certified(copy, abstainsBelow);
    assert.deepEqual(fatal, ["first/2 SUCCEEDED"]);
    await assertNobodySaidTwoThings();
  });

  test("a member that lost its journal abstains until its Join's slot and the pipeline are over, also over a restart", async () => {
    const [a, b, c] = await Promise.all([0, 1, 2].map((index) => start(index)));
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await certified(c, 2n);
    await stop(c);
    await rm(join(directory, "first", "member-2"), { recursive: true });
    const empty = await start(2);
    const joined = empty.committee.author(2)?.incarnation ?? 0n;
    const abstainsBelow = 2n + BigInt(config.pipelineDepth) + 1n;
    await certified(a, 3n);
    await stop(empty);
    // Its journal is there now, and old; what it forgot before, it still does not know.
    const again = await start(2);
    for (let slot = 4n; slot < abstainsBelow; slot++) await certified(a, slot);
    assert.deepEqual(await promisesOf(2, joined), []);
    await stop(b);
    await certified(a, abstainsBelow);
    await certified(again, abstainsBelow);
    assert.ok((await promisesOf(2, joined)).every((slot) => slot >= abstainsBelow));
    assert.deepEqual(fatal, []);
    await assertNobodySaidTwoThings();
  });

  test("a member that restarts with its journal abstains from nothing", async () => {
    const [a, b, c] = await Promise.all([0, 1, 2].map((index) => start(index)));
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await certified(c, 1n);
    await stop(c);
    await stop(b);
    const again = await start(2);
    const joined = again.committee.author(2)?.incarnation ?? 0n;
    await certified(a, 2n);
    assert.ok((await promisesOf(2, joined)).includes(2n));
    await assertNobodySaidTwoThings();
  });

  test("certificates that a crash kept from the archive are made again from the snapshot", async () => {
    const [a, b, c] = await Promise.all([0, 1, 2].map((index) => start(index)));
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await certified(c, 1n);
    await stop(c);
    await rm(join(directory, "first", "member-2", "outcomes"));
    const again = await start(2);
    assert.notEqual(again.host.certified("accepted", 1n), undefined);
    assert.equal(await certified(again, 1n), "empty");
  });

  test("snapshots of another version are passed over, and the log is read from the beginning", async () => {
    const [a, , c] = await Promise.all([0, 1, 2].map((index) => start(index)));
    assert.ok(a !== undefined && c !== undefined);
    await certified(c, 1n);
    await stop(c);
    const folder = join(directory, "first", "member-2", "snapshots");
    const snapshots = await FileSnapshotStore.open(folder, committee.config, "relay");
    const state = new Uint8Array([0, 0, 0, 1, 2, 3]);
    await snapshots.save(certifyState(committee, log.lastPosition, state), state);
    const again = await start(2);
    await until(() => again.committee.position >= a.committee.position);
    assert.equal(await certified(again, 2n), "empty");
  });

  test("a log that ends before what a member has applied was rolled back: it does not speak", async () => {
    const [a, b, c] = await Promise.all([0, 1, 2].map((index) => start(index)));
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await certified(c, 1n);
    const keptLog = join(directory, "log-of-slot-1");
    await cp(join(directory, "log"), keptLog);
    await certified(c, 2n);
    await stop(c);
    const rolledBack = await EmbeddedLog.open(keptLog);
    const again = await startToyMember({
      committee,
      index: 2,
      log: rolledBack.member(2),
      directory: join(directory, "first"),
      clock,
      onFatal: (reason) => fatal.push(reason),
    });
    assert.deepEqual(fatal, ["LOG_ROLLED_BACK"]);
    assert.ok(!again.ready());
    const before = rolledBack.lastPosition;
    await again.stop(50);
    assert.equal(rolledBack.lastPosition, before);
    await rolledBack.close();
  });

  test("a log that is put back while a member reads it at its start never gets there: the member says so and stops", async () => {
    const [a] = await Promise.all([0, 1].map((index) => start(index)));
    assert.ok(a !== undefined);
    await certified(a, 1n);
    const wire = log.member(2);
    let asked = 0;
    const cut: Log = {
      // It was longer when the member asked how far it goes: for its state, and then for reading.
      lastPosition: async (atLeast) => (await wire.lastPosition(atLeast)) + (asked++ < 2 ? 3n : 0n),
      firstPosition: () => wire.firstPosition(),
      consume: (from, deliver, signal) => wire.consume(from, deliver, signal),
      append: (lane, raw, id) => wire.append(lane, raw, id),
      close: () => wire.close(),
    };
    const late = await start(2, "first", "first/2", cut);
    assert.deepEqual(fatal, ["first/2 LOG_ROLLED_BACK"]);
    assert.ok(!late.ready() && asked > 2);
  });

  test("a member that was killed knows by what it said last how long the log was", async () => {
    const [, , c] = await Promise.all([0, 1, 2].map((index) => start(index)));
    assert.ok(c !== undefined);
    await certified(c, 1n);
    const keptLog = join(directory, "log-of-slot-1");
    await cp(join(directory, "log"), keptLog);
    await certified(c, 2n);
    // Its folder as kill -9 leaves it: no snapshot was due, nothing was noted at the end.
    const killed = join(directory, "killed");
    await copyFolder(join(directory, "first"), killed);
    const startOn = async (kept: EmbeddedLog) =>
      startToyMember({
        committee,
        index: 2,
        log: kept.member(2),
        directory: killed,
        clock,
        journalIsOld: true,
        onFatal: (reason) => fatal.push(reason),
      });
    const rolledBack = await EmbeddedLog.open(keptLog);
    const before = rolledBack.lastPosition;
    const again = await startOn(rolledBack);
    assert.deepEqual(fatal, ["LOG_ROLLED_BACK"]);
    assert.ok(!again.ready());
    await again.stop(50);
    assert.equal(rolledBack.lastPosition, before);
    await rolledBack.close();
    // On the log as it was, it goes on.
    const onward = await startOn(log);
    assert.ok(onward.ready());
    assert.equal(fatal.filter((reason) => reason.includes("LOG_")).length, 1, fatal.join());
    await onward.stop(50);
  });
});

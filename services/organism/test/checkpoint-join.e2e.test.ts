/** Joining a committee whose log has been trimmed: from peers over gRPC, honest, silent and lying, and from an archive. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import type { CertifiedCheckpoint } from "../src/committee/checkpoint.ts";
import { trimmableBelow } from "../src/committee/trim.ts";
import { generateSigningKey } from "../src/crypto/ed25519.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { committeeId, slotStartMs } from "../src/identity/lattice-config.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { ArchiveDirectory } from "../src/node/archive-directory.ts";
import { fromWireCheckpoint } from "../src/node/committee-wire.ts";
import { EXIT, exitCodeOf } from "../src/node/exit.ts";
import { nodeTimers } from "../src/node/node-timers.ts";
import { archiveSource, fetchSnapshot, peerSource, type SnapshotSource } from "../src/node/snapshot-fetcher.ts";
import { verifyHeld } from "../src/node/snapshot-service.ts";
import { FileSnapshotStore } from "../src/node/snapshot-store.ts";
import { NoSnapshot, syncState } from "../src/node/state-sync.ts";
import { fileStorage } from "../src/node/storage.ts";
import type { Log, LogMessage } from "../src/ports.ts";
import { connectService } from "../src/rpc/client.ts";
import { type RunningServer, startServer } from "../src/rpc/server.ts";
import { PATIENCE_MS } from "./patience.ts";
import { certifyState, dealCommittee, random, startToyMember } from "./test-lattice.ts";

type ToyMember = Awaited<ReturnType<typeof startToyMember>>;

const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const NO_METERS = { count: () => undefined, gauge: () => undefined, record: () => undefined };
const EVERY = { entries: 12n, slots: 4n };
const COUNT = 3;

describe("joining from checkpoints", () => {
  const committee = dealCommittee(COUNT);
  const { config } = committee;
  const id = committeeId(config, "relay");
  let nowMs = config.genesisMs;
  const clock = { nowMs: () => nowMs };
  let directory: string;
  let log: EmbeddedLog;
  let members: Map<number, ToyMember>;
  let servers: RunningServer[];
  let addresses: string[];
  const fatal: string[] = [];

  before(initCrypto);
  beforeEach(async () => {
    nowMs = config.genesisMs;
    directory = await mkdtemp(join(tmpdir(), "lattice-join-"));
    log = await EmbeddedLog.open(join(directory, "log"), { segmentMessages: 8 });
    members = new Map();
    servers = [];
    addresses = [];
    fatal.length = 0;
    for (let index = 0; index < COUNT; index++) await begin(index);
  });
  afterEach(async () => {
    for (const server of servers) server.close();
    for (const member of members.values()) await member.stop(50);
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });
  after(() => assert.equal(fatal.length, 0));

  async function begin(
    index: number,
    archive?: ArchiveDirectory,
    own = log.member(index),
    other: Partial<Parameters<typeof startToyMember>[0]> = {},
  ): Promise<ToyMember> {
    const member = await startToyMember({
      committee,
      index,
      log: own,
      directory,
      clock,
      endpoints: addresses,
      checkpointEvery: EVERY,
      onFatal: (reason, detail) => fatal.push(`${reason}: ${detail}`),
      ...(archive === undefined ? {} : { archive }),
      ...other,
    });
    members.set(index, member);
    addresses[index] = await serve(member.services);
    return member;
  }

  async function serve(services: ToyMember["services"]): Promise<string> {
    const server = await startServer({
      address: "127.0.0.1:0",
      services,
      committee: id,
      domain: "relay",
      log: SILENT,
      meters: NO_METERS,
    });
    servers.push(server);
    return `127.0.0.1:${server.port}`;
  }

  const member = (index: number): ToyMember => {
    const found = members.get(index);
    assert.ok(found !== undefined);
    return found;
  };

  async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await condition())) {
      assert.ok(Date.now() < deadline, `not in time: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async function held(address: string): Promise<CertifiedCheckpoint[]> {
    const client = connectService(CommitteeService, address, { committee: id });
    try {
      const answer = await client.getCheckpoint({});
      const checkpoints = answer.held.flatMap((each) => fromWireCheckpoint(each) ?? []);
      const statement = { committee: id, index: answer.memberIndex, signedAtMs: answer.signedAtMs, held: checkpoints };
      assert.ok(verifyHeld(committee.rosters.relay, statement, answer.signature, nowMs));
      assert.ok(
        !verifyHeld(committee.rosters.relay, { ...statement, index: 1 - statement.index }, answer.signature, nowMs),
      );
      const fewer = checkpoints.slice(1);
      if (checkpoints.length > 0)
        assert.ok(!verifyHeld(committee.rosters.relay, { ...statement, held: fewer }, answer.signature, nowMs));
      assert.ok(!verifyHeld(committee.rosters.relay, statement, answer.signature, nowMs + 31_000));
      return checkpoints;
    } finally {
      client.close();
    }
  }

  /** Slots go by until these members hold `count` snapshots. */
  async function run(count: number, who: readonly number[] = [0, 1, 2]): Promise<void> {
    for (let slot = 1n; ; slot++) {
      nowMs = slotStartMs(config, slot);
      const open = who.map((index) => member(index));
      await until(`slot ${slot} is decided`, () => open.every(({ committee: each }) => each.floor("accepted") > slot));
      const found = await Promise.all(who.map((index) => held(addresses[index] ?? "")));
      if (found.every((each) => each.length >= count)) return;
    }
  }

  async function trim(): Promise<bigint> {
    const answers = await Promise.all([0, 1].map((index) => held(addresses[index] ?? "")));
    const below = trimmableBelow(
      answers.map((each) => each.map(({ checkpoint }) => checkpoint)),
      2,
    );
    assert.ok(below !== undefined);
    await log.trim(below.position + 1n);
    assert.ok(log.firstPosition > 1n);
    return below.position;
  }

  async function wipe(index: number): Promise<void> {
    await member(index).stop(50);
    members.delete(index);
    servers[index]?.close();
    await rm(join(directory, `member-${index}`), { recursive: true, force: true });
  }

  async function takesPart(index: number): Promise<void> {
    const joined = member(index);
    const from = joined.committee.position;
    nowMs += 8 * config.slotMs;
    await until("it speaks", () => (joined.committee.author(index)?.ctl.sequence ?? 0n) > 1n);
    await until("it reads", () => joined.committee.position > from);
    const other = member((index + 1) % COUNT);
    await until("alike", () => {
      if (joined.committee.position !== other.committee.position) return false;
      assert.deepEqual(joined.committee.stateHash(), other.committee.stateHash());
      assert.deepEqual(joined.committee.head, other.committee.head);
      return true;
    });
  }

  test("a member that lost everything joins a trimmed log from a peer, and takes part", async () => {
    await run(2);
    await wipe(2);
    await trim();
    const joined = await begin(2);
    assert.ok((await readdir(join(directory, "member-2", "snapshots"))).length > 0, "it holds what it came from");
    assert.ok(joined.ready());
    await takesPart(2);
    assert.deepEqual(fatal, []);
  });

  test("a member whose disk has no room for a journal written anew removes what it need not keep all the same", async () => {
    await wipe(2);
    const storage = fileStorage(join(directory, "member-2"));
    let pruned = 0;
    const bodies = async () => {
      const kept = await storage.bodies();
      const prune = kept.prune.bind(kept);
      return Object.assign(kept, {
        prune: (newest: bigint) => {
          pruned += 1;
          return prune(newest);
        },
      });
    };
    const full = () => Promise.reject(new Error("ENOSPC: no space left on device"));
    await begin(2, undefined, log.member(2), {
      storage: { ...storage, bodies },
      wrapJournal: (journal) => Object.assign(journal, { trim: full }),
    });
    await run(1);
    await until("what is old goes", () => pruned > 0);
  });

  test("a member that was away while the log was trimmed goes on from a peer's snapshot", async () => {
    await run(1);
    await member(2).stop(50);
    members.delete(2);
    servers[2]?.close();
    const before = log.lastPosition;
    for (let slot = 5n; log.firstPosition <= before + 1n; slot += 4n) {
      nowMs = slotStartMs(config, slot + 20n);
      await until("slots go on", () => member(0).committee.floor("accepted") > slot);
      const answers = await Promise.all([0, 1].map((index) => held(addresses[index] ?? "")));
      const below = trimmableBelow(
        answers.map((each) => each.map(({ checkpoint }) => checkpoint)),
        2,
      );
      if (below !== undefined) await log.trim(below.position + 1n);
    }
    await begin(2);
    await takesPart(2);
    assert.deepEqual(fatal, []);
  });

  test("a running member that the trimmed log has left behind says so, and goes on from a snapshot when started again", async () => {
    await run(1);
    await member(2).stop(50);
    servers[2]?.close();
    const reader = pausable(log.member(2));
    await begin(2, undefined, reader.log);
    await takesPart(2);
    reader.pause();
    // What is on its way when it pauses it still reads.
    const left = (): bigint => member(2).committee.position;
    for (let slot = 8n; log.firstPosition <= left() + 1n; slot += 4n) {
      nowMs = slotStartMs(config, slot + 20n);
      await until("slots go on", () => member(0).committee.floor("accepted") > slot);
      const answers = await Promise.all([0, 1].map((index) => held(addresses[index] ?? "")));
      const below = trimmableBelow(
        answers.map((each) => each.map(({ checkpoint }) => checkpoint)),
        2,
      );
      if (below !== undefined) await log.trim(below.position + 1n);
    }
    assert.deepEqual(fatal, [], "it does not know yet");
    reader.go();
    await until("it notices", () => fatal.length > 0);
    assert.match(fatal.splice(0).join(), /^HISTORY_GONE: the log starts at position \d+$/);
    assert.ok(!member(2).ready());
    assert.equal(exitCodeOf("HISTORY_GONE"), EXIT.again, "whoever runs it starts it again");
    assert.equal(exitCodeOf("LOG_FORKED"), EXIT.failed);
    assert.equal(exitCodeOf("RULES_UNKNOWN"), EXIT.precondition, "another build is needed");
    await member(2).stop(50);
    servers[2]?.close();
    const leftAt = left();
    await begin(2);
    assert.ok(member(2).committee.position > leftAt);
    await takesPart(2);
    assert.deepEqual(fatal, []);
  });

  describe("sources that lie", () => {
    const source = (index: number, by = 2): SnapshotSource => {
      const secrets = committee.secrets[by];
      assert.ok(secrets !== undefined);
      return peerSource({
        config,
        organism: "relay",
        self: by,
        memberKey: generateSigningKey(secrets.memberKey),
        clock,
        address: addresses[index] ?? "",
      });
    };
    const fetch = (sources: readonly SnapshotSource[], wanted = (_: CertifiedCheckpoint): boolean => true) =>
      fetchSnapshot({ config, organism: "relay", sources, wanted, log: SILENT });

    test("every lie is refused and the next source is tried; from liars alone nothing comes", async () => {
      await run(2);
      const peer = source(0);
      const [newest, older] = await peer.held();
      assert.ok(newest !== undefined && older !== undefined);
      const good = await peer.state(newest);
      const before = await peer.state(older);
      assert.ok(good !== undefined && before !== undefined);
      // As they are now: the committee goes on meanwhile.
      const honest: SnapshotSource = {
        name: "honest",
        held: async () => [newest, older],
        state: async (certified) => (certified === newest ? good : before),
      };
      const over = (changes: Partial<SnapshotSource>): SnapshotSource => ({ ...honest, name: "liar", ...changes });
      const flipped = good.slice();
      flipped[flipped.length >> 1] = (flipped[flipped.length >> 1] ?? 0) ^ 1;
      const stranger = dealCommittee(COUNT);
      const forged = (changes: Partial<CertifiedCheckpoint["checkpoint"]>): CertifiedCheckpoint => ({
        ...newest,
        checkpoint: { ...newest.checkpoint, ...changes },
      });
      const liars: readonly [string, SnapshotSource][] = [
        ["silent", over({ held: () => Promise.reject(new Error("nobody there")) })],
        ["a byte of the state", over({ state: async () => flipped })],
        ["cut", over({ state: async () => good.slice(0, -1) })],
        ["longer", over({ state: async () => new Uint8Array([...good, 0]) })],
        ["empty", over({ state: async () => new Uint8Array() })],
        ["an older state under the newest certificate", over({ state: () => honest.state(older) })],
        ["breaks off", over({ state: () => Promise.reject(new Error("gone")) })],
        ["another position", over({ held: async () => [forged({ position: newest.checkpoint.position + 1n })] })],
        ["another hash", over({ held: async () => [forged({ stateHash: new Uint8Array(32) })] })],
        ["another generation", over({ held: async () => [forged({ generation: 1n })] })],
        ["another epoch", over({ held: async () => [forged({ epoch: 1n })] })],
        ["no signature", over({ held: async () => [{ ...newest, signature: new Uint8Array(96) }] })],
        ["another lattice's", over({ held: async () => [certifyState(stranger, 10_000n, good)] })],
        [
          "another organism's",
          over({
            held: async () => [certifyState(committee, 10_000n, good, { committee: committeeId(config, "tally") })],
          }),
        ],
        ["older than what is wanted", over({ held: async () => [older] })],
      ];
      const atLeastNewest = ({ checkpoint }: CertifiedCheckpoint): boolean =>
        checkpoint.position >= newest.checkpoint.position;
      for (const [name, liar] of liars) {
        assert.equal(await fetch([liar], atLeastNewest), undefined, name);
        const found = await fetch([liar, { ...honest, name: "honest" }], atLeastNewest);
        assert.equal(found?.source, "honest", name);
        assert.deepEqual(found?.state, good, name);
      }
      const mixed = await fetch([...liars.map(([, liar]) => liar), { ...honest, name: "honest" }]);
      assert.deepEqual(mixed?.state, good);
    });

    test("an uncertain stream is taken up where it ended; only members of the committee are served", async () => {
      await run(1);
      const [newest] = await source(0).held();
      assert.ok(newest !== undefined);
      assert.ok((await source(0).state(newest)) !== undefined);
      const outsider = peerSource({
        config,
        organism: "relay",
        self: 2,
        memberKey: generateSigningKey(random(32)),
        clock,
        address: addresses[0] ?? "",
      });
      await assert.rejects(
        outsider.state(newest),
        (error: { reason?: string }) => error.reason === "SNAPSHOT_NOT_ADMITTED",
      );
      const late = { nowMs: () => nowMs - 31_000 };
      const secrets = committee.secrets[2];
      assert.ok(secrets !== undefined);
      const stale = peerSource({
        config,
        organism: "relay",
        self: 2,
        memberKey: generateSigningKey(secrets.memberKey),
        clock: late,
        address: addresses[0] ?? "",
      });
      await assert.rejects(
        stale.state(newest),
        (error: { reason?: string }) => error.reason === "SNAPSHOT_NOT_ADMITTED",
      );
    });
  });

  test("a certified state of another version is passed over for the one before", async () => {
    await run(2);
    await trim();
    const store = await FileSnapshotStore.open(join(directory, "fresh"), config, "relay");
    const honest = await FileSnapshotStore.open(join(directory, "member-0", "snapshots"), config, "relay");
    const unreadable = new Uint8Array([0, 0, 0, 1, 9]);
    const strange = certifyState(committee, 10_000n, unreadable);
    const fresh = member(0).committee;
    const { Committee } = await import("../src/committee/committee.ts");
    const empty = new Committee({
      config,
      roster: committee.rosters.relay,
      machine: fresh.machine,
      checkpointEvery: EVERY,
    });
    const sources: SnapshotSource[] = [
      { name: "newer", held: async () => [strange], state: async () => unreadable },
      archiveSource(honest),
    ];
    const options = {
      committee: empty,
      log: log.member(2),
      store,
      sources,
      logger: SILENT,
      timers: nodeTimers,
      keyIsOver: () => false,
    };
    await syncState({ ...options, patienceMs: 5000 });
    assert.equal(empty.position, honest.held()[0]?.checkpoint.position);
    assert.deepEqual(store.held()[0]?.checkpoint, honest.held()[0]?.checkpoint);
  });

  test("from an archive when no peer answers; without any, it says what is missing", async () => {
    const archive = await ArchiveDirectory.open(join(directory, "archive"), config, "relay");
    await wipe(0);
    await begin(0, archive);
    await run(2);
    await until("archived", () => archive.snapshots.held().length >= 2);
    await until("outcome archived", async () => (await archive.outcome("accepted", 1n)) !== undefined);
    await wipe(2);
    await trim();
    const store = await FileSnapshotStore.open(join(directory, "fresh"), config, "relay");
    const { Committee } = await import("../src/committee/committee.ts");
    const { machine } = member(0).committee;
    const empty = () => new Committee({ config, roster: committee.rosters.relay, machine, checkpointEvery: EVERY });
    const keyIsOver = () => false;
    const options = { log: log.member(2), store, logger: SILENT, timers: nodeTimers, keyIsOver, patienceMs: 0 };
    await assert.rejects(syncState({ ...options, committee: empty(), sources: [] }), NoSnapshot);
    const damaged = await readdir(join(directory, "archive"));
    assert.equal(damaged.length, 1);
    const joined = empty();
    await syncState({ ...options, committee: joined, sources: [archiveSource(archive.snapshots)] });
    assert.ok(joined.position + 1n >= log.firstPosition);
    const folder = join(directory, "archive", damaged[0] ?? "", "relay", "snapshots");
    for (const name of await readdir(folder)) await writeFile(join(folder, name), "damaged");
    const again = await ArchiveDirectory.open(join(directory, "archive"), config, "relay");
    await assert.rejects(
      syncState({ ...options, committee: empty(), sources: [archiveSource(again.snapshots)] }),
      NoSnapshot,
    );
  });
});

/** A log whose reader can be held up, as a process is that the machine does not let run. */
function pausable(log: Log): { readonly log: Log; pause(): void; go(): void } {
  let go: (() => void) | undefined;
  let held = Promise.resolve();
  let inner = new AbortController();
  return {
    pause() {
      held = new Promise((resolve) => {
        go = resolve;
      });
      inner.abort();
    },
    go: () => go?.(),
    log: {
      ...log,
      async consume(from, deliver, signal) {
        let next = from;
        while (!signal.aborted) {
          await held;
          inner = new AbortController();
          const read = (message: LogMessage): void => {
            next = message.position + 1n;
            deliver(message);
          };
          await log.consume(next, read, AbortSignal.any([signal, inner.signal]));
        }
      },
    },
  };
}

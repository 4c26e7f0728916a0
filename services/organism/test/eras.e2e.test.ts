/**
 * A committee's certificate key changes while slots go on: real members on the embedded log, a committee downstream of
 * them on another, and a reader outside. Restart, join from nothing, and what the old key can still say.
 */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { toHex } from "../src/codec/codec.ts";
import { type CertifiedCheckpoint, checkCheckpoint } from "../src/committee/checkpoint.ts";
import type { LogRecord } from "../src/committee/log-export.ts";
import { LogVerifier } from "../src/committee/log-verify.ts";
import { type CertifiedOutcome, checkOutcome, outcomeDigest, verifyCertificate } from "../src/committee/outcome.ts";
import { guestAudience } from "../src/committee/reader.ts";
import { ERAS } from "../src/committee/rules.ts";
import { SLOTS_KEPT } from "../src/committee/state.ts";
import { signTicket } from "../src/committee/ticket.ts";
import { trimmableBelow } from "../src/committee/trim.ts";
import { blsSign } from "../src/crypto/bls.ts";
import { generateSigningKey } from "../src/crypto/ed25519.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { committeeId, slotAt, slotStartMs } from "../src/identity/lattice-config.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { FileEpochKeys, writeShares } from "../src/node/epoch-keys.ts";
import { EraBook, readEraFile } from "../src/node/era-book.ts";
import { Guest } from "../src/node/guest.ts";
import { exportLog } from "../src/node/log-exporter.ts";
import { Member } from "../src/node/member.ts";
import { nodeTimers } from "../src/node/node-timers.ts";
import { RosterBook } from "../src/node/roster-book.ts";
import { RosterWatch } from "../src/node/roster-watch.ts";
import { FileSnapshotStore } from "../src/node/snapshot-store.ts";
import type { OrganismDefinition } from "../src/service.ts";
import { firstEpoch, type NextEpoch, nextEpoch } from "../src/testing/dealt-eras.ts";
import { DirectCalls } from "../src/testing/direct-calls.ts";
import { PATIENCE_MS } from "./patience.ts";
import { dealCommittee, memberOptions, random, SILENT, startToyMember } from "./test-lattice.ts";
import { type ToyDuty, toyDefinition } from "./toy-organism.ts";

type ToyMachine = ReturnType<typeof toyDefinition.createMachine>;
type ToyState = ReturnType<ToyMachine["genesis"]>;
type ToyCommand = Parameters<ToyMachine["command"]["write"]>[1];
type ToyMember = Awaited<ReturnType<typeof startToyMember>>;

const issuer = generateSigningKey(random(32));
const admission = [{ kind: "jwt" as const, parameters: issuer.publicKey }];
const committee = dealCommittee(3, { genesisMs: 1_790_000_000_000, slotMs: 1000 }, "none", admission);
const { config } = committee;
const ALL = [0, 1, 2];
const CHECKPOINTS = { entries: 64n, slots: 4n };

/** The toy under another name, downstream of it. */
const downstreamDefinition: typeof toyDefinition = {
  ...toyDefinition,
  organism: "tally",
  createMachine: (...given) => ({
    ...toyDefinition.createMachine(...given),
    organism: "tally",
    upstream: [{ organism: "relay", stage: "accepted" }],
  }),
};
type StateOf<T> =
  T extends OrganismDefinition<infer State, infer Command, infer D, infer Settings>
    ? Parameters<typeof Member.start<State, Command, D, Settings>>[0]
    : never;

describe("the certificate key changes", () => {
  const calls = new DirectCalls();
  const endpoints = ALL.map((index) => `relay-${index}`);
  const members = new Map<string, ToyMember>();
  const problems: string[] = [];
  const lines: string[] = [];
  let directory: string;
  let log: EmbeddedLog;
  let below: EmbeddedLog;
  let nowMs = slotStartMs(config, 1n);
  const clock = { nowMs: () => nowMs };
  const at = (index: number, organism = "relay"): ToyMember => members.get(`${organism}-${index}`) ?? assert.fail();
  const zero = firstEpoch(committee, "relay", 2);
  const folder = (index: number): string => join(directory, `relay-${index}`);
  const sharesOf = (index: number): string => join(directory, `shares-${index}`);
  const keyFile = (index: number): string => join(directory, `key-${index}.json`);
  const note = (level: string) => (message: string, fields?: object) =>
    lines.push(
      `${level} ${message} ${JSON.stringify(fields, (_, value) => (typeof value === "bigint" ? Number(value) : value))}`,
    );
  const logger = { ...SILENT, info: note("info"), warn: note("warn"), error: note("error") };

  async function start(index: number): Promise<void> {
    const secrets = committee.secrets[index] ?? assert.fail();
    const own = { ...secrets, certificateShare: secrets.certificateShare.slice() };
    const eras = new EraBook(config);
    const epochKeys = await FileEpochKeys.open({
      config,
      organism: "relay",
      index,
      secrets: own,
      first: committee.rosters.relay,
      keyFile: keyFile(index),
      directory: sharesOf(index),
      eras: eras.of,
      onProblem: (problem) => problems.push(problem),
    });
    const member = await startToyMember({
      committee,
      index,
      log: log.member(index),
      directory: folder(index),
      clock,
      secrets: own,
      epochKeys,
      eras,
      calls,
      endpoints,
      logger,
      journalIsOld: true,
      checkpointEvery: CHECKPOINTS,
      activationEntries: 4n,
    });
    members.set(`relay-${index}`, member);
  }

  async function startBelow(index: number): Promise<void> {
    const { certifiedRoster: _, ...options } = await memberOptions({
      committee,
      index,
      log: below.member(index),
      directory: join(directory, `tally-${index}`),
      clock,
      calls,
      endpoints,
      logger,
      activationEntries: 4n,
    });
    const given: StateOf<typeof toyDefinition> = { definition: downstreamDefinition, settings: {}, ...options };
    members.set(`tally-${index}`, await Member.start(given));
  }

  async function stop(index: number): Promise<void> {
    await at(index).stop(50);
    members.delete(`relay-${index}`);
    calls.gone(`relay-${index}`);
  }

  async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    // Members ask for others' rosters every 30 s at the latest.
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await holds())) {
      assert.ok(Date.now() < deadline, `in vain: ${what}\n${lines.slice(-60).join("\n")}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async function passTo(slot: bigint): Promise<void> {
    for (let next = slotAt(config, nowMs) + 1n; next <= slot; next++) {
      nowMs = slotStartMs(config, next);
      await until(`slot ${next} is decided`, () =>
        [...members.values()].every((each) => each.committee.floor("accepted") > next),
      );
    }
  }

  async function certified(slot: bigint, who = 0): Promise<CertifiedOutcome> {
    for await (const each of at(who).host.watch("accepted", slot, AbortSignal.timeout(PATIENCE_MS))) {
      if (each.outcome.slot === slot) return each;
    }
    throw new Error(`no certificate for slot ${slot}`);
  }

  const hand = (epoch: NextEpoch): Promise<unknown> =>
    Promise.all(
      epoch.secrets.map(({ certificateShare }, index) =>
        writeShares(sharesOf(index), {
          organism: "relay",
          index,
          epoch: epoch.roster.epoch,
          shares: { certificateShare },
          roster: epoch.certified,
        }),
      ),
    );

  const observedBelow = (slot: bigint): boolean =>
    ALL.every((index) => at(index, "tally").committee.observed("relay", "accepted", slot) !== undefined);

  before(async () => {
    await initCrypto();
    directory = await mkdtemp(join(tmpdir(), "lattice-eras-"));
    log = await EmbeddedLog.open(join(directory, "log"), { segmentMessages: 8 });
    below = await EmbeddedLog.open(join(directory, "below"));
    await Promise.all(
      ALL.map((index) => {
        const share = toHex(committee.secrets[index]?.certificateShare ?? assert.fail());
        return writeFile(keyFile(index), JSON.stringify({ index, certificateShare: share }), { mode: 0o400 });
      }),
    );
  });
  after(async () => {
    await Promise.all([...members.values()].map((member) => member.stop(50)));
    await Promise.all([log.close(), below.close()]);
    await rm(directory, { recursive: true, force: true });
  });

  let one: NextEpoch;

  test("slots go on over the border, each certified under its own key; the committee below follows", async () => {
    await Promise.all(ALL.map(start));
    await Promise.all(ALL.map(startBelow));
    await passTo(3n);
    await until("rules 5 govern", () =>
      [...members.values()].every(({ committee: each }) => each.rules.active >= ERAS),
    );
    one = nextEpoch(zero, { activationSlot: slotAt(config, nowMs) + 11n, newEra: true });
    const { activationSlot } = one.roster;
    await hand(one);
    await until("the era is in the log", () => ALL.every((index) => at(index).committee.eras().length === 2));
    await passTo(activationSlot + 1n);
    const [last, first] = [await certified(activationSlot - 1n), await certified(activationSlot)];
    const keys = at(0)
      .committee.eras()
      .map(({ key }) => key);
    const under = ({ outcome, signature }: CertifiedOutcome) =>
      keys.map((key) => verifyCertificate(key, outcome, signature));
    assert.deepEqual(
      [under(last), under(first)],
      [
        [true, false],
        [false, true],
      ],
    );
    await until("below, the era is known", () =>
      ALL.every((index) => at(index, "tally").committee.eras("relay").length === 2),
    );
    await until("below, both are observed", () => observedBelow(activationSlot - 1n) && observedBelow(activationSlot));
    assert.equal(new Set(ALL.map((index) => at(index, "tally").committee.eraLinks("relay").length)).size, 1);
    assert.deepEqual(problems, []);
  });

  test("a reader outside learns the link from f + 1 members, and takes nothing under the old key after it", async () => {
    const watch = new RosterWatch({
      config,
      rosters: committee.rosters,
      organisms: ["relay"],
      endpoints: () =>
        ({
          ...Object.fromEntries(["zipnet", "unseal", "offer", "atelier", "tally"].map((name) => [name, []])),
          relay: endpoints,
        }) as never,
      clock,
      log: SILENT,
      connect: calls.connect(CommitteeService),
    });
    try {
      await until("it knows the era", async () => {
        await watch.ask();
        return watch.eras("relay").length === 2;
      });
      const { activationSlot } = one.roster;
      const found = await certified(activationSlot);
      const check = (each: CertifiedOutcome) => checkOutcome(config, "relay", each, watch.eras("relay"))?.reason;
      assert.equal(check(found), undefined);
      const { outcome } = found;
      assert.equal(check({ ...found, signature: blsSign(zero.secret, outcomeDigest(outcome)) }), "BAD_CERTIFICATE");
      const renamed = { ...outcome, epoch: 0n };
      const signature = blsSign(zero.secret, outcomeDigest(renamed));
      assert.equal(check({ ...found, outcome: renamed, signature }), "BAD_CERTIFICATE");
      assert.deepEqual(watch.at("relay", activationSlot), one.roster);
    } finally {
      watch.close();
    }
  });

  test("restarted, a member goes on from its own snapshot of the new era", async () => {
    await passTo(one.roster.activationSlot + 9n);
    await until("it has one", async () => (await heldBy(1))[0]?.checkpoint.epoch === 1n);
    await stop(1);
    const eras = new EraBook(config);
    assert.equal(eras.learnAll(readEraFile(join(folder(1), "member-1", "eras.json")) ?? {}), undefined);
    assert.equal(eras.of("relay").length, 2, "what it knew is on disk");
    const snapshots = join(folder(1), "member-1", "snapshots");
    const byPinned = await FileSnapshotStore.open(snapshots, config, "relay");
    const byChain = await FileSnapshotStore.open(snapshots, config, "relay", 3, eras.of);
    const epochs = byChain.held().map(({ checkpoint }) => checkpoint.epoch);
    assert.equal(epochs[0], 1n);
    assert.ok(
      byPinned.held().every(({ checkpoint }) => checkpoint.epoch === 0n),
      "nothing of it without the link",
    );
    lines.length = 0;
    await start(1);
    const [newest] = byChain.held();
    const began = lines.find((line) => line.includes("member starts")) ?? "";
    assert.match(began, new RegExp(`"from_position":${newest?.checkpoint.position}\\b`));
    await passTo(slotAt(config, nowMs) + 2n);
  });

  test("an export of the log is judged by the key of each slot's era", async () => {
    const secrets = committee.secrets[0] ?? assert.fail();
    const memberKey = generateSigningKey(secrets.memberKey);
    const connect = calls.connect(CommitteeService);
    const addresses = [...endpoints];
    const records: LogRecord[] = [];
    const exported = exportLog({
      config,
      organism: "relay",
      addresses,
      memberKey,
      index: 0,
      clock,
      from: "start",
      connect,
    });
    for await (const record of exported) records.push(record);
    const judge = (some: readonly LogRecord[]) => {
      const createMachine = () => toyDefinition.createMachine(config, committee.rosters.relay);
      const verifier = new LogVerifier({ config, createMachine, checkpointEvery: CHECKPOINTS, activationEntries: 4n });
      for (const record of some) {
        const wrong = verifier.take(record);
        if (wrong !== undefined) return wrong;
      }
      const judged = verifier.finish();
      return "wrong" in judged ? judged.wrong : undefined;
    };
    assert.equal(judge(records), undefined);
    assert.ok(records.some((record) => record.type === "outcome" && record.certified.outcome.epoch === 1n));
    const forged = records.map((record): LogRecord => {
      if (record.type !== "outcome" || record.certified.outcome.epoch === 0n) return record;
      const signature = blsSign(zero.secret, outcomeDigest(record.certified.outcome));
      return { ...record, certified: { ...record.certified, signature } };
    });
    assert.equal(judge(forged)?.reason, "BAD_CERTIFICATE", "the old key, after its time");
  });

  test("a member that lost everything learns the chain from its peers before it takes a snapshot from them", async () => {
    await stop(2);
    await rm(folder(2), { recursive: true, force: true });
    const held = await heldBy(0);
    assert.equal(checkCheckpoint(config, "relay", held[0] ?? assert.fail(), at(0).committee.eras()), undefined);
    const trim = trimmableBelow(
      [held, await heldBy(1)].map((each) => each.map(({ checkpoint }) => checkpoint)),
      2,
    );
    await log.trim((trim ?? assert.fail()).position + 1n);
    assert.ok(log.firstPosition > 1n);
    lines.length = 0;
    await start(2);
    assert.ok(
      lines.some((line) => line.includes("joined from a snapshot")),
      lines.join("\n"),
    );
    assert.deepEqual(at(2).committee.eras(), at(0).committee.eras());
    await passTo(slotAt(config, nowMs) + 2n);
  });

  test("a second beginning of the era, certified by the old key, stands for nobody and is kept as evidence", async () => {
    const { activationSlot } = one.roster;
    const other = nextEpoch(zero, { activationSlot, newEra: true });
    const eras = new EraBook(config);
    assert.equal(eras.learn("relay", one.certified), undefined);
    const counted: string[] = [];
    const evidenceDirectory = await mkdtemp(join(directory, "evidence-"));
    const meters = { count: (name: string) => void counted.push(name) };
    const { rosters } = committee;
    const book = new RosterBook({ config, rosters, log: SILENT, meters, eras, evidenceDirectory });
    for (const teller of endpoints) book.hear("relay", other.certified, teller);
    assert.equal(book.newest("relay").epoch, 0n);
    assert.deepEqual(eras.links("relay"), [one.certified]);
    assert.deepEqual(counted, ["lattice_roster_conflicts_total"]);
    await until("it is kept", async () => (await readdir(evidenceDirectory)).length === 1);
    for (const teller of endpoints) book.hear("relay", one.certified, teller);
    assert.deepEqual(book.newest("relay"), one.roster);
  });

  test("the next epoch is of the same era; shares of the old key are erased, and another era may follow", async () => {
    const two = nextEpoch(one, { activationSlot: slotAt(config, nowMs) + 11n });
    await hand(two);
    await until("it is in the log", () => at(0).committee.rosters.at(-1)?.epoch === 2n);
    await passTo(two.roster.activationSlot + SLOTS_KEPT + 2n);
    assert.equal((await certified(two.roster.activationSlot)).outcome.epoch, 2n);
    await until("the first key's shares are erased", async () =>
      (await Promise.all(ALL.map((index) => readFile(keyFile(index), "utf8")))).every(
        (each) => !each.includes("certificateShare"),
      ),
    );
    const outcomes: CertifiedOutcome[] = [];
    const states: CertifiedCheckpoint[] = [];
    const guest = await aGuest({ onOutcome: (each) => outcomes.push(each), onCertified: (each) => states.push(each) });
    assert.equal(guest.newestCertified.certified.checkpoint.epoch, 2n, "certified under the key of era 1");
    const stop = new AbortController();
    const following = guest.follow(stop.signal);
    const three = nextEpoch(two, { activationSlot: slotAt(config, nowMs) + 11n, newEra: true });
    await hand(three);
    await until("it is in the log", () => at(0).committee.rosters.at(-1)?.epoch === 3n);
    await passTo(three.roster.activationSlot + 6n);
    await until("a guest has a state certified in era 2", () =>
      states.some(({ checkpoint }) => checkpoint.epoch === 3n),
    );
    stop.abort();
    await following;
    const eras = guest.committee.eras();
    assert.deepEqual(eras, at(2).committee.eras());
    const border = outcomes.filter(({ outcome }) => outcome.slot >= three.roster.activationSlot - 1n);
    assert.deepEqual(new Set(border.map(({ outcome }) => outcome.epoch)), new Set([2n, 3n]));
    for (const each of border) assert.equal(checkOutcome(config, "relay", each, eras), undefined);
    for (const each of states) assert.equal(checkCheckpoint(config, "relay", each, eras), undefined);
    await until("below, it is observed", () => observedBelow(three.roster.activationSlot));
    assert.deepEqual(
      at(2)
        .committee.eras()
        .map(({ epoch }) => epoch),
      [0n, 1n, 3n],
    );
    assert.deepEqual(at(1, "tally").committee.eras("relay"), at(2).committee.eras());
    assert.deepEqual(problems, []);
  });

  function aGuest(
    watched: Pick<Parameters<typeof Guest.begin>[0], "onOutcome" | "onCertified">,
  ): Promise<Guest<ToyState, ToyCommand, ToyDuty>> {
    const key = generateSigningKey(random(32));
    const audience = guestAudience(committeeId(config, "relay"));
    return Guest.begin({
      config,
      organism: "relay",
      createMachine: (roster) => toyDefinition.createMachine(config, roster),
      addresses: endpoints,
      key,
      tickets: [signTicket(issuer, { audience, subject: key.publicKey, expSlot: 10_000n })],
      clock,
      timers: nodeTimers,
      logger,
      connect: calls.connect(CommitteeService),
      checkpointEvery: CHECKPOINTS,
      ...watched,
    });
  }

  async function heldBy(index: number) {
    const store = await FileSnapshotStore.open(
      join(folder(index), `member-${index}`, "snapshots"),
      config,
      "relay",
      3,
      () => at(index).committee.eras(),
    );
    return store.held();
  }
});

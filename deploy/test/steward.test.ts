/**
 * Real members, a real nats-server for their ceremonies, and a steward of each seat: epochs come by themselves. Two refreshes on
 * the schedule, one steward stopped in the middle of the first; then a member says two things, and its standby takes its seat.
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { equalBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import type { CommitteeCommand } from "@lattice/organism/committee/commands.ts";
import { type CertifiedOutcome, verifyCertificate } from "@lattice/organism/committee/outcome.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { ERAS } from "@lattice/organism/committee/rules.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { configToHex, latticeId, slotAt, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { EmbeddedLog } from "@lattice/organism/log/embedded-log.ts";
import { FileEpochKeys } from "@lattice/organism/node/epoch-keys.ts";
import { EraBook } from "@lattice/organism/node/era-book.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readKeyFile } from "@lattice/organism/node/kit.ts";
import { RosterWatch } from "@lattice/organism/node/roster-watch.ts";
import type { Fields, Logger } from "@lattice/organism/observe/logger.ts";
import { createNoMeters, type MeterRegistry } from "@lattice/organism/observe/meters.ts";
import { type RunningServer, startServer } from "@lattice/organism/rpc/server.ts";
import { ScriptedAuthor } from "@lattice/organism/testing/committee-driver.ts";
import { dealCommittee, SILENT, startToyMember } from "../../services/organism/test/test-lattice.ts";
import { runBuilder } from "../src/ceremony/local-ceremony.ts";
import { MemberFolder, publicOf } from "../src/ceremony/member-folder.ts";
import { successionToJson, takeShare } from "../src/ceremony/reshare.ts";
import { Program } from "../src/chain/child-process.ts";
import { runFraudFetch } from "../src/cli/fraud-fetch.ts";
import { runFraudVerify } from "../src/cli/fraud-verify.ts";
import { freePorts } from "../src/local/free-ports.ts";
import { dealNats, writeCredentials } from "../src/nats/nats-config.ts";
import { createCommitteeStream, type NatsServer, startNatsServer } from "../src/nats/nats-process.ts";
import { findNatsServer, NatsServerMissing } from "../src/nats/nats-server.ts";
import { type Trimmed, trimOnce } from "../src/nats/trimmer.ts";
import { askCommittee, judgeCommittee } from "../src/roster/committee-view.ts";
import { earliestActivation, propose } from "../src/roster/proposal.ts";
import { judgeStandby, makeStandby, STANDBY_FILE } from "../src/roster/standby.ts";
import { Steward } from "../src/roster/steward.ts";
import type { Schedule } from "../src/roster/steward-plan.ts";

const TOOLS = fileURLToPath(new URL("../../.tools", import.meta.url));
const SCRIPT = fileURLToPath(new URL("../src/roster/steward-main.ts", import.meta.url));
const SEATS = [0, 1, 2, 3];
const LIAR = 2;
const REFRESH_EVERY = 28n;
/** Of `4 + 8 + 2` slots before an epoch, what is left after the last call. */
const SCHEDULE = { refreshEvery: REFRESH_EVERY, gather: 8n, ceremony: 4n };
const binary = await findNatsServer({ toolsDir: TOOLS, environment: process.env, download: true }).catch(
  (error: unknown) => {
    if (error instanceof NatsServerMissing) return undefined;
    throw error;
  },
);

type ToyMember = Awaited<ReturnType<typeof startToyMember>>;
interface RunningSteward {
  readonly steward: Steward;
  readonly lines: string[];
  readonly meters: MeterRegistry;
  /** How often it has seen the committee. */
  looks: number;
  /** Resolves once it has been stopped. */
  readonly ended: Promise<void>;
  stop(): Promise<void>;
}

describe("epochs that start by themselves", {
  skip: binary === undefined ? "there is no nats-server" : false,
  timeout: 1_500_000,
}, () => {
  const committee = dealCommittee(SEATS.length, { genesisMs: 1_790_000_000_000, slotMs: 1000 }, "third");
  const { config } = committee;
  const key = config.relay.policy.certificateKey;
  const members = new Map<number, ToyMember>();
  const servers = new Map<number, RunningServer>();
  const stewards = new Map<number, RunningSteward>();
  const problems: string[] = [];
  const fatal: string[] = [];
  let nowMs = slotStartMs(config, 1n);
  const clock = { nowMs: () => nowMs };
  let directory: string;
  let addresses: string[];
  let log: EmbeddedLog;
  let nats: NatsServer;

  const seat = (index: number): string => join(directory, `seat-${index}`);
  const holder = (index: number): string => join(directory, `holder-${index}`);
  const standby = (index: number): string => join(directory, `standby-${index}`);
  const at = <T>(map: ReadonlyMap<number, T>, index: number): T => map.get(index) ?? assert.fail(`none at ${index}`);

  async function startMember(index: number): Promise<void> {
    const keyFile = join(holder(index), "key.json");
    const { secrets } = readKeyFile(keyFile);
    const eras = new EraBook(config);
    const epochKeys = await FileEpochKeys.open({
      config,
      organism: "relay",
      index,
      secrets,
      first: secrets.certificateShare.length > 0 ? committee.rosters.relay : undefined,
      keyFile,
      directory: join(holder(index), "shares"),
      eras: eras.of,
      onProblem: (problem) => problems.push(problem),
    });
    const member = await startToyMember({
      committee,
      index,
      log: log.member(index),
      directory: join(holder(index), "data"),
      clock,
      secrets,
      epochKeys,
      eras,
      endpoints: addresses,
      onFatal: (reason) => fatal.push(`${index}: ${reason}`),
    });
    members.set(index, member);
    const server = await startServer({
      address: addresses[index] ?? "",
      services: member.services,
      committee: member.committee.id,
      domain: "relay",
      log: SILENT,
      meters: createNoMeters(),
    });
    servers.set(index, server);
  }

  async function stopMember(index: number): Promise<void> {
    await at(servers, index).close();
    await at(members, index).stop(0);
    members.delete(index);
    servers.delete(index);
  }

  let schedule: Schedule = SCHEDULE;
  /** What the other committees, which are not there, say against an era. */
  let behind: string[] = [];
  /** @param until a line at which it is stopped */
  function startSteward(index: number, until?: RegExp, standbysDir = join(directory, "standbys")): RunningSteward {
    const stopping = new AbortController();
    const lines: string[] = [];
    const meters = createNoMeters();
    const gauge: MeterRegistry["gauge"] = (name, value, labels) => {
      if (name === "lattice_steward_epoch") running.looks += 1;
      meters.gauge(name, value, labels);
    };
    const line = (message: string, fields: Fields = {}): void => {
      const text = [message, ...Object.entries(fields).map(([name, value]) => `${name}=${value}`)].join(" ");
      lines.push(text);
      if (until?.test(text) === true) stopping.abort();
    };
    const logger: Logger = { debug: () => undefined, info: line, warn: line, error: line };
    const steward = new Steward({
      config,
      organism: "relay",
      addresses: () => addresses,
      followProblems: async () => behind,
      memberDir: holder(index),
      standbyDir: standby(index),
      standbysDir,
      stateDir: join(directory, `steward-${index}`),
      nats: [nats.url],
      credentials: join(directory, `participant-${index}.json`),
      schedule,
      everyMs: 100,
      clock,
      log: logger,
      meters: { ...meters, gauge },
    });
    const running: RunningSteward = {
      steward,
      lines,
      meters,
      looks: 0,
      ended: Promise.resolve().then(() => steward.run(stopping.signal)),
      stop: async () => {
        stopping.abort();
        await running.ended;
        stewards.delete(index);
      },
    };
    stewards.set(index, running);
    return running;
  }

  const said = (): string =>
    [...stewards].map(([index, { lines }]) => `steward ${index}:\n  ${lines.slice(-6).join("\n  ")}`).join("\n");

  /** A file of the kit that operators have. */
  const kit = (name: string): string => join(directory, `kit-${name}`);

  async function fetchFrauds(out = kit("frauds")) {
    await writeFile(kit("lattice.hex"), configToHex(config));
    const named = Object.fromEntries(ORGANISMS.map((organism) => [organism, addresses]));
    await writeFile(kit("endpoints.json"), JSON.stringify(named));
    const lines: string[] = [];
    const problems: string[] = [];
    const code = await runFraudFetch(
      { config: kit("lattice.hex"), endpoints: kit("endpoints.json"), organism: "relay", out, json: true },
      { data: (line) => lines.push(line), problem: (line) => problems.push(line) },
    );
    return { code, lines, problems };
  }

  async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + 90_000;
    while (!(await holds())) {
      assert.ok(
        performance.now() < deadline,
        `it does not come: ${what}; ${fatal.join()} ${problems.join()}\n${said()}`,
      );
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
  const running = (): ToyMember[] => [...members.values()];

  /** Time passes slot by slot, and every slot is decided. */
  async function passTo(slot: bigint): Promise<void> {
    for (let next = slotAt(config, nowMs) + 1n; next <= slot; next++) {
      nowMs = slotStartMs(config, next);
      await until(`slot ${next} is decided`, () => running().every((each) => each.committee.floor("accepted") > next));
    }
  }

  const announced = (epoch: bigint): Promise<void> =>
    until(`epoch ${epoch} is announced`, () =>
      running().every((each) => each.committee.rosters.some((roster) => roster.epoch === epoch)),
    );

  /** A slot of the epoch is certified, under the key that the config pins or another one. @returns its roster */
  async function inEpoch(epoch: bigint, slot: bigint, under = key) {
    await passTo(slot + 1n);
    const [first] = running();
    assert.ok(first !== undefined);
    let found: CertifiedOutcome | undefined;
    for await (const each of first.host.watch("accepted", slot, AbortSignal.timeout(90_000))) {
      if (each.outcome.slot !== slot) continue;
      found = each;
      break;
    }
    assert.ok(found !== undefined);
    assert.equal(found.outcome.epoch, epoch);
    assert.ok(verifyCertificate(under, found.outcome, found.signature));
    return first.host.rosterAt(slot);
  }

  before(async () => {
    await initCrypto();
    directory = await mkdtemp(join(tmpdir(), "lattice-steward-"));
    const [port = 0, monitorPort = 0, ...rest] = await freePorts(2 + SEATS.length);
    addresses = rest.map((each) => `127.0.0.1:${each}`);
    log = await EmbeddedLog.open(join(directory, "log"));
    const deal = dealNats([{ organism: "ceremony", members: SEATS.length }]);
    nats = await startNatsServer({
      binary: binary?.path ?? "",
      directory: join(directory, "nats"),
      deal,
      port,
      monitorPort,
    });
    const [account] = deal.accounts;
    assert.ok(account !== undefined);
    await createCommitteeStream(nats.url, account.admin);
    await mkdir(join(directory, "standbys"));
    for (const index of SEATS) {
      const secrets = committee.secrets[index] ?? assert.fail();
      const { boxKey, memberKey, certificateShare } = secrets;
      await mkdir(seat(index), { recursive: true });
      const content = { organism: "relay", index, boxKey: toHex(boxKey), memberKey: toHex(memberKey) };
      const file = JSON.stringify({ ...content, certificateShare: toHex(certificateShare) });
      await writeFile(join(seat(index), "key.json"), file, { mode: 0o400 });
      await symlink(seat(index), holder(index));
      writeCredentials(join(directory, `participant-${index}.json`), account.members[index] ?? assert.fail());
    }
    // Beside the good one: one of another lattice, and one of another seat under the first one's signatures.
    const keys = await new MemberFolder(standby(LIAR)).create("relay");
    const own = generateSigningKey(fromHex(keys.memberKey));
    const seatKey = generateSigningKey((committee.secrets[LIAR] ?? assert.fail()).memberKey);
    const good = makeStandby(config, "relay", LIAR, seatKey, own, publicOf(keys));
    const elsewhere = makeStandby({ ...config, name: "other" }, "relay", LIAR, seatKey, own, publicOf(keys));
    for (const [name, content] of [
      ["2-relay", good],
      ["1-elsewhere", elsewhere],
      [
        "3-stolen",
        {
          ...good,
          seat: 1,
          standsFor: toHex(generateSigningKey(committee.secrets[1]?.memberKey ?? new Uint8Array()).publicKey),
        },
      ],
    ] as const) {
      await writeFile(join(directory, "standbys", `${name}.json`), JSON.stringify(content));
    }
    await Promise.all(SEATS.map(startMember));
  });
  after(async () => {
    await Promise.all([...stewards.values()].map(({ stop }) => stop()));
    await Promise.all([...members.keys()].map(stopMember));
    await nats.stop();
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });

  test("two refreshes on the schedule, one steward stopped in the middle of the first", async () => {
    const id = toHex(latticeId(config));
    for (const index of SEATS) startSteward(index, index === 3 ? /attempt 1: deal/ : undefined);
    // Nothing is due: nobody begins.
    await until("all have looked", () => [...stewards.values()].every(({ steward }) => steward.ready));
    assert.ok([...stewards.values()].every(({ lines }) => lines.every((line) => !/takes part/.test(line))));
    await passTo(REFRESH_EVERY - 22n);
    await at(stewards, 3).ended;
    startSteward(3);
    await announced(1n);
    const first = await inEpoch(1n, REFRESH_EVERY);

    // The next one ends without seat 0's steward, which comes back when all is over.
    await at(stewards, 0).stop();
    startSteward(0, /attempt 1: deal/);
    await passTo(2n * REFRESH_EVERY - 22n);
    await at(stewards, 0).ended;
    await passTo(2n * REFRESH_EVERY - 20n);
    await announced(2n);
    const late = startSteward(0);
    await until("it has its share all the same", () => {
      return late.meters.value("lattice_steward_ceremonies_total", { why: "late", end: "done" }) === 1;
    });
    const second = await inEpoch(2n, 2n * REFRESH_EVERY);
    for (const index of SEATS) {
      const shares = [committee.rosters.relay, first, second].map(({ members }) => members[index]?.certificateShare);
      assert.equal(new Set(shares.map((each) => toHex(each ?? new Uint8Array()))).size, 3, "every share is another");
      const memberKeys = [first, second].map(({ members }) => members[index]?.memberKey ?? new Uint8Array());
      const before = committee.rosters.relay.members[index]?.memberKey ?? new Uint8Array(1);
      assert.ok(memberKeys.every((each) => equalBytes(each, before)));
    }
    assert.equal(toHex(latticeId(config)), id);
    assert.deepEqual([fatal, problems], [[], []]);
    const roster = at(members, 0).committee.rosters;
    assert.deepEqual(new Set(roster.map(({ epoch }) => epoch)).size, roster.length, "each is announced once");
    for (const { meters, lines } of stewards.values()) {
      assert.equal(meters.value("lattice_steward_ceremonies_total", { why: "refresh", end: "failed" }), 0);
      assert.equal(meters.value("lattice_steward_standbys"), 1);
      assert.ok(
        lines.some((line) => /1-elsewhere.json: a standby of relay in committee .* not of this one/.test(line)),
      );
      assert.ok(lines.some((line) => /3-stolen.json: the standby of seat 1 is not signed by the key/.test(line)));
    }
  });

  test("whoever says two things is replaced by its standby, once all stewards are there", async () => {
    await at(stewards, 3).stop();
    const [first] = running();
    assert.ok(first !== undefined);
    const incarnation = first.committee.author(LIAR)?.incarnation ?? 0n;
    await stopMember(LIAR);
    const voice = new ScriptedAuthor(
      {
        get nowMs() {
          return nowMs;
        },
        committee: first.committee,
        apply: () => assert.fail("entries are signed here and put into the log by hand"),
      },
      LIAR,
      committee.secrets[LIAR] ?? assert.fail(),
    );
    voice.incarnation = incarnation + 1n;
    voice.incarnationKey = voice.keyOf(voice.incarnation);
    const joins = { type: "join", incarnation: voice.incarnation, key: voice.incarnationKey.publicKey } as const;
    const skip = (toSlot: bigint): CommitteeCommand => ({ type: "skip", stage: "accepted", toSlot });
    const entries = [
      voice.sign(joins, "ctl", { signer: voice.memberKey }),
      voice.sign(skip(0n), "ctl", { aside: true }),
      voice.sign(skip(1n)),
    ];
    const before = await fetchFrauds();
    assert.deepEqual([before.code, before.lines], [EXIT.ok, []]);
    assert.ok(before.problems.includes("relay: no key is blocked"));
    for (const [index, raw] of entries.entries()) await log.member(LIAR).append("ctl", raw, `corrupt.${index}`);
    await until("it is blocked", () => running().every((each) => each.committee.isBlocked(LIAR)));
    assert.equal((await view()).margin, 0);

    // Whoever asks the members has the proof, and can judge it without them.
    const fetched = await fetchFrauds();
    assert.equal(fetched.code, EXIT.ok, fetched.problems.join());
    assert.equal(fetched.lines.length, 1);
    const { file, ...accused } = JSON.parse(fetched.lines[0] ?? "") as Record<string, unknown>;
    const verified: string[] = [];
    const output = { data: (line: string) => verified.push(line), problem: (line: string) => verified.push(line) };
    assert.equal(await runFraudVerify(String(file), { config: kit("lattice.hex"), json: true }, output), EXIT.ok);
    assert.deepEqual(JSON.parse(verified[0] ?? ""), accused);
    const key = toHex(voice.memberKey.publicKey);
    assert.deepEqual([accused["member_index"], accused["member_key"], accused["kind"]], [LIAR, key, "entries"]);
    const nowhere = await fetchFrauds(kit("lattice.hex"));
    assert.deepEqual([nowhere.code, nowhere.lines], [EXIT.precondition, []]);
    assert.match(nowhere.problems.join(), /^fraud fetch: cannot write to .*lattice\.hex: E(EXIST|NOTDIR)$/);

    // Who knows no standby says so, and does nothing else.
    const unaware = startSteward(3, undefined, join(directory, "nowhere"));
    await until("it is said", () => unaware.lines.some((line) => /waits for=nobody stands by for seat 2$/.test(line)));
    assert.equal(unaware.meters.value("lattice_steward_standby_missing"), 1);
    assert.ok(unaware.lines.every((line) => !/takes part/.test(line)));
    await unaware.stop();

    // A statement that its key signs from here on is worth nothing.
    const thief = await new MemberFolder(join(directory, "thief")).create("relay");
    const late = makeStandby(
      config,
      "relay",
      LIAR,
      voice.memberKey,
      generateSigningKey(fromHex(thief.memberKey)),
      publicOf(thief),
    );
    await writeFile(join(directory, "standbys", "0-late.json"), JSON.stringify(late));
    await until("the one that is not there is waited for, by name", () =>
      [0, 1, LIAR].every((index) => at(stewards, index).lines.some((line) => /waits for=participants 3 \(/.test(line))),
    );
    // The last call passes without it: the attempt ends, and there is another one.
    await slotsUntil(async () => [0, 1, LIAR].every((index) => ended(index) > 0));
    startSteward(3);
    await slotsUntil(async () => new Set(await successions()).size === 1);
    await announced(3n);
    await until("the seat's folder is the standby's", () =>
      at(stewards, LIAR).lines.some((line) => /wants a restart/.test(line)),
    );
    await startMember(LIAR);
    const [roster] = at(members, 0).committee.rosters.filter(({ epoch }) => epoch === 3n);
    assert.ok(roster !== undefined);
    const keys = readKeyFile(join(standby(LIAR), "key.json")).secrets;
    assert.deepEqual(roster.members[LIAR]?.memberKey, generateSigningKey(keys.memberKey).publicKey);
    await inEpoch(3n, roster.activationSlot);
    await until("its margin is back", async () => (await view()).margin === 1);
    assert.equal((await readdir(join(standby(LIAR), "shares"))).join(), "3.json");
    assert.equal(new Set(await successions()).size, 1, "the same file, to the byte");
    assert.ok(at(stewards, 0).lines.some((line) => /not known before its key was blocked/.test(line)));
    assert.deepEqual([fatal, problems], [[], []]);
  });

  test("the log is trimmed by what the new holder of the seat signs, and no more by what the kit's roster names", async (t) => {
    const eras = new EraWatch({ config, addresses: () => addresses });
    const rosters = new RosterWatch({
      config,
      rosters: committee.rosters,
      organisms: ["relay"],
      endpoints: () => ({ zipnet: [], unseal: [], offer: [], atelier: [], relay: addresses, tally: [] }),
      clock,
      log: SILENT,
    });
    t.after(() => rosters.close());
    const trim = (roster: Roster) =>
      trimOnce({ config, organism: "relay", roster, eras, addresses, nowMs: clock.nowMs, purgeBelow: async () => 1 });
    const now = () => slotAt(config, nowMs);
    await until("the newest roster is known", () => rosters.at("relay", now()).epoch === 3n);
    // A quorum without member 0 needs the replaced one.
    await stopMember(0);
    let trimmed: Trimmed | undefined;
    await until("the log may be trimmed", async () => {
      await passTo(now() + 1n);
      trimmed = await trim(rosters.at("relay", now()));
      return trimmed !== undefined;
    });
    assert.ok(trimmed !== undefined && trimmed.from > 1n);
    assert.equal(await trim(committee.rosters.relay), undefined);
    await startMember(0);
  });

  test("as a process: what is wrong is one line and a code, what it sees is in its metrics, SIGTERM ends it", async (t) => {
    const folder = join(directory, "process");
    await mkdir(folder);
    const [port = 0] = await freePorts(1);
    await writeFile(join(folder, "lattice.hex"), configToHex(config));
    const everywhere = Object.fromEntries(ORGANISMS.map((organism) => [organism, addresses]));
    await writeFile(join(folder, "endpoints.json"), JSON.stringify(everywhere));
    const settings = {
      STEWARD_CONFIG_FILE: join(folder, "lattice.hex"),
      STEWARD_ENDPOINTS_FILE: join(folder, "endpoints.json"),
      STEWARD_ORGANISM: "relay",
      STEWARD_MEMBER_DIR: holder(1),
      STEWARD_STATE_DIR: join(folder, "state"),
      STEWARD_NATS_SERVERS: nats.url,
      STEWARD_CREDENTIALS_FILE: join(directory, "participant-1.json"),
      STEWARD_LISTEN: `127.0.0.1:${port}`,
    };
    const start = (name: string, changes: Record<string, string>): Promise<Program> =>
      Program.start({
        name,
        command: process.execPath,
        args: ["--disable-warning=ExperimentalWarning", SCRIPT],
        logFile: join(folder, `${name}.log`),
        env: { PATH: process.env["PATH"], ...settings, ...changes },
      });
    const wrong: [name: string, changes: Record<string, string>, code: number, lines: RegExp[]][] = [
      [
        "settings",
        { STEWARD_EVERY_MS: "soon", STEWARD_TYPO: "1" },
        EXIT.usage,
        [/STEWARD_TYPO: /, /STEWARD_EVERY_MS: /],
      ],
      ["too often", { STEWARD_REFRESH_EVERY_SLOTS: "58" }, EXIT.usage, [/REFRESH_EVERY_SLOTS: more than 58/]],
      ["no member", { STEWARD_MEMBER_DIR: folder }, EXIT.precondition, [/key file: .* cannot be read: ENOENT/]],
      ["of another", { STEWARD_ORGANISM: "offer" }, EXIT.precondition, [/made for relay, not offer/]],
    ];
    const good = await start("good", {});
    t.after(() => good.stop());
    await Promise.all(
      wrong.map(async ([name, changes, code, lines]) => {
        const program = await start(name, changes);
        assert.equal(await program.ended, `exit code ${code}`, name);
        const told = (await readFile(program.logFile, "utf8")).trim().split("\n");
        assert.equal(told.length, lines.length, told.join("\n"));
        for (const line of lines)
          assert.ok(
            told.some((each) => each.startsWith("steward: ") && line.test(each)),
            name,
          );
      }),
    );
    const http = `http://127.0.0.1:${port}`;
    await good.ready(async () => (await fetch(`${http}/readyz`).catch(() => undefined))?.ok === true, 120_000);
    const shown = await (await fetch(`${http}/metrics`)).text();
    assert.match(shown, /lattice_steward_epoch\{[^}]*role="steward",member="1"[^}]*\} 3/);
    await good.stop();
    assert.equal(await good.ended, `exit code ${EXIT.ok}`);
    const told = await readFile(good.logFile, "utf8");
    assert.ok(!told.includes((await readFile(join(holder(1), "key.json"), "utf8")).slice(-68, -4)), "nothing secret");

    // What operators type once.
    const make = (): Promise<number> => {
      const where = ["--member", holder(1), "--directory", join(folder, "standby")];
      const command = ["roster", "standby", "--config", settings.STEWARD_CONFIG_FILE, "--organism", "relay", ...where];
      return runBuilder(command, join(folder, "standby.log"), join(folder, "standby.json"));
    };
    assert.equal(await make(), EXIT.ok);
    const first = await readFile(join(folder, "standby.json"), "utf8");
    const judged = judgeStandby(config, "relay", STANDBY_FILE.parse(JSON.parse(first)));
    assert.ok("standby" in judged && judged.standby.seat === 1);
    assert.equal(await make(), EXIT.ok);
    assert.equal(await readFile(join(folder, "standby.json"), "utf8"), first, "the same again");
  });

  test("an operator begins an era; the refresh that is due after its border shares the new key", async () => {
    await Promise.all([...stewards.values()].map(({ stop }) => stop()));
    await until("rules 5 govern", () => running().every((each) => each.committee.rules.active >= ERAS));
    const before = await view();
    const nowSlot = slotAt(config, nowMs);
    const activationSlot = earliestActivation(config.pipelineDepth, nowSlot) + 1n;
    const terms = { replace: undefined, with: undefined, activationSlot, nowSlot };
    const proposed = propose(before, { ...terms, newEra: true });
    const succession = "succession" in proposed ? proposed.succession : assert.fail(proposed.problems.join());
    const file = join(directory, "era.json");
    await writeFile(file, successionToJson(succession, before.certified, before.links));
    const codes = await Promise.all(
      SEATS.map((index) =>
        takeShare({
          directory: holder(index),
          succession: file,
          nats: [nats.url],
          credentials: join(directory, `participant-${index}.json`),
          retry: false,
          discard: false,
          clock,
          patienceMs: () => Number.POSITIVE_INFINITY,
          signal: AbortSignal.timeout(240_000),
          tell: () => undefined,
          publish: () => undefined,
        }),
      ),
    );
    assert.deepEqual(new Set(codes), new Set([EXIT.ok]));
    await announced(4n);
    for (const index of SEATS) startSteward(index);
    const next = (await view()).roster.era?.certificateKey ?? assert.fail("it names its key");
    assert.ok(!equalBytes(next, key));
    await inEpoch(3n, activationSlot - 1n);
    await inEpoch(4n, activationSlot, next);
    await slotsUntil(async () => running().every((each) => each.committee.rosters.at(-1)?.epoch === 5n));
    const { roster, certified, links, eras } = await view();
    assert.deepEqual([roster.epoch, roster.era], [5n, { number: 1, certificateKey: next }]);
    assert.ok(verifyCertificate(next, certified.outcome, certified.signature), "certified by shares of the new key");
    assert.deepEqual([eras.length, links.map(({ outcome }) => outcome.epoch)], [2, [4n]]);
    await inEpoch(5n, roster.activationSlot, next);
    for (const { meters } of stewards.values()) {
      const ceremonies = (end: string) => meters.value("lattice_steward_ceremonies_total", { why: "refresh", end });
      assert.deepEqual([ceremonies("done"), ceremonies("failed")], [1, 0]);
    }
    assert.deepEqual([fatal, problems], [[], []]);
  });

  test("stewards begin one on their schedule, as a refresh", async () => {
    await Promise.all([...stewards.values()].map(({ stop }) => stop()));
    const before = await view();
    // The refresh after this one is the first at or after a multiple.
    const eraEvery = (before.roster.activationSlot / REFRESH_EVERY + 1n) * REFRESH_EVERY;
    schedule = { ...SCHEDULE, eraEvery };
    await passTo(eraEvery - 24n);
    behind = ["tally: member 0 rules 4; 5 are needed, as f + 1 members say"];
    for (const index of SEATS) startSteward(index);
    await slotsUntil(async () =>
      [...stewards.values()].every(({ lines }) => lines.some((line) => /waits for=tally: member 0 rules 4/.test(line))),
    );
    behind = [];
    await slotsUntil(async () => running().every((each) => each.committee.rosters.at(-1)?.epoch === 6n));
    const { roster, eras, links } = await view();
    assert.deepEqual([roster.activationSlot, roster.era?.number], [eraEvery, 2]);
    const key = roster.era?.certificateKey ?? assert.fail("it names its key");
    assert.ok(!equalBytes(key, before.roster.era?.certificateKey ?? key));
    assert.deepEqual([eras.length, links.map(({ outcome }) => outcome.epoch)], [3, [4n, 6n]]);
    await inEpoch(6n, roster.activationSlot, key);
    for (const { meters } of stewards.values()) {
      assert.equal(meters.value("lattice_steward_ceremonies_total", { why: "refresh", end: "done" }), 1);
    }
    assert.deepEqual([fatal, problems], [[], []]);
  });

  /** Ceremonies for the replacement that came to nothing. */
  const ended = (index: number): number =>
    ["failed", "interrupted"].reduce(
      (sum, end) => sum + at(stewards, index).meters.value("lattice_steward_ceremonies_total", { why: "blocked", end }),
      0,
    );
  const successions = (): Promise<string[]> =>
    Promise.all(SEATS.map((index) => readFile(join(directory, `steward-${index}`, "succession.json"), "utf8")));
  /** Slot after slot; every steward looks twice in each, however busy the machine is. */
  async function slotsUntil(holds: () => Promise<boolean>): Promise<void> {
    for (let slot = 0; slot < 40; slot++) {
      const before = new Map([...stewards.values()].map((each) => [each, each.looks]));
      let held = false;
      await until("all have looked", async () => {
        held = await holds();
        return held || [...before].every(([each, looks]) => each.looks >= looks + 2);
      });
      if (held) return;
      await passTo(slotAt(config, nowMs) + 1n);
    }
    assert.fail(`in vain: ${said()}`);
  }
  /** Asked again where the machine is too busy for an answer in time. */
  async function view() {
    for (const deadline = performance.now() + 90_000; ; ) {
      const judged = judgeCommittee(config, "relay", await askCommittee(config, "relay", addresses));
      if (!("problem" in judged)) return judged;
      assert.ok(performance.now() < deadline, judged.problem);
    }
  }
});

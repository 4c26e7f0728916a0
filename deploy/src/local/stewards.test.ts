import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, relative } from "node:path";
import { after, before, test } from "node:test";
import { fromHex } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { parseOwnSettings } from "@lattice/organism/node/settings.ts";
import { deal } from "../dealer/deal.ts";
import { readDeal } from "../nats/nats-config.ts";
import { earliestActivation } from "../roster/proposal.ts";
import { judgeStandby, STANDBY_FILE } from "../roster/standby.ts";
import { STEWARD_SETTINGS, scheduleProblems } from "../roster/steward-settings.ts";
import { dealBroker } from "./broker.ts";
import { choosePorts, chooseStewardPorts, Layout, type StewardPorts } from "./layout.ts";
import { memberEnvironment } from "./members.ts";
import { layOutStewards, localSchedule, REFRESH_EVERY_SLOTS, stewardEnvironment } from "./stewards.ts";

const MEMBERS = 3;
const SEATS = ORGANISMS.flatMap((organism) => Array.from({ length: MEMBERS }, (_, index) => ({ organism, index })));
let layout: Layout;
let config: LatticeConfig;
let ports: StewardPorts;
before(async () => {
  await initCrypto();
  layout = new Layout(mkdtempSync(join(tmpdir(), "lattice-stewards-")));
  const settlement = fromHex("5e771e".padStart(40, "0"));
  const terms = { name: "test", chainId: 1n, genesisMs: 1_800_000_000_000, slotMs: 4000, members: MEMBERS, settlement };
  ({ config } = deal(layout.directory, terms));
  ports = await chooseStewardPorts(MEMBERS);
});
after(() => rmSync(layout.directory, { recursive: true, force: true }));

const settingsOf = (organism: (typeof ORGANISMS)[number], index: number, refreshEverySlots = REFRESH_EVERY_SLOTS) =>
  parseOwnSettings(
    stewardEnvironment(layout, ports, { refreshEverySlots, slotMs: config.slotMs }, organism, index),
    "STEWARD_",
    STEWARD_SETTINGS,
  );
const standbysOf = (organism: (typeof ORGANISMS)[number]): string[] =>
  readdirSync(layout.standbys(organism)).map((name) => readFileSync(join(layout.standbys(organism), name), "utf8"));
/** Everything below the stewards' folder, with its content's hash; the members' own folders, behind the links, left out. */
const everything = (): string[] =>
  readdirSync(layout.path("stewards"), { recursive: true, withFileTypes: true })
    .filter((each) => each.isFile() && basename(each.parentPath) !== "seat")
    .map(({ parentPath, name }) => join(parentPath, name))
    .map((path) => `${path} ${createHash("sha256").update(readFileSync(path)).digest("hex")}`)
    .sort();

test("a lattice without stewards knows nothing of them", () => {
  assert.equal(layout.holder("relay", 1), layout.member("relay", 1));
});

test("a steward of every seat finds its member, its credential, its keys in reserve and everybody's statements", async () => {
  await layOutStewards(layout, config);
  for (const { organism, index } of SEATS) {
    const settings = settingsOf(organism, index);
    assert.equal(realpathSync(settings.STEWARD_MEMBER_DIR), realpathSync(layout.member(organism, index)));
    assert.equal(statSync(settings.STEWARD_CREDENTIALS_FILE).mode & 0o777, 0o400);
    assert.match(
      readFileSync(settings.STEWARD_CREDENTIALS_FILE, "utf8"),
      new RegExp(`"ceremony-${organism}-${index}"`),
    );
    assert.deepEqual(readdirSync(settings.STEWARD_STANDBY_DIR ?? ""), ["own-keys.json"]);
    assert.equal(layout.holder(organism, index), settings.STEWARD_MEMBER_DIR);
  }
  for (const organism of ORGANISMS) {
    const judged = standbysOf(organism).map((text) =>
      judgeStandby(config, organism, STANDBY_FILE.parse(JSON.parse(text))),
    );
    const seats = judged.map((each) => ("standby" in each ? each.standby.seat : assert.fail(each.problem)));
    assert.deepEqual(seats.sort(), [0, 1, 2]);
  }
  const addresses = SEATS.map(({ organism, index }) => settingsOf(organism, index).STEWARD_LISTEN);
  assert.equal(new Set(addresses).size, SEATS.length);
});

test("keys in reserve get the seat's credential, in a folder that was laid out without as well", async () => {
  const copy = (organism: (typeof ORGANISMS)[number], index: number): string =>
    join(layout.standby(organism, index, 1), "nats.json");
  const before = everything();
  assert.equal(existsSync(copy("relay", 2)), false);
  dealBroker({ layout, members: MEMBERS });
  await layOutStewards(layout, config);
  for (const { organism, index } of SEATS) {
    assert.deepEqual(
      readFileSync(copy(organism, index)),
      readFileSync(join(layout.member(organism, index), "nats.json")),
    );
    assert.equal(statSync(copy(organism, index)).mode & 0o777, 0o400);
  }
  assert.deepEqual(
    everything().filter((each) => !each.includes("nats.json")),
    before,
  );
});

test("killed at any point of dealing and laying out, the next start completes it", async () => {
  const inHalf = new Layout(mkdtempSync(join(tmpdir(), "lattice-stewards-half-")));
  cpSync(layout.directory, inHalf.directory, { recursive: true, verbatimSymlinks: true });
  const content = (): string[] =>
    readdirSync(inHalf.directory, { recursive: true, withFileTypes: true })
      .filter((each) => each.isFile())
      .map(({ parentPath, name }) => relative(inHalf.directory, join(parentPath, name)))
      .sort();
  try {
    const whole = content();
    // A deal is written before what is taken from it, so it is never the one that is missing.
    const made = ["nats/trimmer.json", "nats/admins.json", "members/relay-1/nats.json"]
      .concat(["stewards/relay-1/ceremonies.json", "stewards/relay-1/standby-1/nats.json"])
      .concat(["stewards/standbys/relay/1-1.json"]);
    for (const file of made) {
      assert.ok(whole.includes(file), file);
      // What is written is there whole or not at all; what a killed start leaves beside it stands in nobody's way.
      rmSync(inHalf.path(file));
      writeFileSync(inHalf.path(`${file}.new`), "half");
      dealBroker({ layout: inHalf, members: MEMBERS });
      await layOutStewards(inHalf, config);
      rmSync(inHalf.path(`${file}.new`), { force: true });
      assert.deepEqual(content(), whole, file);
    }
    const [own, ceremonies] = [join("nats", "deal.json"), join("stewards", "ceremonies", "deal.json")].map(
      (file) => readDeal(inHalf.path(file)).accounts[ORGANISMS.indexOf("relay")]?.members[1],
    );
    const read = (...parts: string[]): unknown => JSON.parse(readFileSync(inHalf.path(...parts), "utf8"));
    assert.deepEqual(read("members", "relay-1", "nats.json"), own);
    assert.deepEqual(read("stewards", "relay-1", "ceremonies.json"), ceremonies);
  } finally {
    rmSync(inHalf.directory, { recursive: true, force: true });
  }
});

test("laid out again, nothing changes; a standby that has its seat is followed by another one", async () => {
  const before = everything();
  await layOutStewards(layout, config);
  assert.deepEqual(everything(), before);
  // What a steward does once its standby's keys hold the seat: theirs is a key file by then.
  const standby = layout.standby("tally", 1, 1);
  const seat = layout.seat("tally", 1);
  const { memberKey, boxKey, signerKey } = JSON.parse(readFileSync(join(standby, "own-keys.json"), "utf8"));
  writeFileSync(
    join(standby, "key.json"),
    JSON.stringify({ organism: "tally", index: 1, memberKey, boxKey, signerKey }),
  );
  unlinkSync(seat);
  symlinkSync(standby, seat);
  await layOutStewards(layout, config);
  assert.equal(settingsOf("tally", 1).STEWARD_STANDBY_DIR, layout.standby("tally", 1, 2));
  assert.equal(standbysOf("tally").length, 4);
  const { LATTICE_KEY_FILE = "", LATTICE_DATA_DIR } = memberEnvironment(
    { layout, ports: await choosePorts(MEMBERS, undefined), slotMs: config.slotMs, logLevel: "info" },
    "tally",
    1,
  );
  assert.equal(realpathSync(LATTICE_KEY_FILE), realpathSync(join(standby, "key.json")));
  assert.equal(LATTICE_DATA_DIR, join(seat, "data"));
  assert.deepEqual(
    everything().filter((each) => before.includes(each)),
    before,
  );
});

test("a seat's link that leads nowhere is one line", async () => {
  const seat = layout.seat("offer", 2);
  unlinkSync(seat);
  symlinkSync("gone", seat);
  await assert.rejects(layOutStewards(layout, config), /offer-2.seat: leads nowhere/);
});

test("whatever the schedule, an epoch's making fits between two refreshes", () => {
  const earliest = earliestActivation(4, 1n);
  for (const refreshEverySlots of [...Array.from({ length: 400 }, (_, more) => 24 + more), 900, 1_000_000]) {
    const { gather, ceremony } = localSchedule(refreshEverySlots);
    const settings = {
      STEWARD_REFRESH_EVERY_SLOTS: refreshEverySlots,
      STEWARD_GATHER_SLOTS: gather,
      STEWARD_CEREMONY_SLOTS: ceremony,
    };
    assert.deepEqual(scheduleProblems(settings, earliest), []);
  }
  const { gather, ceremony } = localSchedule(20);
  const tooOften = {
    STEWARD_REFRESH_EVERY_SLOTS: 20,
    STEWARD_GATHER_SLOTS: gather,
    STEWARD_CEREMONY_SLOTS: ceremony,
  };
  assert.equal(scheduleProblems(tooOften, earliest).length, 1);
  const hourly = { ...tooOften, STEWARD_REFRESH_EVERY_SLOTS: 900 };
  assert.deepEqual(scheduleProblems({ ...hourly, STEWARD_ERA_EVERY_SLOTS: 900 }, earliest), []);
  const [rarer, ...others] = scheduleProblems({ ...hourly, STEWARD_ERA_EVERY_SLOTS: 899 }, earliest);
  assert.match(rarer ?? "", /^STEWARD_ERA_EVERY_SLOTS: .*\(900\) or more/);
  assert.deepEqual(others, []);
});

import assert from "node:assert/strict";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { after, before, test } from "node:test";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { readConfig, readEndpoints, readKeyFile, readRosters, verifyKeys } from "@lattice/organism/node/kit.ts";
import { signingKeyIn } from "../ceremony/reshare.ts";
import { judgeStandby, STANDBY_FILE } from "../roster/standby.ts";
import { MEMBERS, memberName, preparedVolumes, seatVolume, secretsVolume } from "./plan.ts";
import { prepare } from "./prepare.ts";

let volumes: string;
before(async () => {
  await initCrypto();
  volumes = mkdtempSync(join(tmpdir(), "lattice-prepare-"));
});
after(() => rmSync(volumes, { recursive: true, force: true }));

const options = () => ({ volumes, name: "test", slotMs: 4000, genesisMs: 1_800_000_000_000 });
/** What lies in a folder, links not followed. */
const filesIn = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((each) =>
    each.isDirectory() ? filesIn(join(folder, each.name)) : each.isFile() ? [join(folder, each.name)] : [],
  );
const kit = (name: string): string => join(volumes, "kit", name);

test("an interrupted run is thrown away and dealt anew", async () => {
  const first = await prepare(options());
  assert.equal(first.found, false);
  const dealt = readFileSync(kit("lattice.hex"), "utf8");
  rmSync(kit("complete"));
  writeFileSync(join(volumes, seatVolume("zipnet-0"), "half"), "");
  assert.equal((await prepare(options())).found, false);
  assert.notEqual(readFileSync(kit("lattice.hex"), "utf8"), dealt);
  assert.ok(!readdirSync(join(volumes, seatVolume("zipnet-0"))).includes("half"));
});

test("a finished deal is found again and left as it is", async () => {
  const dealt = readFileSync(kit("lattice.hex"), "utf8");
  const again = await prepare({ ...options(), slotMs: 9000, genesisMs: 1 });
  assert.equal(again.found, true);
  assert.equal(again.config.slotMs, 4000);
  assert.equal(readFileSync(kit("lattice.hex"), "utf8"), dealt);
});

test("a deal from before there were stewards is refused with what to do, and left as it is", async () => {
  const folder = join(volumes, seatVolume("zipnet-0"), "steward");
  renameSync(folder, `${folder}.away`);
  await assert.rejects(prepare(options()), /earlier version's, without stewards: .*--profile .* down -v/);
  assert.ok(readFileSync(kit("complete"), "utf8").length > 0);
  renameSync(`${folder}.away`, folder);
  assert.equal((await prepare(options())).found, true);
});

test("every member finds its own keys in its own volume, for its eyes only, and nowhere else", () => {
  const config = readConfig(kit("lattice.hex"));
  const rosters = readRosters(kit("rosters.json"), config);
  assert.deepEqual(readdirSync(volumes).sort(), preparedVolumes().sort());
  for (const organism of ORGANISMS) {
    for (let index = 0; index < MEMBERS; index++) {
      const folder = join(volumes, seatVolume(memberName(organism, index)));
      const key = readKeyFile(join(folder, "holder", "key.json"));
      assert.equal(key.organism, organism);
      assert.equal(key.index, index);
      verifyKeys(rosters[organism], organism, index, key.secrets);
      const held = ["member/key.json", "member/nats.json", "standby/nats.json", "standby/own-keys.json"];
      const extra = { relay: ["builder.jwt"], tally: ["poster.key"] } as Partial<Record<string, string[]>>;
      const files = [...held, "steward/ceremonies.json", ...(extra[organism] ?? [])].sort();
      for (const name of files) assert.equal(statSync(join(folder, name)).mode & 0o777, 0o400, name);
      assert.deepEqual(
        filesIn(folder)
          .map((path) => relative(folder, path))
          .sort(),
        files,
      );
      assert.equal(readlinkSync(join(folder, "holder")), "member");
    }
  }
});

test("what is secret is in no other volume: not in the kit, not at another service", () => {
  const text = new Map(
    preparedVolumes().map((volume) => {
      const paths = filesIn(join(volumes, volume));
      return [volume, paths.map((path) => readFileSync(path, "utf8")).join("\n")];
    }),
  );
  const found = (needle: string): string[] => [...text].filter(([, all]) => all.includes(needle)).map(([name]) => name);
  for (const organism of ORGANISMS) {
    for (let index = 0; index < MEMBERS; index++) {
      const volume = seatVolume(memberName(organism, index));
      for (const file of ["member/key.json", "standby/own-keys.json"]) {
        const {
          organism: _o,
          index: _i,
          ...secrets
        } = JSON.parse(readFileSync(join(volumes, volume, file), "utf8")) as Record<string, string>;
        for (const [name, secret] of Object.entries(secrets)) assert.deepEqual(found(secret), [volume], name);
      }
      // The broker must know it too.
      for (const [file, broker] of [
        ["member/nats.json", "nats"],
        ["steward/ceremonies.json", "ceremonies"],
      ] as const) {
        const { password } = JSON.parse(readFileSync(join(volumes, volume, file), "utf8")) as { password: string };
        assert.deepEqual(found(password).sort(), [volume, secretsVolume(broker)].sort());
      }
    }
  }
  const jwt = readFileSync(join(volumes, secretsVolume("execution"), "engine.jwt"), "utf8");
  assert.deepEqual(found(jwt).sort(), [secretsVolume("execution"), secretsVolume("sequencer")]);
});

test("the kit holds a statement of every seat's keys in reserve, which holds", () => {
  const config = readConfig(kit("lattice.hex"));
  for (const organism of ORGANISMS) {
    const names = readdirSync(kit(`standbys/${organism}`));
    assert.deepEqual(names.sort(), ["0.json", "1.json", "2.json"]);
    for (const name of names) {
      const file = STANDBY_FILE.parse(JSON.parse(readFileSync(kit(`standbys/${organism}/${name}`), "utf8")));
      const judged = judgeStandby(config, organism, file);
      assert.ok("standby" in judged && `${judged.standby.seat}.json` === name);
      const own = signingKeyIn(join(volumes, seatVolume(memberName(organism, judged.standby.seat)), "standby"));
      assert.deepEqual(own?.publicKey, judged.standby.member.memberKey);
    }
  }
});

test("endpoints are service names", () => {
  const endpoints = readEndpoints(kit("endpoints.json"));
  assert.deepEqual(endpoints.relay, ["relay-0:7000", "relay-1:7000", "relay-2:7000"]);
  assert.deepEqual(endpoints.aggregator, ["aggregator:7000"]);
});

test("a broker listens beyond its container's loopback and syncs always", () => {
  for (const broker of ["nats", "ceremonies"]) {
    const conf = readFileSync(join(volumes, secretsVolume(broker), "server.conf"), "utf8");
    assert.match(conf, /listen: "0\.0\.0\.0:4222"/);
    assert.match(conf, /sync_interval: always/);
  }
});

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { readConfig, readEndpoints, readKeyFile, readRosters, verifyKeys } from "@lattice/organism/node/kit.ts";
import { MEMBERS, memberName, preparedVolumes, secretsVolume } from "./plan.ts";
import { prepare } from "./prepare.ts";

let volumes: string;
before(async () => {
  await initCrypto();
  volumes = mkdtempSync(join(tmpdir(), "lattice-prepare-"));
});
after(() => rmSync(volumes, { recursive: true, force: true }));

const options = () => ({ volumes, name: "test", slotMs: 4000, genesisMs: 1_800_000_000_000 });
const kit = (name: string): string => join(volumes, "kit", name);

test("an interrupted run is thrown away and dealt anew", async () => {
  const first = await prepare(options());
  assert.equal(first.found, false);
  const dealt = readFileSync(kit("lattice.hex"), "utf8");
  rmSync(kit("complete"));
  writeFileSync(join(volumes, secretsVolume("zipnet-0"), "half"), "");
  assert.equal((await prepare(options())).found, false);
  assert.notEqual(readFileSync(kit("lattice.hex"), "utf8"), dealt);
  assert.ok(!readdirSync(join(volumes, secretsVolume("zipnet-0"))).includes("half"));
});

test("a finished deal is found again and left as it is", async () => {
  const dealt = readFileSync(kit("lattice.hex"), "utf8");
  const again = await prepare({ ...options(), slotMs: 9000, genesisMs: 1 });
  assert.equal(again.found, true);
  assert.equal(again.config.slotMs, 4000);
  assert.equal(readFileSync(kit("lattice.hex"), "utf8"), dealt);
});

test("a deal from before there was a keeper of streams is refused with what to do, and left as it is", async () => {
  const file = join(volumes, secretsVolume("keeper"), "admins.json");
  const kept = readFileSync(file, "utf8");
  rmSync(file);
  await assert.rejects(prepare(options()), /earlier version's, without a keeper of streams: .*down -v/);
  assert.ok(readFileSync(kit("complete"), "utf8").length > 0);
  writeFileSync(file, kept, { mode: 0o400 });
  assert.equal((await prepare(options())).found, true);
});

test("every member finds its own keys in its own volume, for its eyes only, and nowhere else", () => {
  const config = readConfig(kit("lattice.hex"));
  const rosters = readRosters(kit("rosters.json"), config);
  assert.deepEqual(readdirSync(volumes).sort(), preparedVolumes().sort());
  for (const organism of ORGANISMS) {
    for (let index = 0; index < MEMBERS; index++) {
      const folder = join(volumes, secretsVolume(memberName(organism, index)));
      const key = readKeyFile(join(folder, "key.json"));
      assert.equal(key.organism, organism);
      assert.equal(key.index, index);
      verifyKeys(rosters[organism], organism, index, key.secrets);
      for (const name of readdirSync(folder)) assert.equal(statSync(join(folder, name)).mode & 0o777, 0o400, name);
      const extra = { relay: ["builder.jwt"], tally: ["poster.key"] } as Partial<Record<string, string[]>>;
      assert.deepEqual(readdirSync(folder).sort(), ["key.json", "nats.json", ...(extra[organism] ?? [])].sort());
    }
  }
});

test("what is secret is in no other volume: not in the kit, not at another service", () => {
  const text = new Map(
    preparedVolumes().map((volume) => {
      const folder = join(volumes, volume);
      const names = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((each) => each.isFile());
      return [volume, names.map((each) => readFileSync(join(each.parentPath, each.name), "utf8")).join("\n")];
    }),
  );
  const found = (needle: string): string[] => [...text].filter(([, all]) => all.includes(needle)).map(([name]) => name);
  for (const organism of ORGANISMS) {
    for (let index = 0; index < MEMBERS; index++) {
      const volume = secretsVolume(memberName(organism, index));
      const {
        organism: _o,
        index: _i,
        ...secrets
      } = JSON.parse(readFileSync(join(volumes, volume, "key.json"), "utf8")) as Record<string, string>;
      for (const [name, secret] of Object.entries(secrets)) assert.deepEqual(found(secret), [volume], name);
      const { password } = JSON.parse(readFileSync(join(volumes, volume, "nats.json"), "utf8")) as { password: string };
      // The broker must know it too.
      assert.deepEqual(found(password).sort(), [volume, secretsVolume("nats")].sort());
    }
  }
  const jwt = readFileSync(join(volumes, secretsVolume("execution"), "engine.jwt"), "utf8");
  assert.deepEqual(found(jwt).sort(), [secretsVolume("execution"), secretsVolume("sequencer")]);
});

test("endpoints are service names", () => {
  const endpoints = readEndpoints(kit("endpoints.json"));
  assert.deepEqual(endpoints.relay, ["relay-0:7000", "relay-1:7000", "relay-2:7000"]);
  assert.deepEqual(endpoints.aggregator, ["aggregator:7000"]);
});

test("the broker listens beyond its container's loopback and syncs always", () => {
  const conf = readFileSync(join(volumes, secretsVolume("nats"), "server.conf"), "utf8");
  assert.match(conf, /listen: "0\.0\.0\.0:4222"/);
  assert.match(conf, /sync_interval: always/);
});

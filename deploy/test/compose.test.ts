import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { composedServices, composedVolumes, composeYaml } from "@lattice/deploy/container/compose.ts";
import { MEMBERS, memberNames, preparedVolumes, seatVolume, secretsVolume } from "@lattice/deploy/container/plan.ts";
import { resolve, type YamlMap } from "@lattice/deploy/container/yaml.ts";
import { Layout, type Ports } from "@lattice/deploy/local/layout.ts";
import {
  aggregatorEnvironment,
  gatewayEnvironment,
  memberEnvironment,
  sequencerEnvironment,
} from "@lattice/deploy/local/members.ts";
import { stewardEnvironment } from "@lattice/deploy/local/stewards.ts";
import { earliestActivation } from "@lattice/deploy/roster/proposal.ts";
import { STEWARD_SETTINGS, scheduleProblems } from "@lattice/deploy/roster/steward-settings.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";

const ROOT = new URL("../../", import.meta.url);
const services = composedServices();
const ONE_SHOT = ["prepare", "streams", "ceremony-streams", "watch"];
const stewardOf = (member: string): string => `${member}-steward`;
/** Run only when asked for, by profile. */
const OPTIONAL: Readonly<Record<string, readonly string[]>> = {
  traffic: ["traffic"],
  watch: ["watch"],
  stewards: ["ceremonies", "ceremony-streams", ...memberNames().map(stewardOf)],
};

function service(name: string): YamlMap {
  const found = services[name];
  assert.ok(found !== undefined, `no service ${name}`);
  return found;
}
const list = (name: string, key: string): readonly string[] => (service(name)[key] ?? []) as readonly string[];
const map = (name: string, key: string): Readonly<Record<string, string>> =>
  (service(name)[key] ?? {}) as Readonly<Record<string, string>>;
/** `volume:path[:ro]`, taken apart. */
const mounts = (name: string): { volume: string; path: string; readOnly: boolean }[] =>
  list(name, "volumes").map((each) => {
    const [volume = "", path = "", mode] = each.split(":");
    return { volume, path, readOnly: mode === "ro" };
  });

test("compose.yaml is what the generator writes", () => {
  assert.equal(readFileSync(new URL("compose.yaml", ROOT), "utf8"), composeYaml());
});

test("every organism has its members, and there is nobody else", () => {
  const expected = ORGANISMS.flatMap((organism) =>
    Array.from({ length: MEMBERS }, (_, index) => `${organism}-${index}`),
  );
  assert.equal(MEMBERS, 3);
  assert.deepEqual(memberNames(), expected);
  const others = ["prepare", "nats", "streams", "keeper", "trimmer", "execution", "sequencer", "aggregator", "gateway"];
  const optional = Object.values(OPTIONAL).flat();
  assert.deepEqual(Object.keys(services).sort(), [...expected, ...others, ...optional].sort());
});

test("what runs without being asked for needs nothing that does not, and each profile has all it needs", () => {
  const profile = (name: string): string | undefined =>
    Object.keys(OPTIONAL).find((each) => OPTIONAL[each]?.includes(name));
  for (const name of Object.keys(services)) {
    const own = profile(name);
    assert.deepEqual(service(name)["profiles"], own === undefined ? undefined : [own], name);
    for (const other of Object.keys(map(name, "depends_on")))
      assert.ok([undefined, own].includes(profile(other)), `${name} waits for ${other}`);
  }
});

test("every member mounts the public kit and its own seat, as its steward does, and nothing of anybody else", () => {
  for (const name of memberNames()) {
    for (const each of [name, stewardOf(name)]) {
      assert.deepEqual(mounts(each), [
        { volume: "kit", path: "/kit", readOnly: true },
        { volume: `${name}-seat`, path: "/seat", readOnly: false },
      ]);
    }
  }
});

test("a volume of secrets has one reader, a seat its member and its steward, and one writer that is gone before the reader starts", () => {
  const holders = new Map<string, string[]>();
  for (const name of Object.keys(services)) {
    for (const { volume } of mounts(name)) holders.set(volume, [...(holders.get(volume) ?? []), name]);
  }
  for (const [volume, names] of holders) {
    if (volume === "kit") continue;
    const readers = names.filter((name) => name !== "prepare");
    const [first = ""] = readers;
    const expected = volume === seatVolume(first) ? [first, stewardOf(first)] : [first];
    assert.deepEqual(readers, expected, `${volume} is mounted by ${readers.join(", ")}`);
    if (!names.includes("prepare")) continue;
    for (const reader of readers) {
      const start = map(reader, "depends_on") as unknown as Record<string, { condition: string }>;
      assert.equal(start["prepare"]?.condition, "service_completed_successfully", `${reader} waits for the dealer`);
    }
  }
  assert.deepEqual(
    mounts("prepare").map(({ volume }) => volume),
    preparedVolumes(),
  );
  // What the dealer does not write is state, which begins empty.
  for (const volume of composedVolumes()) assert.ok(preparedVolumes().includes(volume) || volume.endsWith("-data"));
});

test("whoever is told of a secrets file has a volume of secrets", () => {
  for (const name of Object.keys(services)) {
    const seated = Object.values(map(name, "environment")).some((value) => value.startsWith("/seat/"));
    assert.equal(
      seated,
      mounts(name).some(({ path }) => path === "/seat"),
      name,
    );
    const told = Object.values(map(name, "environment")).some((value) => value.startsWith("/secrets/"));
    const has = mounts(name).some(({ volume }) => volume === secretsVolume(name));
    const inCommand = list(name, "command").some((value) => value.startsWith("/secrets/"));
    assert.equal(has, told || inCommand, name);
  }
});

test("only gateway and chain RPC are published, on the loopback address", () => {
  const published = Object.keys(services).filter((name) => service(name)["ports"] !== undefined);
  assert.deepEqual(published.sort(), ["execution", "gateway"]);
  for (const name of published) {
    for (const port of list(name, "ports")) assert.match(port, /^127\.0\.0\.1:/);
    assert.equal(list(name, "ports").length, 1);
  }
});

test("every service has a health check; only those that end have none", () => {
  for (const name of Object.keys(services)) {
    const check = service(name)["healthcheck"] as YamlMap;
    if (ONE_SHOT.includes(name)) assert.deepEqual(check, { disable: true }, name);
    else assert.deepEqual((check["test"] as string[]).slice(0, 3), ["CMD", "node", "deploy/bin/health.mjs"], name);
  }
});

test("nobody is root, has rights, or writes where it should not", () => {
  for (const name of Object.keys(services)) {
    const one = service(name);
    assert.equal(one["user"], "10001:10001", name);
    assert.equal(one["read_only"], true, name);
    assert.deepEqual(one["cap_drop"], ["ALL"], name);
    assert.deepEqual(one["security_opt"], ["no-new-privileges:true"], name);
    assert.equal(one["stop_signal"], "SIGTERM", name);
    assert.equal(one["privileged"], undefined, name);
    assert.equal(one["networks"], undefined, "all share the default network");
  }
  assert.equal(service("prepare")["network_mode"], "none");
});

test("whom a service waits for exists, and is there for good or has ended well", () => {
  for (const name of Object.keys(services)) {
    const start = map(name, "depends_on") as unknown as Record<string, { condition: string }>;
    for (const [other, { condition }] of Object.entries(start)) {
      service(other);
      const expected = ONE_SHOT.includes(other) ? "service_completed_successfully" : "service_healthy";
      assert.equal(condition, expected, `${name} waits for ${other}`);
    }
    if (name !== "prepare") assert.ok("prepare" in start, `${name} waits for the dealer`);
  }
});

test("no secret stands in the file", () => {
  const text = composeYaml();
  assert.doesNotMatch(text, /[0-9a-f]{32}/i);
  assert.doesNotMatch(text, /password|BEGIN [A-Z ]*PRIVATE/i);
});

test("services are set up like the processes of a local lattice, name by name", () => {
  const layout = new Layout(fileURLToPath(new URL("deploy/test", ROOT)));
  const two = { grpc: 1, metrics: 2 };
  const ports: Ports = {
    members: Object.fromEntries(ORGANISMS.map((organism) => [organism, [two, two, two]])) as unknown as Record<
      Organism,
      { grpc: number; metrics: number }[]
    >,
    relayEngine: [3, 4, 5],
    aggregator: 6,
    gateway: 7,
    nats: [{ client: 8, monitor: 9, route: 14 }],
    chainRpc: 10,
    chainEngine: 11,
    sequencer: 12,
    sequencerAdmin: 13,
  };
  const options = { layout, ports, slotMs: 4000, logLevel: "info" };
  const names = (environment: Readonly<Record<string, string>>, ...more: string[]): string[] =>
    [...Object.keys(environment), ...more].sort();
  const same = (name: string, expected: string[]): void => {
    assert.deepEqual(Object.keys(map(name, "environment")).sort(), expected, name);
  };
  for (const organism of ORGANISMS) {
    for (let index = 0; index < MEMBERS; index++)
      same(`${organism}-${index}`, names(memberEnvironment(options, organism, index)));
  }
  const stewardPorts = {
    metrics: Object.fromEntries(ORGANISMS.map((organism) => [organism, [1, 2, 3]])) as Record<Organism, number[]>,
    ceremonies: { client: 4, monitor: 5 },
  };
  for (const organism of ORGANISMS) {
    for (let index = 0; index < MEMBERS; index++) {
      const local = stewardEnvironment(layout, stewardPorts, { refreshEverySlots: 900, slotMs: 4000 }, organism, index);
      // How often it looks follows a local lattice's slots; here it is the default.
      same(
        `${organism}-${index}-steward`,
        names(local).filter((name) => name !== "STEWARD_EVERY_MS"),
      );
    }
  }
  same("sequencer", names(sequencerEnvironment(options), "SEQUENCER_HOST"));
  same("aggregator", names(aggregatorEnvironment(options), "LATTICE_METRICS_LISTEN"));
  same("gateway", names(gatewayEnvironment(options)));
  const window = sequencerEnvironment(options)["SEQUENCER_WINDOW_MS"];
  assert.match(map("sequencer", "environment")["SEQUENCER_WINDOW_MS"] ?? "", new RegExp(`:-${window}\\}$`));
});

test("a steward's settings are settings, and its schedule has room for an epoch", () => {
  const shown = Object.entries(map("offer-1-steward", "environment"));
  const asRun = Object.fromEntries(shown.map(([name, value]) => [name, value.replace(/^\$\{\w+:-(.*)\}$/, "$1")]));
  const settings = STEWARD_SETTINGS.strict().parse(asRun);
  assert.equal(settings.STEWARD_ORGANISM, "offer");
  assert.equal(settings.STEWARD_STANDBYS_DIR, "/kit/standbys/offer");
  assert.deepEqual(scheduleProblems(settings, earliestActivation(4, 1n)), []);
});

test("merging: own keys win, and a template that is not there is refused", () => {
  const templates = [
    { name: "a", content: { x: 1, y: { z: 1 } } },
    { name: "b", content: { "<<": "a", x: 2 } },
  ];
  assert.deepEqual(resolve({ s: { "<<": "b", y: 3 } }, templates), { s: { x: 2, y: 3 } });
  assert.throws(() => resolve({ "<<": "c" }, templates), /no template c/);
});

/** Exit code of the health check. */
async function check(...args: string[]): Promise<number | null> {
  const script = fileURLToPath(new URL("deploy/bin/health.mjs", ROOT));
  const child = spawn(process.execPath, [script, ...args], { stdio: "ignore" });
  const [code] = (await once(child, "exit")) as [number | null];
  return code;
}

test("the health check: 2xx is health, anything else is not; of JSON-RPC, a result", async () => {
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      if (request.method === "POST") response.end(request.url === "/good" ? '{"result":"0x1"}' : '{"error":{}}');
      else response.writeHead(request.url === "/readyz" ? 200 : 503).end("x");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  assert.equal(await check(`${at}/readyz`), 0);
  assert.equal(await check(`${at}/draining`), 1);
  assert.equal(await check(`${at}/good`, "--rpc", "eth_blockNumber"), 0);
  assert.equal(await check(`${at}/bad`, "--rpc", "eth_blockNumber"), 1);
  server.close();
  await once(server, "close");
  assert.equal(await check(`${at}/readyz`), 1);
});

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { test } from "node:test";
import { freePorts } from "./free-ports.ts";

const EPHEMERAL = "/proc/sys/net/ipv4/ip_local_port_range";

test("as many as asked for, no two the same, each free", async () => {
  const ports = await freePorts(90);
  assert.equal(new Set(ports).size, 90);
  const servers = ports.map((port) => createServer().listen(port, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const others = await freePorts(90);
  assert.deepEqual(
    others.filter((port) => ports.includes(port)),
    [],
    "one that is listened on is not free",
  );
  for (const server of servers) server.close();
});

test("a port that is promised to somebody is not given, free as it is", async () => {
  const all = Array.from({ length: 16_384 }, (_, index) => 16_384 + index);
  const [port = 0] = await freePorts(1);
  assert.deepEqual(await freePorts(1, new Set(all.filter((each) => each !== port))), [port]);
  await assert.rejects(freePorts(1, new Set(all)), /1 free ports expected/);
});

test("none that the kernel gives to whoever asks for any port", { skip: !existsSync(EPHEMERAL) }, async () => {
  const [first = Number.NaN, last = Number.NaN] = readFileSync(EPHEMERAL, "utf8").trim().split(/\s+/).map(Number);
  const given = (port: number): boolean => port >= first && port <= last;
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(address !== null && typeof address !== "string" && given(address.port), "the range is read right");
  server.close();
  assert.deepEqual((await freePorts(300)).filter(given), []);
});

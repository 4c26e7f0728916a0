import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readEndpoints } from "@lattice/organism/node/kit.ts";
import { choosePorts, chooseStewardPorts, Layout } from "./layout.ts";
import { noteRunner } from "./runner.ts";
import { Interrupted, Precondition, prepareDirectory, Session } from "./session.ts";

const root = mkdtempSync(join(tmpdir(), "lattice-session-"));
after(() => rmSync(root, { recursive: true, force: true }));

const prepare = (directory: string): Promise<string> =>
  prepareDirectory(directory, { embedded: true }, () => undefined);
const refused = (directory: string, line: RegExp): Promise<void> =>
  assert.rejects(prepare(directory), (error) => error instanceof Precondition && line.test(error.message));

test("a new folder and an empty one take a lattice", async () => {
  const empty = join(root, "empty");
  mkdirSync(empty);
  assert.equal(await prepare(empty), "embedded");
  const none = join(root, "none");
  assert.equal(await prepare(none), "embedded");
  assert.deepEqual(readdirSync(root), ["empty"], "asking makes no folder");
});

test("a folder with other files is left alone", async () => {
  const other = join(root, "other");
  mkdirSync(other);
  writeFileSync(join(other, "thesis.txt"), "");
  await refused(other, /holds other files/);
  await refused(join(other, "thesis.txt"), /is no folder/);
  assert.deepEqual(readdirSync(other), ["thesis.txt"]);
});

const dealt = async (name: string): Promise<Layout> => {
  const layout = new Layout(join(root, name));
  layout.savePorts({ ...(await choosePorts(3, undefined, 1)), stewards: await chooseStewardPorts(3) });
  writeFileSync(layout.dealt, JSON.stringify({ mode: "embedded" }));
  return layout;
};
const listening = async (port: number): Promise<Server> => {
  const server = createServer().listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
};

test("a lattice that somebody runs is not started beside it", async () => {
  const layout = await dealt("running");
  const runner = spawn(process.execPath, ["--eval", "setTimeout(() => undefined, 600_000)"], { stdio: "ignore" });
  const guard = spawn("sleep", ["600"], { stdio: "ignore" });
  const since = (pid = 0): string => readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ")[19] ?? "";
  const note = (pid = 0) => ({ pid, since: since(pid) });
  try {
    const [running, ending] = [note(runner.pid), note(guard.pid)];
    writeFileSync(layout.runner, JSON.stringify({ runner: running, guard: ending }));
    await refused(layout.directory, new RegExp(`is running already: process ${runner.pid}$`));
    // The same number, but of another process.
    const others = { ...running, since: `${Number(running.since) - 1}` };
    writeFileSync(layout.runner, JSON.stringify({ runner: others }));
    assert.equal(await prepare(layout.directory), "embedded");
    // Killed: whatever it has left is waited for.
    runner.kill("SIGKILL");
    await once(runner, "exit");
    writeFileSync(layout.runner, JSON.stringify({ runner: running, guard: ending }));
    const said: string[] = [];
    const prepared = prepareDirectory(layout.directory, { embedded: true }, (line) => {
      said.push(line);
      guard.kill();
    });
    assert.equal(await prepared, "embedded");
    assert.deepEqual(said, ["an earlier start was killed: what it has left is being ended"]);
    assert.equal(guard.killed, true);
  } finally {
    runner.kill("SIGKILL");
    guard.kill("SIGKILL");
  }
});

test("whoever starts a lattice notes it, and may start it again", async () => {
  const layout = await dealt("noted");
  noteRunner(layout, undefined);
  const { runner } = JSON.parse(readFileSync(layout.runner, "utf8"));
  assert.equal(runner.pid, process.pid);
  assert.equal(await prepare(layout.directory), "embedded");
  rmSync(layout.dealt);
  rmSync(layout.ports);
  rmSync(layout.endpoints);
  assert.equal(await prepare(layout.directory), "embedded", "killed before anything was dealt");
});

test("a port that somebody else has taken meanwhile is replaced, the others stay", async () => {
  const layout = await dealt("ports");
  const before = layout.loadPorts();
  const member = before.members.tally[1]?.grpc ?? 0;
  const metrics = before.stewards?.metrics.relay[2] ?? 0;
  const servers = await Promise.all([member, metrics, before.gateway].map(listening));
  const said: string[] = [];
  await prepareDirectory(layout.directory, { embedded: true }, (line) => said.push(line));
  const after = layout.loadPorts();
  const [grpc, gateway] = [after.members.tally[1]?.grpc, after.gateway];
  const fresh = [grpc, after.stewards?.metrics.relay[2], gateway];
  for (const port of fresh) assert.ok(port !== undefined && ![member, metrics, before.gateway].includes(port));
  assert.equal(said.length, 3);
  assert.ok(
    said.includes(`port ${before.gateway} of 127.0.0.1 is somebody else's by now: the gateway takes ${gateway}`),
  );
  assert.equal(readEndpoints(layout.endpoints).tally[1], `127.0.0.1:${grpc}`);
  const same = JSON.stringify(before)
    .match(/\d+/g)
    ?.filter((port) => JSON.stringify(after).includes(port));
  assert.equal(same?.length, (JSON.stringify(before).match(/\d+/g)?.length ?? 0) - 3);
  for (const server of servers) server.close();
  await prepareDirectory(layout.directory, { embedded: true, gatewayPort: before.gateway }, () => undefined);
  assert.deepEqual(
    layout.loadPorts(),
    { ...after, gateway: before.gateway },
    "a gateway port that is asked for is taken",
  );
});

test("a port of whoever has a store is never replaced: two on one store would damage it", async () => {
  const layout = await dealt("stores");
  const { chainRpc, nats, stewards } = layout.loadPorts();
  for (const port of [chainRpc, nats[0]?.client ?? 0, stewards?.ceremonies.client ?? 0]) {
    const server = await listening(port);
    await refused(layout.directory, new RegExp(`port ${port} of 127.0.0.1 is in use: .* may be running already`));
    server.close();
  }
});

test("a lattice is found again on its log, one half dealt is not started", async () => {
  const layout = new Layout(join(root, "own"));
  layout.savePorts(await choosePorts(3, undefined, 1));
  await refused(layout.directory, /interrupted before it was dealt/);
  writeFileSync(layout.dealt, JSON.stringify({ mode: "nats" }));
  await refused(layout.directory, /on the nats log, not the embedded one/);
  writeFileSync(layout.dealt, JSON.stringify({ mode: "embedded" }));
  assert.equal(await prepare(layout.directory), "embedded");
});

test("interrupted while keys are dealt, nothing is started, and the folder holds a lattice that can be", async () => {
  const layout = new Layout(join(root, "interrupted"));
  const abort = new AbortController();
  const said: string[] = [];
  const progress = (line: string): void => {
    said.push(line);
    abort.abort();
  };
  const options = {
    directory: layout.directory,
    mode: "embedded",
    slotMs: 4000,
    progress,
    signal: abort.signal,
  } as const;
  await assert.rejects(Session.start(options), Interrupted);
  assert.equal(said.length, 1, said.join());
  assert.match(said[0] ?? "", /^dealing keys/);
  assert.equal(existsSync(layout.path("logs")), false);
  assert.equal(await prepare(layout.directory), "embedded");
});

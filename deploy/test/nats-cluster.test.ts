/** The committee log on a cluster of three: its contract, and servers that die or fall silent under it. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { conformance } from "@lattice/organism/log/conformance.ts";
import { JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { freePorts } from "../src/local/free-ports.ts";
import { NatsCluster, serverName } from "../src/nats/nats-cluster.ts";
import { type CommitteeAccount, dealNats, type NatsDeal } from "../src/nats/nats-config.ts";
import { startNatsServer } from "../src/nats/nats-process.ts";
import { findNatsServer, NatsServerMissing } from "../src/nats/nats-server.ts";

const TOOLS = fileURLToPath(new URL("../../.tools", import.meta.url));
const QUOTAS = { messagesPerSubject: 5000, bytes: 48 * 1024 * 1024, messageBytes: 1024 * 1024 };
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

async function find(): Promise<{ readonly path: string } | { readonly missing: string }> {
  try {
    return await findNatsServer({ toolsDir: TOOLS, environment: process.env, download: true });
  } catch (error) {
    if (error instanceof NatsServerMissing) return { missing: error.message };
    throw error;
  }
}
const found = await find();

describe("on a cluster of three nats-servers", { skip: "missing" in found ? found.missing : false }, () => {
  let folder: string;
  let deal: NatsDeal;
  let cluster: NatsCluster;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "lattice-cluster-"));
    deal = dealNats(["relay", "unseal", "tally"].map((organism) => ({ organism, members: 2 })));
    const free = await freePorts(9);
    cluster = await NatsCluster.start({
      binary: "path" in found ? found.path : "",
      directory: folder,
      deal,
      ports: [0, 3, 6].map((at) => ({ client: free[at] ?? 0, monitor: free[at + 1] ?? 0, route: free[at + 2] ?? 0 })),
      accountBytes: 64 * 1024 * 1024,
    });
    await cluster.makeStreams(
      deal.accounts.map(({ admin }) => admin),
      QUOTAS,
    );
  });
  after(async () => {
    await cluster.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const account = (at: number): CommitteeAccount => {
    const found = deal.accounts[at];
    assert.ok(found !== undefined);
    return found;
  };

  function open(at: number, member: number): Promise<JetStreamLog> {
    const credentials = account(at).members[member];
    assert.ok(credentials !== undefined);
    return JetStreamLog.open({
      servers: cluster.urls,
      ...credentials,
      member,
      monitorUrls: cluster.monitorUrls,
    });
  }

  test("each stream has three replicas, each server leads one and syncs before it acknowledges", async () => {
    const leaders = await Promise.all(deal.accounts.map(({ admin }) => cluster.leaderOf(admin)));
    assert.deepEqual([...leaders].sort(), [0, 1, 2]);
    const { admin } = account(0);
    const connection = await connect({
      servers: cluster.urls,
      user: admin.user,
      pass: admin.password,
      inboxPrefix: admin.inboxPrefix,
    });
    const { config, cluster: placed } = await (await jetstreamManager(connection)).streams.info(admin.stream);
    await connection.close();
    assert.equal(config.num_replicas, 3);
    const names = [placed?.leader, ...(placed?.replicas ?? []).map(({ name }) => name)].sort();
    assert.deepEqual(names, [0, 1, 2].map(serverName));
    for (const url of cluster.monitorUrls) {
      const varz = (await (await fetch(new URL("/varz", url))).json()) as {
        jetstream: { config: { sync_always: boolean } };
      };
      assert.equal(varz.jetstream.config.sync_always, true);
    }
  });

  test("a server without the routes' password does not get in", async () => {
    const stranger = dealNats([{ organism: "relay", members: 2 }]);
    const [client = 0, monitor = 0, route = 0] = await freePorts(3);
    const routes = cluster.urls.map((_, index) => cluster.routeAddress(index));
    const started = startNatsServer({
      binary: "path" in found ? found.path : "",
      directory: join(folder, "stranger"),
      deal: stranger,
      name: "stranger",
      port: client,
      monitorPort: monitor,
      cluster: { port: route, routes },
      readyMs: 4000,
    });
    // Alone it finds no leader, so it never becomes ready; had it been admitted, it would.
    await assert.rejects(started, { reason: "NOT_READY" });
    const routez = (await (await fetch(new URL("/routez", cluster.monitorUrls[0] ?? ""))).json()) as {
      routes: { remote_name: string }[];
    };
    assert.deepEqual([...new Set(routez.routes.map(({ remote_name: name }) => name))].sort(), [1, 2].map(serverName));
  });

  conformance("JetStream on three servers", async () => {
    const { admin } = account(0);
    const connection = await connect({
      servers: cluster.urls,
      user: admin.user,
      pass: admin.password,
      inboxPrefix: admin.inboxPrefix,
    });
    const manager = await jetstreamManager(connection);
    await manager.streams.delete(admin.stream);
    await cluster.makeStreams([admin], QUOTAS);
    const members = [await open(0, 0), await open(0, 1)] as const;
    return {
      members,
      messageBytesMax: QUOTAS.messageBytes - Buffer.byteLength("NATS/1.0\r\nNats-Msg-Id: largest\r\n\r\n"),
      trim: async (below) => {
        await manager.streams.purge(admin.stream, { seq: Number(below) });
      },
      restart: async () => {
        await cluster.stop();
        await cluster.startAll();
      },
      close: async () => {
        for (const member of members) await member.close();
        await connection.close();
      },
    };
  });

  test("whoever only writes is told when the stream has a leader again, and not before", async (context) => {
    // The servers have just been started again: somebody else sees the stream's leader first.
    const other = await open(2, 1);
    context.after(() => other.close());
    for (let attempt = 0; (await other.append("ctl", bytes("first"), "first")) !== "stored"; attempt++) {
      assert.ok(attempt < 300, "the stream has no leader");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const log = await open(2, 0);
    context.after(() => log.close());
    let told = 0;
    log.restored(() => {
      told += 1;
    });
    assert.equal(await log.append("ctl", bytes("before"), "before"), "stored");
    const leader = await cluster.leaderOf(account(2).admin);
    assert.ok(leader !== undefined);
    context.after(() => cluster.start(leader));
    await cluster.killServer(leader);
    assert.equal(told, 0, "nothing was away for this writer");
    assert.equal(await log.append("ctl", bytes("lost"), "lost"), "unknown");
    const until = Date.now() + 60_000;
    while (told === 0 && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(told, 1);
    assert.equal(await log.append("ctl", bytes("lost"), "lost"), "stored");
  });

  for (const [name, down, up] of [
    ["killed", (index: number) => cluster.killServer(index), (index: number) => cluster.start(index)],
    [
      "stopped for good, as far as anybody can tell",
      async (index: number) => cluster.signal(index, "SIGSTOP"),
      async (index: number) => cluster.signal(index, "SIGCONT"),
    ],
  ] as const) {
    test(`the leader of the stream is ${name}: what was acknowledged is there, once, in order`, async (context) => {
      const [a, b] = [await open(1, 0), await open(1, 1)];
      const from = (await b.lastPosition()) + 1n;
      const read: string[] = [];
      const positions: bigint[] = [];
      const stop = new AbortController();
      const reading = b.consume(
        from,
        ({ position, raw }) => {
          positions.push(position);
          read.push(Buffer.from(raw).toString());
        },
        stop.signal,
      );
      const leader = await cluster.leaderOf(account(1).admin);
      assert.ok(leader !== undefined);
      context.after(async () => {
        stop.abort();
        for (const log of [a, b]) await log.close();
        await up(leader);
      });
      const stored: string[] = [];
      for (let index = 0; index < 40; index++) {
        if (index === 15) await down(leader);
        for (let attempt = 0; ; attempt++) {
          assert.ok(attempt < 300, "the others do not take over");
          if ((await a.append("ctl", bytes(`${index}`), `${name} ${index}`)) === "stored") break;
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        stored.push(`${index}`);
      }
      const after = await cluster.leaderOf(account(1).admin);
      assert.notEqual(after, leader, "another server leads now");
      const last = await a.lastPosition();
      const until = Date.now() + 60_000;
      while (positions.at(-1) !== last && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 20));
      stop.abort();
      await reading;
      assert.deepEqual(
        positions,
        positions.map((_, index) => from + BigInt(index)),
      );
      assert.deepEqual([...new Set(read)], stored);
      // The same id again is dropped within the window, also by a new leader.
      assert.equal(read.length, stored.length);
    });
  }
});

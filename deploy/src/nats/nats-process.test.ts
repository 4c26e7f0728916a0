import assert from "node:assert/strict";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ENTRY_BYTES_MAX, LANES } from "@lattice/organism/committee/entry.ts";
import { JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import { HistoryGone, LogRefusal } from "@lattice/organism/ports.ts";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { freePorts } from "../local/free-ports.ts";
import { dealNats, type LogCredentials, type NatsDeal, readDeal, writeCredentials } from "./nats-config.ts";
import {
  committeeQuotas,
  createCommitteeStream,
  DEFAULT_QUOTAS,
  type NatsServer,
  startNatsServer,
} from "./nats-process.ts";
import { findNatsServer, NatsServerMissing } from "./nats-server.ts";
import { purgeStream } from "./trimmer.ts";

const TOOLS = fileURLToPath(new URL("../../../.tools", import.meta.url));

let folder: string;
let binary: string | undefined;
let missing = "";
let server: NatsServer;
let deal: NatsDeal;
let ports: number[];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "lattice-nats-"));
  try {
    binary = (await findNatsServer({ toolsDir: TOOLS, environment: process.env, download: true })).path;
  } catch (error) {
    if (!(error instanceof NatsServerMissing)) throw error;
    missing = error.message;
    return;
  }
  deal = dealNats([
    { organism: "zipnet", members: 3 },
    { organism: "unseal", members: 3 },
  ]);
  ports = await freePorts(2);
  server = await start();
  for (const { admin } of deal.accounts) assert.equal(await createCommitteeStream(server.url, admin), "made");
});

after(async () => {
  if (binary !== undefined) await server.stop();
  await rm(folder, { recursive: true });
});

async function start(): Promise<NatsServer> {
  return startNatsServer({
    binary: binary ?? "",
    directory: join(folder, "server"),
    deal,
    port: ports[0] ?? 0,
    monitorPort: ports[1] ?? 0,
  });
}

const credentials = (account: number, member: number): LogCredentials => {
  const found = deal.accounts[account]?.members[member];
  assert.ok(found !== undefined);
  return found;
};
const open = (account: number, member: number, as = member): Promise<JetStreamLog> =>
  JetStreamLog.open({
    servers: [server.url],
    ...credentials(account, member),
    member: as,
    monitorUrls: [server.monitorUrl],
  });
const raw = ({ user, password, inboxPrefix }: LogCredentials): Promise<NatsConnection> =>
  connect({ servers: server.url, user, pass: password, inboxPrefix });
const absent = (context: TestContext): boolean => {
  if (binary === undefined) context.skip(missing);
  return binary === undefined;
};

/** Everything in the log, in order. */
async function read(log: JetStreamLog, count: number): Promise<string[]> {
  const done = new AbortController();
  const seen: string[] = [];
  await log.consume(
    1n,
    ({ raw }) => {
      seen.push(Buffer.from(raw).toString());
      if (seen.length === count) done.abort();
    },
    done.signal,
  );
  return seen;
}

test("a server at another address of this machine is reached there; one of another machine is refused", async (context) => {
  if (absent(context)) return;
  const [port = 0, monitorPort = 0] = await freePorts(2);
  const place = { binary: binary ?? "", directory: join(folder, "elsewhere"), deal, port, monitorPort };
  const elsewhere = await startNatsServer({ ...place, host: "127.0.0.2" });
  try {
    assert.equal(elsewhere.url, `nats://127.0.0.2:${port}`);
    const [account] = deal.accounts;
    assert.equal(await createCommitteeStream(elsewhere.url, account?.admin ?? assert.fail()), "made");
    await assert.rejects(startNatsServer({ ...place, host: "127.0.0.2" }), /port \d+ of 127\.0\.0\.2 is in use/);
  } finally {
    await elsewhere.stop();
  }
  await assert.rejects(
    startNatsServer({ ...place, host: "192.0.2.1" }),
    /192\.0\.2\.1 cannot be had: .* no such address/,
  );
});

test("an author writes its own lanes, reads all, and writes nobody else's", async (context) => {
  if (absent(context)) return;
  const [first, second] = [await open(0, 0), await open(0, 1)];
  const impostor = await open(0, 0, 1);
  assert.equal(await first.append("ctl", Buffer.from("a"), "1"), "stored");
  assert.equal(await second.append("bulk", Buffer.from("b"), "2"), "stored");
  await assert.rejects(
    impostor.append("ctl", Buffer.from("in another's name"), "3"),
    (error) => error instanceof LogRefusal && error.reason === "NOT_PERMITTED",
  );
  assert.deepEqual(await read(first, 2), ["a", "b"]);
  assert.deepEqual(await read(second, 2), ["a", "b"]);
  for (const log of [first, second, impostor]) await log.close();
});

test("no member reaches another committee, another's inbox, or the stream's settings", async (context) => {
  if (absent(context)) return;
  const connection = await raw(credentials(0, 0));
  const manager = await jetstreamManager(connection, { timeout: 30_000 });
  await assert.rejects(manager.streams.purge("ZIPNET-LOG"), /permissions violation/i);
  await assert.rejects(manager.streams.delete("ZIPNET-LOG"), /permissions violation/i);
  // A name means a stream of the own account, which holds nothing but this committee's log in its generations.
  await assert.rejects(manager.streams.info("UNSEAL-LOG"), /stream not found/i);
  const intruding = { name: "ZIPNET-LOG-G1", subjects: ["zipnet.log.g1.*.ctl"] };
  await assert.rejects(manager.streams.add(intruding), /permissions violation/i);
  await assert.rejects(manager.streams.update("ZIPNET-LOG", { max_msgs: 1 }), /permissions violation/i);
  await assert.rejects(manager.streams.deleteMessage("ZIPNET-LOG", 1), /permissions violation/i);
  for (const subject of [">", "zipnet.log.>", "_INBOX.zipnet.1.>"]) {
    const refused = await new Promise<unknown>((resolve) => {
      connection.subscribe(subject, { callback: (error) => resolve(error) });
    });
    assert.match(String(refused), /permissions violation/i, subject);
  }
  await connection.close();
  await assert.rejects(raw({ ...credentials(0, 0), password: "wrong" }), { name: "AuthorizationError" });
});

test("the stream refuses rather than forgets, the server syncs before it acknowledges", async (context) => {
  if (absent(context)) return;
  const admin = deal.accounts[1]?.admin;
  assert.ok(admin !== undefined);
  assert.equal(await createCommitteeStream(server.url, admin), "found");
  const connection = await raw(admin);
  const { config } = await (await jetstreamManager(connection)).streams.info(admin.stream);
  assert.equal(config.discard, "new");
  assert.equal(config.discard_new_per_subject, true);
  assert.equal(config.deny_delete, true);
  assert.ok(config.deny_purge !== true && config.allow_direct && config.storage === "file");
  await connection.close();
  const varz = (await (await fetch(`${server.monitorUrl}/varz`)).json()) as {
    max_payload: number;
    jetstream: { config: { sync_always: boolean } };
  };
  assert.equal(varz.jetstream.config.sync_always, true);
  assert.equal(varz.max_payload, 4 * 1024 * 1024);
});

test("kill -9, start again: the log is there", async (context) => {
  if (absent(context)) return;
  const log = await open(1, 2);
  assert.equal(await log.append("ctl", Buffer.from("kept"), "4"), "stored");
  await log.close();
  await server.program.kill();
  server = await start();
  const again = await open(1, 0);
  assert.deepEqual(await read(again, 1), ["kept"]);
  await again.close();
});

test("the trimmer purges its own stream from below, and does nothing else", async (context) => {
  if (absent(context)) return;
  const [zipnet, unseal] = deal.accounts;
  assert.ok(zipnet !== undefined && unseal !== undefined);
  const log = await open(1, 0);
  for (let index = 0; index < 5; index++) await log.append("ctl", new TextEncoder().encode(`t${index}`), `t${index}`);
  const [first, last] = [await log.firstPosition(), await log.lastPosition()];
  assert.ok(last >= first + 4n);
  assert.equal(await purgeStream([server.url], unseal.trimmer, last), Number(last - first));
  assert.equal(await log.firstPosition(), last);
  assert.equal(await log.lastPosition(), last);
  await assert.rejects(
    log.consume(last - 1n, () => assert.fail("gone"), AbortSignal.timeout(120_000)),
    HistoryGone,
  );
  const usage = await log.usage();
  assert.equal(usage.firstPosition, last);
  assert.ok(usage.bytes > 0 && (usage.bytesMax ?? 0) > usage.bytes);
  await log.close();
  await assert.rejects(purgeStream([server.url], { ...unseal.trimmer, stream: zipnet.trimmer.stream }, 1n));
  const connection = await raw(unseal.trimmer);
  const manager = await jetstreamManager(connection, { timeout: 30_000, checkAPI: false });
  await assert.rejects(manager.streams.delete("UNSEAL-LOG"), /permissions violation/i);
  await assert.rejects(manager.streams.deleteMessage("UNSEAL-LOG", Number(last)), /permissions violation/i);
  await assert.rejects(manager.streams.getMessage("UNSEAL-LOG", { seq: Number(last) }), /permissions violation/i);
  await assert.rejects(connection.request("unseal.log.0.ctl", "forged", { timeout: 30_000 }), /permissions violation/i);
  await connection.close();
});

test("an author that fills both its lanes with the largest messages leaves everybody else their room", async (context) => {
  if (absent(context)) return;
  const authors = 2;
  const small = dealNats([{ organism: "offer", members: authors }]);
  const [port = 0, monitorPort = 0] = await freePorts(2);
  const directory = join(folder, "largest");
  const other = await startNatsServer({ binary: binary ?? "", directory, deal: small, port, monitorPort });
  try {
    const account = small.accounts[0];
    assert.ok(account !== undefined);
    const quotas = committeeQuotas(authors, 7 * 1024 ** 2);
    assert.equal(quotas.messagesPerSubject, 3);
    await createCommitteeStream(other.url, account.admin, quotas);
    const largest = new Uint8Array(ENTRY_BYTES_MAX).fill(1);
    for (const [member, each] of account.members.entries()) {
      const log = await JetStreamLog.open({ servers: [other.url], ...each, member });
      assert.equal((await log.usage()).ownShare, 0, "what others hold is not its own");
      for (const lane of LANES) {
        for (let turn = 0; turn < quotas.messagesPerSubject; turn++) {
          const id = `${"f".repeat(64)}.${member}${lane}${turn}`;
          assert.equal(await log.append(lane, largest, id), "stored", `${member} ${lane} ${turn}`);
        }
        await assert.rejects(log.append(lane, new Uint8Array(1), `${member} ${lane} more`), { reason: "LOG_FULL" });
      }
      assert.equal((await log.usage()).ownShare, 1);
      await log.close();
    }
  } finally {
    await other.stop();
  }
});

test("no log is so small that nobody has room in it", () => {
  assert.throws(() => committeeQuotas(7, 1024 ** 2), RangeError);
  assert.equal(committeeQuotas(7, 8 * 1024 ** 2).messagesPerSubject, 1);
});

test("an author's quota stops that author only", async (context) => {
  if (absent(context)) return;
  const small = dealNats([{ organism: "offer", members: 2 }]);
  const [port = 0, monitorPort = 0] = await freePorts(2);
  const other = await startNatsServer({
    binary: binary ?? "",
    directory: join(folder, "small"),
    deal: small,
    port,
    monitorPort,
  });
  try {
    const account = small.accounts[0];
    assert.ok(account !== undefined);
    await createCommitteeStream(other.url, account.admin, { ...DEFAULT_QUOTAS, messagesPerSubject: 2 });
    const logs = await Promise.all(
      account.members.map((each, member) => JetStreamLog.open({ servers: [other.url], ...each, member })),
    );
    const [flooding, modest] = logs;
    assert.ok(flooding !== undefined && modest !== undefined);
    for (const id of ["1", "2"]) await flooding.append("ctl", Buffer.from(id), id);
    await assert.rejects(flooding.append("ctl", Buffer.from("3"), "3"), { reason: "LOG_FULL" });
    assert.equal(await flooding.append("bulk", Buffer.from("4"), "4"), "stored", "its other lane is not full");
    assert.equal(await modest.append("ctl", Buffer.from("5"), "5"), "stored");
    for (const log of logs) await log.close();
    await assert.rejects(startNatsServer({ binary: binary ?? "", directory: folder, deal: small, port, monitorPort }), {
      reason: "PORT_IN_USE",
    });
  } finally {
    await other.stop();
  }
});

test("a lazy server is started only on request, and a member refuses it", async (context) => {
  if (absent(context)) return;
  const [port = 0, monitorPort = 0] = await freePorts(2);
  const directory = join(folder, "lazy");
  const lazy = await startNatsServer({
    binary: binary ?? "",
    directory,
    deal,
    port,
    monitorPort,
    syncAlways: false,
  });
  try {
    const options = { servers: [lazy.url], ...credentials(0, 0), member: 0, monitorUrls: [lazy.monitorUrl] };
    await assert.rejects(JetStreamLog.open(options), { reason: "NATS_LAZY_SYNC" });
  } finally {
    await lazy.stop();
  }
});

test("credentials are written once, for their owner's eyes", async () => {
  const dealt = dealNats([{ organism: "tally", members: 1 }]);
  const file = join(folder, "secrets", "deal.json");
  writeCredentials(file, dealt);
  assert.equal((await stat(file)).mode & 0o777, 0o400);
  assert.deepEqual(readDeal(file), dealt);
  assert.throws(() => writeCredentials(file, dealt), { code: "EEXIST" });
  assert.throws(() => dealNats([{ organism: "no dots.here", members: 1 }]), RangeError);
});

/** The committee log on a real nats-server: the contract of every log, and what only a server can do to one. */
import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect as connectTcp, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { conformance } from "@lattice/organism/log/conformance.ts";
import { UnfitServer } from "@lattice/organism/log/fit-server.ts";
import { JetStreamLog, type JetStreamOptions } from "@lattice/organism/log/jetstream-log.ts";
import { logTail } from "@lattice/organism/node/log-tail.ts";
import { LogLost, LogRefusal } from "@lattice/organism/ports.ts";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { freePorts } from "../src/local/free-ports.ts";
import { type CommitteeAccount, dealNats, type LogCredentials, type NatsDeal } from "../src/nats/nats-config.ts";
import { createCommitteeStream, type NatsServer, startNatsServer } from "../src/nats/nats-process.ts";
import { findNatsServer, type NatsServerBinary, NatsServerMissing } from "../src/nats/nats-server.ts";

const TOOLS = fileURLToPath(new URL("../../.tools", import.meta.url));
const MESSAGE_BYTES = 1024 * 1024;
/** JetStream counts headers into a message's size. */
const HEADER_BYTES = Buffer.byteLength("NATS/1.0\r\nNats-Msg-Id: largest\r\n\r\n");
const QUOTAS = { messagesPerSubject: 60, bytes: 48 * 1024 * 1024, messageBytes: MESSAGE_BYTES + HEADER_BYTES };

async function find(): Promise<NatsServerBinary | string> {
  try {
    return await findNatsServer({ toolsDir: TOOLS, environment: process.env, download: true });
  } catch (error) {
    if (error instanceof NatsServerMissing) return error.message;
    throw error;
  }
}
const found = await find();
const skip = typeof found === "string" ? found : false;

let folder: string;
let deal: NatsDeal;
let ports: number[];
let server: NatsServer;

async function start(): Promise<NatsServer> {
  return startNatsServer({
    binary: typeof found === "string" ? "" : found.path,
    directory: join(folder, "server"),
    deal,
    port: ports[0] ?? 0,
    monitorPort: ports[1] ?? 0,
    accountBytes: 64 * 1024 * 1024,
  });
}

/** The committee, with a stream that nobody has written to yet. */
async function freshCommittee(quotas = QUOTAS): Promise<CommitteeAccount> {
  const [account] = deal.accounts;
  assert.ok(account !== undefined);
  await asAdmin(account.admin, async (manager) => {
    for await (const name of manager.streams.names()) await manager.streams.delete(name);
  });
  await createCommitteeStream(server.url, account.admin, quotas);
  return account;
}

function open(
  account: CommitteeAccount,
  member: number,
  changes: Partial<JetStreamOptions> = {},
): Promise<JetStreamLog> {
  const credentials = account.members[member];
  assert.ok(credentials !== undefined);
  return JetStreamLog.open({
    servers: [server.url],
    ...credentials,
    member,
    monitorUrls: [server.monitorUrl],
    patienceMs: 20_000,
    ...changes,
  });
}

async function asAdmin(admin: LogCredentials, work: (manager: JetStreamManager) => Promise<unknown>): Promise<void> {
  const { user, password, inboxPrefix } = admin;
  const connection = await connect({ servers: server.url, user, pass: password, inboxPrefix });
  try {
    await work(await jetstreamManager(connection));
  } finally {
    await connection.close();
  }
}

async function stored(log: JetStreamLog, text: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    assert.ok(attempt < 300, "the server does not come back");
    // Under one id: what has landed after all is not there twice.
    if ((await log.append("ctl", bytes(text), text)) === "stored") return;
  }
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("on a nats-server", { skip }, () => {
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "lattice-jetstream-"));
    deal = dealNats([{ organism: "relay", members: 2 }]);
    ports = await freePorts(2);
    server = await start();
  });
  after(async () => {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  });

  conformance("JetStream", async () => {
    const account = await freshCommittee();
    const members = [await open(account, 0), await open(account, 1)] as const;
    return {
      members,
      messageBytesMax: MESSAGE_BYTES,
      fill: async () => {
        for (let index = 0; index < QUOTAS.messagesPerSubject; index++) {
          await stored(members[0], `fill ${index}`);
        }
      },
      trim: (below) =>
        asAdmin(account.admin, (manager) => manager.streams.purge(account.admin.stream, { seq: Number(below) })),
      restart: async () => {
        await server.stop();
        server = await start();
      },
      close: async () => {
        for (const member of members) await member.close();
      },
    };
  });

  test("whoever is served the log, and asks for what lies beyond its end, does not keep the member from writing", async () => {
    const log = await open(await freshCommittee(), 0);
    try {
      await stored(log, "one");
      const served = logTail(log, 1_000_000n, AbortSignal.timeout(120_000));
      await assert.rejects(served.next(), LogLost);
      assert.equal(await log.append("ctl", bytes("two"), "two"), "stored");
    } finally {
      await log.close();
    }
  });

  test("kill -9 in the middle of appending: what was stored is there, the reader misses and repeats nothing", async () => {
    const account = await freshCommittee();
    const events: string[] = [];
    const [a, b] = [await open(account, 0), await open(account, 1, { onEvent: (event) => events.push(event) })];
    const seen: string[] = [];
    const positions: bigint[] = [];
    const stop = new AbortController();
    const reading = b.consume(
      1n,
      ({ position, raw }) => {
        positions.push(position);
        seen.push(Buffer.from(raw).toString());
        if (seen.includes("29")) stop.abort();
      },
      AbortSignal.any([stop.signal, AbortSignal.timeout(600_000)]),
    );
    const stored: string[] = [];
    for (let index = 0; index < 30; index++) {
      if (index === 12) {
        await server.program.kill();
        server = await start();
      }
      for (let attempt = 0; ; attempt++) {
        assert.ok(attempt < 300, "the server does not come back");
        if (attempt > 0) await new Promise((resolve) => setTimeout(resolve, 50));
        if ((await a.append("ctl", bytes(`${index}`), `${index}.${attempt}`)) === "stored") break;
      }
      stored.push(`${index}`);
    }
    await reading;
    assert.deepEqual(
      positions,
      positions.map((_, index) => BigInt(index + 1)),
    );
    assert.deepEqual([...new Set(seen)], stored);
    // It says what it waits for, and when that is over.
    for (const line of [/lost; waiting for nats:/, /connected to nats-server .* again after/]) {
      assert.ok(
        events.some((event) => line.test(event)),
        events.join("; "),
      );
    }
    for (const log of [a, b]) await log.close();
  });

  test("an answer that never comes: the fate is unknown, the message may have landed, and may land again", async (context) => {
    const account = await freshCommittee();
    const proxy = await Line.start(ports[0] ?? 0);
    context.after(() => proxy.close());
    const log = await open(account, 0, { servers: [proxy.url] });
    const reader = await open(account, 1);
    await stored(log, "a");
    proxy.deaf = true;
    assert.equal(await log.append("ctl", bytes("b"), "b.0"), "unknown");
    proxy.deaf = false;
    proxy.cut();
    for (let attempt = 1; ; attempt++) {
      assert.ok(attempt < 300, "the client does not reconnect");
      if ((await log.append("ctl", bytes("b"), `b.${attempt}`)) === "stored") break;
    }
    const texts: string[] = [];
    const last = await reader.lastPosition();
    const stop = new AbortController();
    await reader.consume(
      1n,
      ({ position, raw }) => {
        texts.push(Buffer.from(raw).toString());
        if (position === last) stop.abort();
      },
      stop.signal,
    );
    assert.equal(texts[0], "a");
    assert.ok(texts.length >= 3 && texts.slice(1).every((text) => text === "b"), texts.join());
    for (const each of [log, reader]) await each.close();
  });

  test("a stream that was lost and made anew is no continuation", async () => {
    const account = await freshCommittee();
    const [a, b] = [await open(account, 0), await open(account, 1)];
    for (let index = 0; index < 5; index++) await stored(a, `${index}`);
    const seen: bigint[] = [];
    const read = new Promise<void>((resolve) => {
      void b
        .consume(
          1n,
          ({ position }) => {
            seen.push(position);
            if (position === 5n) resolve();
          },
          AbortSignal.timeout(600_000),
        )
        .then(
          () => outcome.push("ended"),
          (error: unknown) => outcome.push(error),
        );
    });
    const outcome: unknown[] = [];
    await read;
    await asAdmin(account.admin, (manager) => manager.streams.delete(account.admin.stream));
    await createCommitteeStream(server.url, account.admin, QUOTAS);
    await a.append("ctl", bytes("other history"), "other");
    while (outcome.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.ok(outcome[0] instanceof LogLost, String(outcome[0]));
    assert.deepEqual(seen, [1n, 2n, 3n, 4n, 5n]);
    for (const log of [a, b]) await log.close();
  });

  test("a store put back to an older copy: who had read on writes nothing there, and is not deceived by what grows on it", async () => {
    const account = await freshCommittee();
    const [a, b] = [await open(account, 0), await open(account, 1)];
    const store = join(folder, "server", "store");
    for (let index = 0; index < 3; index++) await stored(a, `${index}`);
    await server.stop();
    await cp(store, `${store}-old`, { recursive: true });
    server = await start();
    for (let index = 3; index < 6; index++) await stored(a, `${index}`);
    const seen: bigint[] = [];
    let lost: unknown;
    void b
      .consume(1n, ({ position }) => seen.push(position), AbortSignal.timeout(600_000))
      .catch((error: unknown) => {
        lost = error;
      });
    while (seen.length < 6) await new Promise((resolve) => setTimeout(resolve, 20));
    await a.close();
    await server.program.kill();
    await rm(store, { recursive: true });
    await rename(`${store}-old`, store);
    server = await start();
    // Long enough for it to look like a continuation, before anybody has lost patience.
    const other = await open(account, 0);
    for (let index = 0; index < 5; index++) await stored(other, `other ${index}`);
    const fates: string[] = [];
    while (lost === undefined) fates.push(await b.append("ctl", bytes("late"), `late ${fates.length}`));
    assert.ok(lost instanceof LogLost, String(lost));
    assert.match(lost.message, /another message at position 6|ends at position/);
    assert.deepEqual(seen, [1n, 2n, 3n, 4n, 5n, 6n]);
    fates.push(await b.append("ctl", bytes("late"), "later"));
    assert.deepEqual([...new Set(fates)], ["unknown"]);
    assert.equal(await other.lastPosition(), 8n, "the deceived reader wrote nothing");
    for (const log of [other, b]) await log.close();
  });

  test("a stream that is gone is told, not waited for", async () => {
    const account = await freshCommittee();
    const a = await open(account, 0);
    await asAdmin(account.admin, (manager) => manager.streams.delete(account.admin.stream));
    await assert.rejects(
      a.consume(1n, () => assert.fail("nothing to read"), AbortSignal.timeout(600_000)),
      LogLost,
    );
    await a.close();
  });

  test("a member whose password was changed at the server ends, and says that its credential is refused", async () => {
    const account = await freshCommittee();
    const log = await open(account, 1);
    const config = join(folder, "server", "server.conf");
    const before = await readFile(config, "utf8");
    try {
      await stored(log, "before");
      const reading = log.consume(1n, () => undefined, new AbortController().signal);
      await writeFile(config, before.replace(account.members[1]?.password ?? "?", "another"));
      process.kill(server.program.pid, "SIGHUP");
      await assert.rejects(
        reading,
        (error: unknown) => error instanceof LogLost && /ended .* for good: .*authori[sz]ation/i.test(error.message),
      );
    } finally {
      await log.close();
      await writeFile(config, before);
      process.kill(server.program.pid, "SIGHUP");
    }
  });

  test("a reader that is told to end ends, whatever it was at", async () => {
    const account = await freshCommittee();
    const log = await open(account, 0);
    for (const text of ["one", "two", "three"]) await stored(log, text);
    for (let afterMs = 0; afterMs <= 40; afterMs++) {
      const stop = new AbortController();
      const reading = log.consume(1n, () => undefined, stop.signal).then(() => true);
      if (afterMs > 0) await later(afterMs - 1);
      stop.abort();
      assert.ok(await Promise.race([reading, later(60_000).then(() => false)]), `told after ${afterMs} ms`);
    }
    await log.close();
  });

  test("closing ends a reader quietly", async () => {
    const account = await freshCommittee();
    const a = await open(account, 0);
    const reading = a.consume(1n, () => undefined, AbortSignal.timeout(600_000));
    await a.append("ctl", bytes("x"), "x");
    await a.close();
    await reading;
  });

  test("a member's credential writes its own subjects only, and hears of it at once", async () => {
    const account = await freshCommittee();
    const asOther = await open(account, 0, { member: 1 });
    for (const lane of ["ctl", "bulk"] as const) {
      const refused = await asOther.append(lane, bytes("x"), lane).then(
        () => assert.fail("taken"),
        (error: unknown) => error,
      );
      assert.ok(refused instanceof LogRefusal && refused.reason === "NOT_PERMITTED", String(refused));
    }
    assert.equal(await asOther.lastPosition(), 0n);
    const own = await open(account, 0);
    await stored(own, "x");
    for (const log of [asOther, own]) await log.close();
  });

  test("a message above the server's own limit is too large, not a bug", async () => {
    const account = await freshCommittee();
    const log = await open(account, 0);
    await assert.rejects(log.append("bulk", new Uint8Array(5 * 1024 * 1024), "huge"), {
      name: "LogRefusal",
      reason: "ENTRY_TOO_LARGE",
    });
    assert.equal(await log.append("bulk", new Uint8Array(1), "small"), "stored");
    await log.close();
  });

  test("a log without space for anybody refuses as full", async () => {
    const account = await freshCommittee({ ...QUOTAS, bytes: 4 * MESSAGE_BYTES });
    const log = await open(account, 0);
    let refusal: unknown;
    for (let index = 0; index < 6 && refusal === undefined; index++) {
      await log.append("bulk", new Uint8Array(MESSAGE_BYTES), `${index}`).catch((error: unknown) => {
        refusal = error;
      });
    }
    assert.ok(refusal instanceof LogRefusal && refusal.reason === "LOG_FULL", String(refusal));
    await log.close();
  });

  const unfit = (reason: UnfitServer["reason"]) => (error: unknown) => {
    assert.ok(error instanceof UnfitServer, String(error));
    assert.equal(error.reason, reason);
    assert.ok(!error.message.includes("\n"), "one line");
    return true;
  };

  test("a server that is too old, or takes too small messages, is refused; the same server as it is, is taken", async (context) => {
    const account = await freshCommittee();
    const proxy = await Line.start(ports[0] ?? 0);
    context.after(() => proxy.close());
    const servers = [proxy.url];
    proxy.info = { version: "2.10.22" };
    await assert.rejects(open(account, 0, { servers }), unfit("NATS_TOO_OLD"));
    proxy.info = { version: "2.10.23", max_payload: 2 * 1024 * 1024 - 1 };
    await assert.rejects(open(account, 0, { servers }), unfit("NATS_PAYLOAD_TOO_SMALL"));
    proxy.info = { version: "2.10.23", max_payload: 2 * 1024 * 1024 };
    await (await open(account, 0, { servers })).close();
  });

  test("a wrong password, an unreachable server, and one whose monitoring does not answer are told apart", async () => {
    const account = await freshCommittee();
    await assert.rejects(open(account, 0, { password: "wrong" }), unfit("NATS_AUTHORIZATION"));
    const [nobody = 0] = await freePorts(1);
    const servers = [`nats://127.0.0.1:${nobody}`];
    const told: string[] = [];
    const onEvent = (event: string): void => void told.push(event);
    await assert.rejects(open(account, 0, { servers, patienceMs: 300, onEvent }), unfit("NATS_UNREACHABLE"));
    assert.deepEqual(told, [`no nats-server answers yet; waiting for ${servers.join(" or ")}`]);
    const absent = `http://127.0.0.1:${nobody}`;
    await assert.rejects(open(account, 0, { monitorUrls: [absent] }), unfit("NATS_UNREACHABLE"));
    // One of several may be away just now: it is looked at later.
    await (await open(account, 0, { monitorUrls: [server.monitorUrl, absent] })).close();
    await (await open(account, 0)).close();
  });
});

/** Between a client and the server: may rewrite the server's introduction, swallow its answers, or cut the connection. */
class Line {
  /** Fields of the server's introduction to replace. */
  info: Readonly<Record<string, unknown>> = {};
  /** Swallow what the server says. */
  deaf = false;
  readonly url: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
  }

  static async start(target: number): Promise<Line> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const proxy = new Line(server, `nats://127.0.0.1:${(server.address() as AddressInfo).port}`);
    server.on("connection", (client) => proxy.#join(client, connectTcp(target, "127.0.0.1")));
    return proxy;
  }

  #join(client: Socket, upstream: Socket): void {
    for (const socket of [client, upstream]) {
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.#sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.on("data", (data) => upstream.write(data));
    upstream.on("data", (data) => {
      if (!this.deaf) client.write(this.#rewrite(data));
    });
  }

  /** The server introduces itself when a client connects, and again once it knows it. */
  #rewrite(data: Buffer): Buffer {
    if (Object.keys(this.info).length === 0) return data;
    const text = data.toString("latin1").replaceAll(/INFO (\{.*\}) ?\r\n/g, (_, json: string) => {
      const info = JSON.parse(json) as Record<string, unknown>;
      return `INFO ${JSON.stringify({ ...info, ...this.info })}\r\n`;
    });
    return Buffer.from(text, "latin1");
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function later(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

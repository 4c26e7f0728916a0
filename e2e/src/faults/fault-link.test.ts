import assert from "node:assert/strict";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { type Conditions, FaultLink } from "./fault-link.ts";
import { isLogMessage, NatsFrames, underAnotherId } from "./nats-frames.ts";
import { Seeded } from "./seeded.ts";

let server: Server;
let port: number;
let received: Buffer[] = [];
let accepted: Socket[] = [];

before(async () => {
  server = createServer((socket) => {
    accepted.push(socket);
    socket.on("data", (chunk) => received.push(chunk));
    socket.on("error", () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as AddressInfo).port;
});
after(() => {
  for (const socket of accepted) socket.destroy();
  server.close();
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

const text = (): string => Buffer.concat(received).toString("latin1");

async function withLink(
  conditions: Conditions,
  options: { readonly nats?: boolean; readonly seed?: number },
  run: (client: Socket, link: FaultLink) => Promise<void>,
): Promise<void> {
  received = [];
  accepted = [];
  const link = await FaultLink.open(port, { seed: options.seed ?? 1, nats: options.nats ?? false });
  link.set(conditions);
  const client = connect(link.port, "127.0.0.1");
  client.on("error", () => undefined);
  try {
    await run(client, link);
  } finally {
    client.destroy();
    await link.close();
  }
}

const message = (index: number, subject = "relay.log.0.ctl"): Buffer => {
  const headers = `NATS/1.0\r\nNats-Msg-Id: ab${index}.0\r\n\r\n`;
  const body = `body ${index}`;
  return Buffer.from(
    `HPUB ${subject} _INBOX.1 ${headers.length} ${headers.length + body.length}\r\n${headers}${body}\r\n`,
  );
};
const bodies = (): string[] => [...text().matchAll(/body (\d+)/g)].map((match) => match[1] ?? "");

test("a good link passes bytes on, both ways", async () => {
  await withLink({}, {}, async (client) => {
    const answers: Buffer[] = [];
    client.on("data", (chunk) => answers.push(chunk));
    client.write("there");
    await until(() => text() === "there");
    accepted[0]?.write("and back");
    await until(() => Buffer.concat(answers).toString() === "and back");
  });
});

test("delay, jitter, loss and a narrow line keep order and lose nothing", async () => {
  await withLink({ delayMs: 5, jitterMs: 20, loss: 0.2, bytesPerSecond: 200_000 }, {}, async (client, link) => {
    const sent = Array.from({ length: 40 }, (_, index) => `${index};`).join("");
    for (const part of sent.match(/.{1,5}/g) ?? []) {
      client.write(part);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => text().length === sent.length);
    assert.equal(text(), sent);
    assert.ok(link.counts.delayed > 0);
  });
});

test("a cut holds what is on its way until it is mended; one direction may pass", async () => {
  await withLink({ cut: "up" }, {}, async (client, link) => {
    const answers: Buffer[] = [];
    client.on("data", (chunk) => answers.push(chunk));
    client.write("held");
    await until(() => accepted.length === 1 && link.counts.held > 0);
    accepted[0]?.write("passes");
    await until(() => Buffer.concat(answers).toString() === "passes");
    assert.equal(text(), "");
    link.set({});
    await until(() => text() === "held");
  });
});

test("a reset ends every connection", async () => {
  await withLink({}, {}, async (client, link) => {
    let closed = false;
    client.on("close", () => {
      closed = true;
    });
    client.write("x");
    await until(() => text() === "x");
    link.reset();
    await until(() => closed);
    assert.equal(link.counts.reset, 1);
  });
});

test("frames come out whole however the bytes were cut", () => {
  const wire = Buffer.concat([
    Buffer.from('INFO {"a":1}\r\nPING\r\n'),
    message(1),
    Buffer.from("PUB x 5\r\na\r\nbc\r\n"),
    Buffer.from("MSG zipnet.log.2.bulk 1 2\r\nhi\r\n"),
  ]);
  const random = new Seeded(3);
  for (let turn = 0; turn < 500; turn++) {
    const cuts = Array.from({ length: random.below(13) }, () => 1 + random.below(wire.length - 1));
    const frames = new NatsFrames();
    const edges = [0, ...[...new Set(cuts)].sort((a, b) => a - b), wire.length];
    const out = edges.slice(1).flatMap((end, at) => frames.push(wire.subarray(edges[at], end)));
    assert.deepEqual(Buffer.concat(out.map(({ bytes }) => bytes)), wire);
    assert.equal(out.length, 5);
    assert.deepEqual(out.map(isLogMessage), [false, false, true, false, true]);
  }
});

test("what is no NATS is told", () => {
  assert.throws(() => new NatsFrames().push(Buffer.from("PUB x nonsense\r\n")), RangeError);
  assert.throws(() => new NatsFrames().push(Buffer.alloc(2 * 1024 * 1024, 65)), RangeError);
});

test("a copy under another id is as long and differs only there", () => {
  const frame = { bytes: message(7), subject: "relay.log.0.ctl" };
  const copy = underAnotherId(frame);
  assert.equal(copy.length, frame.bytes.length);
  assert.equal(copy.filter((byte, at) => byte !== frame.bytes[at]).length, 1);
});

test("messages of the log are doubled, dropped, reordered or damaged; other traffic passes as it is", async () => {
  const count = 64;
  const run = async (messages: Omit<NonNullable<Conditions["messages"]>, "direction">, expected: number, seed = 5) => {
    let seen: string[] = [];
    await withLink({ messages: { direction: "up", ...messages } }, { nats: true, seed }, async (client) => {
      client.write(Buffer.concat(Array.from({ length: count }, (_, index) => message(index))));
      client.write("PUB other 4\r\nbody\r\nPING\r\n");
      await until(() => bodies().length >= expected && text().includes("PING"));
      seen = bodies();
    });
    return seen;
  };
  const plain = Array.from({ length: count }, (_, index) => `${index}`);
  assert.deepEqual(await run({}, count), plain);
  const doubled = await run({ duplicate: 1 }, 2 * count);
  assert.deepEqual(
    doubled,
    plain.flatMap((each) => [each, each]),
  );
  const shuffled = await run({ reorderWindow: 8 }, count);
  assert.notDeepEqual(shuffled, plain);
  assert.deepEqual(shuffled.toSorted(), plain.toSorted());
  assert.deepEqual(await run({ reorderWindow: 8 }, count), shuffled, "the same seed, the same order");
  assert.equal((await run({ drop: 1 }, 0)).length, 0);
});

test("a damaged message is still one, with one bit changed", async () => {
  await withLink({ messages: { direction: "up", corrupt: 1 } }, { nats: true }, async (client, link) => {
    client.write(message(3));
    await until(() => Buffer.concat(received).length === message(3).length);
    const changed = Buffer.concat(received).filter((byte, at) => byte !== message(3)[at]);
    assert.equal(changed.length, 1);
    assert.equal(link.counts.corrupted, 1);
    assert.equal(new NatsFrames().push(Buffer.concat(received)).length, 1);
  });
});

test("seeded chance repeats itself and is spread", () => {
  const [a, b] = [new Seeded(9), new Seeded(9)];
  const drawn = Array.from({ length: 1000 }, () => a.next());
  assert.deepEqual(
    drawn,
    Array.from({ length: 1000 }, () => b.next()),
  );
  const mean = drawn.reduce((sum, each) => sum + each, 0) / drawn.length;
  assert.ok(mean > 0.45 && mean < 0.55, `${mean}`);
});

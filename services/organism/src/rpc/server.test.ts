import assert from "node:assert/strict";
import { once } from "node:events";
import {
  type ClientHttp2Stream,
  connect as connectHttp2,
  constants,
  createServer as createHttp2Server,
} from "node:http2";
import { createConnection, createServer } from "node:net";
import { after, test } from "node:test";
import { create, createFileRegistry } from "@bufbuild/protobuf";
import {
  FileDescriptorProtoSchema,
  file_google_protobuf_struct,
  type Value,
  ValueSchema,
} from "@bufbuild/protobuf/wkt";
import { Client as Channel, ChannelCredentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import {
  CommitteeService,
  type GetBodyRequest,
  GetStatusResponseSchema,
} from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { toHex } from "../codec/codec.ts";
import { Bug, COMMON_FAULTS, type CommonReason, Fault, faultsOf } from "../fault.ts";
import { createLogger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import { defineSome } from "../testing/some-methods.ts";
import { ORGANISM_HEADER } from "./binding.ts";
import { type Client, connectAny, connectService } from "./client.ts";
import type { Call, GrpcService, Handlers } from "./define.ts";
import { ConnectTimeout, faultFromError, RPC_FAULTS, retryable } from "./errors.ts";
import { LiveQueue } from "./live-queue.ts";
import { type RunningServer, type ServerOptions, startServer } from "./server.ts";

const COMMITTEE = new Uint8Array(32).fill(7);
const log = createLogger("silent", {});
const fault = faultsOf("zipnet", COMMON_FAULTS);
type Committee = typeof CommitteeService;

const closers: (() => void)[] = [];
after(() => {
  for (const close of closers) close();
});

class SeenMeters implements Meters {
  readonly lines: string[] = [];
  count(name: string, _value = 1, labels: Readonly<Record<string, string>> = {}): void {
    this.lines.push(`${name} ${JSON.stringify(labels)}`);
  }
  gauge(): void {}
  record(name: string, _value: number, labels: Readonly<Record<string, string>> = {}): void {
    this.lines.push(`${name} ${JSON.stringify(labels)}`);
  }
}

async function serve(
  handlers: Partial<Handlers<Committee>>,
  options: Partial<ServerOptions> = {},
): Promise<{ server: RunningServer; address: string; meters: SeenMeters }> {
  const service = defineSome(CommitteeService, handlers);
  const meters = new SeenMeters();
  const server = await startServer({
    address: "127.0.0.1:0",
    services: [service],
    committee: COMMITTEE,
    domain: "zipnet",
    log,
    meters,
    ...options,
  });
  closers.push(() => server.close());
  return { server, address: `127.0.0.1:${server.port}`, meters };
}

function connect(address: string, committee: Uint8Array | undefined = COMMITTEE): Client<Committee> {
  const client = connectService(CommitteeService, address, committee === undefined ? {} : { committee });
  closers.push(() => client.close());
  return client;
}

/** A call with any bytes as its request, as any gRPC implementation could make it. */
function rawCall(address: string, bytes: Uint8Array, method = "GetBody"): Promise<Buffer> {
  const channel = new Channel(address, ChannelCredentials.createInsecure());
  closers.push(() => channel.close());
  const metadata = new Metadata();
  metadata.set(ORGANISM_HEADER, Buffer.from(COMMITTEE));
  const same = (buffer: Buffer): Buffer => buffer;
  return new Promise((resolve, reject) => {
    const path = `/lattice.committee.v1.CommitteeService/${method}`;
    channel.makeUnaryRequest(path, same, same, Buffer.from(bytes), metadata, (error, value) =>
      error === null && value !== undefined ? resolve(value) : reject(error),
    );
  });
}

async function refused(promise: Promise<unknown>): Promise<Fault> {
  const error: unknown = await promise.then(
    () => assert.fail("accepted"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof Fault, `a Fault, not ${String(error)}`);
  return error;
}

async function collect<T>(items: AsyncIterable<T>, count = Number.POSITIVE_INFINITY): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) {
    all.push(item);
    if (all.length >= count) break;
  }
  return all;
}

test("a unary call carries messages both ways, and handlers get bytes of their own", async () => {
  let seen: GetBodyRequest | undefined;
  const { address, meters } = await serve({
    getBody: async (request) => {
      seen = request;
      return { body: request.signature };
    },
  });
  const signature = new Uint8Array(64).fill(3);
  const { body } = await connect(address).getBody({ stage: "broadcast", slot: 41n, signature });
  assert.deepEqual(body, signature);
  assert.equal(seen?.slot, 41n);
  assert.ok(seen?.signature instanceof Uint8Array && !Buffer.isBuffer(seen.signature));
  assert.ok(!Buffer.isBuffer(body));
  assert.deepEqual(meters.lines, [
    'lattice_rpc_server_call_duration_seconds {"method":"lattice.committee.v1.CommitteeService/GetBody","code":"OK"}',
  ]);
});

test("every common fault arrives with its code, reason, sentence and metadata", async () => {
  const reasons = Object.keys(COMMON_FAULTS) as CommonReason[];
  const { address } = await serve({
    getOutcome: async (request) => {
      throw fault(reasons[Number(request.slot)] ?? "BUG", undefined, { slot: String(request.slot) });
    },
  });
  const client = connect(address);
  for (const [index, reason] of reasons.entries()) {
    const got = await refused(client.getOutcome({ slot: BigInt(index) }));
    const { code, meaning, retry } = COMMON_FAULTS[reason];
    assert.deepEqual(
      [got.domain, got.reason, got.code, got.message, got.metadata],
      ["zipnet.lattice", reason, code, meaning, { slot: String(index) }],
    );
    assert.equal(retryable(got), retry);
  }
});

test("a sentence that is not well-formed, and far too much metadata, still arrive", async () => {
  const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`key${index}\ud800`, "ü".repeat(5000)]));
  const { address } = await serve({
    getStatus: async () => {
      throw fault("NOT_READY", `lone \ud800 ${"ü".repeat(10_000)}`, many);
    },
  });
  const got = await refused(connect(address).getStatus({}));
  assert.equal(got.reason, "NOT_READY");
  assert.ok(got.message.startsWith("lone \ufffd ü"));
  assert.ok(got.message.length <= 512 && Object.keys(got.metadata).length <= 8);
});

test("an unexpected error tells the caller nothing, and a Bug tells the member", async () => {
  const bugs: Bug[] = [];
  const { address } = await serve(
    {
      getStatus: async () => {
        throw new Error("secret plaintext");
      },
      getOutcome: async () => {
        throw new Bug("secret rule");
      },
    },
    { onBug: (bug) => bugs.push(bug) },
  );
  const client = connect(address);
  for (const call of [client.getStatus({}), client.getOutcome({})]) {
    const got = await refused(call);
    assert.deepEqual([got.code, got.reason, got.metadata], ["INTERNAL", "BUG", {}]);
    assert.equal(got.message, COMMON_FAULTS.BUG.meaning);
    assert.ok(!JSON.stringify((got.cause as ServiceError).metadata.getMap()).includes("secret"));
  }
  assert.deepEqual(
    bugs.map(({ message }) => message),
    ["secret rule"],
  );
});

test("ORGANISM_MISMATCH names both ids; no id is refused as well; an unbound service asks for none", async () => {
  const handlers: Partial<Handlers<Committee>> = {
    getStatus: async () => ({ memberIndex: 2 }),
    getOutcome: async () => ({}),
    getRosters: async () => ({}),
    // biome-ignore lint/correctness/useYield: nothing to say
    watchOutcomes: async function* () {
      return;
    },
    getBody: async () => ({}),
  };
  const { address } = await serve(handlers);
  const other = new Uint8Array(32).fill(8);
  const mismatch = await refused(connect(address, other).getStatus({}));
  assert.deepEqual([mismatch.code, mismatch.reason], ["FAILED_PRECONDITION", "ORGANISM_MISMATCH"]);
  assert.deepEqual(mismatch.metadata, { expected: toHex(COMMITTEE), given: toHex(other) });
  const stranger = connectService(CommitteeService, address);
  closers.push(() => stranger.close());
  assert.deepEqual((await refused(stranger.getStatus({}))).metadata, { expected: toHex(COMMITTEE), given: "" });
  assert.equal((await refused(collect(stranger.watchOutcomes({})))).reason, "ORGANISM_MISMATCH");
  assert.equal((await refused(connect(address, COMMITTEE.subarray(1)).getStatus({}))).reason, "ORGANISM_MISMATCH");
  assert.equal((await connect(address).getStatus({})).memberIndex, 2);

  const open = await serve({}, { services: [{ ...defineSome(CommitteeService, handlers), bound: false }] });
  const unbound = connectService(CommitteeService, open.address);
  closers.push(() => unbound.close());
  assert.equal((await unbound.getStatus({})).memberIndex, 2);
});

test("a deadline reaches the handler as its signal and the caller as DEADLINE_EXCEEDED", async () => {
  const stopped = Promise.withResolvers<unknown>();
  let arrived = false;
  const { address } = await serve({
    getOutcome: async () => ({}),
    getStatus: (_, call) =>
      new Promise((_resolve, reject) => {
        arrived = true;
        call.signal.addEventListener("abort", () => {
          stopped.resolve(call.signal.reason);
          reject(call.signal.reason);
        });
      }),
  });
  const client = connect(address);
  await client.getOutcome({});
  // On a busy machine the first ones may pass before the call has arrived.
  for (let deadlineMs = 200; !arrived; deadlineMs *= 2) {
    const got = await refused(client.getStatus({}, { deadlineMs }));
    assert.deepEqual([got.code, got.reason], ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"]);
  }
  const reason = await stopped.promise;
  assert.ok(reason instanceof Fault);
});

test("a caller without a deadline is not served for ever", async () => {
  const { address } = await serve({ getBody: () => new Promise(() => undefined) }, { limits: { unaryMs: 50 } });
  const error = await rawCall(address, new Uint8Array()).catch((reason: unknown) => reason);
  const got = faultFromError(error);
  assert.deepEqual([got.code, got.domain], ["DEADLINE_EXCEEDED", "rpc.lattice"]);
});

test("cancelling reaches the handler, and the caller gets its own reason back", async () => {
  const started = Promise.withResolvers<Call>();
  const { address } = await serve({
    getStatus: (_, call) => {
      started.resolve(call);
      return new Promise(() => undefined);
    },
  });
  const mine = new Error("changed my mind");
  const controller = new AbortController();
  const call = connect(address).getStatus({}, { signal: controller.signal });
  const served = await started.promise;
  const aborted = once(served.signal, "abort");
  controller.abort(mine);
  await assert.rejects(call, (error) => error === mine);
  await aborted;
  await assert.rejects(connect(address).getStatus({}, { signal: controller.signal }), (error) => error === mine);
});

test("nobody there is a ConnectTimeout, refused or silent", async () => {
  const silent = createServer((socket) => closers.push(() => socket.destroy()));
  silent.listen(0, "127.0.0.1");
  await once(silent, "listening");
  const held = silent.address();
  assert.ok(held !== null && typeof held === "object");
  // Accepts connections and never speaks HTTP/2.
  const quiet = await refused(connect(`127.0.0.1:${held.port}`).getStatus({}, { deadlineMs: 300 }));
  assert.ok(quiet instanceof ConnectTimeout);
  silent.close();
  const { server, address } = await serve({});
  server.close();
  const gone = await refused(connect(address).getStatus({}));
  assert.ok(gone instanceof ConnectTimeout);
  assert.deepEqual([gone.code, gone.reason, gone.address], ["UNAVAILABLE", "CONNECT_TIMEOUT", address]);
  assert.equal(gone.message, `nobody answers at ${address}`);
});

test("an address in use, and one that is not ours, are one line each", async () => {
  const { address } = await serve({});
  const taken = await refused(serve({}, { address }));
  assert.deepEqual([taken.reason, taken.message], ["ADDRESS_IN_USE", `another process listens on ${address}`]);
  assert.equal((await refused(serve({}, { address: "192.0.2.1:0" }))).reason, "ADDRESS_REFUSED");
});

test("a request at the limit passes; one byte more is TOO_LARGE here, there, and in grpc-js", async () => {
  const limit = 1000;
  const { address } = await serve(
    { getBody: async (r) => ({ body: r.signature }) },
    { limits: { requestBytes: limit } },
  );
  // Two bytes of tag, two of length.
  const sized = (size: number): Uint8Array =>
    Uint8Array.from([0x32, ((size - 3) & 0x7f) | 0x80, (size - 3) >> 7, ...new Uint8Array(size - 3)]);
  assert.equal((await rawCall(address, sized(limit))).length, limit);
  const over = faultFromError(await rawCall(address, sized(limit + 1)).catch((error: unknown) => error));
  assert.deepEqual(
    [over.code, over.reason, over.metadata],
    ["INVALID_ARGUMENT", "TOO_LARGE", { limit: "1000", size: "1001" }],
  );
  const far = faultFromError(await rawCall(address, new Uint8Array(200_000)).catch((error: unknown) => error));
  assert.deepEqual([far.code, far.reason], ["RESOURCE_EXHAUSTED", "REMOTE_ERROR"]);
  const own = connectService(CommitteeService, address, { committee: COMMITTEE, requestBytes: 10 });
  closers.push(() => own.close());
  assert.equal((await refused(own.getBody({ signature: new Uint8Array(64) }))).reason, "TOO_LARGE");
});

test("garbage, truncation and absurd nesting are MALFORMED; unknown fields are dropped", async () => {
  let seen: GetBodyRequest | undefined;
  const { address } = await serve({
    getBody: async (request) => {
      seen = request;
      return {};
    },
  });
  const reasonOf = async (bytes: Uint8Array): Promise<string> =>
    faultFromError(await rawCall(address, bytes).catch((error: unknown) => error)).reason;
  assert.equal(await reasonOf(Uint8Array.of(0xff, 0xff, 0xff, 0xff)), "MALFORMED");
  assert.equal(await reasonOf(Uint8Array.of(0x0a, 0x05, 0x61)), "MALFORMED");
  // Field 100, start group, thirty thousand deep: enough to exhaust a stack.
  const deep = new Uint8Array(60_000).map((_, index) => (index % 2 === 0 ? 0xa3 : 0x06));
  assert.equal(await reasonOf(deep), "MALFORMED");
  // The same field as a varint is only unknown.
  await rawCall(address, Uint8Array.of(0xa0, 0x06, 0x01, 0x10, 0x05));
  assert.equal(seen?.slot, 5n);
  assert.equal(seen?.$unknown, undefined);
});

test("nesting: 32 levels pass, hundreds do not", async () => {
  const value = ".google.protobuf.Value";
  const file = create(FileDescriptorProtoSchema, {
    name: "nest.proto",
    package: "nest",
    syntax: "proto3",
    dependency: ["google/protobuf/struct.proto"],
    service: [{ name: "NestService", method: [{ name: "Nest", inputType: value, outputType: value }] }],
  });
  const service = createFileRegistry(file, (name) =>
    name === file_google_protobuf_struct.proto.name ? file_google_protobuf_struct : undefined,
  ).getService("nest.NestService");
  assert.ok(service);
  const depthOf = (value: Value): number =>
    value.kind.case === "listValue" ? 2 + depthOf(value.kind.value.values[0] ?? create(ValueSchema)) : 0;
  const nest = async (request: unknown) => ({ kind: { case: "numberValue", value: depthOf(request as Value) } });
  const served: GrpcService = { descriptor: service, handlers: { nest }, bound: false };
  const { address } = await serve({}, { services: [served] });
  const client = connectService(service, address) as unknown as { nest(request: Value): Promise<Value>; close(): void };
  closers.push(() => client.close());
  const nested = (levels: number): Value =>
    create(ValueSchema, levels === 0 ? {} : { kind: { case: "listValue", value: { values: [nested(levels - 1)] } } });
  assert.equal((await client.nest(nested(15))).kind.value, 30);
  assert.equal((await refused(client.nest(nested(16)))).reason, "MALFORMED");
  assert.equal((await refused(client.nest(nested(400)))).reason, "MALFORMED");
});

test("connections beyond the limit are closed at the door", async () => {
  const { address } = await serve({ getStatus: async () => ({ memberIndex: 1 }) }, { limits: { connections: 1 } });
  const channels = [1, 2].map((version) => {
    // Another channel option keeps grpc-js from sharing the connection.
    const channel = new Channel(address, ChannelCredentials.createInsecure(), {
      "grpc.primary_user_agent": `v${version}`,
    });
    closers.push(() => channel.close());
    return channel;
  });
  const ready = (channel: Channel | undefined, withinMs: number): Promise<boolean> =>
    new Promise((resolve) => channel?.waitForReady(Date.now() + withinMs, (error) => resolve(error === undefined)));
  assert.equal(await ready(channels[0], 60_000), true);
  assert.equal(await ready(channels[1], 500), false);
});

test("whoever takes all connections from one address keeps nobody out that comes from another", async () => {
  const { server } = await serve({}, { limits: { connections: 3 } });
  const from = async (localAddress: string) => {
    const socket = createConnection({ host: "127.0.0.1", port: server.port, localAddress });
    closers.push(() => socket.destroy());
    socket.on("error", () => undefined);
    // The server speaks first: its settings.
    const greeting = await Promise.race([once(socket, "data"), once(socket, "close")]).then(
      ([first]) => first as unknown,
      () => undefined,
    );
    return { socket, served: Buffer.isBuffer(greeting) };
  };
  const greedy = [await from("127.0.0.1"), await from("127.0.0.1"), await from("127.0.0.1")];
  assert.ok(greedy.every(({ served }) => served));
  assert.equal((await from("127.0.0.1")).served, false);
  assert.equal((await from("127.0.0.2")).served, true);
  const newest = greedy[2]?.socket;
  if (newest?.destroyed === false) await once(newest, "close");
  assert.equal((await from("127.0.0.1")).served, false);
  assert.deepEqual([greedy[0]?.socket.destroyed, greedy[1]?.socket.destroyed], [false, false]);
});

test("a method that is not served is METHOD_UNKNOWN", async () => {
  const { address } = await serve({});
  const got = faultFromError(await rawCall(address, new Uint8Array(), "Nothing").catch((error: unknown) => error));
  assert.deepEqual([got.code, got.reason], ["UNIMPLEMENTED", "METHOD_UNKNOWN"]);
});

test("a stream delivers in order and ends; a fault in it arrives after what came before", async () => {
  const { address } = await serve({
    watchOutcomes: async function* (request) {
      for (let slot = request.fromSlot; slot < request.fromSlot + 300n; slot++) {
        yield { event: { case: "heartbeatSlot", value: slot } };
      }
      if (request.stage === "broken") throw fault("OUTCOME_TOO_OLD", undefined, { oldest: "9" });
    },
  });
  const client = connect(address);
  const all = await collect(client.watchOutcomes({ fromSlot: 5n }));
  assert.deepEqual([all.length, all[0]?.event.value, all[299]?.event.value], [300, 5n, 304n]);
  let count = 0;
  const broken = (async () => {
    for await (const _ of client.watchOutcomes({ stage: "broken" })) count++;
  })();
  const got = await refused(broken);
  assert.deepEqual([got.reason, got.metadata, count], ["OUTCOME_TOO_OLD", { oldest: "9" }, 300]);
});

test("leaving a stream ends its generator on the server", async () => {
  const left = Promise.withResolvers<void>();
  const { address } = await serve({
    watchOutcomes: async function* (_, call) {
      const queue = new LiveQueue<bigint>(10, call.signal);
      try {
        queue.push(1n);
        for await (const value of queue) yield { event: { case: "heartbeatSlot", value } };
      } finally {
        left.resolve();
      }
    },
  });
  assert.equal((await collect(connect(address).watchOutcomes({}), 1)).length, 1);
  await left.promise;
});

test("a fast producer waits for its reader, and memory stays bounded", async () => {
  let made = 0;
  const commitment = new Uint8Array(10_000);
  const { address } = await serve(
    {
      watchOutcomes: async function* () {
        for (; made < 1000; made++) yield { event: { case: "outcome", value: { slot: BigInt(made), commitment } } };
      },
    },
    { limits: { streamBufferBytes: 100_000 } },
  );
  let read = 0;
  let ahead = 0;
  for await (const _ of connect(address).watchOutcomes({})) {
    read++;
    ahead = Math.max(ahead, made - read);
    await new Promise(setImmediate);
  }
  assert.equal(read, 1000);
  // Server buffer, HTTP/2 window and the client's own buffer together.
  assert.ok(ahead < 200, `${ahead} messages ahead`);
});

test("a reader that stops reading is ended with SLOW_CONSUMER", async () => {
  const commitment = new Uint8Array(100_000);
  const ended = Promise.withResolvers<void>();
  const { address, meters } = await serve(
    {
      watchOutcomes: async function* () {
        try {
          for (;;) yield { event: { case: "outcome", value: { commitment } } };
        } finally {
          ended.resolve();
        }
      },
    },
    { limits: { streamBufferBytes: 200_000, drainMs: 3000 } },
  );
  let first = true;
  const reading = (async () => {
    for await (const _ of connect(address).watchOutcomes({})) {
      if (first) await ended.promise;
      first = false;
    }
  })();
  const got = await refused(reading);
  assert.deepEqual([got.code, got.reason], ["RESOURCE_EXHAUSTED", "SLOW_CONSUMER"]);
  assert.ok(meters.lines.some((line) => line.startsWith("lattice_rpc_slow_consumers_total")));
});

test("a reader that never reads again is dropped", async () => {
  const commitment = new Uint8Array(100_000);
  const { address } = await serve(
    {
      watchOutcomes: async function* () {
        for (;;) yield { event: { case: "outcome", value: { commitment } } };
      },
    },
    { limits: { streamBufferBytes: 200_000, drainMs: 50 } },
  );
  const session = connectHttp2(`http://${address}`);
  closers.push(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": "/lattice.committee.v1.CommitteeService/WatchOutcomes",
    "content-type": "application/grpc",
    te: "trailers",
    [ORGANISM_HEADER]: Buffer.from(COMMITTEE).toString("base64"),
  });
  stream.on("error", () => undefined);
  // One empty message; then nothing is read, so only a reset can end it.
  stream.end(Buffer.alloc(5));
  await once(stream, "close");
  assert.equal(stream.rstCode, constants.NGHTTP2_CANCEL);
});

/** A caller of its own making: it does not take more than `window` bytes of an answer by itself. */
function crudeCall(
  address: string,
  method: string,
  window?: number,
  headers: Record<string, string> = {},
): { readonly stream: ClientHttp2Stream; readonly end: Promise<number> } {
  const settings = window === undefined ? {} : { settings: { initialWindowSize: window } };
  const session = connectHttp2(`http://${address}`, settings);
  session.on("error", () => undefined);
  closers.push(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": `/lattice.committee.v1.CommitteeService/${method}`,
    "content-type": "application/grpc",
    te: "trailers",
    [ORGANISM_HEADER]: Buffer.from(COMMITTEE).toString("base64"),
    ...headers,
  });
  stream.on("error", () => undefined);
  return { stream, end: once(stream, "close").then(() => stream.rstCode) };
}

/** A message of so many bytes as it goes over the line, but for the last one. */
function allButTheEnd(bytes: number): Buffer {
  const message = Buffer.alloc(5 + bytes - 1);
  message.writeUInt32BE(bytes, 1);
  return message;
}

test("a request that does not come whole in its time is dropped", async () => {
  const { address } = await serve({}, { limits: { unaryMs: 50 } });
  const halves = [crudeCall(address, "GetStatus"), crudeCall(address, "WatchOutcomes")];
  for (const { stream } of halves) stream.write(allButTheEnd(1000));
  // This one has come whole, but its caller never says that this was all.
  const unended = crudeCall(address, "GetStatus");
  unended.stream.write(Buffer.alloc(5));
  const ends = await Promise.all([...halves, unended].map(({ end }) => end));
  assert.deepEqual(ends, Array(3).fill(constants.NGHTTP2_CANCEL));
});

test("an answer that is not taken in its time is dropped", async () => {
  const { address } = await serve(
    { getBody: async () => ({ body: new Uint8Array(100_000) }) },
    { limits: { drainMs: 50 } },
  );
  const { stream, end } = crudeCall(address, "GetBody", 0);
  stream.end(Buffer.alloc(5));
  assert.equal(await end, constants.NGHTTP2_CANCEL);
});

test("callers that hold too much together: who has held it longest is dropped, others are served", async () => {
  const body = new Uint8Array(100_000);
  const { address } = await serve(
    {
      getBody: async () => ({ body }),
      watchOutcomes: async function* () {
        for (;;) yield { event: { case: "outcome", value: { commitment: body } } };
      },
    },
    { limits: { heldBytes: 250_000, streamBufferBytes: 150_000 } },
  );
  for (const method of ["GetBody", "WatchOutcomes"]) {
    const calls = [];
    for (let index = 0; index < 3; index++) {
      const call = crudeCall(address, method, 0);
      call.stream.end(Buffer.alloc(5));
      await once(call.stream, "response");
      calls.push(call);
    }
    const [first, second, third] = calls;
    assert.equal(await first?.end, constants.NGHTTP2_CANCEL, method);
    // Two streams together hold too much.
    if (method === "WatchOutcomes") assert.equal(await second?.end, constants.NGHTTP2_CANCEL);
    assert.equal(third?.stream.closed, false, method);
  }
  const halves = [0, 1, 2].map(() => crudeCall(address, "GetStatus"));
  for (const { stream } of halves) {
    stream.write(allButTheEnd(100_000));
    await new Promise((resolve) => stream.session?.ping(resolve));
  }
  assert.equal(await halves[0]?.end, constants.NGHTTP2_CANCEL);
  assert.deepEqual([halves[1]?.stream.closed, halves[2]?.stream.closed], [false, false]);
  assert.equal((await connect(address).getBody({})).body.length, body.length);
});

test("what was compressed counts at the size that it may have", async () => {
  const { address } = await serve({}, { limits: { heldBytes: 150_000, requestBytes: 100_000 } });
  const compressed = (): ReturnType<typeof crudeCall> => {
    const call = crudeCall(address, "GetStatus", undefined, { "grpc-encoding": "gzip" });
    call.stream.write(allButTheEnd(10));
    return call;
  };
  const [first, second] = [compressed(), compressed()];
  assert.equal(await Promise.race([first.end, second.end]), constants.NGHTTP2_CANCEL);
});

test("where streams have no place left, the connection with most gives one up", async () => {
  const { address } = await serve(
    {
      watchOutcomes: async function* (_, { signal }) {
        yield { event: { case: "heartbeatSlot", value: 1n } };
        await once(signal, "abort");
      },
    },
    { limits: { streams: 3 } },
  );
  const client = (version: string): { open(): Promise<AsyncIterator<unknown>> } => {
    const channel = new Channel(address, ChannelCredentials.createInsecure(), { "grpc.primary_user_agent": version });
    closers.push(() => channel.close());
    const metadata = new Metadata();
    metadata.set(ORGANISM_HEADER, Buffer.from(COMMITTEE));
    const same = (buffer: Buffer): Buffer => buffer;
    const path = "/lattice.committee.v1.CommitteeService/WatchOutcomes";
    return {
      async open() {
        const call = channel.makeServerStreamRequest(path, same, same, Buffer.alloc(0), metadata);
        call.on("error", () => undefined);
        const iterator = call.iterator({ destroyOnReturn: false });
        await iterator.next();
        return iterator;
      },
    };
  };
  const reasonOf = async (reading: Promise<unknown>): Promise<string> => {
    const error: unknown = await reading.then(
      () => assert.fail("it goes on"),
      (reason: unknown) => reason,
    );
    return faultFromError(error, { address, connected: true }).reason;
  };
  const greedy = client("greedy");
  const streams = [await greedy.open(), await greedy.open(), await greedy.open()];
  assert.equal(await reasonOf(greedy.open()), "STREAMS_BUSY");
  await client("modest").open();
  assert.equal(await reasonOf(Promise.resolve(streams[2]?.next())), "STREAMS_BUSY");
  assert.equal(await reasonOf(greedy.open()), "STREAMS_BUSY");
});

test("a pushed queue that overflows is SLOW_CONSUMER; one below the limit is not", async () => {
  const signal = new AbortController().signal;
  const full = new LiveQueue<number>(3, signal, "offer");
  for (const item of [1, 2, 3]) assert.ok(full.push(item));
  assert.equal(full.push(4), false);
  const got = await refused(collect(full));
  assert.deepEqual([got.domain, got.reason], ["offer.lattice", "SLOW_CONSUMER"]);
  const fine = new LiveQueue<number>(3, signal);
  for (const item of [1, 2, 3]) fine.push(item);
  fine.end();
  assert.deepEqual(await collect(fine), [1, 2, 3]);
  assert.equal(fine.push(5), false);
});

test("a silent stream is STREAM_IDLE for a reader that says so", async () => {
  const { address } = await serve({
    watchOutcomes: async function* (_, call) {
      yield { event: { case: "heartbeatSlot", value: 1n } };
      await once(call.signal, "abort");
    },
  });
  const got = await refused(collect(connect(address).watchOutcomes({}, { idleMs: 100 })));
  assert.equal(got.reason, "STREAM_IDLE");
});

test("draining lets unary calls finish, sends readers away, and then nobody is there", async () => {
  const begun = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  const { server, address } = await serve({
    getStatus: async () => {
      begun.resolve();
      await release.promise;
      return { memberIndex: 3 };
    },
    watchOutcomes: async function* (_, call) {
      yield { event: { case: "heartbeatSlot", value: 1n } };
      await once(call.signal, "abort");
    },
  });
  const client = connect(address);
  const stream = collect(client.watchOutcomes({}));
  const unary = client.getStatus({});
  await begun.promise;
  const drained = server.drain(60_000);
  const away = await refused(stream);
  assert.deepEqual([away.code, away.reason], ["UNAVAILABLE", "NOT_READY"]);
  release.resolve();
  assert.equal((await unary).memberIndex, 3);
  await drained;
  assert.ok((await refused(client.getStatus({}))) instanceof ConnectTimeout);
});

test("a call that outlives the grace is cut", async () => {
  const begun = Promise.withResolvers<void>();
  const { server, address } = await serve({
    getStatus: () => {
      begun.resolve();
      return new Promise(() => undefined);
    },
  });
  const call = refused(connect(address).getStatus({}));
  await begun.promise;
  await server.drain(20);
  assert.equal((await call).code, "UNAVAILABLE");
});

test("a call that ends without a status, as some do when a server is cut off, is a lost connection: another member is asked", async () => {
  const ending = createHttp2Server().on("stream", (stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    stream.end();
  });
  ending.listen(0, "127.0.0.1");
  await once(ending, "listening");
  closers.push(() => ending.close());
  const held = ending.address();
  assert.ok(held !== null && typeof held === "object");
  const address = `127.0.0.1:${held.port}`;
  const got = await refused(connect(address).getStatus({}));
  assert.deepEqual([got.code, got.reason, retryable(got)], ["UNAVAILABLE", "CONNECTION_LOST", true]);
  const well = await serve({ getStatus: async () => ({ memberIndex: 1 }) });
  const client = connectAny(CommitteeService, [address, well.address], { committee: COMMITTEE });
  closers.push(() => client.close());
  assert.equal((await client.getStatus({})).memberIndex, 1);
});

test("connectAny stays with a member until it fails, then goes on; other faults do not move it", async () => {
  const asked: number[] = [];
  const member = (index: number) =>
    serve({
      getStatus: async () => {
        asked.push(index);
        return create(GetStatusResponseSchema, { memberIndex: index });
      },
      getOutcome: async () => {
        throw fault("OUTCOME_UNKNOWN");
      },
      watchOutcomes: async function* () {
        yield { event: { case: "heartbeatSlot", value: BigInt(index) } };
      },
    });
  const members = [await member(0), await member(1), await member(2)];
  const client = connectAny(
    CommitteeService,
    members.map(({ address }) => address),
    { committee: COMMITTEE, first: 1 },
  );
  closers.push(() => client.close());
  await client.getStatus({});
  await client.getStatus({});
  assert.equal((await refused(client.getOutcome({}))).reason, "OUTCOME_UNKNOWN");
  await client.getStatus({});
  members[1]?.server.close();
  await client.getStatus({});
  await client.getStatus({});
  assert.deepEqual(asked, [1, 1, 1, 2, 2]);
  members[2]?.server.close();
  assert.equal((await collect(client.watchOutcomes({})))[0]?.event.value, 0n);
  members[0]?.server.close();
  assert.ok((await refused(client.getStatus({}))) instanceof ConnectTimeout);
});

test("connectAny leaves a silent member to its half of the time", async () => {
  const mute = await serve({ getStatus: () => new Promise(() => undefined) });
  const well = await serve({ getStatus: async () => ({ memberIndex: 1 }) });
  const client = connectAny(CommitteeService, [mute.address, well.address], { committee: COMMITTEE, deadlineMs: 6000 });
  closers.push(() => client.close());
  assert.equal((await client.getStatus({})).memberIndex, 1);
});

test("a caller's trace context gives a span with the status, but never in zipnet", async () => {
  const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  for (const [domain, expected] of [
    ["offer", [`${parent} CommitteeService/GetStatus OK`, `${parent} CommitteeService/GetOutcome NOT_FOUND`]],
    ["zipnet", []],
  ] as const) {
    const spans: string[] = [];
    const tracer = {
      call: (from: string, name: string, _start: number, _end: number, code: string) =>
        void spans.push(`${from} ${name.replace("lattice.committee.v1.", "")} ${code}`),
    };
    const handlers: Partial<Handlers<Committee>> = {
      getStatus: async () => ({}),
      getOutcome: async () => {
        throw fault("OUTCOME_UNKNOWN");
      },
    };
    const { address } = await serve(handlers, { domain, tracer });
    const client = connect(address);
    await client.getStatus({}, { traceparent: parent });
    await client.getStatus({});
    await refused(client.getOutcome({}, { traceparent: parent }));
    assert.deepEqual(spans, expected);
  }
});

test("a strange error and a broken answer become faults too", async () => {
  assert.equal(faultFromError("nonsense").reason, "REMOTE_ERROR");
  assert.equal(faultFromError(new Error("x")).message, RPC_FAULTS.REMOTE_ERROR.meaning);
  const own = fault("DUPLICATE");
  assert.equal(faultFromError(own), own);
});

/** Everything on one port: JSON-RPC, Connect, gRPC-Web, gRPC and plain JSON, over HTTP/1.1 and HTTP/2. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectTcp } from "node:net";
import { after, before, describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import {
  createConnectTransport as createBrowserConnect,
  createGrpcWebTransport as createBrowserGrpcWeb,
} from "@connectrpc/connect-web";
import { credentials, Client as GrpcClient, type ServiceError } from "@grpc/grpc-js";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { ErrorInfoSchema } from "@lattice/proto/google/rpc/error_details_pb.ts";
import {
  GatewayService,
  GetLatticeRequestSchema,
  GetLatticeResponseSchema,
} from "@lattice/proto/lattice/gateway/v1/gateway_service_pb.ts";
import { openDoor, outcome } from "../test/door.ts";
import { ALICE, transfer } from "../test/fixture.ts";
import { BODY_BYTES_MAX } from "./http-door.ts";
import { OnePort } from "./one-port.ts";

describe("one port", () => {
  const door = openDoor(async () => "0x1");
  let port: number;
  let url: string;

  before(async () => {
    await initCrypto();
    port = await door.port.listen("127.0.0.1:0");
    url = `http://127.0.0.1:${port}`;
  });
  after(() => door.close(0));

  const post = (body: string, path = "/", headers: Record<string, string> = {}): Promise<Response> =>
    fetch(url + path, { method: "POST", body, headers: { "content-type": "application/json", ...headers } });

  test("JSON-RPC over HTTP/1.1 and HTTP/2, also behind a query; notifications have no body", async () => {
    const request = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "eth_chainId", params: [] });
    for (const path of ["/", "/?key=1"]) {
      assert.deepEqual(await (await post(request, path)).json(), { jsonrpc: "2.0", id: 1, result: "0x7a69" });
    }
    const silent = await post(JSON.stringify({ jsonrpc: "2.0", method: "eth_chainId", params: [] }));
    assert.equal(silent.status, 204);
    const session = connectHttp2(url);
    const stream = session.request({ ":method": "POST", ":path": "/" });
    stream.end(request);
    const parts: Buffer[] = [];
    for await (const part of stream) parts.push(part as Buffer);
    session.close();
    assert.deepEqual(JSON.parse(Buffer.concat(parts).toString()), { jsonrpc: "2.0", id: 1, result: "0x7a69" });
  });

  test("a body that is too large is refused, announced or not; the port goes on", async () => {
    const padding = " ".repeat(BODY_BYTES_MAX);
    const refused = await post(`${padding}{}`);
    assert.equal(refused.status, 413);
    assert.match(await refused.text(), /-32600/);
    // A sender that is far from done when the answer comes still gets to read it.
    for (let times = 0; times < 20; times++) assert.equal((await post(padding.repeat(3))).status, 413);
    const socket = connectTcp(port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    const chunk = `10000\r\n${" ".repeat(0x10000)}\r\n`;
    for (let sent = 0; sent <= BODY_BYTES_MAX; sent += 0x10000) socket.write(chunk);
    const [answer] = (await once(socket, "data")) as [Buffer];
    assert.match(answer.toString(), /^HTTP\/1\.1 413/);
    socket.destroy();
    assert.equal((await post(`${padding.slice(100)}{}`)).status, 200, "just below the limit is read");
  });

  test("health is liveness; readiness is its own", async () => {
    assert.equal((await fetch(`${url}/healthz`)).status, 200);
    assert.equal((await fetch(`${url}/readyz`)).status, 503);
    door.setReady();
    assert.equal((await fetch(`${url}/readyz`)).status, 200);
    assert.equal((await fetch(url)).status, 405);
    assert.equal((await fetch(`${url}/nothing/here`)).status, 404);
  });

  const transports = {
    "Connect over HTTP/1.1": () => createConnectTransport({ baseUrl: url, httpVersion: "1.1" }),
    "Connect over HTTP/2": () => createConnectTransport({ baseUrl: url, httpVersion: "2" }),
    "Connect as JSON": () => createConnectTransport({ baseUrl: url, httpVersion: "1.1", useBinaryFormat: false }),
    "gRPC-Web over HTTP/1.1": () => createGrpcWebTransport({ baseUrl: url, httpVersion: "1.1" }),
    "gRPC-Web over HTTP/2": () => createGrpcWebTransport({ baseUrl: url, httpVersion: "2" }),
    "Connect as a browser speaks it": () => createBrowserConnect({ baseUrl: url }),
    "gRPC-Web as a browser speaks it": () => createBrowserGrpcWeb({ baseUrl: url }),
    gRPC: () => createGrpcTransport({ baseUrl: url }),
  };
  for (const [name, transport] of Object.entries(transports)) {
    test(`${name}: a call, a submission, a stream, a refusal with its reason`, async () => {
      const client = createClient(GatewayService, transport());
      assert.equal((await client.getLattice({})).identity?.chainId, 31_337n);
      const nonce = Object.keys(transports).indexOf(name);
      const { raw, hash } = await transfer(ALICE, nonce);
      const { transactionHash } = await client.submitTransaction({ rawTransaction: raw });
      assert.equal(Buffer.from(transactionHash).toString("hex"), hash);

      const slot = BigInt(1000 + nonce) + door.slots.oldest;
      door.slots.note("zipnet", outcome(door.config, "zipnet", "broadcast", slot));
      const stop = new AbortController();
      for await (const { outcome: event } of client.watchSlots({ fromSlot: slot }, { signal: stop.signal })) {
        assert.equal(event?.outcome?.slot, slot);
        break;
      }
      stop.abort();

      await assert.rejects(client.getSubmission({ transactionHash: new Uint8Array(32) }), (error) => {
        assert.ok(error instanceof ConnectError);
        assert.equal(error.code, Code.NotFound);
        const [info] = error.findDetails(ErrorInfoSchema);
        assert.equal(info?.domain, "gateway.lattice");
        assert.equal(info?.reason, "SUBMISSION_UNKNOWN");
        return true;
      });
      const wrong = await transfer(ALICE, 0, { chainId: 5 });
      await assert.rejects(client.submitTransaction({ rawTransaction: wrong.raw }), (error) => {
        assert.ok(error instanceof ConnectError);
        const [info] = error.findDetails(ErrorInfoSchema);
        assert.deepEqual([info?.reason, info?.metadata["chain_id"]], ["WRONG_CHAIN", "31337"]);
        return true;
      });
    });
  }

  test("a grpc-js client without any of our code, and our own with typed faults", async () => {
    const raw = new GrpcClient(`127.0.0.1:${port}`, credentials.createInsecure());
    const answer = await new Promise<Buffer>((resolve, reject) => {
      raw.makeUnaryRequest(
        "/lattice.gateway.v1.GatewayService/GetLattice",
        (bytes: Buffer) => bytes,
        (bytes: Buffer) => bytes,
        Buffer.from(toBinary(GetLatticeRequestSchema, create(GetLatticeRequestSchema))),
        (error: ServiceError | null, value?: Buffer) =>
          error === null && value !== undefined ? resolve(value) : reject(error ?? new Error("no answer")),
      );
    });
    raw.close();
    assert.equal(fromBinary(GetLatticeResponseSchema, new Uint8Array(answer)).slotMs, 1000);
    const own = connectService(GatewayService, `127.0.0.1:${port}`);
    await assert.rejects(own.getSlot({ slot: 99n }), {
      name: "Fault",
      domain: "gateway.lattice",
      reason: "SLOT_UNKNOWN",
    });
    await assert.rejects(own.reserveBid({ bidClass: "blind" }), { reason: "NO_SEARCHER" });
    await assert.rejects(own.getRefunds({ recipient: new Uint8Array(3) }), { reason: "BAD_REQUEST" });
    own.close();
  });

  test("plain JSON, as curl sends it; a page may read from anywhere", async () => {
    const path = "/lattice.gateway.v1.GatewayService/GetLattice";
    const answer = await post("{}", path, { origin: "https://page.example" });
    assert.equal(answer.headers.get("access-control-allow-origin"), "*");
    assert.equal(((await answer.json()) as { slotMs: number }).slotMs, 1000);
    const preflight = await fetch(url + path, { method: "OPTIONS", headers: { origin: "https://page.example" } });
    assert.equal(preflight.status, 204);
    assert.equal((await post('{"unknown":1}', path)).status, 400);
    assert.equal((await post("{", path)).status, 400);
  });

  test("oversize, truncated and unknown protobuf are refusals, and the port goes on", async () => {
    const path = "/lattice.gateway.v1.GatewayService/SubmitTransaction";
    const send = (body: Uint8Array): Promise<Response> =>
      fetch(url + path, { method: "POST", body: Buffer.from(body), headers: { "content-type": "application/proto" } });
    assert.equal((await send(new Uint8Array(2 << 20))).status, 429, "resource exhausted");
    // The parser's refusal, before any of our code: an error of the protocol, with what is wrong.
    assert.match(await (await send(new Uint8Array([0x0a, 0x7f, 1]))).text(), /"code":"internal".*parse binary/);
    const unknown = await send(new Uint8Array([0xfa, 0x01, 1, 0]));
    assert.match(await unknown.text(), /TRANSACTION_UNDECODABLE|canonically/);
    assert.equal((await fetch(`${url}/healthz`)).status, 200);
  });

  test("a preface in pieces, a method in pieces, and noise", async () => {
    const http1 = connectTcp(port, "127.0.0.1");
    for (const piece of ["G", "ET /health", "z HTTP/1.1\r\nhost: x\r\n\r\n"]) {
      http1.write(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.match(String((await once(http1, "data"))[0]), /^HTTP\/1\.1 200/);
    http1.destroy();
    const socket = connectTcp(port, "127.0.0.1");
    socket.write("P");
    await new Promise((resolve) => setImmediate(resolve));
    socket.write("RI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    const [settings] = (await once(socket, "data")) as [Buffer];
    assert.equal(settings[3], 4, "a SETTINGS frame");
    socket.destroy();
    const noise = connectTcp(port, "127.0.0.1");
    noise.on("error", () => undefined);
    noise.resume();
    noise.end(Buffer.alloc(64, 0xff));
    await once(noise, "close");
    assert.equal((await fetch(`${url}/healthz`)).status, 200);
  });

  test("a port in use, and an address that is none, are one line", async () => {
    const second = new OnePort(() => undefined);
    await assert.rejects(second.listen(`127.0.0.1:${port}`), (error: Error) => {
      assert.match(error.message, /^another process listens on 127\.0\.0\.1:\d+$/);
      return true;
    });
    await assert.rejects(second.listen("203.0.113.7:1"), { reason: "ADDRESS_REFUSED" });
    await second.close(0).catch(() => undefined);
  });

  test("nothing of a transaction is in the log", async () => {
    const { raw } = await transfer(ALICE, 0);
    const hex = Buffer.from(raw).toString("hex").slice(0, 64);
    assert.ok(!door.log.lines.join().includes(hex));
    assert.ok(!door.log.lines.join().toLowerCase().includes(ALICE.address.slice(2).toLowerCase()));
  });
});

test("stopping lets an answer finish and ends streams", async () => {
  let release: () => void = () => undefined;
  const asked = new Promise<void>((resolve) => {
    release = resolve;
  });
  let arrived: () => void = () => undefined;
  const here = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const door = openDoor(async () => {
    arrived();
    await asked;
    return "0x5";
  });
  const port = await door.port.listen("127.0.0.1:0");
  const url = `http://127.0.0.1:${port}`;
  const client = createClient(GatewayService, createGrpcTransport({ baseUrl: url }));
  const watching = (async () => {
    for await (const _ of client.watchSlots({ fromSlot: 0n }));
  })();
  const answer = fetch(url, {
    method: "POST",
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "eth_blockNumber", params: [] }),
  }).then((response) => response.json());
  await here;
  const closing = door.close(10_000);
  release();
  assert.equal(((await answer) as { result: string }).result, "0x5");
  await watching.catch((error: unknown) => assert.ok(error instanceof ConnectError));
  await closing;
  await assert.rejects(fetch(`${url}/healthz`));
});

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { ChainEndpoint } from "../../test/lattice.ts";
import { ChainUnavailable, createEscrowReader } from "./clients.ts";

const ACCOUNT = new Uint8Array(20).fill(1);
const OTHER = new Uint8Array(20).fill(2);
const CHARGE = new Uint8Array(32).fill(3);
const QUERY = { slot: 5n, accounts: [ACCOUNT, OTHER], charges: [CHARGE, new Uint8Array(32).fill(4)] };

const readerOf = (url: string, timeoutMs = 60_000) =>
  createEscrowReader({ url, settlement: new Uint8Array(20).fill(9), depth: 2, timeoutMs });

/** What reading says against an endpoint that behaves like `listener`. */
async function against(listener: RequestListener, timeoutMs?: number): Promise<string> {
  const server = createServer(listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await readerOf(url, timeoutMs).read(QUERY, new AbortController().signal);
    return "read";
  } catch (error) {
    assert.ok(error instanceof ChainUnavailable);
    return error.reason;
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("escrow and collected charges are read below the head, in the query's order", async () => {
  const chain = new ChainEndpoint();
  chain.escrow.set(toHex(ACCOUNT), 7n);
  chain.charged.add(toHex(CHARGE));
  const url = await chain.start();
  try {
    const reading = await readerOf(url).read(QUERY, new AbortController().signal);
    assert.deepEqual(reading, { block: 98n, wei: [7n, 0n], taken: [CHARGE] });
    const many = Array.from({ length: 600 }, (_, index) => new Uint8Array(20).fill(index));
    const long = await readerOf(url).read({ ...QUERY, accounts: many }, new AbortController().signal);
    assert.equal(long.wei.length, 600);
    assert.equal(long.wei[1], 7n);
  } finally {
    await chain.stop();
  }
});

test("whatever an endpoint does instead, the reader says ChainUnavailable with a reason", async () => {
  const body =
    (text: string): RequestListener =>
    (_, response) =>
      void response.end(text);
  const head = { jsonrpc: "2.0", id: 0 };
  assert.equal(await against(body("not JSON")), "CHAIN_ANSWER");
  assert.equal(await against(body("{}")), "CHAIN_ANSWER");
  assert.equal(await against(body("[]")), "CHAIN_ANSWER");
  assert.equal(
    await against(body(JSON.stringify([{ ...head, error: { code: -32000, message: "no" } }]))),
    "CHAIN_ANSWER",
  );
  assert.equal(await against(body(JSON.stringify([{ ...head, result: "soon" }]))), "CHAIN_ANSWER");
  // The head is answered, the contract is not there: `0x` instead of a word.
  const missing = JSON.stringify([0, 1, 2, 3].map((id) => ({ ...head, id, result: id === 0 ? "0x5" : "0x" })));
  assert.equal(await against(body(missing)), "CHAIN_ANSWER");
  assert.equal(await against((_, response) => void response.writeHead(503).end()), "CHAIN_ANSWER");
  assert.equal(
    await against((_, response) => void response.writeHead(302, { location: "/" }).end()),
    "CHAIN_UNREACHABLE",
  );
  assert.equal(await against(body(`[${" ".repeat(5_000_000)}]`)), "CHAIN_ANSWER");
  assert.equal(await against((request) => void request.destroy()), "CHAIN_UNREACHABLE");
  assert.equal(await against(() => undefined, 50), "CHAIN_TIMEOUT");
  const gone = readerOf("http://127.0.0.1:1").read(QUERY, new AbortController().signal);
  await assert.rejects(gone, { name: "ChainUnavailable", reason: "CHAIN_UNREACHABLE" });
});

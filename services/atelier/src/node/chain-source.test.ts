import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { createBlockFromRLP } from "@ethereumjs/block";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { attributesOn, devnet, devnetGenesis } from "../../test/devnet.ts";
import { ChainSourceError, type ChainSourceProblem, JsonRpcChain } from "./chain-source.ts";

const { common } = devnetGenesis();
let server: Server;
let url = "";
/** What the server says next; undefined: nothing at all. */
let answer: ((id: number, method: string) => { readonly status?: number; readonly body: string }) | undefined;

before(async () => {
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => {
      body += chunk.toString("utf8");
    });
    request.on("end", () => {
      const call = JSON.parse(body) as { readonly id: number; readonly method: string };
      const said = answer?.(call.id, call.method);
      if (said === undefined) return;
      response.writeHead(said.status ?? 200, { "content-type": "application/json" });
      response.end(said.body);
    });
  });
  // Blocks are built between two calls: on a busy machine a connection may lie idle for longer than the default of 5 s.
  server.keepAliveTimeout = 0;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function source(deadlineMs = 5_000): JsonRpcChain {
  return new JsonRpcChain({ url, common, deadlineMs });
}

function result(value: unknown): void {
  answer = (id) => ({ body: JSON.stringify({ jsonrpc: "2.0", id, result: value }) });
}

function failsAs(reason: ChainSourceProblem) {
  return (error: unknown): boolean => error instanceof ChainSourceError && error.reason === reason;
}

/** An empty block as an execution client shows it. */
async function shown() {
  const chain = await devnet();
  const { rlp, hash } = await (await chain.begin(attributesOn(chain))).seal();
  const block = createBlockFromRLP(rlp, { common });
  const json = block.toJSON();
  const { uncleHash, coinbase, receiptTrie, transactionsTrie, ...rest } = json.header ?? {};
  const rpc = {
    ...rest,
    sha3Uncles: uncleHash,
    miner: coinbase,
    receiptsRoot: receiptTrie,
    transactionsRoot: transactionsTrie,
    hash: `0x${Buffer.from(hash).toString("hex")}`,
    transactions: [],
    withdrawals: [],
    uncles: [],
  };
  return { rpc, rlp, hash };
}

test("a block is rebuilt from its fields, by number and by hash", async () => {
  const { rpc, rlp, hash } = await shown();
  result(rpc);
  assert.deepEqual(await source().blockByNumber(1n), rlp);
  assert.deepEqual(await source().blockByHash(hash), rlp);
  assert.deepEqual(await source().head(), { number: 1n, hash });
  result(null);
  assert.equal(await source().blockByNumber(1n), undefined);
  assert.equal(await source().blockByHash(hash), undefined);
});

test("fields that do not hash to what is stated or asked for are refused", async () => {
  const { rpc, hash } = await shown();
  result({ ...rpc, extraData: "0x00" });
  await assert.rejects(source().blockByNumber(1n), failsAs("HASH_MISMATCH"));
  result(rpc);
  await assert.rejects(source().blockByHash(fromHex("11".repeat(32))), failsAs("HASH_MISMATCH"));
  assert.notEqual(hash[0], 0x11);
});

test("a client that leaves out fields is asked for the raw block, which must have the stated hash", async () => {
  const { rpc, rlp } = await shown();
  const raw = (value: string): void => {
    answer = (id, method) => {
      const result = method === "debug_getRawBlock" ? value : { ...rpc, withdrawalsRoot: undefined, mixHash: "0x" };
      return { body: JSON.stringify({ jsonrpc: "2.0", id, result }) };
    };
  };
  raw(`0x${toHex(rlp)}`);
  assert.deepEqual(await source().blockByNumber(1n), rlp);
  for (const wrong of ["", "0x", "0xc0", `0x${toHex(rlp).replace(/^f9/, "f8")}`]) {
    raw(wrong);
    await assert.rejects(source().blockByNumber(1n), failsAs("MALFORMED"));
  }
});

test("what is not a block, or not the one asked for, is malformed", async () => {
  const { rpc } = await shown();
  for (const wrong of [
    3,
    "0x",
    [],
    {},
    { ...rpc, transactions: ["0x11"] },
    { ...rpc, hash: "0x11" },
    { ...rpc, stateRoot: 7 },
  ]) {
    result(wrong);
    await assert.rejects(source().blockByNumber(1n), failsAs("MALFORMED"));
  }
  result(rpc);
  await assert.rejects(source().blockByNumber(2n), failsAs("MALFORMED"));
  for (const head of [null, { number: 1, hash: rpc.hash }, { number: "0x1" }, { number: "1", hash: rpc.hash }]) {
    result(head);
    await assert.rejects(source().head(), failsAs("MALFORMED"));
  }
});

test("errors of the node, of HTTP and of JSON are told apart", async () => {
  answer = (id) => ({
    body: JSON.stringify({ jsonrpc: "2.0", id, error: { code: -32601, message: "no such method" } }),
  });
  await assert.rejects(source().head(), failsAs("RPC_ERROR"));
  answer = () => ({ status: 502, body: "" });
  await assert.rejects(source().head(), failsAs("HTTP_STATUS"));
  answer = () => ({ body: "<html>" });
  await assert.rejects(source().head(), failsAs("MALFORMED"));
  answer = (id) => ({ body: JSON.stringify({ jsonrpc: "2.0", id: id + 1, result: null }) });
  await assert.rejects(source().blockByNumber(1n), failsAs("MALFORMED"));
  answer = (id) => ({ body: JSON.stringify({ jsonrpc: "2.0", id }) });
  await assert.rejects(source().blockByNumber(1n), failsAs("MALFORMED"));
});

test("a node that does not answer in time, or is not there, is a failure of its own", async () => {
  answer = undefined;
  await assert.rejects(source(50).head(), failsAs("DEADLINE"));
  const stopped = createServer().listen(0, "127.0.0.1");
  await once(stopped, "listening");
  const { port } = stopped.address() as AddressInfo;
  stopped.close();
  await once(stopped, "close");
  const nobody = new JsonRpcChain({ url: `http://127.0.0.1:${port}`, common, deadlineMs: 5_000 });
  await assert.rejects(nobody.head(), failsAs("UNREACHABLE"));
});

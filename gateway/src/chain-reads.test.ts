import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, beforeEach, describe, test } from "node:test";
import { ChainReads } from "./chain-reads.ts";
import { RpcError } from "./json-rpc.ts";

interface Asked {
  readonly method: string;
  readonly params: unknown[];
}

describe("the node behind the gateway", () => {
  let server: Server;
  let chain: ChainReads;
  let answer: (asked: Asked, response: ServerResponse) => unknown;
  const asked: Asked[] = [];

  before(async () => {
    server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on("data", (part: Buffer) => parts.push(part));
      request.on("end", () => {
        const call = JSON.parse(Buffer.concat(parts).toString()) as Asked;
        asked.push(call);
        const given = answer(call, response);
        if (given !== undefined) response.end(typeof given === "string" ? given : JSON.stringify(given));
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    chain = new ChainReads(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  beforeEach(() => asked.splice(0));

  test("reads go through, writes and strangers do not", async () => {
    answer = () => ({ jsonrpc: "2.0", id: 1, result: "0x5" });
    assert.equal(await chain.forward("eth_blockNumber", []), "0x5");
    for (const method of ["eth_sendTransaction", "eth_fillTransaction", "debug_traceTransaction", "0xf86c…"]) {
      await assert.rejects(chain.forward(method, []), { reason: "METHOD_NOT_FORWARDED" });
    }
    assert.equal(asked.length, 1);
  });

  test("a node's error is passed on as it is, whatever its shape", async () => {
    for (const [error, code, message, data] of [
      [{ code: 3, message: "execution reverted", data: "0x08" }, 3, "execution reverted", "0x08"],
      [{ code: -32_000, message: "no" }, -32_000, "no", undefined],
      [{ code: "ERR", message: 7 }, -32_603, "the node refused", undefined],
      [{}, -32_603, "the node refused", undefined],
    ] as const) {
      answer = () => ({ jsonrpc: "2.0", id: 1, error });
      await assert.rejects(chain.forward("eth_call", [{}, "latest"]), (thrown) => {
        assert.ok(thrown instanceof RpcError);
        assert.deepEqual([thrown.code, thrown.message, thrown.data], [code, message, data]);
        return true;
      });
    }
  });

  test("silence, noise and a redirect are CHAIN_UNREACHABLE", async () => {
    const unreachable = { reason: "CHAIN_UNREACHABLE" };
    for (const noise of ["", "<html>", "[]", "null"]) {
      answer = () => noise;
      await assert.rejects(chain.call("eth_blockNumber", []), unreachable);
    }
    answer = (_, response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end() && undefined;
    await assert.rejects(chain.call("eth_blockNumber", []), unreachable);
    answer = (_, response) => {
      response.destroy();
    };
    await assert.rejects(chain.call("eth_blockNumber", []), unreachable);
    await assert.rejects(new ChainReads("http://127.0.0.1:1").call("eth_blockNumber", []), unreachable);
    answer = () => ({ result: "five" });
    await assert.rejects(chain.account("0x00"), unreachable);
    await assert.rejects(chain.landedIn("0x00"), unreachable);
    await assert.rejects(chain.block("latest"), unreachable);
    answer = () => ({ result: null });
    assert.equal(await chain.landedIn("0x00"), undefined);
    assert.equal(await chain.block("latest"), undefined);
  });

  test("the type that fee fields imply is said; a node without pending state is asked for its latest", async () => {
    answer = ({ params }) =>
      params.includes("pending")
        ? { error: { code: -32_602, message: '"pending" is not yet supported' } }
        : { result: "0x5208" };
    await chain.forward("eth_estimateGas", [{ to: "0x1", maxFeePerGas: "0x1" }]);
    await chain.forward("eth_estimateGas", [{ to: "0x1", gasPrice: "0x1" }]);
    await chain.forward("eth_call", [{ type: "0x1", maxFeePerGas: "0x1" }, "latest"]);
    assert.deepEqual(
      asked.map(({ params }) => (params[0] as { type?: string }).type),
      ["0x2", undefined, "0x1"],
    );
    assert.equal(await chain.forward("eth_getBalance", ["0x1", "pending"]), "0x5208");
    assert.deepEqual(asked.at(-1)?.params, ["0x1", "latest"]);
    await assert.rejects(chain.forward("eth_getBlockByNumber", ["pending", false]), RpcError);
  });
});

/** What an endpoint can do to us: nothing but delay. */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { decode } from "@lattice/organism/codec/codec.ts";
import { encodeAbiParameters, encodeEventTopics } from "viem";
import { address, word } from "../../test/lattice.ts";
import { SETTLEMENT_ABI } from "../contract/settlement-abi.ts";
import { hex } from "../contract/settlement-call.ts";
import { CHAIN_FACT, COLLECTED_MAX } from "../core/codec.ts";
import { readChainFact } from "./chain-watcher.ts";
import { CallRefused, ChainClient, ChainUnavailable } from "./clients.ts";

type Answer = (method: string, params: readonly unknown[]) => unknown;

let server: Server;
let url: string;
/** A function makes the `result`; a string is sent as it is; undefined: no answer at all. */
let answer: Answer | string | undefined;

before(async () => {
  server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      if (answer === undefined) return;
      if (typeof answer === "string") return void response.end(answer);
      const { id, method, params } = JSON.parse(Buffer.concat(parts).toString("utf8"));
      const result = answer(method, params);
      const body = result instanceof Error ? { error: { code: -32000, message: result.message } } : { result };
      response.end(JSON.stringify({ jsonrpc: "2.0", id, ...body }));
    });
  });
  // Events are encoded between two calls: on a busy machine a connection may lie idle for longer than the default of 5 s.
  server.keepAliveTimeout = 0;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function client(endpoint = url, timeoutMs = 60_000): ChainClient {
  return new ChainClient({ url: endpoint, timeoutMs, signal: new AbortController().signal }, address(9));
}
const unavailable = (reason: string) => (error: unknown) =>
  error instanceof ChainUnavailable && error.reason === reason;
const quantity = (value: number | bigint) => `0x${value.toString(16)}`;
const block = (number: number) => ({
  number: quantity(number),
  hash: hex(word(number % 256)),
  parentHash: hex(word((number - 1) % 256)),
  baseFeePerGas: "0x7",
});

test("no answer, nobody there, garbage and the wrong shape are all told apart, and none is believed", async () => {
  answer = undefined;
  await assert.rejects(client(url, 100).head(), unavailable("CHAIN_TIMEOUT"));
  await assert.rejects(client("http://127.0.0.1:9").head(), unavailable("CHAIN_UNREACHABLE"));
  for (const garbage of ["", "<html>", "[]", "null", '{"jsonrpc":"2.0"}']) {
    answer = garbage;
    await assert.rejects(client().head(), unavailable("CHAIN_ANSWER"), garbage);
  }
  for (const wrong of [null, 5, "5", "0x", "0xzz"]) {
    answer = () => wrong;
    await assert.rejects(client().head(), unavailable("CHAIN_ANSWER"), String(wrong));
  }
  answer = () => new Error("execution reverted");
  await assert.rejects(client().call("0x"), (error) => error instanceof CallRefused && error.data === undefined);
  answer = "x".repeat(17 * 1024 * 1024);
  await assert.rejects(client().head(), unavailable("CHAIN_ANSWER"));
});

test("a chain without a finalized block is one where only depth counts", async () => {
  answer = (method) => (method === "eth_blockNumber" ? "0x10" : new Error("Unknown block"));
  assert.deepEqual(await client().head(), { latest: 16n, finalized: undefined });
  answer = (method) => (method === "eth_blockNumber" ? "0x10" : null);
  assert.deepEqual(await client().head(), { latest: 16n, finalized: undefined });
  answer = (method) => (method === "eth_blockNumber" ? "0x10" : block(12));
  assert.deepEqual(await client().head(), { latest: 16n, finalized: 12n });
});

function charge(index: number, blockNumber: number) {
  const args = { bidId: hex(word(index % 256)), account: hex(address(1)) };
  return {
    blockNumber: quantity(blockNumber),
    topics: encodeEventTopics({ abi: SETTLEMENT_ABI, eventName: "EscrowCharged", args }),
    data: encodeAbiParameters([{ type: "uint256" }, { type: "uint256" }], [100n, BigInt(index)]),
  };
}

/** A chain of `height` blocks with these events. */
function chainOf(height: number, logs: readonly ReturnType<typeof charge>[] = []): Answer {
  return (method, [first]) => {
    if (method === "eth_blockNumber") return quantity(height);
    if (method === "eth_getLogs") {
      const { fromBlock, toBlock } = first as { fromBlock: string; toBlock: string };
      assert.ok(BigInt(toBlock) - BigInt(fromBlock) < 1000n, "asked for at most 1000 blocks");
      return logs.filter(
        ({ blockNumber }) => BigInt(blockNumber) >= BigInt(fromBlock) && BigInt(blockNumber) <= BigInt(toBlock),
      );
    }
    return first === "finalized" ? null : block(Number(BigInt(String(first))));
  };
}

test("a fact waits for depth, lists events of final blocks since the last, and ends at the candidate's height", async () => {
  const scanned = { number: 100n, hash: word(100) };
  answer = chainOf(121);
  assert.equal(await readChainFact(client(), scanned, { blockNumber: 120n }, 2), undefined, "one block on top");
  answer = chainOf(122, [charge(3, 101), charge(4, 120), charge(5, 121)]);
  const fact = await readChainFact(client(), scanned, { blockNumber: 120n }, 2);
  assert.ok(fact !== undefined);
  const { standing, fromBlock, scanned: end, collected } = decode(CHAIN_FACT, fact);
  assert.deepEqual([standing.number, standing.hash, standing.parentHash], [120n, word(120), word(119)]);
  assert.deepEqual([fromBlock, end.number, end.hash], [101n, 120n, word(120)]);
  assert.deepEqual(
    collected.map(({ wei }) => wei),
    [3n, 4n],
  );
});

test("a candidate below what was scanned lists nothing; a long gap is closed in steps", async () => {
  answer = chainOf(10_000);
  const scanned = { number: 130n, hash: word(130) };
  const low = await readChainFact(client(), scanned, { blockNumber: 120n }, 2);
  assert.ok(low !== undefined);
  assert.deepEqual(decode(CHAIN_FACT, low).scanned, scanned);
  const far = await readChainFact(client(), scanned, { blockNumber: 9000n }, 2);
  assert.ok(far !== undefined);
  assert.equal(decode(CHAIN_FACT, far).scanned.number, 130n + 4096n);
});

test("more events than a fact holds: it ends before the block that does not fit", async () => {
  const many = Array.from({ length: COLLECTED_MAX }, (_, index) => charge(index, 110));
  answer = chainOf(200, [...many, charge(1, 115), charge(2, 116)]);
  const fact = await readChainFact(client(), { number: 100n, hash: word(100) }, { blockNumber: 120n }, 2);
  assert.ok(fact !== undefined);
  const { scanned, collected } = decode(CHAIN_FACT, fact);
  assert.deepEqual([scanned.number, collected.length], [114n, COLLECTED_MAX]);
});

test("events from outside of the range, or of another contract's shape, are not believed", async () => {
  const scanned = { number: 100n, hash: word(100) };
  const honest = chainOf(200);
  for (const log of [charge(1, 121), { ...charge(1, 110), data: "0x00" }, { ...charge(1, 110), removed: true }]) {
    answer = (method, params) => (method === "eth_getLogs" ? [log] : honest(method, params));
    await assert.rejects(readChainFact(client(), scanned, { blockNumber: 120n }, 2), unavailable("CHAIN_ANSWER"));
  }
});

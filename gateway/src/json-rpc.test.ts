import assert from "node:assert/strict";
import { test } from "node:test";
import { COMMON_FAULTS, Fault } from "@lattice/organism/fault.ts";
import fc from "fast-check";
import { LogBook } from "../test/fixture.ts";
import { gatewayFault } from "./faults.ts";
import { BATCH_MAX, JsonRpc, RpcError, type RpcHandler } from "./json-rpc.ts";

const SECRET = "0xf86c8085e8d4a51000825208";

function door() {
  const log = new LogBook();
  const called: string[] = [];
  const rpc = new JsonRpc(
    new Map<string, RpcHandler>([
      ["echo", async (params, caller) => [...params, caller.origin ?? "program"]],
      ["nothing", async () => undefined],
      [
        "refuse",
        async () => {
          throw gatewayFault("NONCE_TOO_LOW", "nonce too low: next nonce 3, tx nonce 1", { next: "3" });
        },
      ],
      [
        "full",
        async () => {
          throw gatewayFault("QUEUE_FULL");
        },
      ],
      [
        "away",
        async () => {
          throw new Fault("offer.lattice", "UPSTREAM_UNREACHABLE", COMMON_FAULTS.UPSTREAM_UNREACHABLE);
        },
      ],
      [
        "node",
        async () => {
          throw new RpcError(3, "execution reverted", "0x08c379a0");
        },
      ],
      [
        "bug",
        async (params) => {
          throw new TypeError(`cannot read ${String(params[0])}`);
        },
      ],
    ]),
    async (method) => {
      called.push(method);
      throw gatewayFault("METHOD_NOT_FORWARDED", "not here");
    },
    log,
  );
  const ask = async (body: unknown): Promise<unknown> => {
    const answer = await rpc.answer(typeof body === "string" ? body : JSON.stringify(body));
    return answer === undefined ? undefined : JSON.parse(answer);
  };
  const code = async (body: unknown): Promise<number | undefined> =>
    ((await ask(body)) as { error?: { code: number } } | undefined)?.error?.code;
  return { rpc, log, called, ask, code };
}

test("requests, notifications and batches", async () => {
  const { ask } = door();
  assert.deepEqual(await ask({ jsonrpc: "2.0", id: 69, method: "echo", params: [1] }), {
    jsonrpc: "2.0",
    id: 69,
    result: [1, "program"],
  });
  assert.deepEqual(await ask({ jsonrpc: "2.0", id: "a", method: "nothing" }), {
    jsonrpc: "2.0",
    id: "a",
    result: null,
  });
  assert.equal(await ask({ jsonrpc: "2.0", method: "echo", params: [] }), undefined);
  assert.equal(await ask([{ jsonrpc: "2.0", method: "bug" }]), undefined, "a notification has no answer, even failing");
  const batch = (await ask([
    { jsonrpc: "2.0", id: 1, method: "echo", params: [] },
    { jsonrpc: "2.0", method: "echo", params: [] },
    7,
    { jsonrpc: "2.0", id: 2, method: "refuse", params: [] },
  ])) as { id: unknown; error?: { code: number } }[];
  assert.deepEqual(
    batch.map(({ id, error }) => [id, error?.code]),
    [
      [1, undefined],
      [null, -32_600],
      [2, -32_602],
    ],
  );
});

test("malformed input gets the specification's codes and reaches no handler", async () => {
  const { code, called, ask } = door();
  assert.equal(await code("{"), -32_700);
  assert.equal(await code(""), -32_700);
  assert.equal(await code("null"), -32_600);
  assert.equal(await code([]), -32_600);
  assert.equal(await code({ jsonrpc: "1.0", id: 1, method: "x_y" }), -32_600);
  assert.equal(await code({ jsonrpc: "2.0", id: {}, method: "x_y" }), -32_600);
  assert.equal(await code({ jsonrpc: "2.0", id: 1, method: 5 }), -32_600);
  assert.equal(await code({ jsonrpc: "2.0", id: 1, method: "x_y", params: "all" }), -32_600);
  assert.equal(await code({ jsonrpc: "2.0", id: 1, method: "echo", params: { a: 1 } }), -32_602);
  assert.equal(called.length, 0);
  assert.equal(await code({ jsonrpc: "2.0", id: 1, method: "x_y", params: [] }), -32_601);
  const one = { jsonrpc: "2.0", id: 1, method: "echo", params: [] };
  assert.equal(((await ask(Array.from({ length: BATCH_MAX }, () => one))) as unknown[]).length, BATCH_MAX);
  assert.equal(await code(Array.from({ length: BATCH_MAX + 1 }, () => one)), -32_600);
  const nested = (depth: number): string =>
    `{"jsonrpc":"2.0","id":1,"method":"echo","params":${"[".repeat(depth)}${"]".repeat(depth)}}`;
  assert.equal(await code(nested(63)), undefined);
  assert.equal(await code(nested(64)), -32_700);
  assert.equal(await code(nested(1_000_000)), -32_700);
  assert.equal(
    await code(JSON.stringify({ ...one, params: ['[[[["\\', "[".repeat(200)] })),
    undefined,
    "text is no nesting",
  );
});

test("refusals keep code, reason and metadata; what is unexpected says nothing", async () => {
  const { ask, code, log } = door();
  assert.deepEqual(await ask({ jsonrpc: "2.0", id: 1, method: "refuse" }), {
    jsonrpc: "2.0",
    id: 1,
    error: {
      code: -32_602,
      message: "nonce too low: next nonce 3, tx nonce 1",
      data: { domain: "gateway.lattice", reason: "NONCE_TOO_LOW", next: "3" },
    },
  });
  assert.equal(await code({ jsonrpc: "2.0", id: 1, method: "full" }), -32_005);
  assert.equal(await code({ jsonrpc: "2.0", id: 1, method: "away" }), -32_002);
  assert.deepEqual(await ask({ jsonrpc: "2.0", id: 1, method: "node" }), {
    jsonrpc: "2.0",
    id: 1,
    error: { code: 3, message: "execution reverted", data: "0x08c379a0" },
  });
  const answer = JSON.stringify(await ask({ jsonrpc: "2.0", id: 1, method: "bug", params: [SECRET] }));
  assert.match(answer, /internal error/);
  assert.equal(log.lines.length, 1);
  assert.match(log.lines[0] ?? "", /TypeError.*json-rpc\.test\.ts:\d+/);
  assert.ok(![answer, ...log.lines].join().includes(SECRET));
});

test("any text gets an answer that is JSON-RPC, or none", async () => {
  const { rpc } = door();
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.string(), fc.json()), async (text) => {
      const answer = await rpc.answer(text);
      if (answer === undefined) return;
      const parsed = JSON.parse(answer) as { jsonrpc: string } | { jsonrpc: string }[];
      for (const each of Array.isArray(parsed) ? parsed : [parsed]) assert.equal(each.jsonrpc, "2.0");
    }),
  );
});

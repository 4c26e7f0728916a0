/** What a slot without a payload is put down to. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import { raceBuilders } from "./builder-race.ts";
import { EngineClient } from "./engine-client.ts";
import type { Hex } from "./execution-payload.ts";
import { type RpcMethod, serveJsonRpc } from "./json-rpc-server.ts";

const WORD: Hex = `0x${"00".repeat(32)}`;
const STATE = { headBlockHash: WORD, safeBlockHash: WORD, finalizedBlockHash: WORD };
const ATTRIBUTES = {
  timestamp: "0x1",
  prevRandao: WORD,
  suggestedFeeRecipient: `0x${"00".repeat(20)}`,
  withdrawals: [],
  parentBeaconBlockRoot: WORD,
} as const;
const BEGUN = { payloadStatus: { status: "VALID", validationError: null }, payloadId: `0x${"00".repeat(8)}` };

async function refusalOf(url: string, window: AbortSignal) {
  const result = await raceBuilders({
    builders: [{ name: "builder", engine: new EngineClient({ url, deadlineMs: 60_000 }) }],
    state: STATE,
    attributes: ATTRIBUTES,
    deviation: () => assert.fail("there is no payload"),
    judge: () => assert.fail("there is no payload"),
    window,
    staggerMs: 0,
    retryMs: 1,
    refused: () => undefined,
  });
  return "refusal" in result ? result.refusal : "a payload";
}

for (const slow of ["engine_forkchoiceUpdatedV3", "engine_getPayloadV4"]) {
  test(`a builder that has not answered ${slow} when the window ends gave no payload: it was there`, async (context) => {
    const window = new AbortController();
    const held: RpcMethod = () => {
      window.abort();
      return new Promise(() => undefined);
    };
    const methods = { engine_forkchoiceUpdatedV3: () => BEGUN, [slow]: held };
    const server = await serveJsonRpc({ host: "127.0.0.1", port: 0, methods });
    context.after(() => server.close());
    assert.equal(await refusalOf(`http://127.0.0.1:${server.port}`, window.signal), "NO_PAYLOAD");
  });
}

test("a builder whose connections break until the window ends is unreachable", async (context) => {
  const window = new AbortController();
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    if (connections === 3) window.abort();
    socket.destroy();
  }).listen(0, "127.0.0.1");
  context.after(() => server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  assert.equal(await refusalOf(`http://127.0.0.1:${port}`, window.signal), "BUILDERS_UNREACHABLE");
});

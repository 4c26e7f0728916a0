import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { VmBuilder } from "../../test/vm-builder.ts";
import { ProgramFailure } from "./child-process.ts";
import { EngineClient } from "./engine-client.ts";
import { type ExecutionClient, ensureJwtSecret, startExecutionClient } from "./execution-client.ts";
import type { BlockInput, Hex, PayloadEnvelope } from "./execution-payload.ts";
import { type GethGenesis, localGenesis } from "./genesis.ts";
import { CallFailure, callJsonRpc } from "./json-rpc-call.ts";
import { hex } from "./slot-attributes.ts";

const SECRET = new Uint8Array(32).fill(1);
const SENDER = hex(addressOfSecret(SECRET));
const TO: Hex = `0x${"aa".repeat(20)}`;
const BEACON_ROOT: Hex = `0x${"05".repeat(32)}`;
const ZERO: Hex = `0x${"0".repeat(64)}`;
const STORED: Hex = `0x${"cc".repeat(20)}`;

let folder: string;
let genesis: GethGenesis;
let client: ExecutionClient;
let engine: EngineClient;
let builder: VmBuilder;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "lattice-chain-"));
  genesis = localGenesis({
    chainId: 31_337n,
    timestampS: Math.floor(Date.now() / 1000) - 100,
    gasLimit: 30_000_000n,
    alloc: {
      [SENDER]: { balanceWei: 10n ** 20n },
      // PUSH1 0, SLOAD, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN
      [STORED]: { nonce: 1n, code: "0x60005460005260206000f3", storage: { [ZERO]: `0x${"0".repeat(62)}2a` } },
    },
  });
  const jwtFile = join(folder, "jwt");
  const jwtSecret = await ensureJwtSecret(jwtFile);
  client = await startExecutionClient({ dataDir: join(folder, "client"), genesis, jwtFile });
  engine = new EngineClient({ url: client.engineUrl, jwtSecret, deadlineMs: 10_000 });
  builder = await VmBuilder.create(genesis);
});

after(async () => {
  await client.stop();
  await rm(folder, { recursive: true });
});

const rpc = (method: string, ...params: unknown[]): Promise<unknown> =>
  callJsonRpc({ url: client.rpcUrl }, method, params, { deadlineMs: 60_000 });

function build(parentHash: Hex, offset: number, nonce: bigint): Promise<PayloadEnvelope> {
  const fields = {
    parentHash,
    timestamp: BigInt(genesis.timestamp) + BigInt(offset),
    prevRandao: `0x${offset.toString(16).padStart(64, "0")}`,
    feeRecipient: `0x${"22".repeat(20)}`,
    gasLimit: 30_000_000n,
    parentBeaconBlockRoot: BEACON_ROOT,
    extraData: "0x6c617474696365",
  } as const;
  return builder.build(fields, [builder.transfer(SECRET, nonce, TO)]);
}

const input = (envelope: PayloadEnvelope): BlockInput => ({ ...envelope, parentBeaconBlockRoot: BEACON_ROOT });
const setHead = (headBlockHash: Hex) =>
  engine.forkchoiceUpdated({ headBlockHash, safeBlockHash: ZERO, finalizedBlockHash: ZERO });

test("genesis, import and head: what is built elsewhere is VALID to the client, what is tampered with is not", async () => {
  const first = (await rpc("eth_getBlockByNumber", "0x0", false)) as { hash: string };
  assert.equal(first.hash, builder.genesisHash);
  assert.equal(BigInt(String(await rpc("eth_call", { to: STORED }, "latest"))), 42n, "genesis storage");

  const block = await build(builder.genesisHash, 2, 0n);
  const { executionPayload } = block;
  const tampered: Partial<typeof executionPayload>[] = [
    { stateRoot: ZERO },
    { gasUsed: "0x5209" },
    { feeRecipient: TO },
    { extraData: "0x" },
    { transactions: [] },
  ];
  for (const change of tampered) {
    const status = await engine.newPayload(input({ ...block, executionPayload: { ...executionPayload, ...change } }));
    assert.equal(status.status, "INVALID", Object.keys(change)[0]);
  }
  const wrongRoot = await engine.newPayload({ ...block, parentBeaconBlockRoot: ZERO });
  assert.equal(wrongRoot.status, "INVALID", "another beacon root");
  assert.equal((await engine.newPayload(input(block))).status, "VALID");
  assert.equal((await setHead(executionPayload.blockHash)).payloadStatus.status, "VALID");
  assert.equal(await rpc("eth_blockNumber"), "0x1");
  assert.equal(await rpc("eth_getBalance", TO, "latest"), "0x1");
});

test("kill -9 and start again: the head is where it was, and the chain goes on", async () => {
  const head = (await rpc("eth_getBlockByNumber", "latest", false)) as { hash: Hex };
  await client.program.kill();
  await assert.rejects(
    rpc("eth_blockNumber"),
    (error) => error instanceof CallFailure && error.reason === "UNREACHABLE",
  );
  client = await startExecutionClient({
    dataDir: join(folder, "client"),
    genesis,
    jwtFile: join(folder, "jwt"),
    rpcPort: client.rpcPort,
    enginePort: client.enginePort,
  });
  assert.deepEqual(((await rpc("eth_getBlockByNumber", "latest", false)) as { hash: Hex }).hash, head.hash);
  const next = await build(head.hash, 4, 1n);
  assert.equal((await engine.newPayload(input(next))).status, "VALID");
  assert.equal((await setHead(next.executionPayload.blockHash)).payloadStatus.status, "VALID");
  assert.equal(await rpc("eth_blockNumber"), "0x2");
});

test("every failed call says of which kind it is", async () => {
  const stranger = new EngineClient({ url: client.engineUrl, jwtSecret: new Uint8Array(32), deadlineMs: 60_000 });
  await assert.rejects(stranger.getPayload("0x0000000000000001"), { name: "CallFailure", reason: "UNAUTHORIZED" });
  await assert.rejects(engine.getPayload("0x0000000000000001"), { name: "CallFailure", reason: "RPC_ERROR" });

  const silent = createServer();
  silent.listen(0, "127.0.0.1");
  await once(silent, "listening");
  const address = silent.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const slow = new EngineClient({ url: `http://127.0.0.1:${port}`, deadlineMs: 50 });
  await assert.rejects(slow.getPayload("0x0000000000000001"), { name: "CallFailure", reason: "DEADLINE" });
  silent.close();
});

test("a port in use and a genesis that is none are one readable refusal", async () => {
  const options = { dataDir: join(folder, "other"), genesis, jwtFile: join(folder, "jwt") };
  await assert.rejects(startExecutionClient({ ...options, rpcPort: client.rpcPort }), { reason: "PORT_IN_USE" });
  await assert.rejects(
    startExecutionClient({ ...options, genesis: { ...genesis, gasLimit: "0xnothing" as Hex } }),
    (error) => error instanceof ProgramFailure && error.reason === "DIED" && error.tail.length > 0,
  );
});

test("an account may not stand where a system contract is", () => {
  const options = { chainId: 1n, timestampS: 0, gasLimit: 1n };
  assert.throws(
    () => localGenesis({ ...options, alloc: { "0x000F3df6D732807Ef1319fB7B8bB8522d0Beac02": {} } }),
    RangeError,
  );
  assert.throws(() => localGenesis({ ...options, alloc: { "0x12": {} } }), RangeError);
  assert.throws(() => localGenesis({ ...options, alloc: { [TO]: { storage: { "0x01": "0x01" } } } }), RangeError);
});

test("genesis storage is written as the trie holds it", () => {
  const one: Hex = `0x${"1".padStart(64, "0")}`;
  const padded = localGenesis({
    chainId: 1n,
    timestampS: 0,
    gasLimit: 1n,
    alloc: { [STORED]: { nonce: 1n, storage: { [ZERO]: `0x${"0".repeat(62)}2a`, [one]: ZERO } } },
  });
  assert.deepEqual(padded.alloc[STORED]?.storage, { [ZERO]: "0x2a" });
});

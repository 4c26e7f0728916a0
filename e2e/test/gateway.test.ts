/**
 * Unmodified wallets through a gateway in front of an execution client that nobody here wrote. There is no committee
 * behind it: the test puts into blocks what the wallets handed over, so that nothing depends on rounds.
 */

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { EngineClient } from "@lattice/deploy/chain/engine-client.ts";
import { type ExecutionClient, ensureJwtSecret, startExecutionClient } from "@lattice/deploy/chain/execution-client.ts";
import type { Hex } from "@lattice/deploy/chain/execution-payload.ts";
import { localGenesis } from "@lattice/deploy/chain/genesis.ts";
import { SETTINGS } from "@lattice/gateway/config.ts";
import { type RunningGateway, startGateway } from "@lattice/gateway/gateway.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import type { EndpointsFile } from "@lattice/organism/node/kit.ts";
import { createNoMeters } from "@lattice/organism/observe/meters.ts";
import { JsonRpcProvider, Wallet } from "ethers";
import { createPublicClient, createWalletClient, defineChain, http, parseEther } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { VmBuilder } from "../../deploy/test/vm-builder.ts";
import { dealtLattice, LogBook } from "../../gateway/test/fixture.ts";

const BEACON_ROOT: Hex = `0x${"05".repeat(32)}`;
const ZERO: Hex = `0x${"0".repeat(64)}`;
const TO: Hex = `0x${"aa".repeat(20)}`;

describe("wallets through the gateway", { timeout: 900_000 }, () => {
  const viemAccount = privateKeyToAccount(generatePrivateKey());
  const ethersKey = generatePrivateKey();
  const log = new LogBook();
  /** Raw transactions as they went over the wire to the gateway. */
  const handedOver: Uint8Array[] = [];
  const fatal: string[] = [];
  let folder: string;
  let client: ExecutionClient;
  let engine: EngineClient;
  let builder: VmBuilder;
  let gateway: RunningGateway;
  let url: string;
  let provider: JsonRpcProvider | undefined;
  let head: Hex;
  let timestamp: bigint;

  before(async () => {
    await initCrypto();
    folder = await mkdtemp(join(tmpdir(), "lattice-gateway-"));
    const timestampS = Math.floor(Date.now() / 1000) - 1000;
    const balanceWei = 10n ** 20n;
    const genesis = localGenesis({
      chainId: 31_337n,
      timestampS,
      gasLimit: 30_000_000n,
      alloc: { [viemAccount.address]: { balanceWei }, [new Wallet(ethersKey).address]: { balanceWei } },
    });
    const jwtFile = join(folder, "jwt");
    const jwtSecret = await ensureJwtSecret(jwtFile);
    client = await startExecutionClient({ dataDir: join(folder, "client"), genesis, jwtFile });
    engine = new EngineClient({ url: client.engineUrl, jwtSecret, deadlineMs: 20_000 });
    builder = await VmBuilder.create(genesis);
    head = builder.genesisHash;
    timestamp = BigInt(timestampS);
    const nobody = Object.fromEntries([...ORGANISMS, "aggregator"].map((organism) => [organism, ["127.0.0.1:1"]]));
    const settings = SETTINGS.parse({
      GATEWAY_LISTEN: "127.0.0.1:0",
      GATEWAY_CHAIN_RPC: client.rpcUrl,
      GATEWAY_DATA_DIR: join(folder, "gateway"),
      GATEWAY_CLIENTS: "1",
    });
    gateway = await startGateway({
      settings,
      ...dealtLattice(),
      endpoints: () => nobody as unknown as EndpointsFile,
      clock: { nowMs: () => Date.now() },
      log,
      meters: createNoMeters(),
      onFatal: (reason) => fatal.push(reason),
    });
    url = `http://127.0.0.1:${gateway.port}`;
  });
  after(async () => {
    // Not earlier: it may still ask for a receipt when the last one has come, and what it cuts off is an error to nobody.
    provider?.destroy();
    await gateway?.stop();
    await client?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  async function setHead(hash: Hex): Promise<void> {
    const state = { headBlockHash: hash, safeBlockHash: ZERO, finalizedBlockHash: ZERO };
    assert.equal((await engine.forkchoiceUpdated(state)).payloadStatus.status, "VALID");
    head = hash;
  }

  /** A block on `parent` that becomes the head. */
  async function mine(transactions: readonly Uint8Array[], parent: Hex = head): Promise<void> {
    if (parent !== head) await setHead(parent);
    timestamp += 2n;
    const fields = {
      parentHash: parent,
      timestamp,
      prevRandao: `0x${timestamp.toString(16).padStart(64, "0")}`,
      feeRecipient: `0x${"22".repeat(20)}`,
      gasLimit: 30_000_000n,
      parentBeaconBlockRoot: BEACON_ROOT,
      extraData: "0x",
    } as const;
    const envelope = await builder.build(fields, transactions);
    const input = { ...envelope, parentBeaconBlockRoot: BEACON_ROOT };
    assert.equal((await engine.newPayload(input)).status, "VALID");
    await setHead(envelope.executionPayload.blockHash);
  }

  async function call(method: string, params: readonly unknown[]): Promise<unknown> {
    const response = await fetch(url, {
      method: "POST",
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
    });
    const { result, error } = (await response.json()) as { result?: unknown; error?: { message: string } };
    if (error !== undefined) throw new Error(error.message);
    return result;
  }

  /** Polls until it holds; the test's own timeout ends it otherwise. */
  async function until(holds: () => Promise<boolean>): Promise<void> {
    while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  const noteRaw = (body: string): void => {
    const parsed = JSON.parse(body) as { method: string; params: string[] } | { method: string; params: string[] }[];
    for (const { method, params } of [parsed].flat()) {
      if (method !== "eth_sendRawTransaction") continue;
      handedOver.push(new Uint8Array(Buffer.from(String(params[0]).slice(2), "hex")));
    }
  };

  const chain = defineChain({
    id: 31_337,
    name: "lattice",
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [] } },
  });

  test("viem: three in a row before any is public, then receipts, then a reorg", async () => {
    const transport = http(url, { onFetchRequest: (_, init) => noteRaw(String(init.body)) });
    const wallet = createWalletClient({ account: viemAccount, chain, transport });
    const reader = createPublicClient({ chain, transport, pollingInterval: 100 });
    handedOver.length = 0;
    await mine([]);
    const hashes: Hex[] = [];
    for (let index = 0; index < 3; index++)
      hashes.push(await wallet.sendTransaction({ to: TO, value: parseEther("0.01") }));
    assert.equal(new Set(hashes).size, 3);
    assert.equal(await reader.getTransactionCount({ address: viemAccount.address, blockTag: "pending" }), 3);
    assert.equal(await reader.getTransactionCount({ address: viemAccount.address }), 0);
    for (const hash of hashes) assert.equal(await call("eth_getTransactionReceipt", [hash]), null);
    const forkAt = head;
    await mine(handedOver.slice());
    for (const hash of hashes) {
      const receipt = await reader.waitForTransactionReceipt({ hash });
      assert.equal(receipt.status, "success");
      assert.equal(receipt.blockHash, head);
    }
    assert.deepEqual(await call("lattice_getSubmission", [hashes[0]]), {
      status: "landed",
      slot: "0x0",
      reason: "",
      blockHash: head,
    });

    await mine([], forkAt);
    await until(async () => (await call("eth_getTransactionReceipt", [hashes[0]])) === null);
    const statusOf = async (): Promise<string> =>
      ((await call("lattice_getSubmission", [hashes[2]])) as { status: string }).status;
    // It waits for its block again, or goes again, as soon as the gateway has seen the other block too.
    await until(async () => /^(?:broadcast|pending)$/.test(await statusOf()));
    assert.equal(await reader.getTransactionCount({ address: viemAccount.address, blockTag: "pending" }), 3);
    await mine(handedOver.slice());
    assert.equal((await reader.waitForTransactionReceipt({ hash: hashes[2] ?? ZERO })).blockHash, head);
    await assert.rejects(
      wallet.sendTransaction({ to: TO, nonce: 0, gas: 21_000n, maxFeePerGas: 10n ** 10n, value: 1n }),
      /nonce too low|lower than the current nonce/i,
    );
    await assert.rejects(
      wallet.sendTransaction({ to: TO, nonce: 3, gas: 21_000n, maxFeePerGas: 10n ** 10n, value: 10n ** 21n }),
      /insufficient funds|exceeds the balance/i,
    );
  });

  test("ethers: two in a row, waited for; its own words for a used nonce and an empty account", async () => {
    // Without its cache of 250 ms, in which it would count twice from the same nonce on any node.
    const asking = new JsonRpcProvider(url, undefined, { pollingInterval: 100, cacheTimeout: -1 });
    provider = asking;
    await asking.on("debug", ({ action, payload }: { action: string; payload: unknown }) => {
      if (action === "sendRpcPayload") noteRaw(JSON.stringify(payload));
    });
    const wallet = new Wallet(ethersKey, asking);
    handedOver.length = 0;
    const first = await wallet.sendTransaction({ to: TO, value: 5n });
    const second = await wallet.sendTransaction({ to: TO, value: 6n });
    assert.deepEqual([first.nonce, second.nonce], [0, 1]);
    assert.equal(await asking.getTransactionReceipt(first.hash), null);
    assert.equal(await asking.getTransaction(first.hash), null);
    let waiting = true;
    const receipts = Promise.all([first.wait(), second.wait()]).finally(() => {
      waiting = false;
    });
    await mine(handedOver.slice());
    const block = head;
    // It looks at blocks that come after it began to watch, as they do on a chain that goes on.
    while (waiting) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      await mine([]);
    }
    for (const receipt of await receipts) assert.equal(receipt?.blockHash, block);
    const common = { to: TO, gasLimit: 21_000n, maxFeePerGas: 10n ** 10n, maxPriorityFeePerGas: 1n, type: 2 };
    await assert.rejects(wallet.sendTransaction({ ...common, nonce: 0 }), { code: "NONCE_EXPIRED" });
    await assert.rejects(wallet.sendTransaction({ ...common, nonce: 2, value: 10n ** 21n }), {
      code: "INSUFFICIENT_FUNDS",
    });
  });

  test("without a committee the gateway is alive, not ready; nothing of the wallets is in its log", async () => {
    assert.equal((await fetch(`${url}/healthz`)).status, 200);
    assert.equal((await fetch(`${url}/readyz`)).status, 503);
    const lines = log.lines.join("\n").toLowerCase();
    for (const raw of handedOver) assert.ok(!lines.includes(Buffer.from(raw).toString("hex").slice(0, 40)));
    assert.ok(!lines.includes(viemAccount.address.slice(2).toLowerCase()));
  });

  test("with another process on its folder it takes nothing over, and ends", async () => {
    const other = await FileJournal.open(join(folder, "gateway"));
    const wallet = createWalletClient({ account: viemAccount, chain, transport: http(url, { retryCount: 0 }) });
    for (let turn = 0; turn < 2; turn++) await assert.rejects(wallet.sendTransaction({ to: TO, value: 1n }));
    assert.deepEqual(fatal, ["JOURNAL_LOST"]);
    await other.close();
  });

  test("the node away: what the config knows is still said, the rest is one typed refusal", async () => {
    await client.stop();
    assert.equal(await call("eth_chainId", []), "0x7a69");
    await assert.rejects(call("eth_blockNumber", []), /does not answer/);
    await assert.rejects(call("eth_getTransactionCount", [viemAccount.address, "pending"]), /does not answer/);
  });
});

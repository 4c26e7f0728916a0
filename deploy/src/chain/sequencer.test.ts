import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { decode, fromHex } from "@lattice/organism/codec/codec.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import {
  SEQUENCER_ACKNOWLEDGEMENT,
  SEQUENCER_ATTRIBUTES,
  type SequencerAcknowledgement,
  verifyAcknowledgement,
  verifyAttributes,
} from "@lattice/organism/outcomes/sequencer.ts";
import { BuilderEndpoint, type Dishonesty } from "../../test/builder-endpoint.ts";
import { VmBuilder } from "../../test/vm-builder.ts";
import { EngineClient } from "./engine-client.ts";
import { type ExecutionClient, ensureJwtSecret, startExecutionClient } from "./execution-client.ts";
import type { Hex } from "./execution-payload.ts";
import { type GethGenesis, localGenesis } from "./genesis.ts";
import { callJsonRpc } from "./json-rpc-call.ts";
import { Sequencer, type SequencerOptions } from "./sequencer.ts";
import { type SequencerServers, serveSequencer } from "./sequencer-api.ts";
import { hex } from "./slot-attributes.ts";

const SEQUENCER_KEY = new Uint8Array(32).fill(3);
const SEQUENCER = addressOfSecret(SEQUENCER_KEY);
const SENDER_KEY = new Uint8Array(32).fill(1);
const LATTICE_ID = new Uint8Array(32).fill(9);
const SLOT_MS_MIN = 700;
const DEADLINE_MS = 120_000;

let folder: string;
let genesis: GethGenesis;
let client: ExecutionClient;
let jwtSecret: Uint8Array;
let endpoints: BuilderEndpoint[];
let options: SequencerOptions;
let sequencer: Sequencer;
let servers: SequencerServers;

/** So long that a builder is in time on this machine: it has some times as much to do in a slot as to make a block. */
async function slotMsHere(builder: VmBuilder, engine: EngineClient): Promise<number> {
  let tookMs = 0;
  // The first one takes much longer than those that follow.
  for (const offset of [1n, 2n, 3n]) {
    const began = performance.now();
    const parentBeaconBlockRoot: Hex = `0x${"00".repeat(32)}`;
    const fields = {
      parentHash: builder.genesisHash,
      timestamp: BigInt(genesis.timestamp) + offset,
      prevRandao: parentBeaconBlockRoot,
      feeRecipient: `0x${"22".repeat(20)}`,
      gasLimit: 30_000_000n,
      parentBeaconBlockRoot,
      extraData: "0x",
    } as const;
    const envelope = await builder.build(fields, [builder.transfer(SENDER_KEY, 0n, `0x${"aa".repeat(20)}`)]);
    assert.equal((await engine.newPayload({ ...envelope, parentBeaconBlockRoot })).status, "VALID");
    tookMs = performance.now() - began;
  }
  return Math.max(SLOT_MS_MIN, Math.ceil(20 * tookMs));
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "lattice-sequencer-"));
  const nowMs = Date.now();
  genesis = localGenesis({
    chainId: 31_337n,
    timestampS: Math.floor(nowMs / 1000) - 100,
    gasLimit: 30_000_000n,
    alloc: { [hex(addressOfSecret(SENDER_KEY))]: { balanceWei: 10n ** 20n } },
  });
  jwtSecret = await ensureJwtSecret(join(folder, "jwt"));
  client = await startExecutionClient({ dataDir: join(folder, "client"), genesis, jwtFile: join(folder, "jwt") });
  const builder = await VmBuilder.create(genesis);
  const endpoint = { builder, rpcUrl: client.rpcUrl, jwtSecret, sequencer: SEQUENCER, secret: SENDER_KEY };
  endpoints = [new BuilderEndpoint(endpoint), new BuilderEndpoint(endpoint)];
  for (const each of endpoints) await each.start();
  const engine = new EngineClient({ url: client.engineUrl, jwtSecret, deadlineMs: 60_000 });
  const slotMs = await slotMsHere(builder, engine);
  options = {
    rules: {
      latticeId: LATTICE_ID,
      chainId: 31_337n,
      genesisMs: Date.now(),
      slotMs,
      feeRecipient: new Uint8Array(20).fill(0x22),
      extraData: new TextEncoder().encode("lattice"),
    },
    secret: SEQUENCER_KEY,
    engine,
    rpcUrl: client.rpcUrl,
    builders: endpoints.map(({ url }, index) => ({
      name: `builder ${index}`,
      engine: new EngineClient({ url, jwtSecret, deadlineMs: 5000 }),
    })),
    storeFile: join(folder, "blocks.jsonl"),
    fallback: "import",
    finalityDepth: 3,
    windowMs: slotMs - 100,
    staggerMs: 0,
    retryMs: 20,
    logger: createLogger("silent", {}),
  };
  sequencer = await Sequencer.open(options);
  servers = await serveSequencer(sequencer, { port: 0, adminPort: 0 });
  sequencer.start();
});

after(async () => {
  await sequencer.close();
  await servers.close();
  for (const each of endpoints) await each.stop();
  await client.stop();
  await rm(folder, { recursive: true });
});

const call = (port: number, method: string, ...params: unknown[]): Promise<unknown> =>
  callJsonRpc({ url: `http://127.0.0.1:${port}` }, method, params, { deadlineMs: 60_000 });
const member = (method: string, ...params: unknown[]): Promise<unknown> =>
  call(servers.members.port, method, ...params);
const admin = (method: string, ...params: unknown[]): Promise<unknown> => call(servers.admin.port, method, ...params);
const block = async (tag: string): Promise<{ hash: Hex; parentHash: Hex; number: Hex; transactions: unknown[] }> =>
  (await callJsonRpc({ url: client.rpcUrl }, "eth_getBlockByNumber", [tag, false], { deadlineMs: 60_000 })) as never;

/** Polls until `probe` gives something. */
async function until<T>(probe: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const found = await probe();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error("waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The signed acknowledgement of a slot, once it is decided; undefined when the slot was passed over. */
async function acknowledgementOf(slot: bigint): Promise<SequencerAcknowledgement | undefined> {
  const answer = await until(async () => {
    try {
      return (await member("lattice_acknowledgement", `0x${slot.toString(16)}`)) as Record<string, Hex>;
    } catch (error) {
      if (error instanceof Error && error.message.includes("passed over")) return null;
      return undefined;
    }
  });
  if (answer === null) return undefined;
  const acknowledgement = decode(SEQUENCER_ACKNOWLEDGEMENT, fromHex(answer["acknowledgement"] ?? ""));
  assert.ok(verifyAcknowledgement(SEQUENCER, acknowledgement, fromHex(answer["signature"] ?? "")));
  assert.equal(acknowledgement.slot, slot);
  return acknowledgement;
}

/** Slots end like this where a machine is too busy for a builder, or for an execution client that has just come back. */
const TOO_SLOW = ["NO_PAYLOAD", "CLIENT_DOWN"];

/** How a slot ends in which all builders behave like this. Slots that a busy machine passed over are tried again. */
async function slotWith(...dishonesties: (Dishonesty | undefined)[]): Promise<SequencerAcknowledgement> {
  for (;;) {
    const before = sequencer.status();
    const next = BigInt(before.nextSlot ?? 0);
    // The slot that is pending may have begun: what is set now holds for the one after it.
    for (const [index, each] of endpoints.entries()) each.dishonesty = dishonesties[index] ?? dishonesties[0];
    const first = await acknowledgementOf(next + 1n);
    if (first !== undefined && !TOO_SLOW.includes(first.reason)) return first;
  }
}

test("a slot: signed attributes, a block of the lattice, a signed acknowledgement told to everybody", async () => {
  const next = await until(() => sequencer.status().nextSlot ?? undefined);
  const answer = (await member("lattice_attributes", next)) as Record<string, Hex>;
  const attributes = decode(SEQUENCER_ATTRIBUTES, fromHex(answer["attributes"] ?? ""));
  assert.ok(verifyAttributes(SEQUENCER, attributes, fromHex(answer["signature"] ?? "")));
  assert.equal(answer["sequencer"], hex(SEQUENCER));
  await assert.rejects(member("lattice_attributes", next + 1000), { reason: "RPC_ERROR", code: -32_001 });
  await assert.rejects(member("lattice_attributes", -1), { code: -32_602 });
  await assert.rejects(member("lattice_reorg", 1), { code: -32_601 }, "not on the members' port");

  const acknowledgement = await slotWith(undefined);
  assert.equal(acknowledgement.outcome, "accepted");
  const head = await block("latest");
  assert.equal(head.transactions.length, 1);
  await until(() => {
    const heard = endpoints.every(({ acknowledged }) =>
      acknowledged.some(
        ({ canonical }) => decode(SEQUENCER_ACKNOWLEDGEMENT, fromHex(canonical)).slot === acknowledgement.slot,
      ),
    );
    return heard || undefined;
  });
  const health = await fetch(`http://127.0.0.1:${servers.members.port}/healthz`);
  assert.equal(health.status, 200);
});

test("a payload that departs from its attributes in any field is refused, and an empty block fills the slot", async () => {
  const other: Hex = `0x${"0f".repeat(32)}`;
  const deviations: Record<string, [Dishonesty, string]> = {
    feeRecipient: [{ fields: (fields) => ({ ...fields, feeRecipient: `0x${"33".repeat(20)}` }) }, "PAYLOAD_DEVIATES"],
    gasLimit: [{ fields: (fields) => ({ ...fields, gasLimit: fields.gasLimit - 1n }) }, "PAYLOAD_DEVIATES"],
    timestamp: [{ fields: (fields) => ({ ...fields, timestamp: fields.timestamp + 1n }) }, "PAYLOAD_DEVIATES"],
    prevRandao: [{ fields: (fields) => ({ ...fields, prevRandao: other }) }, "PAYLOAD_DEVIATES"],
    extraData: [{ fields: (fields) => ({ ...fields, extraData: "0x00" }) }, "PAYLOAD_DEVIATES"],
    parent: [
      { fields: async (fields) => ({ ...fields, parentHash: await grandparent(fields.parentHash) }) },
      "PAYLOAD_DEVIATES",
    ],
    "beacon root": [{ fields: (fields) => ({ ...fields, parentBeaconBlockRoot: other }) }, "PAYLOAD_INVALID"],
    "state root": [
      { envelope: (given) => ({ ...given, executionPayload: { ...given.executionPayload, stateRoot: other } }) },
      "PAYLOAD_INVALID",
    ],
    "no payload at all": [{ envelope: () => ({ executionPayload: null }) }, "PAYLOAD_MALFORMED"],
  };
  for (const [name, [dishonesty, reason]] of Object.entries(deviations)) {
    const acknowledgement = await slotWith(dishonesty);
    assert.equal(acknowledgement.outcome, "fallback", name);
    assert.equal(acknowledgement.reason, reason, name);
    const standing = (await callJsonRpc(
      { url: client.rpcUrl },
      "eth_getBlockByHash",
      [hex(acknowledgement.blockHash), false],
      { deadlineMs: 60_000 },
    )) as { transactions: unknown[]; parentHash: Hex };
    assert.deepEqual(standing.transactions, [], name);
    assert.equal(standing.parentHash, hex(acknowledgement.parentHash));
  }
});

async function grandparent(hash: Hex): Promise<Hex> {
  const parent = await callJsonRpc({ url: client.rpcUrl }, "eth_getBlockByHash", [hash, false], { deadlineMs: 60_000 });
  return (parent as { parentHash: Hex }).parentHash;
}

test("one honest builder is enough", async () => {
  const bad: Dishonesty = { fields: (fields) => ({ ...fields, extraData: "0x00" }) };
  // On a busy machine the honest one may be too late.
  for (;;) {
    const { outcome, reason } = await slotWith(bad, {});
    if (outcome === "accepted") return;
    assert.equal(reason, "PAYLOAD_DEVIATES");
  }
});

test("a reorg on demand: another block in the old one's place, and the lattice builds on it", async () => {
  await slotWith(undefined);
  const before = await until(async () => {
    const head = await block("latest");
    return BigInt(head.number) > 5n ? head : undefined;
  });
  const result = (await admin("lattice_reorg", 2)) as { number: number; replaced: Hex; head: Hex; parent: Hex };
  assert.notEqual(result.head, result.replaced);
  assert.ok(BigInt(result.number) >= BigInt(before.number) - 1n);
  assert.notEqual((await block(`0x${result.number.toString(16)}`)).hash, result.replaced);
  const acknowledgement = await slotWith(undefined);
  assert.equal(acknowledgement.outcome, "accepted");
  assert.equal(
    (await block(`0x${result.number.toString(16)}`)).hash,
    result.head,
    "still canonical under the new blocks",
  );
  await assert.rejects(admin("lattice_reorg", 50), { code: -32_003 });
  await assert.rejects(admin("lattice_reorg", 0), { code: -32_003 });
});

test("a lost execution client gets its blocks back, a restarted sequencer stands where it stood", async () => {
  await sequencer.close();
  await servers.close();
  const { head, lastDecidedSlot } = sequencer.status();
  const last = sequencer.acknowledgement(BigInt(lastDecidedSlot));
  await client.program.kill();
  await rm(join(folder, "client"), { recursive: true });
  // What a crash leaves of a line that was being written.
  await writeFile(options.storeFile, '{"type":"slot","slot":"99', { flag: "a" });
  client = await startExecutionClient({
    dataDir: join(folder, "client"),
    genesis,
    jwtFile: join(folder, "jwt"),
    rpcPort: client.rpcPort,
    enginePort: client.enginePort,
  });
  assert.equal(BigInt((await block("latest")).number), 0n);
  sequencer = await Sequencer.open(options);
  servers = await serveSequencer(sequencer, { port: 0, adminPort: 0 });
  assert.deepEqual(sequencer.status().head, head);
  assert.deepEqual(sequencer.acknowledgement(BigInt(lastDecidedSlot)), last);
  sequencer.start();
  await until(() => sequencer.status().clientAligned || undefined);
  assert.equal((await block(`0x${head.number.toString(16)}`)).hash, head.hash);
  assert.equal((await slotWith(undefined)).outcome, "accepted");
});

test("an execution client killed between slots: the slots are lost, nothing else", async () => {
  await client.program.kill();
  const lost = await until(async () => {
    const each = await acknowledgementOf(BigInt(sequencer.status().nextSlot ?? 0));
    return each?.outcome === "none" ? each : undefined;
  });
  assert.equal(lost.reason, "CLIENT_DOWN");
  assert.equal((await fetch(`http://127.0.0.1:${servers.members.port}/healthz`)).status, 503);
  const { head } = sequencer.status();
  client = await startExecutionClient({
    dataDir: join(folder, "client"),
    genesis,
    jwtFile: join(folder, "jwt"),
    rpcPort: client.rpcPort,
    enginePort: client.enginePort,
  });
  const acknowledgement = await slotWith(undefined);
  assert.equal(acknowledgement.outcome, "accepted");
  assert.equal((await block(`0x${head.number.toString(16)}`)).hash, head.hash);
});

test("builders that are gone: the fallback block, or by policy no block at all", async () => {
  for (const each of endpoints) await each.stop();
  const imported = await until(async () => {
    const each = await acknowledgementOf(BigInt(sequencer.status().nextSlot ?? 0));
    return each?.reason === "BUILDERS_UNREACHABLE" ? each : undefined;
  });
  assert.equal(imported.outcome, "fallback");
  await admin("lattice_setFallback", "hold");
  await assert.rejects(admin("lattice_setFallback", "perhaps"), { code: -32_602 });
  const held = await until(async () => {
    const each = await acknowledgementOf(BigInt(sequencer.status().nextSlot ?? 0));
    return each?.outcome === "none" ? each : undefined;
  });
  assert.equal(hex(held.blockHash), `0x${"00".repeat(32)}`);
  assert.equal(hex(held.parentHash), sequencer.status().head.hash);
});

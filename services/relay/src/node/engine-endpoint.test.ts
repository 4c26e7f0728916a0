import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { encode, toHex } from "@lattice/organism/codec/codec.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { abstainingJournal } from "@lattice/organism/node/abstaining-journal.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import type { CandidateBody } from "@lattice/organism/outcomes/atelier.ts";
import { SEQUENCER_ACKNOWLEDGEMENT } from "@lattice/organism/outcomes/sequencer.ts";
import type { MemberHost } from "@lattice/organism/service.ts";
import { freePort } from "@lattice/organism/testing/free-port.ts";
import {
  acknowledgement,
  candidateBody,
  candidateOutcome,
  dealRelay,
  encodedBody,
  filled,
  PARENT,
  SLOT,
} from "../../test/fixture.ts";
import type { RelaySettings } from "../config.ts";
import type { SignedAcknowledgement } from "../core/codec.ts";
import type { RelayCommand, RelayState } from "../core/types.ts";
import { EngineEndpoint } from "./engine-endpoint.ts";

const SECRET = filled(32, 5);
const hex = (bytes: Uint8Array): string => `0x${toHex(bytes)}`;

function token(secret: Uint8Array, iatS: number): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ iat: iatS })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** A door in front of one candidate; log and neighbours are what the test says, the journal is a real one. */
async function open(t: TestContext, body: CandidateBody = candidateBody()) {
  const directory = mkdtempSync(join(tmpdir(), "lattice-relay-"));
  const { config } = dealRelay();
  writeFileSync(join(directory, "jwt"), toHex(SECRET));
  const journal = await FileJournal.open(directory);
  const state: RelayState = { shipped: new Map() };
  const submitted: RelayCommand[] = [];
  const heard: SignedAcknowledgement[] = [];
  const now: { ms: number; candidate: CandidateBody | undefined; abstainBelow: bigint } = {
    ms: slotStartMs(config, SLOT),
    candidate: body,
    abstainBelow: 0n,
  };
  const port = await freePort();
  const host = {
    config,
    self: 0,
    journal: abstainingJournal(journal, (slot) => slot < now.abstainBelow),
    settings: { RELAY_ENGINE_LISTEN: `127.0.0.1:${port}`, RELAY_ENGINE_JWT_FILE: join(directory, "jwt") },
    // Every look takes a while, so that waiting ends.
    clock: { nowMs: () => (now.ms += 20) },
    log: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
    state: () => state,
    observed: (organism: string, stage: string, slot: bigint) =>
      organism === "atelier" && stage === "candidate" && now.candidate?.slot === slot
        ? candidateOutcome(config, now.candidate, slot)
        : undefined,
    fetchBody: async () => encodedBody(now.candidate ?? candidateBody()),
    submit: async ({ command }: { command: RelayCommand }) => {
      submitted.push(command);
      return undefined;
    },
  } as unknown as MemberHost<RelayState, RelayCommand, RelaySettings>;
  const door = new EngineEndpoint(host, { hear: (signed) => heard.push(signed) });
  await door.start();
  t.after(async () => {
    await door.stop();
    await journal.close();
    rmSync(directory, { recursive: true });
  });
  const post = (text: string, bearer = token(SECRET, now.ms / 1000)): Promise<Response> =>
    fetch(`http://127.0.0.1:${port}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${bearer}` },
      body: text,
    });
  const call = async (method: string, params: unknown[]): Promise<{ result?: unknown; error?: RpcProblem }> =>
    (await (await post(JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }))).json()) as never;
  return { config, now, host, post, call, submitted, heard };
}

interface RpcProblem {
  readonly code: number;
  readonly data?: { readonly reason?: string };
}

const STATE = { headBlockHash: hex(PARENT), safeBlockHash: hex(PARENT), finalizedBlockHash: hex(PARENT) };
const ATTRIBUTES = {
  timestamp: "0x6ab13b82",
  prevRandao: hex(filled(32, 2)),
  suggestedFeeRecipient: hex(filled(20, 3)),
  withdrawals: [],
  parentBeaconBlockRoot: hex(filled(32, 4)),
  gasLimit: "0x1c9c380",
  extraData: hex(filled(7, 5)),
};

async function begin(call: (method: string, params: unknown[]) => Promise<{ result?: unknown }>, over = {}) {
  const { result } = await call("engine_forkchoiceUpdatedV3", [STATE, { ...ATTRIBUTES, ...over }]);
  return (result as { payloadId: string }).payloadId;
}

test("parent and exactly these attributes: the certified block, once journaled and recorded", async (t) => {
  const { call, submitted, host } = await open(t);
  assert.equal(BigInt(ATTRIBUTES.timestamp), candidateBody().attributes.timestamp);
  const { result } = await call("engine_getPayloadV4", [await begin(call)]);
  const { executionPayload, blockValue } = result as { executionPayload: { blockHash: string }; blockValue: string };
  assert.equal(executionPayload.blockHash, hex(filled(32, 0xaa)));
  assert.equal(blockValue, "0xb");
  assert.deepEqual(submitted, [{ type: "shipped", slot: SLOT, blockHash: filled(32, 0xaa) }]);
  assert.deepEqual(host.journal.promised(`ship/${SLOT}`), filled(32, 0xaa));
});

test("any other attribute gets no block", async (t) => {
  const { call, submitted, now, config } = await open(t);
  for (const over of [
    { timestamp: "0x6ab13b83" },
    { prevRandao: hex(filled(32, 9)) },
    { suggestedFeeRecipient: hex(filled(20, 9)) },
    { parentBeaconBlockRoot: hex(filled(32, 9)) },
    { gasLimit: "0x1c9c381" },
    { extraData: "0x" },
  ]) {
    now.ms = slotStartMs(config, SLOT);
    const { error } = await call("engine_getPayloadV4", [await begin(call, over)]);
    assert.equal(error?.data?.reason, "ATTRIBUTES_DIFFER", Object.keys(over)[0]);
  }
  assert.deepEqual(submitted, []);
});

test("no candidate, another parent, an unknown payload", async (t) => {
  const { call, now } = await open(t);
  assert.equal((await call("engine_getPayloadV4", ["0x0102030405060708"])).error?.data?.reason, "UNKNOWN_PAYLOAD");
  const id = await begin(call);
  now.candidate = undefined;
  assert.equal((await call("engine_getPayloadV4", [id])).error?.data?.reason, "NO_CANDIDATE");
  now.candidate = candidateBody({ attributes: { ...candidateBody().attributes, parentHash: filled(32, 9) } });
  assert.equal((await call("engine_getPayloadV4", [id])).error?.data?.reason, "NO_CANDIDATE");
});

test("one block a slot, also when another is certified later; the same again is fine", async (t) => {
  const { call, now } = await open(t);
  const id = await begin(call);
  assert.ok((await call("engine_getPayloadV4", [id])).result !== undefined);
  assert.ok((await call("engine_getPayloadV4", [id])).result !== undefined);
  now.candidate = candidateBody({ blockHash: filled(32, 0xbb) });
  assert.equal((await call("engine_getPayloadV4", [id])).error?.data?.reason, "OTHER_BLOCK");
});

test("a member that lost its journal hands nothing over for the slots that were in flight", async (t) => {
  const { call, now, submitted } = await open(t);
  const id = await begin(call);
  now.abstainBelow = SLOT + 1n;
  assert.equal((await call("engine_getPayloadV4", [id])).error?.data?.reason, "ABSTAINS");
  assert.deepEqual(submitted, []);
  now.abstainBelow = SLOT;
  assert.ok((await call("engine_getPayloadV4", [id])).result !== undefined);
});

test("the sequencer's word is taken in canonical bytes only", async (t) => {
  const { call, config, heard } = await open(t);
  const signed = acknowledgement(config);
  const canonical = hex(encode(SEQUENCER_ACKNOWLEDGEMENT, signed.acknowledgement));
  assert.equal((await call("lattice_acknowledge", [canonical, hex(signed.signature)])).result, true);
  assert.deepEqual(heard[0]?.acknowledgement.blockHash, signed.acknowledgement.blockHash);
  for (const params of [[`${canonical}00`, hex(signed.signature)], [canonical, "0x00"], [canonical], [1, 2]]) {
    assert.equal((await call("lattice_acknowledge", params)).error?.data?.reason, "BAD_ACKNOWLEDGEMENT");
  }
  assert.equal(heard.length, 1);
});

test("who has no fresh token of the secret is not let in", async (t) => {
  const { post, now } = await open(t);
  const ask = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "engine_exchangeCapabilities", params: [] });
  assert.equal((await post(ask)).status, 200);
  const nowS = now.ms / 1000;
  for (const bearer of ["", "a.b.c", token(filled(32, 6), nowS), token(SECRET, nowS - 61), token(SECRET, nowS + 62)]) {
    assert.equal((await post(ask, bearer)).status, 401);
  }
});

test("what is not a request is answered with the standard codes", async (t) => {
  const { post, call } = await open(t);
  const codeOf = async (text: string): Promise<number | undefined> =>
    ((await (await post(text)).json()) as { error?: RpcProblem }).error?.code;
  assert.equal(await codeOf("{"), -32_700);
  assert.equal(await codeOf("[]"), -32_600);
  assert.equal(await codeOf(`{"jsonrpc":"2.0","id":1,"method":"x","params":["${"a".repeat(1 << 20)}"]}`), -32_600);
  assert.equal((await call("engine_getPayloadV3", [])).error?.code, -32_601);
  assert.equal((await call("engine_forkchoiceUpdatedV3", [{}])).error?.code, -38_002);
  assert.equal((await call("engine_forkchoiceUpdatedV3", [STATE, { timestamp: "1" }])).error?.code, -38_003);
});

test("a port in use is one readable line", async (t) => {
  const { host } = await open(t);
  await assert.rejects(new EngineEndpoint(host, { hear: () => undefined }).start(), KitProblem);
});

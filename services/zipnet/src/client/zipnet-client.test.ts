import assert from "node:assert/strict";
import test from "node:test";
import { decode, toHex } from "@lattice/organism/codec/codec.ts";
import { message, World } from "../../test/world.ts";
import { ENVELOPE } from "../core/envelope.ts";
import { maxPayloadBytes, ZipnetClient } from "./zipnet-client.ts";

async function pair() {
  const world = new World();
  world.publishServerKeys();
  const a = await world.join("a");
  const b = await world.join("b");
  return { world, a, b };
}

test("an answer is stored before it is given out, and a restart repeats it byte for byte", async () => {
  const { world, a } = await pair();
  const header = world.open(1n);
  const before = toHex(a.saved);
  const answer = await a.client.answer(header, message("once"), world.nowMs);
  assert.notEqual(toHex(a.saved), before);
  const restored = ZipnetClient.restore(world.clientOptions("other randomness", { saved: a.saved }), a.saved);
  assert.deepEqual(restored.id, a.client.id);
  const repeated = await restored.answer(header, message("something else"), world.nowMs);
  assert.deepEqual(repeated, answer);
});

test("an answer that could not be stored is not given out", async () => {
  const { world, a } = await pair();
  const header = world.open(1n);
  const options = {
    ...world.clientOptions("x", { saved: a.saved }),
    store: () => Promise.reject(new Error("disk full")),
  };
  const client = ZipnetClient.restore(options, a.saved);
  await assert.rejects(client.answer(header, undefined, world.nowMs), /disk full/);
});

test("an old state answers no header twice: its ratchets have moved with what it stored", async () => {
  const { world, a, b } = await pair();
  await world.round(1n, [{ participant: a, message: message("one") }, { participant: b }]);
  const saved = a.saved;
  const header = world.open(2n);
  const first = await a.client.answer(header, message("two"), world.nowMs);
  const second = await ZipnetClient.restore(world.clientOptions("x", { saved }), saved).answer(
    header,
    undefined,
    world.nowMs,
  );
  // A restored backup is the one way to use a pad twice; the aggregator refuses the second envelope.
  const fold = world.fold(2n);
  assert.equal(fold.accept(first.envelope), "folded");
  const refused = fold.accept(second.envelope);
  assert.equal(typeof refused === "string" ? refused : refused.reason, "ENVELOPE_CONFLICT");
});

test("cover and a message look alike: same length, nothing but noise, fresh every round", async () => {
  const { world, a, b } = await pair();
  const header = world.open(1n);
  const talking = decode(ENVELOPE, (await a.client.answer(header, message("hello"), world.nowMs)).envelope);
  const cover = decode(ENVELOPE, (await b.client.answer(header, undefined, world.nowMs)).envelope);
  assert.equal(talking.vector.length, cover.vector.length);
  for (const { vector } of [talking, cover]) {
    const zeros = vector.reduce((count, byte) => count + (byte === 0 ? 1 : 0), 0);
    assert.ok(zeros < vector.length / 128, "a vector of noise has few zero bytes");
  }
});

test("the certificate, the registration and the size are checked before anything is sealed", async () => {
  const { world, a } = await pair();
  const header = world.open(1n);
  const forged = { ...header, signature: header.signature.map((byte, index) => (index === 20 ? byte ^ 1 : byte)) };
  await assert.rejects(a.client.answer(forged, undefined, world.nowMs), { reason: "HEADER_CERTIFICATE" });
  const fresh = ZipnetClient.create(world.clientOptions("fresh", { saved: new Uint8Array() }), world.serverKeys());
  await assert.rejects(fresh.answer(header, undefined, world.nowMs), { reason: "NOT_REGISTERED" });
  const limit = maxPayloadBytes(world.config);
  const long = { ...message("long"), sealed: new Uint8Array(limit + 1) };
  await assert.rejects(a.client.answer(header, long, world.nowMs), (error: unknown) => {
    assert.ok(error instanceof Error && "metadata" in error);
    assert.deepEqual(error.metadata, { limit: String(limit) });
    return true;
  });
  const { messageId } = await a.client.answer(header, { ...long, sealed: new Uint8Array(limit) }, world.nowMs);
  assert.deepEqual(messageId, long.messageId);
});

test("keys that the config does not pin are not agreed with", async () => {
  const { world } = await pair();
  const options = world.clientOptions("x", { saved: new Uint8Array() });
  const keys = world.serverKeys();
  assert.throws(() => ZipnetClient.create(options, keys.slice(1)), { reason: "SERVER_KEYS_MISSING" });
  const foreign = keys.map((key, index) => (index === 0 ? { ...key, operator: new Uint8Array(32).fill(1) } : key));
  assert.throws(() => ZipnetClient.create(options, foreign), { reason: "HEADER_OPERATOR" });
  const swapped = keys.map((key, index) => (index === 0 ? { ...key, key: keys[1]?.key ?? key.key } : key));
  assert.throws(() => ZipnetClient.create(options, swapped), { reason: "BAD_SIGNATURE" });
});

test("a body that is not the certified one settles nothing; another slot's neither", async () => {
  const { world, a, b } = await pair();
  await world.round(1n, [{ participant: a, message: message("said") }, { participant: b }]);
  const certified = world.certify("broadcast", 1n);
  const body = world.body(1n);
  assert.ok(body !== undefined);
  assert.equal(await a.client.settle(certified, undefined), undefined);
  assert.equal(await a.client.settle(certified, body.slice(1)), undefined);
  const forged = { ...certified, outcome: { ...certified.outcome, kind: "skipped" as const } };
  await assert.rejects(a.client.settle(forged, body), { reason: "HEADER_CERTIFICATE" });
  assert.equal((await a.client.settle(certified, body))?.fate, "delivered");
});

test("nothing secret is printed", async () => {
  const { a } = await pair();
  assert.match(String(a.client), /^zipnet client [0-9a-f]{8}$/);
});

import assert from "node:assert/strict";
import test from "node:test";
import { decode, encode } from "@lattice/organism/codec/codec.ts";
import fc from "fast-check";
import { seeded, World } from "../../test/world.ts";
import { bitmapOf, indexesOf, signAggregate, standsBefore, verifyAggregate } from "./aggregate.ts";
import { ENVELOPE } from "./envelope.ts";

async function opened() {
  const world = new World();
  world.publishServerKeys();
  const a = await world.join("a");
  const b = await world.join("b");
  const header = world.open(3n);
  const { envelope } = await a.client.answer(header, undefined, world.nowMs);
  return { world, a, b, header, envelope, fold: world.fold(3n) };
}

test("an envelope counts once; its retry is known, another body is refused", async () => {
  const { world, a, b, header, envelope, fold } = await opened();
  const reason = (raw: Uint8Array) => {
    const result = fold.accept(raw);
    return typeof result === "string" ? result : result.reason;
  };
  assert.equal(reason(envelope), "folded");
  assert.equal(reason(envelope), "repeated");
  const decoded = decode(ENVELOPE, envelope);
  const changed = (change: Partial<typeof decoded>) => encode(ENVELOPE, { ...decoded, ...change });
  assert.equal(reason(changed({ vector: seeded("other")(decoded.vector.length) })), "ENVELOPE_CONFLICT");
  assert.equal(reason(changed({ rho: 2n })), "WRONG_ROUND");
  assert.equal(reason(changed({ headerDigest: new Uint8Array(32) })), "WRONG_ROUND");
  assert.equal(reason(changed({ vector: decoded.vector.slice(1) })), "BAD_VECTOR");
  assert.equal(reason(changed({ commitments: decoded.commitments.slice(1) })), "BAD_VECTOR");
  assert.equal(reason(changed({ client: new Uint8Array(32) })), "NOT_IN_ROSTER");
  // Under the other client's name it is not signed by the other client.
  assert.equal(reason(changed({ client: b.client.id })), "BAD_SIGNATURE");
  assert.equal(fold.participants, 1);
  assert.equal(fold.complete, false);
  const repeated = await a.client.answer(header, undefined, world.nowMs);
  assert.deepEqual(repeated.envelope, envelope);
  assert.equal(reason((await b.client.answer(header, undefined, world.nowMs)).envelope), "folded");
  assert.ok(fold.complete);
});

test("no truncated, extended or random bytes are taken or throw", async () => {
  const { envelope, fold } = await opened();
  fc.assert(
    fc.property(fc.nat(envelope.length - 1), (length) => {
      const result = fold.accept(envelope.subarray(0, length));
      return typeof result !== "string" && result.reason === "MALFORMED";
    }),
    { numRuns: 50 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (raw) => typeof fold.accept(raw) !== "string"));
  const extended = new Uint8Array(envelope.length + 1);
  extended.set(envelope);
  assert.notEqual(typeof fold.accept(extended), "string");
});

test("every signed bit of an envelope matters", async () => {
  const { envelope, fold } = await opened();
  fc.assert(
    fc.property(fc.nat(envelope.length * 8 - 1), (bit) => {
      const changed = envelope.slice();
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      return typeof fold.accept(changed) !== "string";
    }),
    { numRuns: 60 },
  );
  assert.equal(fold.participants, 0);
});

test("aggregates bind committee, bitmap, sum and signer", async () => {
  const { world, envelope, fold } = await opened();
  fold.accept(envelope);
  const aggregate = signAggregate(world.aggregatorKey, world.committee, fold.aggregate(world.aggregatorKey.publicKey));
  assert.ok(verifyAggregate(world.committee, aggregate));
  assert.ok(!verifyAggregate(new Uint8Array(32), aggregate));
  assert.ok(!verifyAggregate(world.committee, { ...aggregate, participants: new Uint8Array([3]) }));
  assert.ok(!verifyAggregate(world.committee, { ...aggregate, aggregator: new Uint8Array(32).fill(1) }));
});

test("bitmaps are exact", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(99)), (indexes) => {
      const sorted = [...indexes].sort((a, b) => a - b);
      assert.deepEqual(indexesOf(bitmapOf(indexes, 100), 100), sorted);
      const beyond = sorted.some((index) => index >= 97);
      assert.equal(indexesOf(bitmapOf(indexes, 100), 97) === undefined, beyond);
      assert.equal(indexesOf(bitmapOf(indexes, 100), 108), undefined);
    }),
  );
});

test("more participants stand first, then the lower digest", () => {
  const digest = (fill: number) => new Uint8Array(32).fill(fill);
  assert.ok(standsBefore({ participants: 3, digest: digest(9) }, { participants: 2, digest: digest(1) }));
  assert.ok(standsBefore({ participants: 2, digest: digest(1) }, { participants: 2, digest: digest(2) }));
  assert.ok(!standsBefore({ participants: 2, digest: digest(2) }, { participants: 2, digest: digest(1) }));
});

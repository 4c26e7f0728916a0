import assert from "node:assert/strict";
import { createCipheriv } from "node:crypto";
import test from "node:test";
import fc from "fast-check";
import { bench } from "./pads.bench.ts";
import {
  keyCommitment,
  PadAccumulator,
  type PadPurpose,
  segmentKeys,
  segmentOffsets,
  type VectorShape,
  vectorBytes,
  xorInto,
} from "./pads.ts";
import { advanceRatchet, initialRatchet, nextRatchet, roundKey, STEPS_MAX } from "./ratchet.ts";

const SHAPE: VectorShape = { cells: 24, cellBytes: 160, segments: 4 };
const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
const shape = fc.record({
  cells: fc.integer({ min: 1, max: 40 }),
  cellBytes: fc.integer({ min: 16, max: 300 }),
  segments: fc.integer({ min: 1, max: 9 }),
});
const fold = (vector: PadAccumulator, roundKey: Uint8Array, { segments }: VectorShape, purpose?: PadPurpose): void =>
  vector.fold(segmentKeys(roundKey, purpose ?? "zipnet/pad/v1", segments));
const padOf = (round: Uint8Array, of: VectorShape, purpose?: PadPurpose): Uint8Array => {
  const accumulator = new PadAccumulator(of);
  fold(accumulator, round, of, purpose);
  return accumulator.vector();
};
/** True when some aligned or unaligned 16-byte window of the pad is all zero (ADCNet's defect). */
const hasZeroWindow = (pad: Uint8Array): boolean => {
  let run = 0;
  for (const byte of pad) {
    run = byte === 0 ? run + 1 : 0;
    if (run === 16) return true;
  }
  return false;
};

test("no sixteen bytes of a pad are zero, in any shape", () => {
  fc.assert(fc.property(key, shape, (round, of) => !hasZeroWindow(padOf(round, of))));
});

test("purposes, segments, round keys and header bytes all give other pads", () => {
  fc.assert(
    fc.property(key, key, fc.nat(31), fc.integer({ min: 1, max: 255 }), (ratchet, digest, at, change) => {
      const round = roundKey(ratchet, digest);
      const pad = padOf(round, SHAPE);
      assert.notDeepEqual(pad, padOf(round, SHAPE, "zipnet/pad/sched/v1"));
      const keys = segmentKeys(round, "zipnet/pad/v1", SHAPE.segments).map((each) => Buffer.from(each).toString("hex"));
      assert.equal(new Set(keys).size, SHAPE.segments);
      const other = digest.slice();
      other[at] = (other[at] ?? 0) ^ change;
      const elsewhere = padOf(roundKey(ratchet, other), SHAPE);
      xorInto(elsewhere, pad);
      assert.ok(!hasZeroWindow(elsewhere), "a changed header byte leaves the pads related");
    }),
  );
});

test("folding every pad again uncovers the vector; one missing or one too many leaves noise", () => {
  fc.assert(
    fc.property(
      fc.array(key, { minLength: 1, maxLength: 6 }),
      shape,
      fc.infiniteStream(fc.nat(255)),
      (keys, of, stream) => {
        const vector = new Uint8Array(vectorBytes(of));
        for (let index = 0; index < vector.length; index++) vector[index] = stream.next().value ?? 0;
        const blinded = new PadAccumulator(of, vector);
        for (const round of keys) fold(blinded, round, of);
        const open = (rounds: readonly Uint8Array[]): Uint8Array => {
          const accumulator = new PadAccumulator(of, blinded.vector());
          for (const round of rounds) fold(accumulator, round, of);
          return accumulator.vector();
        };
        assert.deepEqual(open(keys), vector);
        // A partial is the same from zeros, in any order.
        const partial = new PadAccumulator(of);
        for (const round of keys.toReversed()) fold(partial, round, of);
        const sum = partial.vector();
        xorInto(sum, blinded.vector());
        assert.deepEqual(sum, vector);
        for (const wrong of [keys.slice(1), [...keys, new Uint8Array(32).fill(1)]]) {
          const noise = open(wrong);
          xorInto(noise, vector);
          assert.ok(!hasZeroWindow(noise));
        }
      },
    ),
    { numRuns: 40 },
  );
});

test("the pad is AES-128-CTR with a zero IV per segment", () => {
  const round = new Uint8Array(32).fill(3);
  const offsets = segmentOffsets(SHAPE);
  const pad = padOf(round, SHAPE);
  for (const [index, segmentKey] of segmentKeys(round, "zipnet/pad/v1", SHAPE.segments).entries()) {
    const segment = pad.subarray(offsets[index], offsets[index + 1]);
    const reference = createCipheriv("aes-128-ctr", segmentKey, new Uint8Array(16)).update(
      new Uint8Array(segment.length),
    );
    assert.deepEqual(new Uint8Array(segment), new Uint8Array(reference));
  }
});

test("segments cover the vector, each cell in one of them", () => {
  fc.assert(
    fc.property(shape, (of) => {
      const offsets = segmentOffsets(of);
      assert.equal(offsets[0], 0);
      assert.equal(offsets.at(-1), vectorBytes(of));
      for (const [index, offset] of offsets.entries()) {
        assert.equal(offset % of.cellBytes, 0);
        assert.ok(index === 0 || offset >= (offsets[index - 1] ?? 0));
      }
    }),
  );
});

test("a commitment names its header, client, server and every segment key", () => {
  const digest = new Uint8Array(32).fill(1);
  const client = new Uint8Array(32).fill(2);
  const keys = segmentKeys(new Uint8Array(32), "zipnet/pad/v1", 4);
  const hex = (value: Uint8Array) => Buffer.from(value).toString("hex");
  const all = [
    keyCommitment(digest, client, 0, keys),
    keyCommitment(client, client, 0, keys),
    keyCommitment(digest, digest, 0, keys),
    keyCommitment(digest, client, 1, keys),
    keyCommitment(digest, client, 0, keys.toReversed()),
    keyCommitment(digest, client, 0, keys.slice(1)),
  ];
  assert.equal(new Set(all.map(hex)).size, all.length);
});

test("ratchets go forward only, step by step, and not without end", () => {
  const relation = {
    committee: new Uint8Array(32).fill(1),
    client: new Uint8Array(32).fill(2),
    operator: new Uint8Array(32).fill(3),
    serial: 1n,
  };
  const secret = new Uint8Array(32).fill(4);
  const zero = initialRatchet(secret, relation);
  const others = [
    initialRatchet(secret, { ...relation, committee: relation.client }),
    initialRatchet(secret, { ...relation, client: relation.committee }),
    initialRatchet(secret, { ...relation, operator: relation.committee }),
    initialRatchet(secret, { ...relation, serial: 2n }),
    initialRatchet(relation.client, relation),
    nextRatchet(zero),
  ];
  const hex = [zero, ...others].map((value) => Buffer.from(value).toString("hex"));
  assert.equal(new Set(hex).size, hex.length);
  assert.deepEqual(advanceRatchet(zero, 0n), zero);
  const three = advanceRatchet(zero, 3n);
  assert.deepEqual(three, new Uint8Array(nextRatchet(nextRatchet(nextRatchet(zero)))));
  assert.equal(advanceRatchet(zero, -1n), undefined);
  assert.equal(advanceRatchet(zero, STEPS_MAX + 1n), undefined);
});

test("xorInto is exclusive or, aligned or not, and refuses other lengths", () => {
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 70 });
  fc.assert(
    fc.property(bytes, fc.nat(9), (value, shift) => {
      const buffer = new Uint8Array(value.length + shift);
      const target = buffer.subarray(shift);
      target.set(value);
      const other = value.map((byte) => byte ^ 0x5a);
      xorInto(target, other);
      assert.ok(target.every((byte) => byte === 0x5a));
      assert.throws(() => xorInto(target, new Uint8Array(value.length + 1)), RangeError);
    }),
  );
});

test("the benchmark runs and reports its rows", async () => {
  const { rows, ratio } = await bench(1);
  assert.equal(rows.length, 1);
  assert.ok(ratio > 0);
});

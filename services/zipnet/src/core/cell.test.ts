import assert from "node:assert/strict";
import test from "node:test";
import { CodecError } from "@lattice/organism/codec/codec.ts";
import fc from "fast-check";
import {
  encodeCell,
  type OutgoingMessage,
  oneShotCell,
  readCell,
  readVector,
  sealedBytesMax,
  TAG_BYTES,
} from "./cell.ts";
import { xorInto } from "./pads.ts";

const DIGEST = new Uint8Array(32).fill(1);
const SHAPE = { cells: 8, cellBytes: 512 };
const fixed = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const message: fc.Arbitrary<OutgoingMessage> = fc.record(
  {
    sealed: fc.uint8Array({ maxLength: sealedBytesMax(512, 64) }),
    messageId: fixed(16),
    receiptKey: fixed(32),
    token: fc.uint8Array({ maxLength: 64 }),
  },
  { noNullPrototype: true },
);

test("what goes into a cell comes out of it, whatever its length", () => {
  fc.assert(
    fc.property(message, fc.nat(7), (said, cell) => {
      const raw = encodeCell(SHAPE, DIGEST, cell, said);
      assert.equal(raw.length, SHAPE.cellBytes);
      assert.deepEqual(readCell(DIGEST, cell, raw), said);
    }),
  );
});

test("another cell, another header, any changed byte or a second writer is noise", () => {
  fc.assert(
    fc.property(message, message, fc.nat(511), fc.integer({ min: 1, max: 255 }), (said, other, at, change) => {
      const raw = encodeCell(SHAPE, DIGEST, 3, said);
      assert.equal(readCell(DIGEST, 4, raw), "noise");
      assert.equal(readCell(new Uint8Array(32), 3, raw), "noise");
      const changed = raw.slice();
      changed[at] = (changed[at] ?? 0) ^ change;
      assert.equal(readCell(DIGEST, 3, changed), "noise");
      const second = encodeCell(SHAPE, DIGEST, 3, { ...other, messageId: other.messageId.map((byte) => byte ^ 1) });
      const collided = raw.slice();
      xorInto(collided, second);
      if (collided.some((byte) => byte !== 0)) assert.equal(readCell(DIGEST, 3, collided), "noise");
    }),
  );
});

test("zeros are an empty cell; short and random bytes are noise", () => {
  assert.equal(readCell(DIGEST, 0, new Uint8Array(512)), "empty");
  assert.equal(readCell(DIGEST, 0, new Uint8Array(3).fill(1)), "noise");
  fc.assert(fc.property(fixed(512), (raw) => raw.every((byte) => byte === 0) || readCell(DIGEST, 0, raw) === "noise"));
});

test("the longest message fits to the byte; one more does not", () => {
  const said = (length: number): OutgoingMessage => ({
    sealed: new Uint8Array(length).fill(9),
    messageId: new Uint8Array(16),
    receiptKey: new Uint8Array(32),
    token: new Uint8Array(),
  });
  const limit = sealedBytesMax(SHAPE.cellBytes);
  const raw = encodeCell(SHAPE, DIGEST, 0, said(limit));
  assert.equal(raw[SHAPE.cellBytes - TAG_BYTES - 1], 0, "the token's empty length is the last content byte");
  assert.deepEqual(readCell(DIGEST, 0, raw), said(limit));
  assert.throws(() => encodeCell(SHAPE, DIGEST, 0, said(limit + 1)), CodecError);
});

test("a vector is read cell by cell, noise counted and dropped", () => {
  const said = {
    sealed: new Uint8Array([1, 2, 3]),
    messageId: new Uint8Array(16).fill(4),
    receiptKey: new Uint8Array(32),
    token: new Uint8Array(),
  };
  const vector = new Uint8Array(SHAPE.cells * SHAPE.cellBytes);
  vector.set(encodeCell(SHAPE, DIGEST, 2, said), 2 * SHAPE.cellBytes);
  vector.fill(7, 5 * SHAPE.cellBytes, 5 * SHAPE.cellBytes + 9);
  assert.deepEqual(readVector(SHAPE, DIGEST, vector), { messages: [{ cell: 2, ...said }], noise: 1 });
});

test("the one-shot cell depends on every server's round key and on the round", () => {
  const keys = [1, 2, 3].map((fill) => new Uint8Array(32).fill(fill));
  const cells = 1 << 16;
  const cell = oneShotCell(cells, 5n, keys);
  assert.ok(cell >= 0 && cell < cells);
  assert.notEqual(cell, oneShotCell(cells, 6n, keys));
  for (const [index] of keys.entries()) {
    const changed = keys.map((key, at) => (at === index ? new Uint8Array(32).fill(99) : key));
    assert.notEqual(cell, oneShotCell(cells, 5n, changed));
  }
});

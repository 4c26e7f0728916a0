import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { plainMap } from "../testing/plain-codec.ts";
import { bytes, type Codec, compareBytes, count, encode, fixed, hex, map, text, toHex, u8, u64 } from "./codec.ts";
import { keyOrder } from "./key-order.ts";

function startsOf(keys: readonly Uint8Array[], from: number): number[] {
  const starts = [from];
  for (const { length } of keys) starts.push((starts.at(-1) ?? 0) + length);
  return starts;
}

/** Against sorting whole keys, which is stable. */
function assertOrder(keys: readonly Uint8Array[]): void {
  const expected = keys
    .map((key, index) => ({ key, index }))
    .sort((a, b) => compareBytes(a.key, b.key))
    .map(({ index }) => index);
  const before = new Uint8Array(3).fill(9);
  const order = keyOrder(Buffer.concat([before, ...keys, before]), startsOf(keys, before.length));
  assert.deepEqual(order ?? keys.map((_, index) => index), expected);
  const ordered = keys.every((key, index) => index === 0 || compareBytes(keys[index - 1] ?? key, key) <= 0);
  assert.equal(order === undefined, ordered);
}

const raw = (constraints: fc.IntArrayConstraints) => fc.uint8Array(constraints).map((each) => new Uint8Array(each));
const few = fc.constantFrom(0, 1, 127, 128, 255);

describe("keys stand in the order of their bytes", () => {
  const kinds: Readonly<Record<string, fc.Arbitrary<Uint8Array>>> = {
    "of any bytes and lengths": raw({ maxLength: 12 }),
    "that differ late": fc.array(few, { minLength: 9, maxLength: 9 }).map((each) => new Uint8Array([7, 7, 7, ...each])),
    "of which some begin others": fc
      .array(fc.constantFrom(0, 1), { maxLength: 10 })
      .map((each) => new Uint8Array(each)),
    "that are alike": fc.constantFrom(new Uint8Array([1, 2]), new Uint8Array([1]), new Uint8Array([1, 2, 0])),
    "that are numbers": fc.nat(5000).map((each) => encode(count, each)),
  };
  for (const [kind, key] of Object.entries(kinds)) {
    test(kind, () => {
      fc.assert(fc.property(fc.array(key, { minLength: 0, maxLength: 300, size: "max" }), assertOrder), {
        numRuns: 150,
      });
    });
  }

  test("however many begin alike", () => {
    for (const begin of [4, 6, 7, 40]) {
      const keys = Array.from({ length: 2000 }, (_, index) => {
        const key = new Uint8Array(begin + 3).fill(index % 2);
        new DataView(key.buffer).setUint16(begin, (index * 7919) % 1000);
        return key;
      });
      assertOrder(keys);
    }
  });

  test("in order, nearly in order, the other way round", () => {
    const keys = Array.from({ length: 500 }, (_, index) => encode(u64, BigInt(index)));
    assertOrder(keys);
    assertOrder(keys.toReversed());
    assertOrder([...keys.slice(1), ...keys.slice(0, 1)]);
    assertOrder([...keys.slice(0, -2), ...keys.slice(-1), ...keys.slice(-2, -1)]);
  });
});

test("a map is written as it is defined: every key by itself, sorted by all its bytes", () => {
  const number = fc.bigInt(0n, 2n ** 64n - 1n);
  const digits = fc.uint8Array({ minLength: 8, maxLength: 8 }).map((each) => toHex(new Uint8Array(each)));
  const check = <K>(key: Codec<K>, keys: fc.Arbitrary<K>): void => {
    const entries = fc.uniqueArray(fc.tuple(keys, fc.nat(255)), { maxLength: 120, size: "max", selector: ([k]) => k });
    fc.assert(
      fc.property(entries, (all) => {
        const inner = new Map(all);
        const codecs = [map(key, u8, 120), plainMap(key, u8, 120)] as const;
        const [ours, plain] = codecs.map((each) => encode(each, inner));
        assert.deepEqual(ours, plain);
        // And where a map's values are maps whose keys are put in order meanwhile.
        const outer = new Map(all.slice(0, 40).map(([k], index) => [k, new Map(all.slice(index))]));
        const [oursOuter, plainOuter] = codecs.map((each) => encode(map(key, each, 40), outer));
        assert.deepEqual(oursOuter, plainOuter);
      }),
      { numRuns: 15 },
    );
  };
  check(u64, number);
  check(count, fc.nat(500));
  check(text(16), digits);
  check(hex(8), digits);
  check(text(64), fc.string({ unit: "binary", maxLength: 8 }));
  check(fixed(3), raw({ minLength: 3, maxLength: 3 }));
  check(bytes(4), raw({ maxLength: 4 }));
});

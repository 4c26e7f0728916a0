import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  bool,
  bytes,
  type Codec,
  CodecError,
  compareBytes,
  concat,
  count,
  decode,
  encode,
  equalBytes,
  fixed,
  fromHex,
  hex,
  list,
  literal,
  map,
  oneOf,
  optional,
  struct,
  text,
  toHex,
  tryDecode,
  u8,
  u64,
  u256,
  union,
} from "./codec.ts";

/** A codec and the values it carries. */
interface Sample {
  readonly codec: Codec<unknown>;
  readonly values: fc.Arbitrary<unknown>;
}

const sample = <T>(codec: Codec<T>, values: fc.Arbitrary<T>): Sample => ({ codec: codec as Codec<unknown>, values });
const raw = (maxLength: number, minLength = 0): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength, maxLength }).map((value) => new Uint8Array(value));
const plain = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(model, { noNullPrototype: true });
const words = fc.string({ unit: "binary", maxLength: 5 });

const LEAVES: readonly Sample[] = [
  sample(u8, fc.nat(255)),
  sample(count, fc.maxSafeNat()),
  sample(u64, fc.bigInt(0n, 2n ** 64n - 1n)),
  sample(u256, fc.bigInt(0n, 2n ** 256n - 1n)),
  sample(bool, fc.boolean()),
  sample(fixed(3), raw(3, 3)),
  sample(hex(3), raw(3, 3).map(toHex)),
  sample(bytes(5), raw(5)),
  sample(text(20), words),
  sample(oneOf("a", "b", "c"), fc.constantFrom("a" as const, "b" as const, "c" as const)),
  sample(literal(7), fc.constant(7 as const)),
];

/** Leaves, and everything that is made of what is one level below. */
function samples(depth: number): fc.Arbitrary<Sample> {
  const leaf = fc.constantFrom(...LEAVES);
  if (depth === 0) return leaf;
  const inner = samples(depth - 1);
  return fc.oneof(
    leaf,
    inner.map(({ codec, values }) => sample(list(codec, 3), fc.array(values, { maxLength: 3 }))),
    inner.map(({ codec, values }) => sample(optional(codec), fc.option(values, { nil: undefined }))),
    fc
      .tuple(inner, inner)
      .map(([a, b]) => sample(struct({ a: a.codec, b: b.codec }), plain({ a: a.values, b: b.values }))),
    inner.map(({ codec, values }) =>
      sample(
        map(text(20), codec, 4),
        fc.uniqueArray(fc.tuple(words, values), { maxLength: 4, selector: ([key]) => key }).map((all) => new Map(all)),
      ),
    ),
    fc.tuple(inner, inner).map(([a, b]) => ({
      codec: union({ x: struct({ v: a.codec }), y: struct({ v: b.codec }) }) as Codec<unknown>,
      values: fc.oneof(plain({ type: fc.constant("x"), v: a.values }), plain({ type: fc.constant("y"), v: b.values })),
    })),
  );
}
const anySample = samples(3);
const encoded = anySample.chain(({ codec, values }) => values.map((value) => ({ codec, value })));

/** Accepted bytes are exactly what their value encodes to. */
function refusedOrCanonical(codec: Codec<unknown>, candidate: Uint8Array): void {
  let value: unknown;
  try {
    value = decode(codec, candidate);
  } catch (error) {
    assert.ok(error instanceof CodecError, String(error));
    return;
  }
  assert.deepEqual(encode(codec, value), candidate);
}

describe("one value, one byte string", () => {
  test("what is encoded decodes to itself", () => {
    fc.assert(
      fc.property(encoded, ({ codec, value }) => {
        assert.deepEqual(decode(codec, encode(codec, value)), value);
      }),
      { numRuns: 500 },
    );
  });

  test("keys of a map stand in the order of their bytes, wherever they differ", () => {
    const few = fc.constantFrom(0, 1, 127, 128, 255);
    for (const length of [1, 3, 6, 7, 9]) {
      const codec = map(fixed(length), u8, 64);
      const key = fc.array(few, { minLength: length, maxLength: length }).map((bytes) => new Uint8Array(bytes));
      const keys = fc.uniqueArray(key, { maxLength: 64, selector: String });
      fc.assert(
        fc.property(keys, (all) => {
          const entries = new Map(all.map((each, at) => [each, at]));
          const ordered = all.toSorted(compareBytes);
          assert.deepEqual([...decode(codec, encode(codec, entries)).keys()], ordered);
        }),
        { numRuns: 60 },
      );
    }
  });

  test("any bytes at all are refused or are what their value encodes to", () => {
    fc.assert(
      fc.property(anySample, raw(40), ({ codec }, candidate) => refusedOrCanonical(codec, candidate)),
      { numRuns: 1000 },
    );
  });

  test("every changed byte is refused or means another value; every cut and every extra byte is refused", () => {
    fc.assert(
      fc.property(encoded, fc.integer({ min: 1, max: 255 }), ({ codec, value }, change) => {
        const whole = encode(codec, value);
        for (let at = 0; at < whole.length; at++) {
          const changed = whole.slice();
          changed[at] = (changed[at] ?? 0) ^ change;
          refusedOrCanonical(codec, changed);
          assert.throws(() => decode(codec, whole.subarray(0, at)), CodecError);
        }
        assert.throws(() => decode(codec, concat(whole, new Uint8Array([change]))), CodecError);
        assert.throws(() => decode(codec, concat(whole, new Uint8Array([0]))), CodecError);
      }),
      { numRuns: 300 },
    );
  });

  test("a decoded value does not alias the bytes it came from", () => {
    const source = encode(fixed(2), new Uint8Array([1, 2]));
    const value = decode(fixed(2), source);
    source[0] = 9;
    assert.deepEqual(value, new Uint8Array([1, 2]));
  });

  test("bytes in the middle of a larger buffer read like bytes of their own", () => {
    const codec = struct({ a: u64, b: text(9) });
    const whole = concat(new Uint8Array(5), encode(codec, { a: 7n, b: "seven" }), new Uint8Array(3));
    assert.deepEqual(decode(codec, whole.subarray(5, whole.length - 3)), { a: 7n, b: "seven" });
  });
});

describe("the layout is what the documents say", () => {
  const hexOf = <T>(codec: Codec<T>, value: T): string => toHex(encode(codec, value));

  test("integers are big-endian; lengths and counts are u32; optionals one byte; fixed fields bare", () => {
    assert.equal(hexOf(u64, 258n), "0000000000000102");
    assert.equal(hexOf(count, 258), "0000000000000102");
    assert.equal(hexOf(u256, 258n), `${"00".repeat(30)}0102`);
    assert.equal(hexOf(bytes(4), new Uint8Array([9, 8])), "000000020908");
    assert.equal(hexOf(text(4), "é"), "00000002c3a9");
    assert.equal(hexOf(fixed(2), new Uint8Array([9, 8])), "0908");
    assert.equal(hexOf(list(u8, 4), [3, 2, 1]), "00000003030201");
    assert.equal(hexOf(optional(u8), undefined), "00");
    assert.equal(hexOf(optional(u8), 5), "0105");
    assert.equal(hexOf(bool, true), "01");
  });

  test("struct fields come in the order of the definition, whatever the order of the value", () => {
    const codec = struct({ z: u8, a: u8 });
    assert.equal(hexOf(codec, { a: 2, z: 1 }), "0102");
    assert.equal(hexOf(struct({ a: u8, z: u8 }), { a: 2, z: 1 }), "0201");
  });

  test("map entries come in the order of their encoded keys, however they were inserted", () => {
    const codec = map(text(3), u8, 4);
    const forth = new Map([
      ["b", 2],
      ["a", 1],
      ["aa", 3],
    ]);
    const back = new Map([...forth].reverse());
    assert.equal(hexOf(codec, forth), hexOf(codec, back));
    assert.deepEqual([...decode(codec, encode(codec, forth)).keys()], ["a", "b", "aa"]);
  });

  test("map keys out of order or twice are refused", () => {
    const codec = map(u8, u8, 4);
    assert.deepEqual(
      decode(codec, fromHex("0000000201050206")),
      new Map([
        [1, 5],
        [2, 6],
      ]),
    );
    assert.throws(() => decode(codec, fromHex("0000000202050106")), /not ascending/);
    assert.throws(() => decode(codec, fromHex("0000000201050106")), /not ascending/);
  });

  test("alternatives are carried by position; an unknown one is refused", () => {
    const codec = union({ first: struct({ v: u8 }), second: struct({}) });
    assert.equal(hexOf(codec, { type: "first", v: 9 }), "0009");
    assert.equal(hexOf(codec, { type: "second" }), "01");
    assert.throws(() => decode(codec, fromHex("02")), /unknown alternative/);
    assert.throws(() => encode(codec, { type: "toString" } as never), /unknown alternative/);
  });

  test("an error names the field and never its content", () => {
    const codec = struct({ outer: struct({ inner: bytes(2) }) });
    assert.throws(
      () => decode(codec, fromHex("00000003616263")),
      (error: unknown) =>
        error instanceof CodecError && error.path === "outer.inner" && !/616263|abc/.test(error.message),
    );
  });
});

describe("limits hold in both directions", () => {
  /** [codec, the largest value, one that is too large, the bytes of one that is too large] */
  const cases: readonly [name: string, codec: Codec<never>, fits: unknown, over: unknown, overHex: string][] = [
    ["bytes", bytes(2) as Codec<never>, new Uint8Array(2), new Uint8Array(3), "00000003000000"],
    ["text", text(2) as Codec<never>, "ab", "abc", "00000003616263"],
    ["list", list(u8, 2) as Codec<never>, [1, 2], [1, 2, 3], "00000003010203"],
    [
      "map",
      map(u8, u8, 1) as Codec<never>,
      new Map([[1, 1]]),
      new Map([
        [1, 1],
        [2, 2],
      ]),
      "0000000201010202",
    ],
    ["count", count as Codec<never>, Number.MAX_SAFE_INTEGER, 2 ** 53, "0020000000000000"],
    ["oneOf", oneOf("a", "b") as Codec<never>, "b", "c", "02"],
    ["literal", literal(1) as Codec<never>, 1, 2, "02"],
    ["bool", bool as Codec<never>, true, undefined, "02"],
    ["optional", optional(u8) as Codec<never>, 1, undefined, "0201"],
  ];
  for (const [name, codec, fits, over, overHex] of cases) {
    test(name, () => {
      assert.deepEqual(decode(codec, encode(codec, fits as never)), fits);
      if (over !== undefined) assert.throws(() => encode(codec, over as never), CodecError);
      assert.throws(() => decode(codec, fromHex(overHex)), CodecError);
    });
  }

  test("integers that are negative, too large or not whole are not written", () => {
    for (const [codec, value] of [
      [u8, 256],
      [u8, -1],
      [u8, 1.5],
      [count, -1],
      [count, 1.5],
      [count, Number.NaN],
    ] as const) {
      assert.throws(() => encode(codec, value), CodecError);
    }
    for (const [codec, value] of [
      [u64, -1n],
      [u64, 1n << 64n],
      [u256, -1n],
      [u256, 1n << 256n],
    ] as const) {
      assert.throws(() => encode(codec, value), CodecError);
    }
    assert.throws(() => encode(fixed(2), new Uint8Array(1)), CodecError);
    assert.throws(() => encode(fixed(2), new Uint8Array(3)), CodecError);
  });

  test("text that is not well-formed is refused on both sides", () => {
    assert.throws(() => encode(text(8), "\ud800"), CodecError);
    assert.throws(() => decode(text(8), fromHex("00000002c328")), CodecError);
    assert.throws(() => decode(text(8), fromHex("00000003eda080")), CodecError, "an encoded surrogate");
    assert.throws(() => decode(text(8), fromHex("00000002c080")), CodecError, "an overlong zero");
    assert.equal(decode(text(8), fromHex("00000003efbbbf")), "\ufeff", "a byte order mark is kept");
  });

  test("a length that the bytes do not hold is refused before anything is kept", () => {
    assert.throws(() => decode(bytes(2 ** 31), fromHex("7fffffff")), CodecError);
    assert.throws(() => decode(list(u64, 2 ** 31), fromHex("7fffffff")), CodecError);
  });

  test("tryDecode says undefined for what is not a value, and nothing else", () => {
    assert.equal(tryDecode(u8, new Uint8Array([7])), 7);
    assert.equal(tryDecode(u8, new Uint8Array(2)), undefined);
    const broken: Codec<never> = {
      write: () => undefined,
      read: () => {
        throw new TypeError("a bug");
      },
    };
    assert.throws(() => tryDecode(broken, new Uint8Array(1)), TypeError);
  });
});

describe("hex", () => {
  test("round trip; a prefix and upper case are understood; anything else is refused", () => {
    fc.assert(fc.property(raw(40), (value) => assert.deepEqual(fromHex(toHex(value)), value)));
    assert.deepEqual(fromHex("0xAb01"), new Uint8Array([0xab, 1]));
    for (const bad of ["abc", "0x0", "zz", "0x0x00", "00 ", "00\n"]) assert.throws(() => fromHex(bad), CodecError);
  });

  test("as a key of a map: the bytes, whatever the case; anything but digits is refused, also what only looks like them", () => {
    const codec = hex(2);
    assert.deepEqual(encode(codec, "00ff"), new Uint8Array([0, 255]));
    assert.deepEqual(encode(codec, "aBCd"), encode(codec, "abcd"));
    assert.deepEqual(encode(codec, "0xabcd"), encode(codec, "abcd"));
    for (const bad of ["", "abc", "abcde", "0xab", "00g0", "00 0", "\u0130000", "\u{1f600}00", "\u066100\u0661"]) {
      assert.throws(() => encode(codec, bad), CodecError, bad);
      assert.throws(() => encode(list(codec, 2), ["0000", bad]), CodecError, bad);
    }
  });

  test("a view into a larger buffer shows its own bytes only", () => {
    assert.equal(toHex(new Uint8Array([1, 2, 3]).subarray(1, 2)), "02");
  });

  test("bytes compare as unsigned numbers, shorter first among equals", () => {
    const sorted = ["", "00", "0001", "01", "7f", "80", "ff"].map(fromHex);
    assert.deepEqual([...sorted].reverse().sort(compareBytes), sorted);
    assert.ok(equalBytes(fromHex("01"), fromHex("01")));
    assert.ok(!equalBytes(fromHex("01"), fromHex("0100")));
  });
});

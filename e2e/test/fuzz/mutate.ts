/** Mutations of bytes by their fields, and of texts. The first ones go over every byte; the rest are dealt. */
import type { Dice } from "./dice.ts";
import { boundaries, type Field, spliced } from "./layout.ts";

const U32 = [0n, 1n, 2n, 0x7fn, 0xffn, 0xffffn, 0x10000n, 0x7fffffffn, 0x80000000n, 0xfffffffen, 0xffffffffn];
const U64 = [
  ...U32,
  0x1_0000_0000n,
  (1n << 53n) - 1n,
  1n << 53n,
  (1n << 53n) + 1n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
];
const U8 = [0n, 1n, 2n, 3n, 0x7fn, 0x80n, 0xfen, 0xffn];

const SECP256K1_N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const ED25519_L = 0x1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3edn;
const BLS_P = 0x1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaabn;

function bigEndian(value: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = length - 1, rest = value; at >= 0; at--, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  return bytes;
}
function numberOf(bytes: Uint8Array): bigint {
  return bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

/** Compressed points that no member may take: infinity, flags without it, coordinates outside of the field, wrong groups. */
function strangePoint(dice: Dice, length: number, bytes: Uint8Array): Uint8Array {
  const infinity = new Uint8Array(length);
  infinity[0] = 0xc0;
  const small = new Uint8Array(length);
  small[0] = 0x80;
  // x = 4 is on G1's curve and not in its group (and x = 0, 1, 2, 3 … meet both cases).
  small[length - 1] = dice.below(16);
  const flags = bytes.slice();
  flags[0] = (flags[0] ?? 0) ^ dice.pick([0x20, 0x40, 0x80, 0xe0]);
  const above = bigEndian(BLS_P + BigInt(dice.below(3)), length);
  above[0] = (above[0] ?? 0) | 0x80;
  return dice.pick([infinity, small, flags, above]);
}

/** The other spelling of a signature: s → n − s, S → S + L, the other recovery id. */
function respelt(dice: Dice, bytes: Uint8Array): Uint8Array {
  const changed = bytes.slice();
  if (bytes.length === 65) {
    if (dice.chance(2)) changed.set(bigEndian(SECP256K1_N - numberOf(bytes.subarray(32, 64)), 32), 32);
    changed[64] = dice.pick([0, 1, 26, 27, 28, 29, 255, (bytes[64] ?? 0) ^ 1, 55 - (bytes[64] ?? 0)]);
    return changed;
  }
  const s = numberOf(bytes.slice(32).reverse()) + ED25519_L;
  changed.set(bigEndian(s & ((1n << 256n) - 1n), 32).reverse(), 32);
  return changed;
}

function changedField(dice: Dice, bytes: Uint8Array, field: Field): Uint8Array {
  const { kind, at, length } = field;
  const value = bytes.slice(at, at + length);
  if (kind !== "raw") {
    const now = numberOf(value);
    const table = kind === "u8" ? U8 : kind === "u32" ? U32 : U64;
    const most = (1n << BigInt(length * 8)) - 1n;
    const next = dice.pick([dice.pick(table), now + 1n, now - 1n, now * 2n, BigInt(dice.next())]);
    return spliced(bytes, at, length, bigEndian(next & most, length));
  }
  if ((length === 48 || length === 96) && !dice.chance(3)) {
    return spliced(bytes, at, length, strangePoint(dice, length, value));
  }
  if ((length === 64 || length === 65) && !dice.chance(3)) return spliced(bytes, at, length, respelt(dice, value));
  const other = dice.pick([new Uint8Array(length), new Uint8Array(length).fill(0xff), dice.bytes(length)]);
  return spliced(bytes, at, length, other);
}

/** One change of `bytes`; `other` is a further sample of the same kind. */
export function mutateOnce(dice: Dice, bytes: Uint8Array, fields: readonly Field[], other: Uint8Array): Uint8Array {
  const cuts = boundaries(fields, bytes);
  const at = dice.chance(3) ? dice.below(bytes.length + 1) : dice.pick(cuts);
  switch (dice.below(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return fields.length === 0
        ? flipped(dice, bytes, dice.below(bytes.length))
        : changedField(dice, bytes, dice.pick(fields));
    case 4:
      return flipped(dice, bytes, dice.below(bytes.length));
    case 5:
      return bytes.slice(0, at);
    case 6:
      return spliced(
        bytes,
        bytes.length,
        0,
        dice.chance(2) ? new Uint8Array(1 + dice.below(9)) : dice.bytes(1 + dice.below(9)),
      );
    case 7:
      return spliced(bytes, at, 0, dice.bytes(1 + dice.below(9)));
    case 8: {
      // A field left out.
      const field = fields.length === 0 ? undefined : dice.pick(fields);
      return field === undefined ? bytes.slice(1) : spliced(bytes, field.at, field.length, new Uint8Array());
    }
    case 9: {
      // A run of fields said twice.
      const end = dice.pick(cuts);
      const [from, to] = at < end ? [at, end] : [end, at];
      return spliced(bytes, to, 0, bytes.subarray(from, to));
    }
    case 10: {
      // Two neighbouring runs change places.
      const [a = 0, b = 0, c = 0] = [dice.pick(cuts), dice.pick(cuts), at].sort((x, y) => x - y);
      const swapped = bytes.slice();
      swapped.set(bytes.subarray(b, c), a);
      swapped.set(bytes.subarray(a, b), a + (c - b));
      return swapped;
    }
    default:
      // The beginning of one and the end of another.
      return spliced(bytes, at, bytes.length - at, other.subarray(Math.min(dice.pick(cuts), other.length)));
  }
}

function flipped(dice: Dice, bytes: Uint8Array, at: number): Uint8Array {
  const changed = bytes.slice();
  changed[at] = (changed[at] ?? 0) ^ (1 << dice.below(8));
  return changed;
}

/** Every other case flips a bit, of one byte after another; the rest are dealt. */
export function flipAt(n: number, length: number): number | undefined {
  return n % 2 === 0 && n / 2 < length ? n / 2 : undefined;
}

/** The n-th mutation of a sample: a bit of the next byte, or one to three changes. */
export function mutateBytes(
  dice: Dice,
  n: number,
  bytes: Uint8Array,
  fields: readonly Field[],
  other: Uint8Array,
): Uint8Array {
  const turn = flipAt(n, bytes.length);
  if (turn !== undefined) return flipped(dice, bytes, turn);
  let changed = mutateOnce(dice, bytes, fields, other);
  // Later changes go by position only: the fields have moved.
  for (let more = dice.chance(3) ? dice.below(3) : 0; more > 0; more--) {
    if (changed.length > 0) changed = mutateOnce(dice, changed, [], other);
  }
  return changed;
}

const WORDS = [
  "null",
  "true",
  "-1",
  "1e999",
  "0x",
  '""',
  "[]",
  "{}",
  "\\u0000",
  "\ud800",
  "__proto__",
  "constructor",
  "\u202e",
  "9".repeat(40),
  "0".repeat(300),
  " ",
  "'",
  "\\",
];

/** One to three changes of a text: characters, words, runs. */
export function mutateText(dice: Dice, n: number, text: string): string {
  const turn = flipAt(n, text.length);
  if (turn !== undefined) {
    const other = String.fromCharCode(text.charCodeAt(turn) ^ (1 << dice.below(7)));
    return text.slice(0, turn) + other + text.slice(turn + 1);
  }
  let changed = text;
  for (let more = 1 + dice.below(3); more > 0; more--) {
    const at = dice.below(changed.length + 1);
    const to = at + dice.below(Math.min(24, changed.length - at + 1));
    switch (dice.below(5)) {
      case 0:
        changed = changed.slice(0, at) + dice.pick(WORDS) + changed.slice(at);
        break;
      case 1:
        changed = changed.slice(0, at) + changed.slice(to);
        break;
      case 2:
        changed = changed.slice(0, to) + changed.slice(at, to) + changed.slice(to);
        break;
      case 3:
        changed = changed.slice(0, at) + String.fromCharCode(dice.below(0x250)) + changed.slice(at + 1);
        break;
      default:
        changed = changed.slice(0, at) + dice.pick(WORDS) + changed.slice(to);
    }
  }
  return changed;
}

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

const VALUES: readonly Json[] = [
  null,
  true,
  0,
  -1,
  1.5,
  2 ** 53,
  1e300,
  "",
  "0x",
  "0x0",
  "0xg",
  `0x${"f".repeat(64)}`,
  `0x${"f".repeat(65)}`,
  "x".repeat(5000),
  "\u0000",
  [],
  {},
  [[[[[[[[]]]]]]]],
];

/** One change somewhere in a JSON value: left out, said twice, of another type, under another name. */
export function mutateJson(dice: Dice, value: Json): Json {
  if (Array.isArray(value) && value.length > 0 && !dice.chance(5)) {
    const list = value as readonly Json[];
    const at = dice.below(list.length);
    switch (dice.below(5)) {
      case 0:
        return list.toSpliced(at, 1);
      case 1:
        return list.toSpliced(at, 0, list[at] ?? null);
      case 2:
        return list.toReversed();
      default:
        return list.with(at, mutateJson(dice, list[at] ?? null));
    }
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value) && !dice.chance(5)) {
    const entries = Object.entries(value);
    if (entries.length > 0) {
      const at = dice.below(entries.length);
      const [key, inner] = entries[at] ?? ["", null];
      const put = (changed: readonly (readonly [string, Json])[]): Json => Object.fromEntries(changed);
      switch (dice.below(6)) {
        case 0:
          return put(entries.toSpliced(at, 1));
        case 1:
          return put([...entries, [`${key}_`, inner], ["__proto__x", 1]]);
        case 2:
          return put(entries.with(at, [key.toUpperCase(), inner]));
        default:
          return put(entries.with(at, [key, mutateJson(dice, inner)]));
      }
    }
  }
  if (typeof value === "string" && value.length > 0 && dice.chance(2)) return mutateText(dice, 1, value);
  return dice.pick(VALUES);
}

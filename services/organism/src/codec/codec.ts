/**
 * The canonical encoding: one byte string per value, one value per byte string.
 *
 * Everything that is hashed, signed, journaled or kept in a snapshot is encoded here and nowhere else; protobuf is
 * for the wire. Rules (protocols.md, head): integers u64 big-endian, amounts u256, variable-length fields a u32
 * length, lists a u32 count, optionals a 0/1 byte, fixed-length fields bare. Decoding refuses trailing, missing and
 * out-of-range bytes, unsorted or repeated map keys: what decodes re-encodes to the same bytes.
 */

import { keyOrder } from "./key-order.ts";

/** Bytes that are not the canonical encoding of a value. `path` names the field, never its content. */
export class CodecError extends Error {
  override readonly name = "CodecError";
  readonly path: string;
  constructor(path: string, problem: string) {
    super(path === "" ? problem : `${path}: ${problem}`);
    this.path = path;
  }
}

/** Shorter bytes are copied one by one: asking the engine for it takes longer. */
const FEW_BYTES = 8;
/** The same of what can be copied four bytes at a time. */
const FEW_WORDS = 16;

/** Grows as needed; `bytes()` copies out what was written. */
export class Writer {
  #buffer: Uint8Array;
  #view: DataView;
  #length = 0;
  /** Where the keys of maps are put in order, those of an inner map behind those of the outer one. */
  #keys: Writer | undefined;
  /** Long lists and maps that were written, when they may come again. */
  #written: Map<object, Written> | undefined;

  /** @param capacity what is expected, if it is known */
  constructor(capacity = 256) {
    this.#buffer = new Uint8Array(capacity);
    this.#view = new DataView(this.#buffer.buffer);
  }

  #reserve(count: number): number {
    const at = this.#length;
    const needed = at + count;
    if (needed > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(needed, this.#buffer.length * 2));
      grown.set(this.#buffer.subarray(0, at));
      this.#buffer = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#length = needed;
    return at;
  }

  // `#reserve` may replace the buffer, so it comes in a statement of its own, before the buffer is named.
  u8(value: number): void {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
  }
  u32(value: number): void {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value);
  }
  u64(value: bigint): void {
    const at = this.#reserve(8);
    this.#view.setBigUint64(at, value);
  }
  /** Eight bytes of a whole number that is exact, without making a bigint of it. */
  count(value: number): void {
    const at = this.#reserve(8);
    this.#view.setUint32(at, value / 2 ** 32);
    this.#view.setUint32(at + 4, value);
  }
  raw(bytes: Uint8Array): void {
    const { length } = bytes;
    const at = this.#reserve(length);
    const buffer = this.#buffer;
    if (length > FEW_BYTES) buffer.set(bytes, at);
    else for (let index = 0; index < length; index++) buffer[at + index] = bytes[index] ?? 0;
  }
  /** Text behind its length, if it is all ASCII. Otherwise nothing is written. */
  ascii(value: string): boolean {
    const { length } = value;
    const at = this.#reserve(4 + length);
    const buffer = this.#buffer;
    for (let index = 0; index < length; index++) {
      const code = value.charCodeAt(index);
      if (code > 127) {
        this.#length = at;
        return false;
      }
      buffer[at + 4 + index] = code;
    }
    this.#view.setUint32(at, length);
    return true;
  }
  /** The bytes that hexadecimal digits stand for, if they are nothing else. Otherwise nothing is written. */
  hex(digits: string): boolean {
    const length = digits.length / 2;
    const at = this.#reserve(length);
    const buffer = this.#buffer;
    let all = 0;
    for (let index = 0; index < length; index++) {
      const high = digitAt(digits, 2 * index);
      const low = digitAt(digits, 2 * index + 1);
      all |= high | low;
      buffer[at + index] = high * 16 + low;
    }
    if (all >= NO_DIGIT) this.#length = at;
    return all < NO_DIGIT;
  }
  bytes(from = 0): Uint8Array {
    return this.#buffer.slice(from, this.#length);
  }
  /** Puts another u32 where one was written. */
  patchU32(at: number, value: number): void {
    this.#view.setUint32(at, value);
  }
  get length(): number {
    return this.#length;
  }

  /** Keys come here before their map is written, and are cut off again when it is. */
  get keys(): Writer {
    this.#keys ??= new Writer();
    return this.#keys;
  }
  /** Indexes of the keys that begin at `starts`, as they have to be written; undefined when they stand so. */
  order(starts: readonly number[]): number[] | undefined {
    return keyOrder(this.#buffer, starts);
  }
  /** Writes what stands from `from` to `to` in another. */
  copy(source: Writer, from: number, to: number): void {
    const length = to - from;
    const at = this.#reserve(length);
    if (length > FEW_WORDS * 4) {
      this.#buffer.set(source.#buffer.subarray(from, to), at);
      return;
    }
    const view = this.#view;
    const bytes = source.#view;
    let done = 0;
    for (; done + 4 <= length; done += 4) view.setUint32(at + done, bytes.getUint32(from + done));
    for (; done < length; done++) view.setUint8(at + done, bytes.getUint8(from + done));
  }
  /** Forgets what was written from there on, secrets too. */
  cut(length: number): void {
    this.#buffer.fill(0, length, this.#length);
    this.#length = length;
  }

  /**
   * From here on what is long and comes again, the same object under the same codec, is copied from where it stands.
   * Only for what nobody can change until everything is written.
   */
  expectAgain(): void {
    this.#written = new Map();
  }
  /** True when this was written before, and is now once more. */
  again(codec: object, value: object): boolean {
    const written = this.#written?.get(value);
    if (written === undefined || written.codec !== codec) return false;
    const length = written.to - written.from;
    const at = this.#reserve(length);
    this.#buffer.copyWithin(at, written.from, written.to);
    return true;
  }
  /** Says that this was just written, from there on. */
  wrote(codec: object, value: object, from: number): void {
    this.#written?.set(value, { codec, from, to: this.#length });
  }

  /** Forgets what was written, secrets too. */
  clear(): void {
    this.cut(0);
  }
  get capacity(): number {
    return this.#buffer.length + (this.#keys?.capacity ?? 0);
  }
}

const NO_DIGIT = 0x100;
/** What a character of ASCII is worth as a hexadecimal digit. */
const DIGITS = Uint16Array.from({ length: 128 }, (_, code) => {
  const digit = "0123456789abcdef".indexOf(String.fromCharCode(code).toLowerCase());
  return digit < 0 ? NO_DIGIT : digit;
});

function digitAt(text: string, at: number): number {
  return DIGITS[text.charCodeAt(at)] ?? NO_DIGIT;
}

interface Written {
  readonly codec: object;
  readonly from: number;
  readonly to: number;
}
/** Of lists and maps with fewer entries nobody looks whether they come again. */
const LONG = 32;

/** Making a buffer costs more than most encodings: one is kept, unless it has grown large. */
let spare: Writer | undefined;
const SPARE_BYTES_MAX = 64 * 1024;

/** Reads from the front; every read checks what is left. */
export class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  /** Names of the fields that are being read: joined only when something is wrong. */
  readonly #fields: string[] = [];

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  enter(field: string): void {
    this.#fields.push(field);
  }
  leave(): void {
    this.#fields.pop();
  }
  /** The next byte, which is left where it is; undefined at the end. */
  peek(): number | undefined {
    return this.#bytes[this.#at];
  }

  fail(problem: string): never {
    throw new CodecError(this.#fields.join("."), problem);
  }
  get remaining(): number {
    return this.#bytes.length - this.#at;
  }
  #take(count: number): number {
    if (this.remaining < count) this.fail(`${count} bytes expected, ${this.remaining} left`);
    const at = this.#at;
    this.#at += count;
    return at;
  }
  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4));
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8));
  }
  /** A copy, so that a kept value never pins or aliases the buffer it came from. */
  raw(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.slice(at, at + count);
  }
}

/** How one type is written and read. */
export interface Codec<T> {
  write(writer: Writer, value: T): void;
  read(reader: Reader): T;
}

/** The type a codec carries. */
export type Infer<C> = C extends Codec<infer T> ? T : never;

export function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  const writer = spare ?? new Writer();
  // A codec may encode something else while it writes.
  spare = undefined;
  codec.write(writer, value);
  const bytes = writer.bytes();
  if (writer.capacity <= SPARE_BYTES_MAX) {
    writer.clear();
    spare = writer;
  }
  return bytes;
}

/** @throws CodecError when `bytes` is not exactly one value. */
export function decode<T>(codec: Codec<T>, bytes: Uint8Array): T {
  const reader = new Reader(bytes);
  const value = codec.read(reader);
  if (reader.remaining !== 0) throw new CodecError("", `${reader.remaining} trailing bytes`);
  return value;
}

/** Like `decode`, with `undefined` for anything that is not exactly one value. */
export function tryDecode<T>(codec: Codec<T>, bytes: Uint8Array): T | undefined {
  try {
    return decode(codec, bytes);
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

const MAX_U64 = (1n << 64n) - 1n;
const MAX_U256 = (1n << 256n) - 1n;

function inRange(value: bigint, max: bigint): void {
  if (value < 0n || value > max) throw new CodecError("", "integer out of range");
}

export const u8: Codec<number> = {
  write(writer, value) {
    if (!Number.isInteger(value) || value < 0 || value > 255) throw new CodecError("", "u8 out of range");
    writer.u8(value);
  },
  read: (reader) => reader.u8(),
};

/** Counts and indexes that fit a JavaScript number; still eight bytes on the wire. */
export const count: Codec<number> = {
  write(writer, value) {
    if (!Number.isSafeInteger(value) || value < 0) throw new CodecError("", "count out of range");
    writer.count(value);
  },
  read(reader) {
    const value = reader.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) reader.fail("count above 2^53 - 1");
    return Number(value);
  },
};

export const u64: Codec<bigint> = {
  write(writer, value) {
    inRange(value, MAX_U64);
    writer.u64(value);
  },
  read: (reader) => reader.u64(),
};

/** Amounts in wei: 32 bytes big-endian. */
export const u256: Codec<bigint> = {
  write(writer, value) {
    inRange(value, MAX_U256);
    if (value <= MAX_U64) {
      // Most amounts are: the rest needs no arithmetic.
      for (let limb = 0; limb < 3; limb++) writer.count(0);
      writer.u64(value);
      return;
    }
    for (let shift = 192n; shift >= 0n; shift -= 64n) writer.u64((value >> shift) & MAX_U64);
  },
  read(reader) {
    let value = 0n;
    for (let limb = 0; limb < 4; limb++) value = (value << 64n) | reader.u64();
    return value;
  },
};

export const bool: Codec<boolean> = {
  write: (writer, value) => writer.u8(value ? 1 : 0),
  read(reader) {
    const value = reader.u8();
    if (value > 1) reader.fail("boolean must be 0 or 1");
    return value === 1;
  },
};

/** Exactly `length` bytes, without a prefix. */
export function fixed(length: number): Codec<Uint8Array> {
  return {
    write(writer, value) {
      if (value.length !== length) throw new CodecError("", `${value.length} bytes, ${length} expected`);
      writer.raw(value);
    },
    read: (reader) => reader.raw(length),
  };
}

/** Exactly `length` bytes, without a prefix, which are lower-case hex in memory: keys of maps. */
export function hex(length: number): Codec<string> {
  const inner = fixed(length);
  return {
    write(writer, value) {
      if (value.length === 2 * length && writer.hex(value)) return;
      inner.write(writer, fromHex(value));
    },
    read: (reader) => toHex(inner.read(reader)),
  };
}

/** Up to `max` bytes behind a u32 length. */
export function bytes(max: number): Codec<Uint8Array> {
  return {
    write(writer, value) {
      if (value.length > max) throw new CodecError("", `${value.length} bytes, at most ${max}`);
      writer.u32(value.length);
      writer.raw(value);
    },
    read(reader) {
      const length = reader.u32();
      if (length > max) reader.fail(`${length} bytes, at most ${max}`);
      return reader.raw(length);
    },
  };
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const UTF8_ENCODER = new TextEncoder();
/** Longer text is encoded by the engine. */
const FEW_CHARACTERS = 64;

/** UTF-8 text of up to `max` bytes. */
export function text(max: number): Codec<string> {
  const inner = bytes(max);
  const few = Math.min(max, FEW_CHARACTERS);
  return {
    write(writer, value) {
      if (value.length <= few && writer.ascii(value)) return;
      if (!value.isWellFormed()) throw new CodecError("", "text has a lone surrogate");
      inner.write(writer, UTF8_ENCODER.encode(value));
    },
    read(reader) {
      const raw = inner.read(reader);
      try {
        return UTF8.decode(raw);
      } catch {
        return reader.fail("text is not UTF-8");
      }
    },
  };
}

/** Up to `max` items behind a u32 count. */
export function list<T>(item: Codec<T>, max: number): Codec<T[]> {
  const codec: Codec<T[]> = {
    write(writer, value) {
      const { length } = value;
      if (length > max) throw new CodecError("", `${length} items, at most ${max}`);
      if (length >= LONG && writer.again(codec, value)) return;
      const from = writer.length;
      writer.u32(length);
      for (const entry of value) item.write(writer, entry);
      if (length >= LONG) writer.wrote(codec, value, from);
    },
    read(reader) {
      const length = reader.u32();
      if (length > max) reader.fail(`${length} items, at most ${max}`);
      const items: T[] = [];
      for (let index = 0; index < length; index++) items.push(item.read(reader));
      return items;
    },
  };
  return codec;
}

export function optional<T>(item: Codec<T>): Codec<T | undefined> {
  return {
    write(writer, value) {
      writer.u8(value === undefined ? 0 : 1);
      if (value !== undefined) item.write(writer, value);
    },
    read: (reader) => (bool.read(reader) ? item.read(reader) : undefined),
  };
}

/** One of a closed set of words, carried as its position. Append only: positions are the format. */
export function oneOf<const W extends readonly string[]>(...words: W): Codec<W[number]> {
  return {
    write(writer, value) {
      const index = words.indexOf(value);
      if (index < 0) throw new CodecError("", "unknown word");
      writer.u8(index);
    },
    read(reader) {
      const word = words[reader.u8()];
      return word === undefined ? reader.fail("unknown word") : word;
    },
  };
}

/** A byte that must have this value: versions. */
export function literal<const V extends number>(value: V): Codec<V> {
  return {
    write(writer, given) {
      if (given !== value) throw new CodecError("", `version byte must be ${value}`);
      writer.u8(value);
    },
    read(reader) {
      if (reader.u8() !== value) reader.fail(`version byte must be ${value}`);
      return value;
    },
  };
}

/** Fields in the order they are listed. */
export function struct<F extends Record<string, unknown>>(fields: { readonly [K in keyof F]: Codec<F[K]> }): Codec<F> {
  const names = Object.keys(fields) as (keyof F & string)[];
  const each = names.map((name) => ({ name, codec: fields[name] }));
  return {
    write(writer, value) {
      for (const { name, codec } of each) codec.write(writer, value[name]);
    },
    read(reader) {
      const value = {} as F;
      for (const name of names) {
        reader.enter(name);
        value[name] = fields[name].read(reader);
        reader.leave();
      }
      return value;
    },
  };
}

/** A map as a list of entries, sorted by encoded key: insertion order never shows. */
export function map<K, V>(key: Codec<K>, value: Codec<V>, max: number): Codec<Map<K, V>> {
  const codec: Codec<Map<K, V>> = {
    write(writer, entries) {
      const { size } = entries;
      if (size > max) throw new CodecError("", `${size} entries, at most ${max}`);
      if (size < 2) {
        // Most are, and there is nothing to sort.
        writer.u32(size);
        for (const [k, v] of entries) {
          key.write(writer, k);
          value.write(writer, v);
        }
        return;
      }
      if (size >= LONG && writer.again(codec, entries)) return;
      const from = writer.length;
      writer.u32(size);
      const { keys } = writer;
      const starts = [keys.length];
      for (const k of entries.keys()) {
        key.write(keys, k);
        starts.push(keys.length);
      }
      const values = [...entries.values()];
      const order = keys.order(starts);
      for (let at = 0; at < size; at++) {
        const index = order === undefined ? at : (order[at] ?? 0);
        writer.copy(keys, starts[index] ?? 0, starts[index + 1] ?? 0);
        value.write(writer, values[index] as V);
      }
      keys.cut(starts[0] ?? 0);
      if (size >= LONG) writer.wrote(codec, entries, from);
    },
    read(reader) {
      const length = reader.u32();
      if (length > max) reader.fail(`${length} entries, at most ${max}`);
      const entries = new Map<K, V>();
      let previous: Uint8Array | undefined;
      for (let index = 0; index < length; index++) {
        const k = key.read(reader);
        if (length > 1) {
          const encoded = encode(key, k);
          if (previous !== undefined && compareBytes(previous, encoded) >= 0) reader.fail("map keys not ascending");
          previous = encoded;
        }
        entries.set(k, value.read(reader));
      }
      return entries;
    },
  };
  return codec;
}

/** Tagged alternatives: `{ type: "vote", … }`, carried as the position of the type. Append only. */
export function union<A extends Record<string, Codec<object>>>(
  alternatives: A,
): Codec<{ [K in keyof A & string]: { readonly type: K } & Infer<A[K]> }[keyof A & string]> {
  type Value = { [K in keyof A & string]: { readonly type: K } & Infer<A[K]> }[keyof A & string];
  const names = Object.keys(alternatives) as (keyof A & string)[];
  return {
    write(writer, value) {
      const index = names.indexOf(value.type);
      const codec = alternatives[value.type];
      if (index < 0 || codec === undefined) throw new CodecError("", "unknown alternative");
      writer.u8(index);
      codec.write(writer, value);
    },
    read(reader) {
      const name = names[reader.u8()];
      const codec = name === undefined ? undefined : alternatives[name];
      if (name === undefined || codec === undefined) return reader.fail("unknown alternative");
      return { ...codec.read(reader), type: name } as Value;
    },
  };
}

export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

/** Lower-case hex without a prefix: for people, map keys and vectors. */
export function toHex(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("hex");
}

/** @throws CodecError on odd length or a character outside 0-9 a-f A-F. An `0x` prefix is accepted. */
export function fromHex(value: string): Uint8Array {
  const digits = value.startsWith("0x") ? value.slice(2) : value;
  if (digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits)) throw new CodecError("", "not hexadecimal");
  return new Uint8Array(Buffer.from(digits, "hex"));
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

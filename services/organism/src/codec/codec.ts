/**
 * The canonical encoding: one byte string per value, one value per byte string.
 *
 * Everything that is hashed, signed, journaled or kept in a snapshot is encoded here and nowhere else; protobuf is
 * for the wire. Rules (protocols.md, head): integers u64 big-endian, amounts u256, variable-length fields a u32
 * length, lists a u32 count, optionals a 0/1 byte, fixed-length fields bare. Decoding refuses trailing, missing and
 * out-of-range bytes, unsorted or repeated map keys: what decodes re-encodes to the same bytes.
 */

/** Bytes that are not the canonical encoding of a value. `path` names the field, never its content. */
export class CodecError extends Error {
  override readonly name = "CodecError";
  readonly path: string;
  constructor(path: string, problem: string) {
    super(path === "" ? problem : `${path}: ${problem}`);
    this.path = path;
  }
}

/** Grows as needed; `bytes()` copies out what was written. */
export class Writer {
  #buffer: Uint8Array = new Uint8Array(256);
  #view = new DataView(this.#buffer.buffer);
  #length = 0;

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
    this.#view.setUint8(at, value);
  }
  u32(value: number): void {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value);
  }
  u64(value: bigint): void {
    const at = this.#reserve(8);
    this.#view.setBigUint64(at, value);
  }
  raw(bytes: Uint8Array): void {
    const at = this.#reserve(bytes.length);
    this.#buffer.set(bytes, at);
  }
  bytes(): Uint8Array {
    return this.#buffer.slice(0, this.#length);
  }
  /** Forgets what was written, secrets too. */
  clear(): void {
    this.#buffer.fill(0, 0, this.#length);
    this.#length = 0;
  }
  get capacity(): number {
    return this.#buffer.length;
  }
}

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
    writer.u64(BigInt(value));
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
/** Tags, stages and topics are few and come again all the time. */
const ENCODED = new Map<string, Uint8Array>();
const ENCODED_MAX = 1024;
const ENCODED_TEXT_MAX = 64;

function encodeText(value: string): Uint8Array {
  const known = ENCODED.get(value);
  if (known !== undefined) return known;
  const encoded = UTF8_ENCODER.encode(value);
  if (value.length <= ENCODED_TEXT_MAX) {
    if (ENCODED.size >= ENCODED_MAX) ENCODED.clear();
    ENCODED.set(value, encoded);
  }
  return encoded;
}

/** UTF-8 text of up to `max` bytes. */
export function text(max: number): Codec<string> {
  const inner = bytes(max);
  return {
    write(writer, value) {
      if (!value.isWellFormed()) throw new CodecError("", "text has a lone surrogate");
      inner.write(writer, encodeText(value));
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
  return {
    write(writer, value) {
      if (value.length > max) throw new CodecError("", `${value.length} items, at most ${max}`);
      writer.u32(value.length);
      for (const entry of value) item.write(writer, entry);
    },
    read(reader) {
      const length = reader.u32();
      if (length > max) reader.fail(`${length} items, at most ${max}`);
      const items: T[] = [];
      for (let index = 0; index < length; index++) items.push(item.read(reader));
      return items;
    },
  };
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
  return {
    write(writer, value) {
      for (const name of names) fields[name].write(writer, value[name]);
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
  return {
    write(writer, entries) {
      if (entries.size > max) throw new CodecError("", `${entries.size} entries, at most ${max}`);
      if (entries.size < 2) {
        // Most are, and there is nothing to sort.
        writer.u32(entries.size);
        for (const [k, v] of entries) {
          key.write(writer, k);
          value.write(writer, v);
        }
        return;
      }
      const sorted = [...entries].map(([k, v]) => {
        const encoded = encode(key, k);
        return { k: encoded, first: firstBytes(encoded), v };
      });
      // A large state is sorted at every checkpoint: most keys differ in their first bytes already.
      sorted.sort((a, b) => a.first - b.first || compareBytes(a.k, b.k));
      writer.u32(sorted.length);
      for (const entry of sorted) {
        writer.raw(entry.k);
        value.write(writer, entry.v);
      }
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
}

/** The first six bytes as a number, in the order of bytes; what is shorter stands like one that goes on with zeros. */
function firstBytes(bytes: Uint8Array): number {
  let number = 0;
  for (let at = 0; at < 6; at++) number = number * 256 + (bytes[at] ?? 0);
  return number;
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

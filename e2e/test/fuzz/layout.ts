/**
 * The structure of canonical bytes, from the codec itself: it reads through a `Reader` that notes every field, or that
 * makes every field up. So whatever has a codec has samples and a mutator, without anybody writing either.
 */
import { type Codec, CodecError, concat, encode, Reader } from "@lattice/organism/codec/codec.ts";
import type { Dice } from "./dice.ts";

export interface Field {
  readonly kind: "u8" | "u32" | "u64" | "raw";
  readonly at: number;
  readonly length: number;
}

class NotingReader extends Reader {
  readonly fields: Field[] = [];
  readonly #total: number;

  constructor(bytes: Uint8Array) {
    super(bytes);
    this.#total = bytes.length;
  }
  #note(kind: Field["kind"], length: number): void {
    this.fields.push({ kind, at: this.#total - this.remaining - length, length });
  }
  override u8(): number {
    const value = super.u8();
    this.#note("u8", 1);
    return value;
  }
  override u32(): number {
    const value = super.u32();
    this.#note("u32", 4);
    return value;
  }
  override u64(): bigint {
    const value = super.u64();
    this.#note("u64", 8);
    return value;
  }
  override raw(count: number): Uint8Array {
    const value = super.raw(count);
    if (count > 0) this.#note("raw", count);
    return value;
  }
}

/** The fields of bytes that `codec` reads, in order; of bytes that it refuses, those before the refusal. */
export function layoutOf(codec: Codec<unknown>, bytes: Uint8Array): readonly Field[] {
  const reader = new NotingReader(bytes);
  try {
    codec.read(reader);
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
  }
  return reader.fields;
}

/** Values that mean something where the bytes are going: slots in the window, ids, topics. */
export interface Pool {
  readonly numbers?: readonly bigint[];
  /** By length. */
  readonly raws?: readonly Uint8Array[];
}

type Choice = number | bigint | Uint8Array;

class DrawingReader extends Reader {
  readonly choices: Choice[];
  #next = 0;
  readonly #dice: Dice;
  readonly #pool: Pool;

  constructor(dice: Dice, pool: Pool, prefix: readonly Choice[]) {
    super(new Uint8Array());
    this.#dice = dice;
    this.#pool = pool;
    this.choices = [...prefix];
  }
  #choice(draw: () => Choice): Choice {
    const at = this.#next++;
    const known = this.choices[at];
    if (known !== undefined) return known;
    const made = draw();
    this.choices.push(made);
    return made;
  }
  override get remaining(): number {
    return 0x7fff_ffff;
  }
  override u8(): number {
    return Number(
      this.#choice(() => {
        const kind = this.#dice.below(8);
        return kind < 4 ? 1 : kind < 6 ? 0 : this.#dice.below(12);
      }),
    );
  }
  override u32(): number {
    return Number(this.#choice(() => this.#dice.small(40)));
  }
  override u64(): bigint {
    const numbers = this.#pool.numbers ?? [];
    return BigInt(
      this.#choice(() => {
        if (numbers.length > 0 && !this.#dice.chance(4)) return this.#dice.pick(numbers);
        return this.#dice.chance(6)
          ? (BigInt(this.#dice.next()) << 32n) | BigInt(this.#dice.next())
          : BigInt(this.#dice.small(40));
      }) as bigint,
    );
  }
  override raw(count: number): Uint8Array {
    if (count > 1 << 16) this.fail("too large to make up");
    const fitting = (this.#pool.raws ?? []).filter((raw) => raw.length === count);
    return this.#choice(() => {
      if (fitting.length > 0 && !this.#dice.chance(4)) return this.#dice.pick(fitting).slice();
      if (this.#dice.chance(2)) return Uint8Array.from({ length: count }, () => 97 + this.#dice.below(26));
      return this.#dice.chance(8) ? new Uint8Array(count) : this.#dice.bytes(count);
    }) as Uint8Array;
  }
}

const TRIES = 1500;

/** A value of the codec, made up and encoded; undefined when luck does not suffice. A field that is refused is drawn again. */
export function draw(codec: Codec<unknown>, dice: Dice, pool: Pool = {}): Uint8Array | undefined {
  let prefix: Choice[] = [];
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const reader = new DrawingReader(dice, pool, prefix);
    try {
      return encode(codec, codec.read(reader));
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      const back = dice.chance(6) ? 1 + dice.below(6) : 1;
      prefix = reader.choices.slice(0, Math.max(0, reader.choices.length - back));
    }
  }
  return undefined;
}

/** Where fields begin and the bytes end. */
export function boundaries(fields: readonly Field[], bytes: Uint8Array): readonly number[] {
  return fields.length === 0 ? [0, bytes.length] : [...fields.map(({ at }) => at), bytes.length];
}

export function spliced(bytes: Uint8Array, at: number, remove: number, insert: Uint8Array): Uint8Array {
  return concat(bytes.subarray(0, at), insert, bytes.subarray(at + remove));
}

/** Randomness that a seed repeats: sfc32, seeded by hashing. Not for secrets. */
import { blake3 } from "@lattice/organism/crypto/hash.ts";

export class Dice {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: string) {
    const view = new DataView(blake3(new TextEncoder().encode(seed)).buffer);
    this.#a = view.getUint32(0);
    this.#b = view.getUint32(4);
    this.#c = view.getUint32(8);
  }

  /** 32 random bits. */
  next(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** 0 … below − 1. */
  below(below: number): number {
    return below <= 1 ? 0 : this.next() % below;
  }

  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }

  /** @throws RangeError when there is nothing to pick */
  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new RangeError("nothing to pick from");
    return item;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.next());
  }

  /** Mostly small, sometimes up to `most`. */
  small(most: number): number {
    return this.below(Math.min(most, this.chance(8) ? most : 4) + 1);
  }
}

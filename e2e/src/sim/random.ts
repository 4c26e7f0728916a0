/** Everything random in a simulation comes from its seed: streams that are split by name and never meet. */
import { createHash } from "node:crypto";

export class SeededRandom {
  readonly #name: string;
  readonly #state: Uint32Array;

  constructor(name: string) {
    this.#name = name;
    const digest = createHash("sha256").update(name).digest();
    this.#state = new Uint32Array(4);
    for (let at = 0; at < 4; at++) this.#state[at] = digest.readUInt32BE(at * 4);
    for (let warm = 0; warm < 12; warm++) this.#next();
  }

  /** A stream of its own: what is drawn here changes nothing there. */
  fork(name: string): SeededRandom {
    return new SeededRandom(`${this.#name}/${name}`);
  }

  /** sfc32, 32 bits. */
  #next(): number {
    const s = this.#state;
    const [a = 0, b = 0, c = 0, d = 0] = s;
    const sum = (a + b + d) | 0;
    s[3] = d + 1;
    s[0] = b ^ (b >>> 9);
    s[1] = c + (c << 3);
    s[2] = ((c << 21) | (c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** 0 ≤ value < 1. */
  fraction(): number {
    return this.#next() / 0x1_0000_0000;
  }

  /** from ≤ value < to. */
  between(from: number, to: number): number {
    return from + this.fraction() * (to - from);
  }

  /** An integer, 0 ≤ value < below. */
  below(below: number): number {
    return Math.floor(this.fraction() * below);
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new RangeError("nothing to pick from");
    return item;
  }

  bytes(count: number): Uint8Array {
    const out = new Uint8Array(count);
    for (let at = 0; at < count; at += 4) {
      const word = this.#next();
      for (let byte = 0; byte < 4 && at + byte < count; byte++) out[at + byte] = (word >>> (8 * byte)) & 0xff;
    }
    return out;
  }
}

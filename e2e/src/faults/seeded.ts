/** A seeded source of chance: the same seed makes the same faults in the same order. Not for secrets. */
export class Seeded {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 ≤ x < 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** 0 … below − 1. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  /** An independent source. */
  fork(): Seeded {
    return new Seeded(this.below(4_294_967_296));
  }
}

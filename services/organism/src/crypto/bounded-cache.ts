/** A least-recently-used map with a fixed capacity, keyed by bytes. For parsed keys and other pure results. */
export class BoundedCache<V> {
  readonly #capacity: number;
  readonly #entries = new Map<string, V>();
  readonly #dropped: ((value: V) => void) | undefined;

  /** `dropped` is called with every value that leaves, so that memory outside the JavaScript heap can be freed. */
  constructor(capacity: number, dropped?: (value: V) => void) {
    this.#capacity = capacity;
    this.#dropped = dropped;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The cached value, or what `make` gives, which is then kept. Nothing is kept when `make` throws. */
  getOrMake(key: Uint8Array, make: () => V): V {
    const name = Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
    const found = this.#entries.get(name);
    if (found !== undefined) {
      this.#entries.delete(name);
      this.#entries.set(name, found);
      return found;
    }
    const made = make();
    this.#entries.set(name, made);
    if (this.#entries.size > this.#capacity) {
      const [oldest] = this.#entries;
      if (oldest !== undefined) {
        this.#entries.delete(oldest[0]);
        this.#dropped?.(oldest[1]);
      }
    }
    return made;
  }

  clear(): void {
    for (const value of this.#entries.values()) this.#dropped?.(value);
    this.#entries.clear();
  }
}

/**
 * Streams, or connections, that are open at once, those of all callers together. When there are as many as there may be, the caller with
 * most gives up its newest, so that whoever opens many shuts nobody else out.
 */
export class StreamPlaces<Stream> {
  readonly #limit: number;
  readonly #byCaller = new Map<unknown, Set<Stream>>();
  #size = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#size;
  }

  /** @returns the stream that has to end instead: undefined while there is room, `stream` itself where its caller has most */
  take(caller: unknown, stream: Stream): Stream | undefined {
    const own = this.#byCaller.get(caller) ?? new Set<Stream>();
    if (this.#size >= this.#limit) {
      let most: readonly [unknown, Set<Stream>] | undefined;
      for (const each of this.#byCaller) if (most === undefined || each[1].size > most[1].size) most = each;
      const newest = most === undefined || most[1].size <= own.size + 1 ? undefined : [...most[1]].at(-1);
      if (most === undefined || newest === undefined) return stream;
      this.leave(most[0], newest);
      this.#add(caller, own, stream);
      return newest;
    }
    this.#add(caller, own, stream);
    return undefined;
  }

  #add(caller: unknown, own: Set<Stream>, stream: Stream): void {
    own.add(stream);
    this.#byCaller.set(caller, own);
    this.#size += 1;
  }

  /** Again for one that has left already: nothing. */
  leave(caller: unknown, stream: Stream): void {
    const own = this.#byCaller.get(caller);
    if (own?.delete(stream) !== true) return;
    this.#size -= 1;
    if (own.size === 0) this.#byCaller.delete(caller);
  }

  *[Symbol.iterator](): Generator<Stream, void, void> {
    for (const streams of this.#byCaller.values()) yield* streams;
  }
}

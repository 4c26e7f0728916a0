/**
 * Streams that are open at once, on all connections together. When there are as many as there may be, the connection
 * with most gives up its newest, so that whoever opens many shuts nobody else out.
 */
export class StreamPlaces<Stream> {
  readonly #limit: number;
  readonly #byConnection = new Map<object, Set<Stream>>();
  #size = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#size;
  }

  /** @returns the stream that has to end instead: undefined while there is room, `stream` itself where its connection has most */
  take(connection: object, stream: Stream): Stream | undefined {
    const own = this.#byConnection.get(connection) ?? new Set<Stream>();
    if (this.#size >= this.#limit) {
      let most: readonly [object, Set<Stream>] | undefined;
      for (const each of this.#byConnection) if (most === undefined || each[1].size > most[1].size) most = each;
      const newest = most === undefined || most[1].size <= own.size + 1 ? undefined : [...most[1]].at(-1);
      if (most === undefined || newest === undefined) return stream;
      this.leave(most[0], newest);
      this.#add(connection, own, stream);
      return newest;
    }
    this.#add(connection, own, stream);
    return undefined;
  }

  #add(connection: object, own: Set<Stream>, stream: Stream): void {
    own.add(stream);
    this.#byConnection.set(connection, own);
    this.#size += 1;
  }

  /** Again for one that has left already: nothing. */
  leave(connection: object, stream: Stream): void {
    const own = this.#byConnection.get(connection);
    if (own?.delete(stream) !== true) return;
    this.#size -= 1;
    if (own.size === 0) this.#byConnection.delete(connection);
  }

  *[Symbol.iterator](): Generator<Stream, void, void> {
    for (const streams of this.#byConnection.values()) yield* streams;
  }
}

/**
 * One hop of a network that can be made bad: a TCP relay between somebody and one port of 127.0.0.1. It delays, narrows,
 * stalls, resets, and, on NATS, drops, doubles, reorders and damages whole messages. Chance is seeded.
 *
 * TCP never loses a byte, so loss is what TCP makes of it: the rest waits for a retransmission. A cut holds what is on its
 * way until it is mended, as a network does; whoever does not wait that long meets the silence.
 */
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { isLogMessage, NatsFrames, underAnotherId } from "./nats-frames.ts";
import { Seeded } from "./seeded.ts";

/** What is wrong with a link. Everything is off by default. */
export interface Conditions {
  readonly delayMs?: number;
  /** Added evenly between 0 and this. */
  readonly jitterMs?: number;
  readonly bytesPerSecond?: number;
  /** Share of the chunks that have to be sent again: each holds up all behind it. */
  readonly loss?: number;
  /** Every connection is reset this often. */
  readonly resetEveryMs?: number;
  /** Nothing passes: to the server, from it, or both. */
  readonly cut?: "up" | "down" | "both";
  /** Messages of the log, on their way in (`up`) or out: shares of 1. NATS links only. */
  readonly messages?: {
    readonly direction: "up" | "down";
    readonly drop?: number;
    readonly duplicate?: number;
    readonly corrupt?: number;
    /** Messages are held until there are this many, and go on in another order. */
    readonly reorderWindow?: number;
  };
}

const RETRANSMIT_MS = 300;
const QUEUED_BYTES_MAX = 8 * 1024 * 1024;
const REORDER_PATIENCE_MS = 150;

type Direction = "up" | "down";

/** What the links of a run have done, for a run that must not be void. */
export interface LinkCounts {
  bytes: number;
  delayed: number;
  held: number;
  reset: number;
  dropped: number;
  duplicated: number;
  reordered: number;
  corrupted: number;
}

export function noCounts(): LinkCounts {
  return { bytes: 0, delayed: 0, held: 0, reset: 0, dropped: 0, duplicated: 0, reordered: 0, corrupted: 0 };
}

export class FaultLink {
  readonly counts: LinkCounts;
  readonly #server: Server;
  readonly #random: Seeded;
  readonly #nats: boolean;
  readonly #connections = new Set<Connection>();
  #conditions: Conditions = {};
  #resets: NodeJS.Timeout | undefined;

  private constructor(
    server: Server,
    random: Seeded,
    options: { readonly nats: boolean; readonly counts: LinkCounts },
  ) {
    this.#server = server;
    this.#random = random;
    this.#nats = options.nats;
    this.counts = options.counts;
  }

  /** `target` may be a port that is known only once somebody connects. */
  static async open(
    target: number | (() => number),
    options: { readonly seed: number; readonly nats?: boolean; readonly counts?: LinkCounts },
  ): Promise<FaultLink> {
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", resolve);
    });
    const link = new FaultLink(server, new Seeded(options.seed), {
      nats: options.nats ?? false,
      counts: options.counts ?? noCounts(),
    });
    server.on("connection", (client) => link.#join(client, typeof target === "number" ? target : target()));
    return link;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  get conditions(): Conditions {
    return this.#conditions;
  }

  /** From now on, also for what is connected already. `{}` mends everything. */
  set(conditions: Conditions): void {
    this.#conditions = conditions;
    clearInterval(this.#resets);
    if (conditions.resetEveryMs !== undefined) this.#resets = setInterval(() => this.reset(), conditions.resetEveryMs);
    for (const connection of this.#connections) connection.changed();
  }

  /** Ends every connection at once, as a middlebox does that has forgotten them. */
  reset(): void {
    for (const connection of [...this.#connections]) {
      this.counts.reset += 1;
      connection.destroy();
    }
  }

  #join(client: Socket, target: number): void {
    const connection = new Connection(client, target, {
      conditions: () => this.#conditions,
      random: this.#random.fork(),
      nats: this.#nats,
      counts: this.counts,
      gone: () => this.#connections.delete(connection),
    });
    this.#connections.add(connection);
  }

  async close(): Promise<void> {
    clearInterval(this.#resets);
    for (const connection of [...this.#connections]) connection.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

interface ConnectionOptions {
  readonly conditions: () => Conditions;
  readonly random: Seeded;
  readonly nats: boolean;
  readonly counts: LinkCounts;
  readonly gone: () => void;
}

/** A connection through a link. The far side is dialled once something may pass. */
class Connection {
  readonly #client: Socket;
  readonly #options: ConnectionOptions;
  readonly #up: Way;
  readonly #down: Way;
  readonly #server: Socket;

  constructor(client: Socket, target: number, options: ConnectionOptions) {
    this.#client = client;
    this.#options = options;
    this.#server = dial(target, "127.0.0.1");
    this.#up = new Way("up", client, this.#server, options);
    this.#down = new Way("down", this.#server, client, options);
    for (const socket of [client, this.#server]) {
      socket.setNoDelay(true);
      socket.on("error", () => this.destroy());
      socket.on("close", () => this.destroy());
    }
  }

  changed(): void {
    this.#up.send();
    this.#down.send();
  }

  destroy(): void {
    this.#up.end();
    this.#down.end();
    this.#client.destroy();
    this.#server.destroy();
    this.#options.gone();
  }
}

interface Queued {
  readonly bytes: Buffer;
  readonly dueMs: number;
}

/** One direction of a connection. */
class Way {
  readonly #direction: Direction;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #options: ConnectionOptions;
  readonly #frames: NatsFrames | undefined;
  readonly #queue: Queued[] = [];
  #queuedBytes = 0;
  #lastDueMs = 0;
  #held: Buffer[] = [];
  #heldTimer: NodeJS.Timeout | undefined;
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  constructor(direction: Direction, from: Socket, to: Socket, options: ConnectionOptions) {
    this.#direction = direction;
    this.#from = from;
    this.#to = to;
    this.#options = options;
    this.#frames = options.nats ? new NatsFrames() : undefined;
    from.on("data", (chunk: Buffer) => this.#take(chunk));
  }

  #take(chunk: Buffer): void {
    this.#options.counts.bytes += chunk.length;
    if (this.#frames === undefined) {
      this.#put(chunk);
      return;
    }
    const { messages } = this.#options.conditions();
    const { counts, random } = this.#options;
    for (const frame of this.#frames.push(chunk)) {
      if (messages?.direction !== this.#direction || !isLogMessage(frame)) {
        this.#put(frame.bytes);
        continue;
      }
      if (random.next() < (messages.drop ?? 0)) {
        counts.dropped += 1;
        continue;
      }
      let { bytes } = frame;
      if (random.next() < (messages.corrupt ?? 0)) {
        counts.corrupted += 1;
        bytes = damaged(bytes, random);
      }
      const copies = [bytes];
      if (random.next() < (messages.duplicate ?? 0)) {
        counts.duplicated += 1;
        copies.push(this.#direction === "up" ? underAnotherId(frame) : frame.bytes);
      }
      for (const copy of copies) {
        if ((messages.reorderWindow ?? 1) > 1) this.#hold(copy, messages.reorderWindow ?? 1);
        else this.#put(copy);
      }
    }
  }

  /** Collects messages and lets them go in another order; a few that nobody follows go after a while. */
  #hold(bytes: Buffer, window: number): void {
    this.#held.push(bytes);
    if (this.#held.length >= window) this.#release();
    else this.#heldTimer ??= setTimeout(() => this.#release(), REORDER_PATIENCE_MS);
  }

  #release(): void {
    clearTimeout(this.#heldTimer);
    this.#heldTimer = undefined;
    const { counts, random } = this.#options;
    const held = this.#held;
    this.#held = [];
    if (held.length > 1) counts.reordered += held.length;
    while (held.length > 0) {
      const [bytes] = held.splice(random.below(held.length), 1);
      if (bytes !== undefined) this.#put(bytes);
    }
  }

  #put(bytes: Buffer): void {
    const { delayMs = 0, jitterMs = 0, bytesPerSecond, loss = 0 } = this.#options.conditions();
    const { random, counts } = this.#options;
    const now = performance.now();
    let dueMs = now + delayMs + jitterMs * random.next();
    if (loss > 0 && random.next() < loss) dueMs += RETRANSMIT_MS;
    if (bytesPerSecond !== undefined) dueMs = Math.max(dueMs, this.#lastDueMs) + (bytes.length * 1000) / bytesPerSecond;
    if (dueMs > now) counts.delayed += 1;
    this.#lastDueMs = Math.max(dueMs, this.#lastDueMs);
    this.#queue.push({ bytes, dueMs: this.#lastDueMs });
    this.#queuedBytes += bytes.length;
    if (this.#queuedBytes > QUEUED_BYTES_MAX) this.#from.pause();
    this.send();
  }

  /** Sends what is due, unless the way is cut. */
  send(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const { cut } = this.#options.conditions();
    if (this.#over) return;
    if (cut === this.#direction || cut === "both") {
      if (this.#queue.length > 0) this.#options.counts.held += 1;
      return;
    }
    const now = performance.now();
    for (;;) {
      const [first] = this.#queue;
      if (first === undefined) break;
      if (first.dueMs > now) {
        this.#timer = setTimeout(() => this.send(), Math.max(1, first.dueMs - now));
        break;
      }
      this.#queue.shift();
      this.#queuedBytes -= first.bytes.length;
      this.#to.write(first.bytes);
    }
    if (this.#queuedBytes < QUEUED_BYTES_MAX / 2) this.#from.resume();
  }

  end(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#heldTimer);
  }
}

/** One bit of the message's body is another; its line and its headers stay, so that it is still a message. */
function damaged(bytes: Buffer, random: Seeded): Buffer {
  const copy = Buffer.from(bytes);
  const headers = copy.indexOf("\r\n\r\n");
  const start = headers >= 0 ? headers + 4 : copy.indexOf("\r\n") + 2;
  const length = copy.length - 2 - start;
  if (length <= 0) return copy;
  const at = start + random.below(length);
  copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8));
  return copy;
}

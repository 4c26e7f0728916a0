/**
 * Typed clients over `@grpc/grpc-js` and protobuf-es: unary methods are async functions, server streams async
 * iterables. Every failure is a `Fault`; nobody there is a `ConnectTimeout`.
 */
import type { DescMethod, DescService, Message, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import {
  Client as Channel,
  ChannelCredentials,
  type ClientReadableStream,
  connectivityState,
  Metadata,
} from "@grpc/grpc-js";
import { COMMON_FAULTS, Fault } from "../fault.ts";
import { ORGANISM_HEADER } from "./binding.ts";
import { ConnectTimeout, faultFromError, rpcFault } from "./errors.ts";
import { asBuffer, messageBytes, methodPath, parseMessage, RAW } from "./wire.ts";

/** Settings of one call. */
export interface CallOptions {
  /** Aborting it cancels the call, which then throws the signal's reason. */
  readonly signal?: AbortSignal;
  /** For unary calls the whole time allowed; for streams, when given, the stream's whole life. */
  readonly deadlineMs?: number;
  /** Streams only: the longest silence, e.g. two slots on a stream with a heartbeat per slot. */
  readonly idleMs?: number;
  /** W3C trace context to pass on. Never towards zipnet. */
  readonly traceparent?: string;
}

type Method<M extends DescMethod> = M["methodKind"] extends "server_streaming"
  ? (request: MessageInitShape<M["input"]>, options?: CallOptions) => AsyncIterable<MessageShape<M["output"]>>
  : (request: MessageInitShape<M["input"]>, options?: CallOptions) => Promise<MessageShape<M["output"]>>;

/** One method per RPC, under its generated local name. A stream's call starts when its iteration starts. */
export type Client<S extends DescService> = { readonly [K in keyof S["method"]]: Method<S["method"][K]> } & {
  /** Gives the connection back; calls in flight finish. */
  close(): void;
};

export interface ClientOptions {
  /** COMMITTEE id, 32 bytes, of the committee that the caller means. Left out only for health and reflection. */
  readonly committee?: Uint8Array;
  /** Of unary calls that do not say otherwise; 5 s. */
  readonly deadlineMs?: number;
  /** Largest request and response, bytes; 4 MiB as servers allow, and 32 MiB. */
  readonly requestBytes?: number;
  readonly responseBytes?: number;
  readonly credentials?: ChannelCredentials;
}

/** A unary call that sets no deadline. */
export const DEADLINE_MS = 5000;
const REQUEST_BYTES = 4 << 20;
const RESPONSE_BYTES = 32 << 20;

/** The two things a client does, before they are given their names. */
interface Caller {
  unary(method: DescMethod, request: unknown, options: CallOptions): Promise<Message>;
  stream(method: DescMethod, request: unknown, options: CallOptions): AsyncIterable<Message>;
  close(): void;
}

class Connection implements Caller {
  readonly address: string;
  readonly #service: DescService;
  readonly #options: ClientOptions;
  readonly #channel: Channel;

  constructor(service: DescService, address: string, options: ClientOptions) {
    this.address = address;
    this.#service = service;
    this.#options = options;
    this.#channel = new Channel(address, options.credentials ?? ChannelCredentials.createInsecure(), {
      "grpc.max_receive_message_length": options.responseBytes ?? RESPONSE_BYTES,
      "grpc.max_send_message_length": -1,
      // A member that comes back is found again within two seconds, not two minutes.
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 2000,
      // Names too: a container's name is unknown until it runs, and may lead elsewhere afterwards. Default: 30 s.
      "grpc.dns_min_time_between_resolutions_ms": 1000,
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
      // Repeating is the caller's decision: it knows whether the content is accepted once.
      "grpc.enable_retries": 0,
      "grpc.service_config_disable_resolution": 1,
      "grpc.enable_http_proxy": 0,
      "grpc.enable_channelz": 0,
    });
  }

  #metadata(options: CallOptions): Metadata {
    const metadata = new Metadata();
    if (this.#options.committee !== undefined) metadata.set(ORGANISM_HEADER, asBuffer(this.#options.committee));
    if (options.traceparent !== undefined) metadata.set("traceparent", options.traceparent);
    return metadata;
  }

  #request(method: DescMethod, request: unknown): Buffer {
    const bytes = messageBytes(method.input, request);
    const limit = this.#options.requestBytes ?? REQUEST_BYTES;
    if (bytes.length > limit) {
      const detail = `the request has ${bytes.length} bytes; ${limit} are allowed`;
      const metadata = { limit: String(limit), size: String(bytes.length) };
      throw new Fault("rpc.lattice", "TOO_LARGE", COMMON_FAULTS.TOO_LARGE, detail, metadata);
    }
    return bytes;
  }

  #response(method: DescMethod, bytes: Buffer): Message {
    try {
      return parseMessage(method.output, bytes);
    } catch {
      throw rpcFault("MALFORMED_RESPONSE", `the answer does not parse as ${method.output.typeName}`, {
        address: this.address,
      });
    }
  }

  #fault(error: unknown): Fault {
    const connected = this.#channel.getChannel().getConnectivityState(false) === connectivityState.READY;
    return faultFromError(error, { address: this.address, connected });
  }

  async unary(method: DescMethod, request: unknown, options: CallOptions): Promise<Message> {
    const { signal } = options;
    signal?.throwIfAborted();
    const bytes = this.#request(method, request);
    const deadline = Date.now() + (options.deadlineMs ?? this.#options.deadlineMs ?? DEADLINE_MS);
    const path = methodPath(this.#service, method);
    const answer = await new Promise<Buffer>((resolve, reject) => {
      const { serialize, deserialize } = RAW;
      const metadata = this.#metadata(options);
      const call = this.#channel.makeUnaryRequest(path, serialize, deserialize, bytes, metadata, { deadline }, done);
      const cancel = (): void => call.cancel();
      signal?.addEventListener("abort", cancel, { once: true });
      function done(error: Error | null, value?: Buffer): void {
        signal?.removeEventListener("abort", cancel);
        if (error === null && value !== undefined) resolve(value);
        else reject(error ?? rpcFault("MALFORMED_RESPONSE"));
      }
    }).catch((error: unknown) => {
      signal?.throwIfAborted();
      throw this.#fault(error);
    });
    return this.#response(method, answer);
  }

  async *stream(method: DescMethod, request: unknown, options: CallOptions): AsyncGenerator<Message, void, void> {
    const { signal, idleMs, deadlineMs } = options;
    signal?.throwIfAborted();
    const bytes = this.#request(method, request);
    const deadline = deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
    const path = methodPath(this.#service, method);
    const { serialize, deserialize } = RAW;
    const call: ClientReadableStream<Buffer> = this.#channel.makeServerStreamRequest(
      path,
      serialize,
      deserialize,
      bytes,
      this.#metadata(options),
      deadline,
    );
    const cancel = (): void => call.cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    let idle = false;
    let timer: NodeJS.Timeout | undefined;
    const listen = (): void => {
      if (idleMs === undefined) return;
      timer = setTimeout(() => {
        idle = true;
        call.cancel();
      }, idleMs);
    };
    // The iterator below may be gone when the cancelled call reports its end.
    call.on("error", () => undefined);
    try {
      listen();
      for await (const answer of call.iterator({ destroyOnReturn: false })) {
        clearTimeout(timer);
        yield this.#response(method, answer);
        listen();
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (idle) throw rpcFault("STREAM_IDLE", `no message for ${idleMs} ms`, { address: this.address });
      throw this.#fault(error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
      call.cancel();
    }
  }

  close(): void {
    this.#channel.close();
  }
}

/** Gives a caller the names and types of a service. */
function named<S extends DescService>(service: S, caller: Caller): Client<S> {
  const methods = service.methods.map((method) => {
    const call =
      method.methodKind === "server_streaming"
        ? (request: unknown, options: CallOptions = {}) => caller.stream(method, request, options)
        : (request: unknown, options: CallOptions = {}) => caller.unary(method, request, options);
    return [method.localName, call] as const;
  });
  return { ...Object.fromEntries(methods), close: () => caller.close() } as Client<S>;
}

/**
 * A client of one member. Connects at the first call; calls fail fast while nobody is there.
 * @param address `host:port`
 */
export function connectService<S extends DescService>(
  service: S,
  address: string,
  options: ClientOptions = {},
): Client<S> {
  return named(service, new Connection(service, address, options));
}

/** Asks members in turn; stays with one until it fails. */
class AnyOf implements Caller {
  readonly #members: readonly Connection[];
  readonly #deadlineMs: number;
  #current: number;

  constructor(members: readonly Connection[], first: number, deadlineMs: number) {
    if (members.length === 0) throw new RangeError("connectAny: at least one address is needed");
    this.#members = members;
    this.#current = first % members.length;
    this.#deadlineMs = deadlineMs;
  }

  #member(offset: number): { readonly index: number; readonly connection: Connection } {
    const index = (this.#current + offset) % this.#members.length;
    const connection = this.#members[index];
    if (connection === undefined) throw new RangeError("connectAny: no such member");
    return { index, connection };
  }

  async unary(method: DescMethod, request: unknown, options: CallOptions): Promise<Message> {
    const end = Date.now() + (options.deadlineMs ?? this.#deadlineMs);
    const order = this.#members.map((_, offset) => this.#member(offset));
    let failure: unknown;
    for (const [attempt, { index, connection }] of order.entries()) {
      const leftMs = end - Date.now();
      if (leftMs <= 0) break;
      // One silent member must not eat the time of the others.
      const deadlineMs = attempt === order.length - 1 ? leftMs : Math.ceil(leftMs / 2);
      try {
        const answer = await connection.unary(method, request, { ...options, deadlineMs });
        this.#current = index;
        return answer;
      } catch (error) {
        if (!movesOn(error)) throw error;
        failure = error;
      }
    }
    this.#current = this.#member(1).index;
    throw failure ?? rpcFault("DEADLINE_EXCEEDED");
  }

  /** Tries members until one gives a first message; a stream that breaks later throws, and its reader resumes. */
  async *stream(method: DescMethod, request: unknown, options: CallOptions): AsyncGenerator<Message, void, void> {
    const order = this.#members.map((_, offset) => this.#member(offset));
    for (const [attempt, { index, connection }] of order.entries()) {
      let started = false;
      try {
        for await (const answer of connection.stream(method, request, options)) {
          started = true;
          this.#current = index;
          yield answer;
        }
        return;
      } catch (error) {
        const last = attempt === order.length - 1;
        if (started || last) this.#current = (index + 1) % this.#members.length;
        if (started || last || !movesOn(error)) throw error;
      }
    }
  }

  close(): void {
    for (const member of this.#members) member.close();
  }
}

/** Would another member do better? */
function movesOn(error: unknown): boolean {
  return (
    error instanceof ConnectTimeout ||
    (error instanceof Fault && (error.code === "UNAVAILABLE" || error.code === "DEADLINE_EXCEEDED"))
  );
}

/**
 * A client of a whole committee: calls go to one member until it is UNAVAILABLE or late, then to the next. A call may
 * so be made more than once: use it for reads and for content that is accepted once.
 * @param addresses `host:port` of each member; `first` chooses where to begin, e.g. the caller's own index
 */
export function connectAny<S extends DescService>(
  service: S,
  addresses: readonly string[],
  options: ClientOptions & { readonly first?: number } = {},
): Client<S> {
  const members = addresses.map((address) => new Connection(service, address, options));
  return named(service, new AnyOf(members, options.first ?? 0, options.deadlineMs ?? DEADLINE_MS));
}

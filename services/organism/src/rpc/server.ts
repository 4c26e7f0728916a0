/**
 * A gRPC server over protobuf-es handlers: `GrpcService` (define.ts) on `@grpc/grpc-js`.
 *
 * Around every handler, outermost first: recover → trace → log → metrics → bind. Requests are bounded in size and
 * depth, unary calls in time, streams by a byte buffer: a reader that leaves it full for `drainMs` gets SLOW_CONSUMER.
 * What callers leave lying here (half a request, an answer that is not taken) is bounded in time and in all (held-bytes.ts).
 * Nothing that a caller sends, and no peer address, reaches a log, a span or an error message.
 */
import { constants, type ServerHttp2Stream } from "node:http2";
import { createServer, type Socket } from "node:net";
import type { DescMethod, Message } from "@bufbuild/protobuf";
import {
  logVerbosity,
  type Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerInterceptingCall,
  type ServerInterceptor,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  setLogVerbosity,
  type UntypedHandleCall,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { Bug, COMMON_FAULTS, type CommonReason, Fault } from "../fault.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import { checkBinding, ORGANISM_HEADER } from "./binding.ts";
import type { Call, GrpcService } from "./define.ts";
import { rpcFault, statusOfFault } from "./errors.ts";
import { type Held, HeldBytes } from "./held-bytes.ts";
import { listenOn } from "./listen.ts";
import { StreamPlaces } from "./stream-places.ts";
import { messageBytes, methodPath, parseMessage, RAW } from "./wire.ts";

// grpc-js would write to stderr by itself, addresses included; what matters is in our own log.
if (process.env["GRPC_VERBOSITY"] === undefined) setLogVerbosity(logVerbosity.NONE);

/** What a server allows its callers. */
export interface ServerLimits {
  /** Largest request, bytes. */
  readonly requestBytes: number;
  /** Longest unary call, ms, also for callers that set no deadline. */
  readonly unaryMs: number;
  /** Bytes of a stream that may wait for its reader. */
  readonly streamBufferBytes: number;
  /** How long the buffer may stay full, ms. */
  readonly drainMs: number;
  /** Calls at once on one connection. */
  readonly callsPerConnection: number;
  /** Connections at once. One more, and whoever has most from one address loses its newest; it may be this one. */
  readonly connections: number;
  /** Streams at once, on all connections together. */
  readonly streams: number;
  /** Bytes kept for callers that take their time: of requests, of answers and of streams, each of all calls together. */
  readonly heldBytes: number;
}

export const SERVER_LIMITS: ServerLimits = {
  requestBytes: 4 << 20,
  unaryMs: 30_000,
  streamBufferBytes: 1 << 20,
  drainMs: 30_000,
  callsPerConnection: 128,
  connections: 1024,
  streams: 2048,
  heldBytes: 128 << 20,
};

/** Where spans of single calls go; `observe/tracing.ts` has one. */
export interface CallTracer {
  /** @param traceparent W3C header of the caller */
  call(traceparent: string, name: string, startMs: number, endMs: number, code: string): void;
}

export interface ServerOptions {
  /** `host:port`; port 0 takes a free one. */
  readonly address: string;
  readonly services: readonly GrpcService[];
  /** COMMITTEE id, 32 bytes, that callers of bound services must name. */
  readonly committee: Uint8Array;
  /** Domain of faults that are not a handler's own: the organism, e.g. "zipnet". */
  readonly domain: string;
  readonly log: Logger;
  readonly meters: Meters;
  /** Spans for callers that send a W3C `traceparent`. A zipnet member never reads that header. */
  readonly tracer?: CallTracer;
  readonly credentials?: ServerCredentials;
  readonly limits?: Partial<ServerLimits>;
  /** Told of every `Bug` a handler throws; a member halts. */
  readonly onBug?: (bug: Bug) => void;
}

export interface RunningServer {
  /** The port that is listened on. */
  readonly port: number;
  /**
   * Stops accepting; streams end with NOT_READY so that their readers move on; unary calls may finish for `graceMs`.
   * Resolves when everything is closed. Set health to NOT_SERVING before.
   */
  drain(graceMs: number): Promise<void>;
  /** Closes at once. */
  close(): void;
}

/** What all kinds of calls of grpc-js have. */
interface RawCall {
  readonly metadata: Metadata;
  getDeadline(): Date | number;
  once(event: "cancelled", listener: () => void): unknown;
}

type RawStream = ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>;

function deadlineMs(raw: RawCall): number {
  const deadline = raw.getDeadline();
  return typeof deadline === "number" ? deadline : deadline.getTime();
}

/** One call: what its handler may know, and what the layers around it need. */
class ServedCall implements Call {
  readonly name: string;
  readonly bound: boolean;
  readonly #raw: RawCall;
  #abort: AbortController | undefined;
  #reason: Fault | undefined;
  #finished = false;
  /** Called once when the caller is gone, the time is over or the server drains. */
  onStop: ((reason: Fault) => void) | undefined;
  /** Called once when nothing more goes to the caller: it has everything, or is gone. */
  #onOver: (() => void) | undefined;
  #over = false;

  constructor(raw: RawCall, name: string, bound: boolean) {
    this.#raw = raw;
    this.name = name;
    this.bound = bound;
    raw.once("cancelled", () => {
      this.#over = true;
      this.#onOver?.();
      // grpc-js says so after every call; only what is not finished is told.
      if (this.#finished) return;
      const late = deadlineMs(raw) <= Date.now();
      this.stop(late ? rpcFault("DEADLINE_EXCEEDED") : rpcFault("CONNECTION_LOST", "the caller went away"));
    });
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#reason !== undefined) this.#abort.abort(this.#reason);
    }
    return this.#abort.signal;
  }

  header(name: string): string | Uint8Array | undefined {
    const [value] = this.#raw.metadata.get(name);
    return typeof value === "object" ? new Uint8Array(value) : value;
  }

  /** Why the call was stopped, when it was. */
  get stopped(): Fault | undefined {
    return this.#reason;
  }

  stop(reason: Fault): void {
    if (this.#finished || this.#reason !== undefined) return;
    this.#reason = reason;
    this.#abort?.abort(reason);
    this.onStop?.(reason);
  }

  whenOver(then: () => void): void {
    if (this.#over) then();
    else this.#onOver = then;
  }

  /** After this, what happens to the connection is no longer the call's business. */
  finish(): void {
    this.#finished = true;
  }
}

/** Something done around every call. `next` runs the rest. */
type Layer = <T>(call: ServedCall, next: () => Promise<T>) => Promise<T>;

function codeOf(error: unknown): string {
  return error instanceof Fault ? error.code : "INTERNAL";
}

/** Anything that is not a fault becomes one that says nothing but that we are wrong. */
function recover(options: ServerOptions): Layer {
  return async (call, next) => {
    try {
      return await next();
    } catch (error) {
      if (error instanceof Fault) throw error;
      // A handler that stops because its signal says so has nothing to report.
      if (call.stopped !== undefined) throw call.stopped;
      if (error instanceof Bug) options.onBug?.(error);
      throw new Fault(`${options.domain}.lattice`, "BUG", COMMON_FAULTS.BUG);
    }
  };
}

/** A span below the caller's, when there is one. Never in zipnet, where nothing may join a client to a slot. */
function trace(tracer: CallTracer): Layer {
  return async (call, next) => {
    const parent = call.name.startsWith("lattice.zipnet.") ? undefined : call.header("traceparent");
    if (typeof parent !== "string") return next();
    const startMs = Date.now();
    let code = "OK";
    try {
      return await next();
    } catch (error) {
      code = codeOf(error);
      throw error;
    } finally {
      tracer.call(parent, call.name, startMs, Date.now(), code);
    }
  };
}

/** One debug line per failed call, an error line when the failure is ours. */
function logging(log: Logger): Layer {
  return async (call, next) => {
    try {
      return await next();
    } catch (error) {
      if (call.stopped !== undefined) log.debug("call stopped", { method: call.name, reason: call.stopped.reason });
      else if (!(error instanceof Fault))
        log.error("call failed on a bug", { method: call.name, ...errorFields(error) });
      else log.debug("call refused", { method: call.name, code: error.code, reason: error.reason });
      throw error;
    }
  };
}

/** Duration by method and code. */
function metrics(meters: Meters): Layer {
  return async (call, next) => {
    const start = performance.now();
    let code = "OK";
    try {
      return await next();
    } catch (error) {
      code = codeOf(error);
      if (error instanceof Fault && error.reason === "SLOW_CONSUMER") {
        meters.count("lattice_rpc_slow_consumers_total", 1, { method: call.name });
      }
      throw error;
    } finally {
      const seconds = (performance.now() - start) / 1000;
      meters.record("lattice_rpc_server_call_duration_seconds", seconds, { method: call.name, code });
    }
  };
}

/** Only callers of this committee come through. */
function bind(options: ServerOptions): Layer {
  return async (call, next) => {
    if (call.bound) checkBinding(options.domain, options.committee, call.header(ORGANISM_HEADER));
    return next();
  };
}

function layered(options: ServerOptions): Layer {
  const layers: Layer[] = [recover(options), logging(options.log), metrics(options.meters), bind(options)];
  if (options.tracer !== undefined && options.domain !== "zipnet") layers.splice(1, 0, trace(options.tracer));
  return (call, handler) => {
    const from = <T>(index: number, last: () => Promise<T>): Promise<T> => {
      const layer = layers[index];
      return layer === undefined ? last() : layer(call, () => from(index + 1, last));
    };
    return from(0, handler);
  };
}

/** The http2 stream below a call: grpc-js has no public way to drop one whose caller takes its time. */
interface BelowCall {
  readonly stream?: ServerHttp2Stream;
}
function streamOf(raw: object): ServerHttp2Stream | undefined {
  return (raw as { readonly call?: BelowCall }).call?.stream;
}
function resetStream(stream: ServerHttp2Stream | undefined): void {
  stream?.close(constants.NGHTTP2_CANCEL);
}

/** Watches over requests until they have come whole: handlers hear of them, and their time begins, only then. */
function untilWhole(requests: HeldBytes, largest: number): ServerInterceptor {
  return (method, given) => {
    // grpc-js asks for its class here and takes whatever has its methods, like what it gives.
    const call = given as ServerInterceptingCall;
    const { stream, incomingEncoding } = call as unknown as BelowCall & { readonly incomingEncoding?: string };
    // A caller of a bidirectional stream says what it likes when it likes; each message is bounded.
    if (stream === undefined || method.requestStream) return call;
    const held = requests.hold(() => resetStream(stream));
    // What was compressed may be kept at its full size.
    const compressed = incomingEncoding !== undefined && incomingEncoding !== "identity";
    if (compressed) held.add(largest);
    else stream.on("data", ({ length }: Buffer) => held.add(length));
    stream.once("end", held.release);
    stream.once("close", held.release);
    return call;
  };
}

/** Writes with a byte budget: `write` resolves once there is room for more. */
class StreamWriter {
  readonly #raw: RawStream;
  readonly #limits: ServerLimits;
  readonly #domain: string;
  readonly #readers: HeldBytes;
  #waitingBytes = 0;
  #held: Held | undefined;
  #room: (() => void) | undefined;

  /** @param readers what all streams keep for their readers */
  constructor(raw: RawStream, limits: ServerLimits, domain: string, readers: HeldBytes) {
    this.#raw = raw;
    this.#limits = limits;
    this.#domain = domain;
    this.#readers = readers;
  }

  write(bytes: Buffer, call: ServedCall): Promise<void> | undefined {
    if (call.stopped !== undefined || this.#raw.destroyed) return undefined;
    const size = bytes.length + 5;
    this.#waitingBytes += size;
    this.#raw.write(bytes, () => {
      this.#waitingBytes -= size;
      this.#held?.add(-size);
      if (this.#waitingBytes === 0) this.#letGo();
      if (this.#waitingBytes <= this.#limits.streamBufferBytes / 2) this.#room?.();
    });
    this.#keep(size, call);
    if (this.#waitingBytes <= this.#limits.streamBufferBytes) return undefined;
    return new Promise((resolve, reject) => {
      const { drainMs, streamBufferBytes } = this.#limits;
      const settle = (how: () => void): void => {
        clearTimeout(timer);
        this.#room = undefined;
        call.onStop = undefined;
        how();
      };
      const timer = setTimeout(() => {
        const detail = `${streamBufferBytes} bytes have waited ${drainMs} ms for the reader`;
        const metadata = { bufferBytes: String(streamBufferBytes), drainMs: String(drainMs) };
        settle(() => reject(this.#tooSlow(detail, metadata)));
      }, drainMs);
      this.#room = () => settle(resolve);
      call.onStop = (reason) => settle(() => reject(reason));
    });
  }

  /** Counts what waits for this reader to what waits for all. */
  #keep(size: number, call: ServedCall): void {
    if (this.#waitingBytes === 0) return;
    if (this.#held === undefined) {
      this.#held = this.#readers.hold(() => {
        this.#held = undefined;
        call.stop(this.#tooSlow("other readers need the room that this one has left full for longest"));
        resetStream(streamOf(this.#raw));
      });
      call.whenOver(() => this.#letGo());
    }
    this.#held?.add(size);
  }

  #letGo(): void {
    this.#held?.release();
    this.#held = undefined;
  }

  #tooSlow(detail: string, metadata: Record<string, string> = {}): Fault {
    return new Fault(`${this.#domain}.lattice`, "SLOW_CONSUMER", COMMON_FAULTS.SLOW_CONSUMER, detail, metadata);
  }

  /** Ends the stream, with a fault or well; drops it when its reader does not take even that. */
  end(fault?: Fault): void {
    if (this.#raw.destroyed) return;
    const timer = setTimeout(() => resetStream(streamOf(this.#raw)), this.#limits.drainMs);
    this.#raw.once("close", () => clearTimeout(timer));
    this.#raw.once("cancelled", () => clearTimeout(timer));
    if (fault === undefined) this.#raw.end();
    else this.#raw.emit("error", statusOfFault(fault));
  }
}

/** The next item, or the reason why the call was stopped, whichever comes first. */
function nextOf<T>(iterator: AsyncIterator<T>, call: ServedCall): Promise<IteratorResult<T>> {
  return new Promise((resolve, reject) => {
    if (call.stopped !== undefined) return reject(call.stopped);
    call.onStop = reject;
    iterator.next().then(resolve, reject);
  });
}

async function pump(method: DescMethod, items: AsyncIterable<unknown>, writer: StreamWriter, call: ServedCall) {
  const iterator = items[Symbol.asyncIterator]();
  try {
    for (;;) {
      const item = await nextOf(iterator, call);
      call.onStop = undefined;
      if (item.done === true) return;
      await writer.write(messageBytes(method.output, item.value), call);
    }
  } catch (error) {
    // Not awaited: a generator that ignores its signal would keep the call open.
    Promise.resolve(iterator.return?.()).catch(() => undefined);
    throw error;
  }
}

/**
 * Starts a server.
 * @throws Fault ADDRESS_IN_USE, ADDRESS_REFUSED (domain rpc.lattice)
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const limits = { ...SERVER_LIMITS, ...options.limits };
  const around = layered(options);
  const common = (reason: CommonReason, detail?: string, metadata?: Record<string, string>): Fault =>
    new Fault(`${options.domain}.lattice`, reason, COMMON_FAULTS[reason], detail, metadata);
  const faultOf = (error: unknown): Fault => (error instanceof Fault ? error : common("BUG"));
  const openStreams = new StreamPlaces<ServedCall>(limits.streams);
  const requests = new HeldBytes({ bytes: limits.heldBytes, forMs: limits.unaryMs });
  const answers = new HeldBytes({ bytes: limits.heldBytes, forMs: limits.drainMs });
  const readers = new HeldBytes({ bytes: limits.heldBytes });
  let draining = false;

  const parse = (method: DescMethod, raw: Buffer): Message => {
    if (raw.length > limits.requestBytes) {
      const metadata = { limit: String(limits.requestBytes), size: String(raw.length) };
      throw common("TOO_LARGE", `the request has ${raw.length} bytes; ${limits.requestBytes} are allowed`, metadata);
    }
    try {
      return parseMessage(method.input, raw);
    } catch {
      throw common("MALFORMED", `the request does not parse as ${method.input.typeName}`);
    }
  };
  const admit = (): void => {
    if (draining) throw common("NOT_READY", "the member is going away");
  };

  const unary = (method: DescMethod, service: GrpcService, handler: GrpcService["handlers"][string]) => {
    const name = methodPath(service.descriptor, method).slice(1);
    const run = async (raw: ServerUnaryCall<Buffer, Buffer>, call: ServedCall): Promise<Buffer> => {
      admit();
      const request = parse(method, raw.request);
      if (call.stopped !== undefined) throw call.stopped;
      const stopped = new Promise<never>((_, reject) => {
        call.onStop = reject;
      });
      const answer = (async () => messageBytes(method.output, await handler(request as never, call)))();
      return Promise.race([answer, stopped]);
    };
    return (raw: ServerUnaryCall<Buffer, Buffer>, reply: sendUnaryData<Buffer>): void => {
      const call = new ServedCall(raw, name, service.bound);
      const capped = deadlineMs(raw) > Date.now() + limits.unaryMs;
      const timer = capped ? setTimeout(() => call.stop(rpcFault("DEADLINE_EXCEEDED")), limits.unaryMs) : undefined;
      const finish = (): void => {
        call.finish();
        clearTimeout(timer);
      };
      around(call, () => run(raw, call)).then(
        (bytes) => {
          finish();
          const held = answers.hold(() => resetStream(streamOf(raw)));
          held.add(bytes.length);
          call.whenOver(held.release);
          reply(null, bytes);
        },
        (error: unknown) => {
          finish();
          reply(statusOfFault(faultOf(error)));
        },
      );
    };
  };

  const stream = (method: DescMethod, service: GrpcService, handler: GrpcService["handlers"][string]) => {
    const name = methodPath(service.descriptor, method).slice(1);
    const inputOf = (raw: RawStream): unknown => ("read" in raw ? parsedAll(method, raw) : parse(method, raw.request));
    return (raw: RawStream): void => {
      const call = new ServedCall(raw, name, service.bound);
      const writer = new StreamWriter(raw, limits, options.domain, readers);
      const connection = streamOf(raw)?.session ?? raw;
      const crowdedOut = openStreams.take(connection, call);
      options.meters.gauge("lattice_rpc_server_open_streams", openStreams.size);
      const finish = (): void => {
        call.finish();
        openStreams.leave(connection, call);
        options.meters.gauge("lattice_rpc_server_open_streams", openStreams.size);
      };
      const run = async (): Promise<void> => {
        admit();
        crowdedOut?.stop(common("STREAMS_BUSY"));
        if (call.stopped !== undefined) throw call.stopped;
        await pump(method, handler(inputOf(raw) as never, call) as AsyncIterable<unknown>, writer, call);
      };
      around(call, run).then(
        () => {
          finish();
          writer.end();
        },
        (error: unknown) => {
          finish();
          writer.end(faultOf(error));
        },
      );
    };
  };
  const parsedAll = async function* (method: DescMethod, raw: ServerDuplexStream<Buffer, Buffer>) {
    for await (const bytes of raw.iterator({ destroyOnReturn: false })) yield parse(method, bytes);
  };

  const server = new Server({
    interceptors: [untilWhole(requests, limits.requestBytes)],
    // Ours, with a reason, comes first; this one protects the memory.
    "grpc.max_receive_message_length": limits.requestBytes + (64 << 10),
    "grpc.max_send_message_length": -1,
    "grpc.max_concurrent_streams": limits.callsPerConnection,
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
    // Without both, closed peers leak memory (grpc-node#2975). grpc-js adds the jitter.
    "grpc.max_connection_age_ms": 30 * 60_000,
    "grpc.max_connection_age_grace_ms": 60_000,
    "grpc.max_connection_idle_ms": 5 * 60_000,
    "grpc.enable_channelz": 0,
  });
  for (const service of options.services) {
    const implementation: Record<string, UntypedHandleCall> = {};
    const definition: Record<string, MethodDefinition<Buffer, Buffer>> = {};
    for (const method of service.descriptor.methods) {
      const handler = service.handlers[method.localName];
      if (handler === undefined) throw new Bug(`${service.descriptor.typeName}.${method.name} has no handler`);
      const { methodKind } = method;
      if (methodKind === "client_streaming") throw new Bug(`${method.name}: client streams are not served`);
      definition[method.localName] = {
        path: methodPath(service.descriptor, method),
        requestStream: methodKind === "bidi_streaming",
        responseStream: methodKind !== "unary",
        requestSerialize: RAW.serialize,
        requestDeserialize: RAW.deserialize,
        responseSerialize: RAW.serialize,
        responseDeserialize: RAW.deserialize,
      };
      const served = methodKind === "unary" ? unary(method, service, handler) : stream(method, service, handler);
      implementation[method.localName] = served as UntypedHandleCall;
    }
    server.addService(definition, implementation as UntypedServiceImplementation);
  }

  // The listener is ours: grpc-js (1.14) does not bound connections, forgets them in forceShutdown when channelz is off,
  // and in tryShutdown does not wait for them on a Node whose http2 server closes its own sessions.
  const injector = server.createConnectionInjector(options.credentials ?? ServerCredentials.createInsecure());
  const sockets = new StreamPlaces<Socket>(limits.connections);
  const listener = createServer({ noDelay: true }, (socket) => {
    const { remoteAddress } = socket;
    socket.on("error", () => undefined);
    socket.once("close", () => sockets.leave(remoteAddress, socket));
    const crowdedOut = sockets.take(remoteAddress, socket);
    crowdedOut?.destroy();
    if (crowdedOut !== socket) injector.injectConnection(socket);
  });
  const port = await listenOn(listener, options.address);
  const closed = new Promise<void>((resolve) => listener.once("close", resolve));
  const cut = (): void => {
    draining = true;
    listener.close();
    server.forceShutdown();
    for (const socket of sockets) socket.destroy();
  };
  return {
    port,
    async drain(graceMs) {
      draining = true;
      for (const call of openStreams) call.stop(common("NOT_READY", "the member is going away"));
      const timer = setTimeout(cut, graceMs);
      // Each connection gets a GOAWAY and closes once its calls are answered; the listener closes after the last.
      listener.close();
      server.tryShutdown(() => undefined);
      await closed;
      clearTimeout(timer);
    },
    close: cut,
  };
}

/** gRPC services as plain async functions over protobuf-es messages; the adapter to grpc-js is in `server.ts`. */
import type { DescMethod, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";

/** What a handler knows of its caller. Peer addresses are left out on purpose: nothing may log them. */
export interface Call {
  /** Aborted when the caller goes away or its deadline passes. */
  readonly signal: AbortSignal;
  /** A metadata value, text or binary (`-bin`) keys alike. */
  header(name: string): string | Uint8Array | undefined;
}

type Unary<M extends DescMethod> = (
  request: MessageShape<M["input"]>,
  call: Call,
) => Promise<MessageInitShape<M["output"]>>;
type ServerStream<M extends DescMethod> = (
  request: MessageShape<M["input"]>,
  call: Call,
) => AsyncIterable<MessageInitShape<M["output"]>>;

type BidiStream<M extends DescMethod> = (
  requests: AsyncIterable<MessageShape<M["input"]>>,
  call: Call,
) => AsyncIterable<MessageInitShape<M["output"]>>;

/**
 * One handler per method; `server_streaming` methods are async generators, and so are `bidi_streaming` ones, which
 * only reflection has. Client streams are not used.
 */
export type Handlers<S extends DescService> = {
  [K in keyof S["method"]]: S["method"][K]["methodKind"] extends "server_streaming"
    ? ServerStream<S["method"][K]>
    : S["method"][K]["methodKind"] extends "bidi_streaming"
      ? BidiStream<S["method"][K]>
      : Unary<S["method"][K]>;
};

/** A service and its handlers, types checked against each other and then forgotten. */
export interface GrpcService {
  readonly descriptor: DescService;
  readonly handlers: Readonly<Record<string, (request: never, call: Call) => unknown>>;
  /** False for services that callers reach without being bound to a committee (health, reflection). */
  readonly bound: boolean;
}

export function defineService<S extends DescService>(descriptor: S, handlers: Handlers<S>, bound = true): GrpcService {
  return { descriptor, handlers: handlers as GrpcService["handlers"], bound };
}

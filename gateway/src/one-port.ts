/**
 * One TCP port for HTTP/1.1 and HTTP/2 without TLS: a connection that opens with the HTTP/2 preface goes to the http2
 * server, everything else to the http server (field-notes: gRPC and browsers meet on one port).
 */
import {
  createServer as createHttpServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { createServer as createHttp2Server, type Http2Server } from "node:http2";
import { type AddressInfo, createServer as createNetServer, type Server as NetServer, type Socket } from "node:net";

/** HTTP/2's compatibility objects behave as HTTP/1.1's in everything that is used here. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** The port is taken. One readable line. */
export class PortInUse extends Error {
  override readonly name = "PortInUse";
}

/** Enough of `PRI * HTTP/2.0` to tell it from every HTTP/1 method. */
const PREFACE = "PRI";
/** A connection that says nothing is closed after this. */
const SILENT_MS = 10_000;
const CONNECTIONS_MAX = 1024;

export class OnePort {
  readonly #http: HttpServer;
  readonly #http2: Http2Server;
  readonly #net: NetServer;
  readonly #sockets = new Set<Socket>();

  constructor(handler: Handler) {
    this.#http = createHttpServer({ requestTimeout: 0, headersTimeout: 10_000, maxHeaderSize: 16_384 }, handler);
    this.#http2 = createHttp2Server({ settings: { maxConcurrentStreams: 128 } }, (request, response) =>
      handler(request as unknown as IncomingMessage, response as unknown as ServerResponse),
    );
    this.#net = createNetServer((socket) => this.#sniff(socket));
    this.#net.maxConnections = CONNECTIONS_MAX;
  }

  #sniff(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.setTimeout(SILENT_MS, () => socket.destroy());
    socket.once("data", (first: Buffer) => {
      socket.setTimeout(0);
      socket.removeAllListeners("timeout");
      socket.pause();
      const server = first.subarray(0, PREFACE.length).toString("latin1") === PREFACE ? this.#http2 : this.#http;
      socket.unshift(first);
      server.emit("connection", socket);
      process.nextTick(() => socket.resume());
    });
  }

  /** @throws PortInUse */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#net.once("error", (error: NodeJS.ErrnoException) => {
        reject(error.code === "EADDRINUSE" ? new PortInUse(`port ${port} on ${host} is in use`) : error);
      });
      this.#net.listen(port, host, () => resolve((this.#net.address() as AddressInfo).port));
    });
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#net.close(resolve));
  }
}

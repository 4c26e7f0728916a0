/**
 * One TCP port for HTTP/1.1 and HTTP/2 without TLS: a connection that opens with the HTTP/2 preface goes to the http2
 * server, everything else to the http server.
 */
import {
  createServer as createHttpServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Session } from "node:http2";
import { createServer as createNetServer, type Server as NetServer, type Socket } from "node:net";
import { listenOn } from "@lattice/organism/rpc/listen.ts";

/** HTTP/2's compatibility objects behave as HTTP/1.1's in everything that is used here. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** Enough of `PRI * HTTP/2.0` to tell it from every HTTP/1 method. */
const PREFACE = Buffer.from("PRI");
/** A connection that has not said what it is after this is closed. */
const SILENT_MS = 10_000;
/** A request has this long to arrive as a whole; answers may stream for as long as they like. */
const REQUEST_MS = 30_000;
const CONNECTIONS_MAX = 1024;

export class OnePort {
  readonly #http: HttpServer;
  readonly #http2: Http2Server;
  readonly #net: NetServer;
  readonly #sockets = new Set<Socket>();
  readonly #sessions = new Set<ServerHttp2Session>();
  #answering = 0;
  #idle: () => void = () => undefined;

  constructor(handler: Handler) {
    const counted: Handler = (request, response) => {
      this.#answering += 1;
      response.once("close", () => {
        this.#answering -= 1;
        if (this.#answering === 0) this.#idle();
      });
      handler(request, response);
    };
    this.#http = createHttpServer(
      {
        requestTimeout: REQUEST_MS,
        headersTimeout: SILENT_MS,
        maxHeaderSize: 16_384,
        connectionsCheckingInterval: 5000,
      },
      counted,
    );
    this.#http2 = createHttp2Server({ settings: { maxConcurrentStreams: 128 } }, (request, response) =>
      counted(request as unknown as IncomingMessage, response as unknown as ServerResponse),
    );
    this.#http2.on("session", (session) => {
      this.#sessions.add(session);
      session.once("close", () => this.#sessions.delete(session));
    });
    this.#net = createNetServer({ noDelay: true }, (socket) => this.#sniff(socket));
    this.#net.maxConnections = CONNECTIONS_MAX;
    // Node checks header and request timeouts only on servers that listen, and these two are handed their sockets.
    this.#http.emit("listening");
  }

  /** Reads until the first bytes tell the protocol, then hands the socket over as if nothing had been read. */
  #sniff(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    const silent = setTimeout(() => socket.destroy(), SILENT_MS);
    socket.once("close", () => clearTimeout(silent));
    let seen = Buffer.alloc(0);
    const read = (chunk: Buffer): void => {
      seen = Buffer.concat([seen, chunk]);
      const couldBePreface = seen.subarray(0, PREFACE.length).equals(PREFACE.subarray(0, seen.length));
      if (couldBePreface && seen.length < PREFACE.length) return;
      clearTimeout(silent);
      socket.off("data", read);
      socket.pause();
      socket.unshift(seen);
      (couldBePreface ? this.#http2 : this.#http).emit("connection", socket);
      process.nextTick(() => socket.resume());
    };
    socket.on("data", read);
  }

  /**
   * @param address `host:port`, `[ipv6]:port`
   * @throws Fault ADDRESS_IN_USE, ADDRESS_REFUSED (domain rpc.lattice)
   */
  listen(address: string): Promise<number> {
    return listenOn(this.#net, address);
  }

  /** Takes nothing new, lets answers finish for at most `graceMs`, then closes every connection. */
  async close(graceMs = 2000): Promise<void> {
    const closed = new Promise((resolve) => this.#net.close(resolve));
    this.#http.closeIdleConnections();
    for (const session of this.#sessions) session.close();
    if (this.#answering > 0) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
        timer = setTimeout(resolve, graceMs);
      });
      clearTimeout(timer);
    }
    this.#http.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

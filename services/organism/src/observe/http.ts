/** `/metrics`, `/livez` and `/readyz` on one small HTTP/1.1 server. For operators: bind it where clients cannot reach. */
import { createServer } from "node:http";
import { listenOn } from "../rpc/listen.ts";

export interface HttpEndpointOptions {
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly metrics?: { scrape(): Promise<string> };
  /** Is the member fit to be sent work? */
  ready(): boolean;
  /** Is the process worth keeping? Default: it answers, so it is. */
  live?(): boolean;
}

export interface HttpEndpoint {
  readonly port: number;
  close(): Promise<void>;
}

/** @throws Fault ADDRESS_IN_USE, ADDRESS_REFUSED (domain rpc.lattice) */
export async function startHttpEndpoint(options: HttpEndpointOptions): Promise<HttpEndpoint> {
  const answer = async (method: string, path: string): Promise<[status: number, text: string]> => {
    if (method !== "GET" && method !== "HEAD") return [405, "only GET\n"];
    switch (path) {
      case "/metrics":
        return options.metrics === undefined ? [404, "no metrics here\n"] : [200, await options.metrics.scrape()];
      case "/livez":
        return (options.live?.() ?? true) ? [200, "live\n"] : [503, "not live\n"];
      case "/readyz":
        return options.ready() ? [200, "ready\n"] : [503, "not ready\n"];
      default:
        return [404, "/metrics /livez /readyz\n"];
    }
  };
  const server = createServer(
    { requestTimeout: 5000, headersTimeout: 5000, keepAliveTimeout: 60_000 },
    (request, response) => {
      const path = (request.url ?? "").split("?", 1)[0] ?? "";
      request.resume();
      answer(request.method ?? "", path)
        .catch((): [number, string] => [500, "the metrics could not be collected\n"])
        .then(([status, text]) => {
          const type = path === "/metrics" ? "text/plain; version=0.0.4; charset=utf-8" : "text/plain; charset=utf-8";
          response.writeHead(status, { "content-type": type, "cache-control": "no-store" });
          response.end(request.method === "HEAD" ? undefined : text);
        })
        .catch(() => response.destroy());
    },
  );
  server.maxConnections = 64;
  const host = options.host ?? "127.0.0.1";
  const port = await listenOn(server, `${host.includes(":") ? `[${host}]` : host}:${options.port}`);
  return {
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

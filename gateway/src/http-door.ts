/** What answers an HTTP request of whatever version: health, JSON-RPC, and for the rest the Connect handler. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { JsonRpc } from "./json-rpc.ts";
import type { Handler } from "./one-port.ts";

/** The largest JSON-RPC body. */
export const BODY_BYTES_MAX = 4 << 20;
/** How long, and for how much more, a client whose body is too long is listened to before its connection is closed. */
const LINGER_MS = 2000;
const LINGER_BYTES = 32 << 20;

export interface DoorOptions {
  readonly jsonRpc: JsonRpc;
  readonly connect: Handler;
  /** Fit to be sent work? */
  readonly ready: () => boolean;
}

export function httpDoor({ jsonRpc, connect, ready }: DoorOptions): Handler {
  return (request, response) => {
    response.on("error", () => response.destroy());
    allowBrowsers(request, response);
    const path = (request.url ?? "").split("?", 1)[0];
    if (request.method === "OPTIONS") {
      response.writeHead(204);
      response.end();
    } else if (path === "/healthz") answerText(response, 200, "ok");
    else if (path === "/readyz") answerText(response, ready() ? 200 : 503, ready() ? "ready" : "not ready");
    else if (path !== "/" && path !== "") connect(request, response);
    else if (request.method !== "POST") answerText(response, 405, "JSON-RPC: POST here");
    else answerJsonRpc(jsonRpc, request, response).catch(() => response.destroy());
  };
}

function answerText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" });
  response.end(`${text}\n`);
}

/** Browsers may read and send from anywhere: there are no cookies here, and bids are kept from them (`checkBidder`). */
function allowBrowsers(request: IncomingMessage, response: ServerResponse): void {
  if (request.headers.origin === undefined) return;
  response.setHeader("access-control-allow-origin", "*");
  response.setHeader("access-control-allow-methods", "POST, GET, OPTIONS");
  response.setHeader(
    "access-control-allow-headers",
    "content-type, connect-protocol-version, connect-timeout-ms, x-grpc-web, x-user-agent, grpc-timeout, x-flashbots-signature",
  );
  response.setHeader("access-control-expose-headers", "grpc-status, grpc-message, grpc-status-details-bin");
  response.setHeader("access-control-max-age", "7200");
}

/** The body as text; undefined as soon as it is too long, and then the request is left as it is. */
function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let length = 0;
    const read = (part: Buffer): void => {
      length += part.length;
      if (length <= BODY_BYTES_MAX) {
        parts.push(part);
        return;
      }
      request.off("data", read);
      resolve(undefined);
    };
    request.on("data", read);
    request.once("end", () => resolve(Buffer.concat(parts).toString("utf8")));
    request.once("error", reject);
    request.once("close", () => reject(new Error("the request was cut off")));
  });
}

/**
 * Refuses a body that is too long. A client that is still sending reads the answer only when its connection stays
 * until it has sent (RFC 9112 §9.6): what comes is thrown away for a while before the connection is closed.
 */
function refuseLongBody(request: IncomingMessage, response: ServerResponse): void {
  const message = `at most ${BODY_BYTES_MAX} bytes`;
  const answer = JSON.stringify({ jsonrpc: "2.0", id: null, error: { code: -32_600, message } });
  // HTTP/2 has no such header.
  const close = request.httpVersionMajor === 1 ? { connection: "close" } : {};
  response.writeHead(413, { "content-type": "application/json", "content-length": answer.length, ...close });
  response.write(answer);
  let length = 0;
  const timer = setTimeout(() => response.end(), LINGER_MS);
  const done = (): void => {
    clearTimeout(timer);
    response.end();
  };
  request.on("data", (part: Buffer) => {
    length += part.length;
    if (length > LINGER_BYTES) done();
  });
  request.once("end", done);
  request.once("error", done);
  response.once("close", () => clearTimeout(timer));
  request.resume();
}

async function answerJsonRpc(jsonRpc: JsonRpc, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const announced = Number(request.headers["content-length"] ?? 0);
  const text = announced > BODY_BYTES_MAX ? undefined : await bodyOf(request);
  if (text === undefined) {
    refuseLongBody(request, response);
    return;
  }
  const answer = await jsonRpc.answer(text, { origin: request.headers.origin });
  response.writeHead(answer === undefined ? 204 : 200, { "content-type": "application/json" });
  response.end(answer);
}

/** JSON-RPC 2.0 over plain HTTP for the sequencer: one request a body, small bodies, `GET /healthz`. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { isRecord } from "./json-rpc-call.ts";

/** Thrown by a method: a JSON-RPC error with a stable word in `data.reason`. */
export class RpcRefusal extends Error {
  override readonly name = "RpcRefusal";
  readonly code: number;
  readonly reason: string;
  constructor(code: number, reason: string, message: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

export type RpcMethod = (params: readonly unknown[]) => unknown;

export interface RpcServerOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly methods: Readonly<Record<string, RpcMethod>>;
  /** `undefined`: healthy; otherwise one line saying why not. */
  readonly health?: () => string | undefined;
  /** Decides on the Authorization header; everybody is admitted when absent. */
  readonly admit?: (authorization: string | undefined) => boolean;
  readonly bodyBytesMax?: number;
}

export interface RpcServer {
  readonly port: number;
  /** Stops listening and waits for the requests under way. */
  close(): Promise<void>;
}

const BODY_BYTES_MAX = 64 * 1024;
const INVALID_PARAMS = -32_602;

export async function serveJsonRpc(options: RpcServerOptions): Promise<RpcServer> {
  const server: Server = createServer((request, response) => {
    answer(options, request, response).catch(() => response.destroy());
  });
  server.listen(options.port, options.host);
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("not listening on a port");
  return {
    port: address.port,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeIdleConnections();
      await closed;
    },
  };
}

async function answer(options: RpcServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const send = (status: number, body: unknown): void => {
    const text = JSON.stringify(body);
    response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    response.end(text);
  };
  if (request.method === "GET" && request.url === "/healthz") {
    const problem = options.health?.();
    send(problem === undefined ? 200 : 503, problem === undefined ? { ok: true } : { ok: false, problem });
    return;
  }
  if (request.method !== "POST") return send(405, { error: "POST JSON-RPC, or GET /healthz" });
  if (options.admit !== undefined && !options.admit(request.headers.authorization)) {
    return send(401, { error: "unauthorized" });
  }
  const body = await readBody(request, options.bodyBytesMax ?? BODY_BYTES_MAX);
  if (body === undefined) return send(413, failure(null, -32_600, "TOO_LARGE", "the request is too large"));
  let call: unknown;
  try {
    call = JSON.parse(body);
  } catch {
    return send(200, failure(null, -32_700, "MALFORMED", "not JSON"));
  }
  if (!isRecord(call) || call["jsonrpc"] !== "2.0" || typeof call["method"] !== "string") {
    return send(200, failure(null, -32_600, "MALFORMED", "not one JSON-RPC 2.0 request"));
  }
  const id = typeof call["id"] === "string" || typeof call["id"] === "number" ? call["id"] : null;
  const params = call["params"] ?? [];
  const method = Object.hasOwn(options.methods, call["method"]) ? options.methods[call["method"]] : undefined;
  if (method === undefined) return send(200, failure(id, -32_601, "UNKNOWN_METHOD", "no such method"));
  if (!Array.isArray(params)) return send(200, failure(id, INVALID_PARAMS, "MALFORMED", "params must be an array"));
  try {
    send(200, { jsonrpc: "2.0", id, result: await method(params) });
  } catch (error) {
    if (error instanceof RpcRefusal) send(200, failure(id, error.code, error.reason, error.message));
    else send(200, failure(id, -32_603, "INTERNAL", "internal error"));
  }
}

function failure(id: string | number | null, code: number, reason: string, message: string): object {
  return { jsonrpc: "2.0", id, error: { code, message, data: { reason } } };
}

async function readBody(request: IncomingMessage, bytesMax: number): Promise<string | undefined> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request) {
    length += (part as Buffer).length;
    // Read to the end in any case: a refusal in the middle of a body would not reach its sender.
    if (length <= bytesMax) parts.push(part as Buffer);
  }
  return length > bytesMax ? undefined : Buffer.concat(parts).toString("utf8");
}

/** A u64 as people and programs write it: a number, decimal text, or a hex quantity. @throws RpcRefusal */
export function integerParam(value: unknown, name: string): bigint {
  const text = typeof value === "number" && Number.isSafeInteger(value) ? value.toString() : value;
  if (typeof text === "string" && /^(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})$/.test(text)) {
    const parsed = BigInt(text);
    if (parsed < 1n << 64n) return parsed;
  }
  throw new RpcRefusal(INVALID_PARAMS, "MALFORMED", `${name}: a 64-bit integer is expected`);
}

/**
 * One JSON-RPC 2.0 call over plain HTTP, with a deadline and a size limit. A connection per call: on loopback it
 * costs little, and a restarted server never meets a half-dead socket.
 */
import { createHmac } from "node:crypto";
import { request } from "node:http";

export type CallFailureReason =
  /** Nobody listens, or the connection broke. */
  | "UNREACHABLE"
  | "DEADLINE"
  /** 401 or 403: the token is wrong, or the clocks differ by more than a minute. */
  | "UNAUTHORIZED"
  /** The server answered with a JSON-RPC error; `code` is its. */
  | "RPC_ERROR"
  /** Not JSON-RPC, or not of the shape that the method promises. */
  | "MALFORMED"
  | "TOO_LARGE";

/** A call that brought no result. */
export class CallFailure extends Error {
  override readonly name = "CallFailure";
  readonly reason: CallFailureReason;
  readonly method: string;
  readonly code: number | undefined;
  constructor(reason: CallFailureReason, method: string, detail: string, code?: number) {
    super(`${method}: ${detail}`);
    this.reason = reason;
    this.method = method;
    this.code = code;
  }
}

export interface RpcEndpoint {
  /** `http://host:port[/path]` */
  readonly url: string;
  /** 32 bytes shared with the server; HS256 tokens are made from it (Engine API authentication). */
  readonly jwtSecret?: Uint8Array;
}

export interface CallOptions {
  readonly deadlineMs: number;
  readonly signal?: AbortSignal;
}

/** The largest answer taken: a full block of 30 M gas as hex fits several times. */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024;

let lastId = 0;

/**
 * The method's `result`, unchecked.
 * @throws CallFailure
 */
export async function callJsonRpc(
  endpoint: RpcEndpoint,
  method: string,
  params: readonly unknown[],
  options: CallOptions,
): Promise<unknown> {
  lastId += 1;
  const answer = await post(endpoint, method, JSON.stringify({ jsonrpc: "2.0", id: lastId, method, params }), options);
  let parsed: unknown;
  try {
    parsed = JSON.parse(answer);
  } catch {
    throw new CallFailure("MALFORMED", method, "the answer is not JSON");
  }
  if (!isRecord(parsed)) throw new CallFailure("MALFORMED", method, "the answer is not a JSON-RPC object");
  if (isRecord(parsed["error"])) {
    const { code, message } = parsed["error"];
    throw new CallFailure(
      "RPC_ERROR",
      method,
      firstLine(typeof message === "string" ? message : "error without a message"),
      typeof code === "number" ? code : undefined,
    );
  }
  if (!("result" in parsed)) throw new CallFailure("MALFORMED", method, "the answer has neither result nor error");
  return parsed["result"];
}

function post(endpoint: RpcEndpoint, method: string, body: string, options: CallOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const deadline = AbortSignal.timeout(options.deadlineMs);
    const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal]);
    const fail = (reason: CallFailureReason, detail: string): void => reject(new CallFailure(reason, method, detail));
    const failWith = (error: Error): void => {
      if (deadline.aborted) fail("DEADLINE", `no answer within ${options.deadlineMs} ms`);
      else fail("UNREACHABLE", `${endpoint.url}: ${"code" in error ? String(error.code) : firstLine(error.message)}`);
    };
    const headers: Record<string, string | number> = {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
      ...(endpoint.jwtSecret === undefined ? {} : { authorization: `Bearer ${engineToken(endpoint.jwtSecret)}` }),
    };
    const sent = request(endpoint.url, { method: "POST", agent: false, headers, signal }, (response) => {
      const parts: Buffer[] = [];
      let length = 0;
      response.on("data", (part: Buffer) => {
        length += part.length;
        if (length > ANSWER_BYTES_MAX) {
          fail("TOO_LARGE", `the answer is larger than ${ANSWER_BYTES_MAX} bytes`);
          response.destroy();
        } else parts.push(part);
      });
      response.on("error", failWith);
      response.on("end", () => {
        const status = response.statusCode ?? 0;
        if (status === 401 || status === 403) fail("UNAUTHORIZED", `refused with status ${status}`);
        else resolve(Buffer.concat(parts).toString("utf8"));
      });
    });
    sent.on("error", failWith);
    sent.end(body);
  });
}

/** A JWT as the Engine API wants it: HS256, claim `iat` in seconds (execution-apis, authentication.md). */
export function engineToken(secret: Uint8Array, nowMs = Date.now()): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ iat: Math.floor(nowMs / 1000) })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function firstLine(message: string): string {
  return (message.split("\n", 1)[0] ?? "").slice(0, 300);
}

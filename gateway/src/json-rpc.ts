/**
 * JSON-RPC 2.0 over HTTP: one request or a batch. Malformed input gets the specification's codes, and never reaches a
 * handler; what handlers refuse keeps its reason in `error.data`.
 */
import { Fault } from "@lattice/organism/fault.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import { z } from "zod";
import type { CallMeter } from "./call-meter.ts";
import { withDeadline } from "./deadline.ts";
import { problemFields } from "./problem.ts";

/** Requests in one batch, at most. */
export const BATCH_MAX = 100;
/** Objects and lists inside one another, at most: nothing that wallets send comes near. */
const DEPTH_MAX = 64;

const ID = z.union([z.string().max(256), z.number(), z.null()]);
const REQUEST = z.object({
  jsonrpc: z.literal("2.0"),
  id: ID.optional(),
  method: z.string().min(1).max(128),
  params: z.union([z.array(z.unknown()), z.record(z.string(), z.unknown())]).optional(),
});

/** Who calls, as far as it matters. */
export interface Caller {
  /** The web page that makes a browser call; undefined for programs. */
  readonly origin: string | undefined;
}

/** What a handler is given: positional parameters. */
export type RpcHandler = (params: readonly unknown[], caller: Caller) => Promise<unknown>;

/** An error with its JSON-RPC code; `data` is passed on. */
export class RpcError extends Error {
  override readonly name = "RpcError";
  readonly code: number;
  readonly data: unknown;
  constructor(code: number, message: string, data?: unknown) {
    super(message);
    this.code = code;
    this.data = data;
  }
}

type Id = z.infer<typeof ID>;
interface Answer {
  readonly jsonrpc: "2.0";
  readonly id: Id;
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown };
}

function failure(id: Id, code: number, message: string, data?: unknown): Answer {
  return { jsonrpc: "2.0", id, error: { code, message, ...(data === undefined ? {} : { data }) } };
}

/** EIP-1474 codes by what the caller should do next. */
function codeOf(fault: Fault): number {
  switch (fault.code) {
    case "INVALID_ARGUMENT":
    case "OUT_OF_RANGE":
      return -32_602;
    case "UNIMPLEMENTED":
      return -32_601;
    case "RESOURCE_EXHAUSTED":
      return -32_005;
    case "UNAVAILABLE":
    case "DEADLINE_EXCEEDED":
      return -32_002;
    case "INTERNAL":
      return -32_603;
    default:
      return -32_000;
  }
}

/** How deeply a JSON text nests, without parsing it. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (quoted) {
      if (char === BACKSLASH) at += 1;
      else if (char === QUOTE) quoted = false;
    } else if (char === QUOTE) quoted = true;
    else if (char === OPEN_LIST || char === OPEN_OBJECT) deepest = Math.max(deepest, ++depth);
    else if (char === CLOSE_LIST || char === CLOSE_OBJECT) depth -= 1;
  }
  return deepest;
}

const [QUOTE, BACKSLASH, OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = Buffer.from('"\\[]{}');

export class JsonRpc {
  readonly #methods: ReadonlyMap<string, RpcHandler>;
  readonly #fallback: (method: string, params: readonly unknown[]) => Promise<unknown>;
  readonly #log: Logger;
  readonly #meter: CallMeter;

  /** `fallback` gets every method that is not in `methods`. */
  constructor(
    methods: ReadonlyMap<string, RpcHandler>,
    fallback: (method: string, params: readonly unknown[]) => Promise<unknown>,
    log: Logger,
    meter: CallMeter = (_method, _known, work) => work(),
  ) {
    this.#methods = methods;
    this.#fallback = fallback;
    this.#log = log;
    this.#meter = meter;
  }

  /** Answers the text of one HTTP body; undefined when there is nothing to answer (notifications only). */
  async answer(text: string, caller: Caller = { origin: undefined }): Promise<string | undefined> {
    let parsed: unknown;
    if (depthOf(text) > DEPTH_MAX) return JSON.stringify(failure(null, -32_700, "nested too deeply"));
    try {
      parsed = JSON.parse(text);
    } catch {
      return JSON.stringify(failure(null, -32_700, "not JSON"));
    }
    if (!Array.isArray(parsed)) {
      const answer = await this.#one(parsed, caller);
      return answer === undefined ? undefined : JSON.stringify(answer);
    }
    if (parsed.length === 0) return JSON.stringify(failure(null, -32_600, "an empty batch"));
    if (parsed.length > BATCH_MAX)
      return JSON.stringify(failure(null, -32_600, `more than ${BATCH_MAX} requests in a batch`));
    const answers = (await Promise.all(parsed.map((request) => this.#one(request, caller)))).filter(
      (answer) => answer !== undefined,
    );
    return answers.length === 0 ? undefined : JSON.stringify(answers);
  }

  async #one(request: unknown, caller: Caller): Promise<Answer | undefined> {
    const parsed = REQUEST.safeParse(request);
    if (!parsed.success) {
      const id = ID.safeParse((request as { id?: unknown } | null)?.id);
      return failure(id.success ? id.data : null, -32_600, "not a JSON-RPC 2.0 request");
    }
    const { id, method, params = [] } = parsed.data;
    const answer = await this.#call(id ?? null, method, params, caller);
    return id === undefined ? undefined : answer;
  }

  async #call(
    id: Id,
    method: string,
    params: readonly unknown[] | Record<string, unknown>,
    caller: Caller,
  ): Promise<Answer> {
    if (!Array.isArray(params)) return failure(id, -32_602, "positional parameters expected");
    try {
      const handler = this.#methods.get(method);
      const result = await this.#meter(method, handler !== undefined, () =>
        withDeadline(handler === undefined ? this.#fallback(method, params) : handler(params, caller)),
      );
      return { jsonrpc: "2.0", id, result: result ?? null };
    } catch (error) {
      if (error instanceof RpcError) return failure(id, error.code, error.message, error.data);
      if (error instanceof Fault) {
        return failure(id, codeOf(error), error.message, {
          ...error.metadata,
          domain: error.domain,
          reason: error.reason,
        });
      }
      this.#log.error("a JSON-RPC handler failed", problemFields(error));
      return failure(id, -32_603, "internal error");
    }
  }
}

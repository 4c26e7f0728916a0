/**
 * JSON-RPC 2.0 over HTTP: one request or a batch. Malformed input gets the specification's codes, and never reaches a
 * handler; what handlers refuse keeps its reason in `error.data`.
 */
import { Fault } from "@lattice/organism/fault.ts";
import { errorFields, type Logger } from "@lattice/organism/observe/logger.ts";
import { z } from "zod";

/** Requests in one batch, at most. */
export const BATCH_MAX = 100;

const ID = z.union([z.string().max(256), z.number(), z.null()]);
const REQUEST = z.object({
  jsonrpc: z.literal("2.0"),
  id: ID.optional(),
  method: z.string().min(1).max(128),
  params: z.union([z.array(z.unknown()), z.record(z.string(), z.unknown())]).optional(),
});

/** What a handler is given: positional parameters. */
export type RpcHandler = (params: readonly unknown[]) => Promise<unknown>;

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

export class JsonRpc {
  readonly #methods: ReadonlyMap<string, RpcHandler>;
  readonly #fallback: (method: string, params: readonly unknown[]) => Promise<unknown>;
  readonly #log: Logger;

  /** `fallback` gets every method that is not in `methods`. */
  constructor(
    methods: ReadonlyMap<string, RpcHandler>,
    fallback: (method: string, params: readonly unknown[]) => Promise<unknown>,
    log: Logger,
  ) {
    this.#methods = methods;
    this.#fallback = fallback;
    this.#log = log;
  }

  /** Answers the text of one HTTP body; undefined when there is nothing to answer (notifications only). */
  async answer(text: string): Promise<string | undefined> {
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      return JSON.stringify(failure(null, -32_700, "not JSON"));
    }
    if (!Array.isArray(parsed)) {
      const answer = await this.#one(parsed);
      return answer === undefined ? undefined : JSON.stringify(answer);
    }
    if (parsed.length === 0) return JSON.stringify(failure(null, -32_600, "an empty batch"));
    if (parsed.length > BATCH_MAX)
      return JSON.stringify(failure(null, -32_600, `more than ${BATCH_MAX} requests in a batch`));
    const answers = (await Promise.all(parsed.map((request) => this.#one(request)))).filter(
      (answer) => answer !== undefined,
    );
    return answers.length === 0 ? undefined : JSON.stringify(answers);
  }

  async #one(request: unknown): Promise<Answer | undefined> {
    const parsed = REQUEST.safeParse(request);
    if (!parsed.success) {
      const id = ID.safeParse((request as { id?: unknown } | null)?.id);
      return failure(id.success ? id.data : null, -32_600, "not a JSON-RPC 2.0 request");
    }
    const { id, method, params = [] } = parsed.data;
    const answer = await this.#call(id ?? null, method, params);
    return id === undefined ? undefined : answer;
  }

  async #call(id: Id, method: string, params: readonly unknown[] | Record<string, unknown>): Promise<Answer> {
    if (!Array.isArray(params)) return failure(id, -32_602, "positional parameters expected");
    try {
      const handler = this.#methods.get(method);
      const result = handler === undefined ? await this.#fallback(method, params) : await handler(params);
      return { jsonrpc: "2.0", id, result: result ?? null };
    } catch (error) {
      if (error instanceof RpcError) return failure(id, error.code, error.message, error.data);
      if (error instanceof Fault) {
        return failure(id, codeOf(error), error.message, {
          domain: error.domain,
          reason: error.reason,
          ...error.metadata,
        });
      }
      this.#log.error("a JSON-RPC handler failed", { method, ...errorFields(error) });
      return failure(id, -32_603, "internal error");
    }
  }
}

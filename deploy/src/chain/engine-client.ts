/**
 * The consensus side of the Engine API as of Prague (execution-apis: `newPayloadV4`, `forkchoiceUpdatedV3`,
 * `getPayloadV4`), spoken to the local execution client and to builders alike.
 */
import {
  type BlockInput,
  type ForkchoiceResult,
  type ForkchoiceState,
  type Hex,
  MalformedPayload,
  type PayloadAttributes,
  type PayloadEnvelope,
  type PayloadStatus,
  parseEnvelope,
  parseForkchoiceResult,
  parsePayloadStatus,
} from "./execution-payload.ts";
import { CallFailure, callJsonRpc, type RpcEndpoint } from "./json-rpc-call.ts";

export interface EngineClientOptions extends RpcEndpoint {
  /** Of every call that names no other. */
  readonly deadlineMs: number;
}

/** Every method throws CallFailure; an INVALID status is a value, not a failure. */
export class EngineClient {
  readonly url: string;
  readonly #options: EngineClientOptions;

  constructor(options: EngineClientOptions) {
    this.#options = options;
    this.url = options.url;
  }

  async newPayload(block: BlockInput, signal?: AbortSignal): Promise<PayloadStatus> {
    const params = [block.executionPayload, [], block.parentBeaconBlockRoot, block.executionRequests];
    return this.#call("engine_newPayloadV4", params, parsePayloadStatus, signal);
  }

  /** `attributes` may carry more than PayloadAttributesV3 where the other side is a builder. */
  async forkchoiceUpdated(
    state: ForkchoiceState,
    attributes?: PayloadAttributes,
    signal?: AbortSignal,
  ): Promise<ForkchoiceResult> {
    const params = attributes === undefined ? [state] : [state, attributes];
    return this.#call("engine_forkchoiceUpdatedV3", params, parseForkchoiceResult, signal);
  }

  async getPayload(payloadId: Hex, signal?: AbortSignal): Promise<PayloadEnvelope> {
    return this.#call("engine_getPayloadV4", [payloadId], parseEnvelope, signal);
  }

  /** Any other method of the same endpoint, its result unchecked. */
  async call(method: string, params: readonly unknown[], signal?: AbortSignal): Promise<unknown> {
    return this.#call(method, params, (result) => result, signal);
  }

  async #call<T>(
    method: string,
    params: readonly unknown[],
    parse: (result: unknown) => T,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const { deadlineMs } = this.#options;
    const result = await callJsonRpc(this.#options, method, params, {
      deadlineMs,
      ...(signal === undefined ? {} : { signal }),
    });
    try {
      return parse(result);
    } catch (error) {
      if (error instanceof MalformedPayload) throw new CallFailure("MALFORMED", method, error.message);
      throw error;
    }
  }
}

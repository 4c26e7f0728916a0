/** Calls between members of one process, without a network: the same services, the same messages, the same faults. */
import { create, type DescMethod, type DescService } from "@bufbuild/protobuf";
import type { CommitteeClient, ConnectCommittee } from "../node/outcome-follower.ts";
import type { Call, GrpcService } from "../rpc/define.ts";
import { rpcFault } from "../rpc/errors.ts";

type Handler = (request: unknown, call: Call) => unknown;

export class DirectCalls {
  readonly #served = new Map<string, readonly GrpcService[]>();
  /** True for calls that do not get through. */
  #cut: (address: string) => boolean = () => false;

  serve(address: string, services: readonly GrpcService[]): void {
    this.#served.set(address, services);
  }

  gone(address: string): void {
    this.#served.delete(address);
  }

  cut(rule: (address: string) => boolean): void {
    this.#cut = rule;
  }

  /** How a member reaches the others: `connect` of its options. */
  connect(descriptor: DescService): ConnectCommittee {
    return (address) => {
      const methods = descriptor.methods.map((method) => [method.localName, this.#method(descriptor, address, method)]);
      return { ...Object.fromEntries(methods), close: () => undefined } as CommitteeClient;
    };
  }

  #handler(descriptor: DescService, address: string, method: DescMethod): Handler {
    const services = this.#cut(address) ? undefined : this.#served.get(address);
    const service = services?.find((each) => each.descriptor.typeName === descriptor.typeName);
    const handler = service?.handlers[method.localName];
    if (handler === undefined) throw rpcFault("CONNECTION_LOST", `nobody serves ${address}`);
    return handler as Handler;
  }

  #method(descriptor: DescService, address: string, method: DescMethod) {
    const call: Call = { signal: new AbortController().signal, header: () => undefined };
    const init = (value: unknown): Record<string, unknown> => value as Record<string, unknown>;
    if (method.methodKind === "unary") {
      return async (request: unknown): Promise<unknown> => {
        const handler = this.#handler(descriptor, address, method);
        return create(method.output, init(await handler(create(method.input, init(request)), call)));
      };
    }
    const handlerOf = (): Handler => this.#handler(descriptor, address, method);
    return async function* (request: unknown, options: { readonly signal?: AbortSignal } = {}) {
      const ended = new AbortController();
      const signals = options.signal === undefined ? [ended.signal] : [ended.signal, options.signal];
      const served = { ...call, ...options, signal: AbortSignal.any(signals) };
      const stream = handlerOf()(create(method.input, init(request)), served) as AsyncIterable<unknown>;
      const answers = stream[Symbol.asyncIterator]();
      try {
        for (let next = await answers.next(); next.done !== true; next = await answers.next()) {
          yield create(method.output, init(next.value));
        }
      } finally {
        // Whoever reads no further hangs up, as over a network.
        ended.abort();
        await answers.return?.();
      }
    };
  }
}

/** The network between organisms: committee services called in process, over links that are slow, cut, or reset. */
import { create } from "@bufbuild/protobuf";
import { COMMON_FAULTS, Fault } from "@lattice/organism/fault.ts";
import type { CommitteeClient } from "@lattice/organism/node/outcome-follower.ts";
import type { CallOptions } from "@lattice/organism/rpc/client.ts";
import type { GrpcService } from "@lattice/organism/rpc/define.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import type { SeededRandom } from "./random.ts";
import type { SimProcess, VirtualTime } from "./virtual-time.ts";

/** A process that serves. */
export interface Served {
  readonly process: SimProcess;
  readonly service: GrpcService;
}

export interface NetworkWeather {
  /** A call or a stream's message that gets lost, and the connection with it. */
  loss: number;
  slowMs: number;
}

const DEADLINE_MS = 5000;

function unreachable(address: string): Fault {
  return new Fault("rpc.lattice", "UPSTREAM_UNREACHABLE", COMMON_FAULTS.UPSTREAM_UNREACHABLE, address);
}

export class SimNetwork {
  weather: NetworkWeather = { loss: 0, slowMs: 0 };
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  readonly #served: (address: string) => Served | undefined;
  /** True while nothing passes between two named hosts. */
  readonly #cut: (from: string, to: string) => boolean;

  constructor(options: {
    readonly time: VirtualTime;
    readonly random: SeededRandom;
    readonly served: (address: string) => Served | undefined;
    readonly cut: (from: string, to: string) => boolean;
  }) {
    this.#time = options.time;
    this.#random = options.random;
    this.#served = options.served;
    this.#cut = options.cut;
  }

  hop(): number {
    return this.#random.between(0.5, 6) + this.weather.slowMs * this.#random.fraction();
  }

  #passes(from: string, to: string): boolean {
    return !this.#cut(from, to) && !this.#random.chance(this.weather.loss);
  }

  /** A connection of `caller` to whoever serves at `address` when it is called. */
  connect(caller: SimProcess, host: string, address: string): CommitteeClient {
    const methods = CommitteeService.methods.map((method) => {
      const call =
        method.methodKind === "server_streaming"
          ? (request: Record<string, unknown>, options: CallOptions = {}) =>
              this.#stream(caller, host, address, method.localName, request, options)
          : (request: Record<string, unknown>, options: CallOptions = {}) =>
              this.#unary(caller, host, address, method.localName, request, options);
      return [method.localName, call] as const;
    });
    return { ...Object.fromEntries(methods), close: () => undefined } as CommitteeClient;
  }

  #handler(served: Served, name: string): (request: never, call: { readonly signal: AbortSignal }) => unknown {
    const handler = served.service.handlers[name];
    if (handler === undefined) throw new Error(`no method ${name}`);
    return handler as (request: never, call: { readonly signal: AbortSignal }) => unknown;
  }

  #unary(
    caller: SimProcess,
    host: string,
    address: string,
    name: string,
    request: Record<string, unknown>,
    options: CallOptions,
  ): Promise<unknown> {
    const method = CommitteeService.methods.find((each) => each.localName === name);
    return new Promise((resolve, reject) => {
      const stop = new AbortController();
      const deadline = caller.after(options.deadlineMs ?? DEADLINE_MS, () => {
        stop.abort();
        reject(unreachable(address));
      });
      const fail = (error: unknown): void => {
        deadline();
        reject(error);
      };
      this.#time.after(this.hop(), () => {
        const served = this.#served(address);
        if (served?.process.alive !== true) {
          caller.after(this.hop(), () => fail(unreachable(address)));
          return;
        }
        if (!this.#passes(host, address) || method === undefined) return;
        const answer = this.#handler(served, name)(create(method.input, request) as never, { signal: stop.signal });
        (answer as Promise<Record<string, unknown>>).then(
          (response) => {
            if (!served.process.alive || !this.#passes(address, host)) return;
            caller.after(this.hop(), () => {
              deadline();
              resolve(create(method.output, response));
            });
          },
          (error: unknown) => {
            if (served.process.alive && this.#passes(address, host)) caller.after(this.hop(), () => fail(error));
          },
        );
      });
    });
  }

  async *#stream(
    caller: SimProcess,
    host: string,
    address: string,
    name: string,
    request: Record<string, unknown>,
    { signal, idleMs }: CallOptions,
  ): AsyncGenerator<unknown, void, void> {
    const method = CommitteeService.methods.find((each) => each.localName === name);
    if (method === undefined) throw new Error(`no method ${name}`);
    signal?.throwIfAborted();
    const stop = new AbortController();
    const queue: unknown[] = [];
    let failure: unknown;
    let ended = false;
    let wake: () => void = () => undefined;
    const onAbort = (): void => {
      stop.abort();
      wake();
    };
    const stopListening = signal === undefined ? undefined : caller.onAbort(signal, onAbort);
    let lastArrival = 0;
    const send = (work: () => void): void => {
      lastArrival = Math.max(lastArrival, this.#time.nowMs + this.hop());
      caller.after(lastArrival - this.#time.nowMs, () => {
        work();
        wake();
      });
    };
    const reset = (error: unknown): void => {
      send(() => {
        failure = error;
        ended = true;
      });
    };
    this.#time.after(this.hop(), () => {
      const served = this.#served(address);
      if (served?.process.alive !== true) return reset(unreachable(address));
      if (!this.#passes(host, address)) return;
      const items = this.#handler(served, name)(create(method.input, request) as never, { signal: stop.signal });
      const pump = async (): Promise<void> => {
        for await (const item of items as AsyncIterable<Record<string, unknown>>) {
          // Cut in the middle: the reader hears nothing more and finds out by the silence.
          if (!served.process.alive || stop.signal.aborted || !this.#passes(address, host)) return stop.abort();
          const message = create(method.output, item);
          send(() => queue.push(message));
        }
      };
      pump().then(
        () => {
          if (stop.signal.aborted) return;
          send(() => {
            ended = true;
          });
        },
        (error: unknown) => reset(error),
      );
      const watch = (): void => {
        if (stop.signal.aborted) return;
        if (!served.process.alive) reset(unreachable(address));
        else this.#time.after(500, watch);
      };
      watch();
    });
    try {
      while (signal?.aborted !== true) {
        const next = queue.shift();
        if (next !== undefined) yield next;
        else if (ended) {
          if (failure !== undefined) throw failure;
          return;
        } else {
          let silent = false;
          const cancel =
            idleMs === undefined
              ? () => undefined
              : caller.after(idleMs, () => {
                  silent = true;
                  wake();
                });
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (queue.length > 0 || ended || signal?.aborted === true) resolve();
          });
          cancel();
          if (silent && queue.length === 0) throw unreachable(address);
        }
      }
    } finally {
      stop.abort();
      stopListening?.();
    }
  }
}

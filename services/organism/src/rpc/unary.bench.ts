/**
 * A unary read: our server and client (binding, layers, protobuf-es, limits) against bare grpc-js over the same bytes,
 * with and without protobuf-es. Both in this process, interleaved in one run; medians.
 * Run: `node services/organism/src/rpc/unary.bench.ts`.
 */
import { performance } from "node:perf_hooks";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ChannelCredentials, Client, Server, ServerCredentials, type ServiceError } from "@grpc/grpc-js";
import {
  CommitteeService,
  GetOutcomeRequestSchema,
  GetOutcomeResponseSchema,
} from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { OutcomeKind } from "@lattice/proto/lattice/committee/v1/outcome_pb.ts";
import { createLogger } from "../observe/logger.ts";
import { createNoMeters } from "../observe/meters.ts";
import { defineSome } from "../testing/some-methods.ts";
import { connectService } from "./client.ts";
import { startServer } from "./server.ts";

export interface UnaryBench {
  readonly name: "unary";
  readonly peer: string;
  readonly repeats: number;
  readonly rows: readonly {
    readonly what: string;
    /** One call at a time: median over the repeats of the mean time of a call, in microseconds. */
    readonly microseconds: number;
    /** 64 calls at a time: median over the repeats, calls a second. */
    readonly callsPerSecond: number;
  }[];
  /** Our time for one call over bare grpc-js's with protobuf-es on both ends, which is the least a typed call needs. */
  readonly ratio: number;
  /** The same against bytes that nobody parses. */
  readonly ratioRaw: number;
}

const AT_ONCE = 64;
const PATH = "/lattice.committee.v1.CommitteeService/GetOutcome";

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

interface Contender {
  readonly what: string;
  call(): Promise<unknown>;
  close(): void;
}

const response = create(GetOutcomeResponseSchema, {
  outcome: {
    committeeId: new Uint8Array(32).fill(1),
    generation: 1n,
    slot: 1_234_567n,
    stage: "broadcast",
    kind: OutcomeKind.RESULT,
    commitment: new Uint8Array(300).fill(2),
    bodyHash: new Uint8Array(32).fill(3),
    signature: new Uint8Array(96).fill(4),
    signers: [0, 1, 2],
  },
});
const request = create(GetOutcomeRequestSchema, { stage: "broadcast", slot: 1_234_567n });
const same = (bytes: Buffer): Buffer => bytes;

async function ours(): Promise<Contender> {
  const committee = new Uint8Array(32).fill(1);
  const service = defineSome(CommitteeService, { getOutcome: async () => response });
  const server = await startServer({
    address: "127.0.0.1:0",
    services: [service],
    committee,
    domain: "zipnet",
    log: createLogger("silent", {}),
    meters: createNoMeters(),
  });
  const client = connectService(CommitteeService, `127.0.0.1:${server.port}`, { committee });
  return {
    what: "lattice server and client",
    call: () => client.getOutcome({ stage: "broadcast", slot: 1_234_567n }),
    close() {
      client.close();
      server.close();
    },
  };
}

/** grpc-js as its own documentation uses it, default options. */
async function bare<Q, A>(
  what: string,
  codec: {
    readonly request: { write(value: Q): Buffer; read(bytes: Buffer): Q };
    readonly response: { write(value: A): Buffer; read(bytes: Buffer): A };
  },
  asked: Q,
  answer: A,
): Promise<Contender> {
  const server = new Server();
  const definition = {
    GetOutcome: {
      path: PATH,
      requestStream: false,
      responseStream: false,
      requestSerialize: codec.request.write,
      requestDeserialize: codec.request.read,
      responseSerialize: codec.response.write,
      responseDeserialize: codec.response.read,
    },
  } as const;
  server.addService(definition, {
    GetOutcome: (_: unknown, reply: (error: null, value: A) => void) => reply(null, answer),
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  const client = new Client(`127.0.0.1:${port}`, ChannelCredentials.createInsecure());
  const { write } = codec.request;
  const { read } = codec.response;
  return {
    what,
    call: () =>
      new Promise((resolve, reject) => {
        const done = (error: ServiceError | null, value?: A): void => (error === null ? resolve(value) : reject(error));
        client.makeUnaryRequest(PATH, write, read, asked, done);
      }),
    close() {
      client.close();
      server.forceShutdown();
    },
  };
}

async function secondsOf(count: number, atOnce: number, call: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  let left = count;
  const worker = async (): Promise<void> => {
    while (left-- > 0) await call();
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return (performance.now() - start) / 1000;
}

export async function bench(options: { readonly calls?: number; readonly repeats?: number } = {}): Promise<UnaryBench> {
  const { calls = 500, repeats = 9 } = options;
  const requestBytes = Buffer.from(toBinary(GetOutcomeRequestSchema, request));
  const responseBytes = Buffer.from(toBinary(GetOutcomeResponseSchema, response));
  const contenders = [
    await ours(),
    await bare(
      "bare grpc-js with protobuf-es",
      {
        request: {
          write: (value: typeof request) => Buffer.from(toBinary(GetOutcomeRequestSchema, value)),
          read: (bytes) => fromBinary(GetOutcomeRequestSchema, bytes),
        },
        response: {
          write: (value: typeof response) => Buffer.from(toBinary(GetOutcomeResponseSchema, value)),
          read: (bytes) => fromBinary(GetOutcomeResponseSchema, bytes),
        },
      },
      request,
      response,
    ),
    await bare(
      "bare grpc-js, bytes",
      { request: { write: same, read: same }, response: { write: same, read: same } },
      requestBytes,
      responseBytes,
    ),
  ];
  const single = contenders.map((): number[] => []);
  const many = contenders.map((): number[] => []);
  try {
    for (const { call } of contenders) await secondsOf(calls, AT_ONCE, call);
    for (let repeat = 0; repeat < repeats; repeat++) {
      for (const [index, { call }] of contenders.entries()) {
        single[index]?.push(((await secondsOf(calls, 1, call)) / calls) * 1e6);
        many[index]?.push(calls / (await secondsOf(calls, AT_ONCE, call)));
      }
    }
  } finally {
    for (const contender of contenders) contender.close();
  }
  const rows = contenders.map(({ what }, index) => ({
    what,
    microseconds: median(single[index] ?? []),
    callsPerSecond: median(many[index] ?? []),
  }));
  const [own, typed, raw] = rows;
  if (own === undefined || typed === undefined || raw === undefined) throw new Error("no rows");
  return {
    name: "unary",
    peer: "bare @grpc/grpc-js 1.14.7 server and client",
    repeats,
    rows,
    ratio: own.microseconds / typed.microseconds,
    ratioRaw: own.microseconds / raw.microseconds,
  };
}

if (import.meta.main) console.log(JSON.stringify(await bench(), undefined, 2));

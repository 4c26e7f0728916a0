import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createFileRegistry, type DescService, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Client as Channel, ChannelCredentials } from "@grpc/grpc-js";
import { Health, HealthCheckResponse_ServingStatus as Status } from "@lattice/proto/grpc/health/v1/health_pb.ts";
import * as v1 from "@lattice/proto/grpc/reflection/v1/reflection_pb.ts";
import * as v1alpha from "@lattice/proto/grpc/reflection/v1alpha/reflection_pb.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { Fault } from "../fault.ts";
import { createLogger } from "../observe/logger.ts";
import { defineSome } from "../testing/some-methods.ts";
import { connectService } from "./client.ts";
import type { GrpcService } from "./define.ts";
import { healthService } from "./health.ts";
import { reflectionServices } from "./reflection.ts";
import { startServer } from "./server.ts";

const COMMITTEE = new Uint8Array(32).fill(9);
const closers: (() => void)[] = [];
after(() => {
  for (const close of closers) close();
});

async function serve(services: readonly GrpcService[]): Promise<string> {
  const server = await startServer({
    address: "127.0.0.1:0",
    services,
    committee: COMMITTEE,
    domain: "zipnet",
    log: createLogger("silent", {}),
    meters: { count: () => undefined, gauge: () => undefined, record: () => undefined },
  });
  closers.push(() => server.close());
  return `127.0.0.1:${server.port}`;
}

test("health: Check and Watch follow the state without any binding; unknown names are told apart", async () => {
  let ready = false;
  const name = "lattice.zipnet.v1.ZipnetService";
  const health = healthService({ ready: () => ready, services: [name], pollMs: 5 });
  const client = connectService(Health, await serve([health.service]));
  closers.push(() => client.close());
  const check = async (service: string) => (await client.check({ service })).status;
  assert.equal(await check(""), Status.NOT_SERVING);
  ready = true;
  assert.equal(await check(""), Status.SERVING);
  assert.equal(await check(name), Status.SERVING);
  health.set("NOT_SERVING", name);
  assert.equal(await check(""), Status.SERVING);
  assert.equal(await check(name), Status.NOT_SERVING);
  await assert.rejects(check("nobody"), (error) => error instanceof Fault && error.code === "NOT_FOUND");

  const watch = client.watch({ service: name })[Symbol.asyncIterator]();
  assert.equal((await watch.next()).value?.status, Status.NOT_SERVING);
  health.set("SERVING", name);
  assert.equal((await watch.next()).value?.status, Status.SERVING);
  await watch.return?.();

  const polled = client.watch({ service: "" })[Symbol.asyncIterator]();
  assert.equal((await polled.next()).value?.status, Status.SERVING);
  ready = false;
  assert.equal((await polled.next()).value?.status, Status.NOT_SERVING);
  ready = true;
  assert.equal((await polled.next()).value?.status, Status.SERVING);
  health.drain();
  assert.equal((await polled.next()).value?.status, Status.NOT_SERVING);
  await polled.return?.();
});

test("health: a name that comes later is SERVICE_UNKNOWN until then", async () => {
  const health = healthService({ ready: () => true });
  const client = connectService(Health, await serve([health.service]));
  closers.push(() => client.close());
  const unknown = client.watch({ service: "later" })[Symbol.asyncIterator]();
  assert.equal((await unknown.next()).value?.status, Status.SERVICE_UNKNOWN);
  health.set("SERVING", "later");
  assert.equal((await unknown.next()).value?.status, Status.SERVING);
  await unknown.return?.();
});

type Reflection = typeof v1 | typeof v1alpha;

/** One conversation with the reflection service, on a bare grpc-js channel. */
async function reflect(
  address: string,
  api: Reflection,
  asked: readonly v1.ServerReflectionRequest["messageRequest"][],
) {
  const channel = new Channel(address, ChannelCredentials.createInsecure());
  closers.push(() => channel.close());
  const service: DescService = api.ServerReflection;
  const same = (bytes: Buffer): Buffer => bytes;
  const call = channel.makeBidiStreamRequest(`/${service.typeName}/ServerReflectionInfo`, same, same);
  const answers: v1.ServerReflectionResponse["messageResponse"][] = [];
  for (const messageRequest of asked) {
    const request = { $typeName: v1.ServerReflectionRequestSchema.typeName, host: "here", messageRequest } as const;
    call.write(Buffer.from(toBinary(v1.ServerReflectionRequestSchema, request)));
  }
  call.end();
  for await (const bytes of call) {
    const answer = fromBinary(v1.ServerReflectionResponseSchema, new Uint8Array(bytes));
    assert.equal(answer.validHost, "here");
    assert.deepEqual(answer.originalRequest?.messageRequest, asked[answers.length]);
    answers.push(answer.messageResponse);
  }
  return answers;
}

for (const api of [v1, v1alpha]) {
  test(`${api.ServerReflection.typeName} describes what is served, itself included`, async () => {
    const committee = defineSome(CommitteeService, {});
    const health = healthService({ ready: () => true });
    const address = await serve([committee, health.service, ...reflectionServices([committee, health.service])]);
    const symbol = "lattice.committee.v1.CommitteeService";
    const [list, bySymbol, byMethod, byMessage, byName, missing, extensions, none] = await reflect(address, api, [
      { case: "listServices", value: "" },
      { case: "fileContainingSymbol", value: symbol },
      { case: "fileContainingSymbol", value: `${symbol}.GetStatus` },
      { case: "fileContainingSymbol", value: "lattice.committee.v1.CertifiedOutcome" },
      { case: "fileByFilename", value: "lattice/committee/v1/outcome.proto" },
      { case: "fileContainingSymbol", value: "nobody.Knows" },
      { case: "allExtensionNumbersOfType", value: "lattice.committee.v1.CertifiedOutcome" },
      { case: undefined },
    ]);
    assert.ok(list?.case === "listServicesResponse");
    assert.deepEqual(
      list.value.service.map(({ name }) => name),
      [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        symbol,
      ],
    );
    assert.ok(bySymbol?.case === "fileDescriptorResponse");
    const files = bySymbol.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
    assert.equal(files[0]?.name, "lattice/committee/v1/committee_service.proto");
    const registry = createFileRegistry({ $typeName: FileDescriptorSetSchema.typeName, file: files.reverse() });
    assert.deepEqual(
      registry.getService(symbol)?.methods.map(({ name }) => name),
      CommitteeService.methods.map(({ name }) => name),
    );
    assert.deepEqual(byMethod, bySymbol);
    assert.deepEqual(byMessage, byName);
    assert.ok(missing?.case === "errorResponse" && missing.value.errorCode === 5);
    assert.ok(extensions?.case === "allExtensionNumbersResponse");
    assert.ok(none?.case === "errorResponse" && none.value.errorCode === 3);
  });
}

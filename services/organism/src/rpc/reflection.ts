/**
 * `grpc.reflection.v1` and `v1alpha`: the schema of what this process serves, for grpcurl and its like. From the
 * generated descriptors; @grpc/reflection would bring protobufjs.
 */
import { type DescFile, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { ServerReflection, type ServerReflectionRequest } from "@lattice/proto/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "@lattice/proto/grpc/reflection/v1alpha/reflection_pb.ts";
import { defineService, type GrpcService } from "./define.ts";

/** What reflection knows, found once. */
interface Index {
  readonly services: readonly string[];
  readonly files: ReadonlyMap<string, DescFile>;
  /** Fully qualified symbol, without a leading dot, to the file that declares it. */
  readonly symbols: ReadonlyMap<string, DescFile>;
}

function indexOf(services: readonly GrpcService[]): Index {
  const files = new Map<string, DescFile>();
  const symbols = new Map<string, DescFile>();
  const addMessages = (file: DescFile, messages: DescFile["messages"]): void => {
    for (const message of messages) {
      symbols.set(message.typeName, file);
      for (const field of message.fields) symbols.set(`${message.typeName}.${field.name}`, file);
      for (const nested of message.nestedEnums) symbols.set(nested.typeName, file);
      addMessages(file, message.nestedMessages);
    }
  };
  const addFile = (file: DescFile): void => {
    if (files.has(file.proto.name)) return;
    files.set(file.proto.name, file);
    for (const dependency of file.dependencies) addFile(dependency);
    addMessages(file, file.messages);
    for (const { typeName } of file.enums) symbols.set(typeName, file);
    for (const service of file.services) {
      symbols.set(service.typeName, file);
      for (const method of service.methods) symbols.set(`${service.typeName}.${method.name}`, file);
    }
  };
  for (const { descriptor } of services) addFile(descriptor.file);
  return { services: services.map(({ descriptor }) => descriptor.typeName).sort(), files, symbols };
}

/** The file and everything it needs, itself first. */
function withDependencies(file: DescFile): Uint8Array[] {
  const seen = new Set<DescFile>();
  const add = (each: DescFile): void => {
    if (seen.has(each)) return;
    seen.add(each);
    for (const dependency of each.dependencies) add(dependency);
  };
  add(file);
  return [...seen].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
}

/** Both reflection services over `services`, and over themselves. */
export function reflectionServices(services: readonly GrpcService[]): GrpcService[] {
  const answer = (request: ServerReflectionRequest) => {
    const { messageRequest: asked } = request;
    const files = (file: DescFile | undefined, name: string) =>
      file === undefined
        ? refusal(status.NOT_FOUND, `nothing here declares ${name.slice(0, 200)}`)
        : ({
            case: "fileDescriptorResponse",
            value: { fileDescriptorProto: withDependencies(file) },
          } as const);
    switch (asked.case) {
      case "listServices":
        return {
          case: "listServicesResponse",
          value: { service: index.services.map((name) => ({ name })) },
        } as const;
      case "fileByFilename":
        return files(index.files.get(asked.value), asked.value);
      case "fileContainingSymbol":
        return files(index.symbols.get(asked.value.replace(/^\./, "")), asked.value);
      case "allExtensionNumbersOfType":
        // proto3 without extensions: a type that exists has none.
        return index.symbols.has(asked.value)
          ? ({ case: "allExtensionNumbersResponse", value: { baseTypeName: asked.value } } as const)
          : refusal(status.NOT_FOUND, "no such type");
      case "fileContainingExtension":
        return refusal(status.NOT_FOUND, "there are no extensions");
      default:
        return refusal(status.INVALID_ARGUMENT, "nothing was asked");
    }
  };
  const refusal = (errorCode: number, errorMessage: string) =>
    ({ case: "errorResponse", value: { errorCode, errorMessage } }) as const;
  const v1 = defineService(
    ServerReflection,
    {
      serverReflectionInfo: async function* (requests) {
        for await (const request of requests) {
          yield { validHost: request.host, originalRequest: request, messageResponse: answer(request) };
        }
      },
    },
    false,
  );
  // The two versions have the same messages field by field; only the package differs.
  const v1alpha: GrpcService = { ...v1, descriptor: ServerReflectionAlpha };
  const index = indexOf([...services, v1, v1alpha]);
  return [v1, v1alpha];
}

/** protobuf-es messages to and from the bytes that grpc-js carries. */
import { create, type DescMethod, type DescService, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";

/** A view of the same bytes; grpc-js accepts Buffers only. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Serializers that leave the bytes alone: messages are parsed in our own code, where a failure gets a reason. */
export const RAW = { serialize: (bytes: Buffer): Buffer => bytes, deserialize: (bytes: Buffer): Buffer => bytes };

/** `/package.Service/Method` */
export function methodPath(service: DescService, method: DescMethod): string {
  return `/${service.typeName}/${method.name}`;
}

/**
 * Parses a message that owns its bytes: `bytes` fields are plain Uint8Arrays that do not pin a network buffer. Unknown
 * fields are dropped; nesting beyond 32 is refused.
 * @throws Error when `raw` is not such a message
 */
export function parseMessage(schema: DescMethod["input"], raw: Uint8Array): Message {
  return fromBinary(schema, new Uint8Array(raw), { readUnknownFields: false, recursionLimit: 32 });
}

/** The bytes of a message or of what one is made of. */
export function messageBytes(schema: DescMethod["input"], init: unknown): Buffer {
  return asBuffer(toBinary(schema, create(schema, init as Parameters<typeof create>[1])));
}

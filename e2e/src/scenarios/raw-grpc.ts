/** gRPC by hand over HTTP/2, so that what is sent can be anything at all. */
import { connect } from "node:http2";
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ErrorInfoSchema } from "@lattice/proto/google/rpc/error_details_pb.ts";
import { StatusSchema } from "@lattice/proto/google/rpc/status_pb.ts";

export interface RawAnswer {
  /** gRPC status; -1 when the connection broke instead. */
  readonly status: number;
  readonly message: string;
  readonly domain: string;
  readonly reason: string;
}

const DEADLINE_MS = 10_000;

/** Sends one message, framed, and reads how the call ended. @throws never: a broken connection is an answer too */
export function rawCall(
  address: string,
  path: string,
  message: Uint8Array,
  headers: Readonly<Record<string, string>> = {},
): Promise<RawAnswer> {
  return new Promise((resolve) => {
    const session = connect(`http://${address}`);
    let settled = false;
    const finish = (answer: RawAnswer): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      session.destroy();
      resolve(answer);
    };
    const broken = (why: string): void => finish({ status: -1, message: why, domain: "", reason: "" });
    const timer = setTimeout(() => broken("no answer"), DEADLINE_MS);
    session.once("error", (error) => broken(error.message));
    const stream = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    stream.once("error", (error) => broken(error.message));
    const take = (given: Readonly<Record<string, unknown>>): void => {
      const status = given["grpc-status"];
      if (typeof status !== "string") return;
      const text = given["grpc-message"];
      const details = given["grpc-status-details-bin"];
      finish({
        status: Number(status),
        message: typeof text === "string" ? decodeURIComponent(text) : "",
        ...errorInfo(typeof details === "string" ? details : ""),
      });
    };
    stream.on("response", take);
    stream.on("trailers", take);
    stream.on("end", () => broken("the stream ended without a status"));
    stream.resume();
    const frame = Buffer.alloc(5 + message.length);
    frame.writeUInt32BE(message.length, 1);
    frame.set(message, 5);
    stream.end(frame);
  });
}

function errorInfo(details: string): { domain: string; reason: string } {
  try {
    const status = fromBinary(StatusSchema, Buffer.from(details, "base64"));
    for (const any of status.details) {
      const info = anyUnpack(any, ErrorInfoSchema);
      if (info !== undefined) return { domain: info.domain, reason: info.reason };
    }
  } catch {
    // No details, or not ours.
  }
  return { domain: "", reason: "" };
}

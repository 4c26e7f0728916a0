/**
 * Faults on the wire: a gRPC status, a sentence, and `google.rpc.Status` with one `ErrorInfo {domain, reason,
 * metadata}` in the trailer `grpc-status-details-bin`. Callers branch on (domain, reason), never on text.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyPack, anyUnpack } from "@bufbuild/protobuf/wkt";
import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { type ErrorInfo, ErrorInfoSchema } from "@lattice/proto/google/rpc/error_details_pb.ts";
import { StatusSchema } from "@lattice/proto/google/rpc/status_pb.ts";
import { COMMON_FAULTS, Fault, type FaultCatalogue, type FaultEntry, faultsOf, type StatusName } from "../fault.ts";

/** What a call itself can run into, whatever it was about. Domain `rpc.lattice`. */
export const RPC_FAULTS = {
  CONNECT_TIMEOUT: {
    code: "UNAVAILABLE",
    meaning: "Nobody answers at this address.",
    remedy: "Check that the member runs and that the address is right; try another member.",
    retry: true,
  },
  CONNECTION_LOST: {
    code: "UNAVAILABLE",
    meaning: "The connection broke, or the member is going away.",
    remedy: "Repeat the call, or ask another member; streams resume from the last slot seen.",
    retry: true,
  },
  DEADLINE_EXCEEDED: {
    code: "DEADLINE_EXCEEDED",
    meaning: "The call did not finish in time; whether it took effect is not known.",
    remedy: "Ask again with the same content: it is accepted once.",
    retry: true,
  },
  STREAM_IDLE: {
    code: "UNAVAILABLE",
    meaning: "The stream was silent for longer than the reader allows.",
    remedy: "Watch another member, from the last slot seen.",
    retry: true,
  },
  MALFORMED_RESPONSE: {
    code: "INTERNAL",
    meaning: "The answer does not parse as the message that was expected.",
    remedy: "Ask another member; this one speaks another version or is broken.",
    retry: false,
  },
  METHOD_UNKNOWN: {
    code: "UNIMPLEMENTED",
    meaning: "The member does not serve this method.",
    remedy: "Compare versions; the address may be another organism's.",
    retry: false,
  },
  REMOTE_ERROR: {
    code: "INTERNAL",
    meaning: "The peer gave a status without a reason.",
    remedy: "It is not a lattice member, or something between broke the call.",
    retry: false,
  },
  ADDRESS_IN_USE: {
    code: "FAILED_PRECONDITION",
    meaning: "Another process listens on this address.",
    remedy: "Stop it or choose another port.",
    retry: false,
  },
  ADDRESS_REFUSED: {
    code: "INVALID_ARGUMENT",
    meaning: "The address cannot be listened on.",
    remedy: "Use an address of this machine and a port that this user may open.",
    retry: false,
  },
} as const satisfies FaultCatalogue;

export type RpcReason = keyof typeof RPC_FAULTS;

/** The domain of faults that a call gives by itself. */
export const RPC_DOMAIN = "rpc.lattice";

/** `throw rpcFault("DEADLINE_EXCEEDED")` */
export const rpcFault: (reason: RpcReason, detail?: string, metadata?: Readonly<Record<string, string>>) => Fault =
  faultsOf("rpc", RPC_FAULTS);

/** Nobody was there: the typed answer of a handle that finds no member (architecture.md §3). */
export class ConnectTimeout extends Fault {
  /** `host:port` that was tried. */
  readonly address: string;
  constructor(address: string, options?: { readonly cause?: unknown }) {
    const detail = `nobody answers at ${address}`;
    super(RPC_DOMAIN, "CONNECT_TIMEOUT", RPC_FAULTS.CONNECT_TIMEOUT, detail, { address }, options);
    this.address = address;
  }
}

/** Trailer that carries `google.rpc.Status`. */
export const DETAILS_KEY = "grpc-status-details-bin";
// All trailers together stay below 8 KiB, the least that HTTP/2 stacks in use accept.
const MESSAGE_CHARS = 512;
const VALUE_CHARS = 256;
const ENTRIES_MAX = 8;

/** Well-formed and short. A lone surrogate in a status message throws inside grpc-js, after the handler. */
function clean(text: string, chars: number): string {
  return text.slice(0, chars).toWellFormed();
}

/** A fault as the status that grpc-js sends. */
export function statusOfFault(fault: Fault): StatusObject {
  const code = status[fault.code];
  const message = clean(fault.message, MESSAGE_CHARS);
  const entries = Object.entries(fault.metadata).slice(0, ENTRIES_MAX);
  const info = create(ErrorInfoSchema, {
    domain: clean(fault.domain, VALUE_CHARS),
    reason: clean(fault.reason, VALUE_CHARS),
    metadata: Object.fromEntries(entries.map(([key, value]) => [clean(key, VALUE_CHARS), clean(value, VALUE_CHARS)])),
  });
  const details = create(StatusSchema, { code, message, details: [anyPack(ErrorInfoSchema, info)] });
  const metadata = new Metadata();
  metadata.set(DETAILS_KEY, Buffer.from(toBinary(StatusSchema, details)));
  return { code, details: message, metadata };
}

/** gRPC codes that no fault has, under the name of what the caller should do about them. */
function nameOf(code: number): StatusName {
  switch (code) {
    case status.CANCELLED:
      return "UNAVAILABLE";
    case status.UNKNOWN:
    case status.DATA_LOSS:
    case status.OK:
      return "INTERNAL";
    default:
      return NAMES.get(code) ?? "INTERNAL";
  }
}

const NAMES: ReadonlyMap<number, StatusName> = new Map(
  (
    [
      "INVALID_ARGUMENT",
      "FAILED_PRECONDITION",
      "ABORTED",
      "UNAVAILABLE",
      "RESOURCE_EXHAUSTED",
      "NOT_FOUND",
      "OUT_OF_RANGE",
      "ALREADY_EXISTS",
      "PERMISSION_DENIED",
      "UNAUTHENTICATED",
      "DEADLINE_EXCEEDED",
      "UNIMPLEMENTED",
      "INTERNAL",
    ] as const
  ).map((name) => [status[name], name]),
);

function errorInfoOf(metadata: Metadata): ErrorInfo | undefined {
  const [bytes] = metadata.get(DETAILS_KEY);
  if (!(bytes instanceof Buffer)) return undefined;
  try {
    for (const detail of fromBinary(StatusSchema, new Uint8Array(bytes)).details) {
      const info = anyUnpack(detail, ErrorInfoSchema);
      if (info !== undefined) return info;
    }
  } catch {
    // Not a google.rpc.Status: the plain status is all there is.
  }
  return undefined;
}

/**
 * How grpc-js (1.14) words it that a stream has ended and its status has not come: INTERNAL by code. It is so for some of the
 * calls that a server which goes away cuts off, where others have UNAVAILABLE.
 */
const ENDED_WITHOUT_STATUS = /^Received RST_STREAM with code \d+ (\(Call ended without gRPC status\)|triggered by)/;

/** What the caller knows beside the error itself. */
export interface FaultContext {
  /** `host:port` asked. */
  readonly address?: string;
  /** False when the address has no connection now. */
  readonly connected?: boolean;
}

/** The status of a call that failed, as grpc-js gives it. */
interface CallError {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

function isCallError(error: unknown): error is Error & CallError {
  return (
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "number" &&
    "metadata" in error &&
    error.metadata instanceof Metadata
  );
}

/** May a call that ended in this fault be repeated as it is? */
export function retryable(fault: Fault): boolean {
  const known: FaultCatalogue = { ...COMMON_FAULTS, ...RPC_FAULTS };
  return known[fault.reason]?.retry ?? (fault.code === "UNAVAILABLE" || fault.code === "ABORTED");
}

/**
 * The caller's side: whatever a call failed with, as a Fault. A fault passes through; a status with `ErrorInfo` is
 * the peer's own fault; a bare status becomes one of `RPC_FAULTS` under the same code.
 */
export function faultFromError(error: unknown, context: FaultContext = {}): Fault {
  if (error instanceof Fault) return error;
  const { address } = context;
  const where = address === undefined ? {} : { address };
  if (!isCallError(error)) {
    return new Fault(RPC_DOMAIN, "REMOTE_ERROR", RPC_FAULTS.REMOTE_ERROR, undefined, where, { cause: error });
  }
  const cutOff = error.code === status.INTERNAL && ENDED_WITHOUT_STATUS.test(error.details);
  const code = cutOff ? "UNAVAILABLE" : nameOf(error.code);
  const info = errorInfoOf(error.metadata);
  if (info !== undefined) {
    const entry: FaultEntry = { code, meaning: info.reason, remedy: "", retry: false };
    return new Fault(info.domain, info.reason, entry, error.details, info.metadata, { cause: error });
  }
  const given = (reason: RpcReason): Fault =>
    new Fault(RPC_DOMAIN, reason, { ...RPC_FAULTS[reason], code }, RPC_FAULTS[reason].meaning, where, { cause: error });
  const nobody =
    (code === "DEADLINE_EXCEEDED" && context.connected === false) ||
    (code === "UNAVAILABLE" && /^(No connection established|Name resolution failed)/.test(error.details));
  if (address !== undefined && nobody) return new ConnectTimeout(address, { cause: error });
  switch (code) {
    case "UNAVAILABLE":
      return given("CONNECTION_LOST");
    case "DEADLINE_EXCEEDED":
      return given("DEADLINE_EXCEEDED");
    case "UNIMPLEMENTED":
      return given("METHOD_UNKNOWN");
    default:
      return given("REMOTE_ERROR");
  }
}

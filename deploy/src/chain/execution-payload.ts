/** The Engine API's JSON shapes as of Prague, and parsers that take nothing else (execution-apis, prague.md). */
import { isRecord } from "./json-rpc-call.ts";

export type Hex = `0x${string}`;

/** ExecutionPayloadV3. Quantities are minimal hex, data are fixed or even-length hex. */
export interface ExecutionPayload {
  readonly parentHash: Hex;
  readonly feeRecipient: Hex;
  readonly stateRoot: Hex;
  readonly receiptsRoot: Hex;
  readonly logsBloom: Hex;
  readonly prevRandao: Hex;
  readonly blockNumber: Hex;
  readonly gasLimit: Hex;
  readonly gasUsed: Hex;
  readonly timestamp: Hex;
  readonly extraData: Hex;
  readonly baseFeePerGas: Hex;
  readonly blockHash: Hex;
  readonly transactions: readonly Hex[];
  readonly withdrawals: readonly unknown[];
  readonly blobGasUsed: Hex;
  readonly excessBlobGas: Hex;
}

/** What `engine_getPayloadV4` returns, without the blobs: this chain's blocks carry none. */
export interface PayloadEnvelope {
  readonly executionPayload: ExecutionPayload;
  readonly executionRequests: readonly Hex[];
}

/** Everything `engine_newPayloadV4` needs. */
export interface BlockInput extends PayloadEnvelope {
  readonly parentBeaconBlockRoot: Hex;
}

export interface ForkchoiceState {
  readonly headBlockHash: Hex;
  readonly safeBlockHash: Hex;
  readonly finalizedBlockHash: Hex;
}

/** PayloadAttributesV3. */
export interface PayloadAttributes {
  readonly timestamp: Hex;
  readonly prevRandao: Hex;
  readonly suggestedFeeRecipient: Hex;
  readonly withdrawals: readonly never[];
  readonly parentBeaconBlockRoot: Hex;
}

export interface PayloadStatus {
  readonly status: "VALID" | "INVALID" | "SYNCING" | "ACCEPTED";
  readonly validationError: string | undefined;
}

export interface ForkchoiceResult {
  readonly payloadStatus: PayloadStatus;
  readonly payloadId: Hex | undefined;
}

/** Somebody's JSON is not what the Engine API says. `field` names where, never the content. */
export class MalformedPayload extends Error {
  override readonly name = "MalformedPayload";
  readonly field: string;
  constructor(field: string, problem: string) {
    super(`${field}: ${problem}`);
    this.field = field;
  }
}

/** Block contents are bounded by gas; this only keeps a mad answer small. */
const TRANSACTIONS_MAX = 20_000;
const TRANSACTION_BYTES_MAX = 131_072;
const REQUESTS_MAX = 16;
const REQUEST_BYTES_MAX = 65_536;

/** @throws MalformedPayload */
export function parseEnvelope(value: unknown): PayloadEnvelope {
  if (!isRecord(value)) throw new MalformedPayload("envelope", "not an object");
  return {
    executionPayload: parsePayload(value["executionPayload"]),
    executionRequests: items(value["executionRequests"], "executionRequests", REQUESTS_MAX).map((request, index) =>
      data(request, `executionRequests[${index}]`, 1, REQUEST_BYTES_MAX),
    ),
  };
}

function parsePayload(value: unknown): ExecutionPayload {
  if (!isRecord(value)) throw new MalformedPayload("executionPayload", "not an object");
  const exactly = (name: string, length: number): Hex => data(value[name], name, length, length);
  const integer = (name: string, bits = 64): Hex => quantity(value[name], name, bits);
  const withdrawals = items(value["withdrawals"], "withdrawals", 16);
  return {
    parentHash: exactly("parentHash", 32),
    feeRecipient: exactly("feeRecipient", 20),
    stateRoot: exactly("stateRoot", 32),
    receiptsRoot: exactly("receiptsRoot", 32),
    logsBloom: exactly("logsBloom", 256),
    prevRandao: exactly("prevRandao", 32),
    blockNumber: integer("blockNumber"),
    gasLimit: integer("gasLimit"),
    gasUsed: integer("gasUsed"),
    timestamp: integer("timestamp"),
    extraData: data(value["extraData"], "extraData", 0, 32),
    baseFeePerGas: integer("baseFeePerGas", 256),
    blockHash: exactly("blockHash", 32),
    transactions: items(value["transactions"], "transactions", TRANSACTIONS_MAX).map((transaction, index) =>
      data(transaction, `transactions[${index}]`, 1, TRANSACTION_BYTES_MAX),
    ),
    withdrawals,
    blobGasUsed: integer("blobGasUsed"),
    excessBlobGas: integer("excessBlobGas"),
  };
}

/** @throws MalformedPayload */
export function parsePayloadStatus(value: unknown): PayloadStatus {
  if (!isRecord(value)) throw new MalformedPayload("payloadStatus", "not an object");
  const { status, validationError } = value;
  if (status !== "VALID" && status !== "INVALID" && status !== "SYNCING" && status !== "ACCEPTED") {
    throw new MalformedPayload("payloadStatus.status", "not a status");
  }
  return { status, validationError: typeof validationError === "string" ? validationError : undefined };
}

/** @throws MalformedPayload */
export function parseForkchoiceResult(value: unknown): ForkchoiceResult {
  if (!isRecord(value)) throw new MalformedPayload("forkchoiceResult", "not an object");
  const id = value["payloadId"];
  return {
    payloadStatus: parsePayloadStatus(value["payloadStatus"]),
    payloadId: id === null || id === undefined ? undefined : data(id, "payloadId", 8, 8),
  };
}

/** Lower-case `0x` data of a length between the two, both in bytes. @throws MalformedPayload */
export function data(value: unknown, field: string, bytesMin: number, bytesMax: number): Hex {
  if (typeof value !== "string" || !/^0x([0-9a-fA-F]{2})*$/.test(value))
    throw new MalformedPayload(field, "not hex data");
  const length = (value.length - 2) / 2;
  if (length < bytesMin || length > bytesMax) throw new MalformedPayload(field, `${length} bytes`);
  return `0x${value.slice(2).toLowerCase()}`;
}

/** A minimal `0x` integer of at most `bits` bits. @throws MalformedPayload */
export function quantity(value: unknown, field: string, bits = 64): Hex {
  if (typeof value !== "string" || !/^0x(0|[1-9a-fA-F][0-9a-fA-F]*)$/.test(value)) {
    throw new MalformedPayload(field, "not a hex quantity");
  }
  if (value.length - 2 > bits / 4) throw new MalformedPayload(field, `above ${bits} bits`);
  return `0x${value.slice(2).toLowerCase()}`;
}

function items(value: unknown, field: string, max: number): readonly unknown[] {
  if (!Array.isArray(value)) throw new MalformedPayload(field, "not an array");
  if (value.length > max) throw new MalformedPayload(field, `${value.length} items, at most ${max}`);
  return value;
}

export function toQuantity(value: bigint): Hex {
  return `0x${value.toString(16)}`;
}

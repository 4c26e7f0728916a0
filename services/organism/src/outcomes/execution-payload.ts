/** A candidate as the Engine API names it (execution-apis, prague.md): what relay hands to a sequencer. */
import { toHex } from "../codec/codec.ts";
import type { CandidateBody } from "./atelier.ts";

type Hex = `0x${string}`;

/** ExecutionPayloadV3 (execution-apis, cancun.md), JSON form. */
export interface ExecutionPayloadV3 {
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
  readonly withdrawals: readonly {
    readonly index: Hex;
    readonly validatorIndex: Hex;
    readonly address: Hex;
    readonly amount: Hex;
  }[];
  readonly blobGasUsed: Hex;
  readonly excessBlobGas: Hex;
}

/** The parameters of engine_newPayloadV4, in their order when read as a list; no blobs, so no versioned hashes. */
export interface EnginePayload {
  readonly executionPayload: ExecutionPayloadV3;
  readonly expectedBlobVersionedHashes: readonly Hex[];
  readonly parentBeaconBlockRoot: Hex;
  readonly executionRequests: readonly Hex[];
}

const data = (value: Uint8Array): Hex => `0x${toHex(value)}`;
const quantity = (value: bigint): Hex => `0x${value.toString(16)}`;

export function enginePayload(body: CandidateBody): EnginePayload {
  const { attributes, header } = body;
  return {
    executionPayload: {
      parentHash: data(attributes.parentHash),
      feeRecipient: data(attributes.feeRecipient),
      stateRoot: data(header.stateRoot),
      receiptsRoot: data(header.receiptsRoot),
      logsBloom: data(header.logsBloom),
      prevRandao: data(attributes.prevRandao),
      blockNumber: quantity(header.number),
      gasLimit: quantity(attributes.gasLimit),
      gasUsed: quantity(header.gasUsed),
      timestamp: quantity(attributes.timestamp),
      extraData: data(attributes.extraData),
      baseFeePerGas: quantity(header.baseFeePerGas),
      blockHash: data(body.blockHash),
      transactions: body.entries.map((entry) => data(entry.raw)),
      withdrawals: attributes.withdrawals.map((withdrawal) => ({
        index: quantity(withdrawal.index),
        validatorIndex: quantity(withdrawal.validatorIndex),
        address: data(withdrawal.address),
        amount: quantity(withdrawal.amountGwei),
      })),
      blobGasUsed: quantity(header.blobGasUsed),
      excessBlobGas: quantity(header.excessBlobGas),
    },
    expectedBlobVersionedHashes: [],
    parentBeaconBlockRoot: data(attributes.parentBeaconBlockRoot),
    executionRequests: body.executionRequests.map(data),
  };
}

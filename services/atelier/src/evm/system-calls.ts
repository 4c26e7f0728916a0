/**
 * What the protocol itself does at the edges of a block: EIP-4788 and EIP-2935 before the first transaction, the
 * EIP-7685 requests (6110 deposits, 7002 withdrawals, 7251 consolidations) after the last. ethereumjs has the same
 * steps inside its block builder, unexported.
 */
import type { Common } from "@ethereumjs/common";
import {
  Address,
  bigIntToAddressBytes,
  bigIntToBytes,
  CLRequest,
  CLRequestType,
  createAddressFromString,
  setLengthLeft,
} from "@ethereumjs/util";
import type { VM } from "@ethereumjs/vm";
import { concat, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import type { ExecutionLog } from "../core/payment.ts";

const BEACON_ROOTS = createAddressFromString("0x000f3df6d732807ef1319fb7b8bb8522d0beac02");
/** Mainnet's, for chains that name none (EIP-6110). */
const DEPOSIT_CONTRACT = "0x00000000219ab540356cbb839cbe05303d7705fa";
const DEPOSIT_TOPIC = "649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5";

/** EIP-4788 (beacon root by timestamp) and EIP-2935 (parent hash by number); nothing where the contract has no code. */
export async function beginBlock(
  vm: VM,
  block: {
    readonly number: bigint;
    readonly timestamp: bigint;
    readonly parentHash: Uint8Array;
    readonly parentBeaconBlockRoot: Uint8Array;
  },
): Promise<void> {
  const { common } = vm;
  if (common.isActivatedEIP(4788)) {
    const length = common.param("historicalRootsLength");
    const index = block.timestamp % length;
    await store(vm, BEACON_ROOTS, [
      [index, minimal(block.timestamp)],
      [index + length, block.parentBeaconBlockRoot],
    ]);
  }
  if (common.isActivatedEIP(2935)) {
    const history = new Address(bigIntToAddressBytes(common.param("historyStorageAddress")));
    const slot = (block.number - 1n) % common.param("historyServeWindow");
    await store(vm, history, [[slot, block.parentHash]]);
  }
}

async function store(vm: VM, contract: Address, values: readonly (readonly [bigint, Uint8Array])[]): Promise<void> {
  const code = await vm.stateManager.getCode(contract);
  if (code.length === 0) return;
  for (const [slot, value] of values) {
    await vm.stateManager.putStorage(contract, setLengthLeft(bigIntToBytes(slot), 32), value);
  }
  await vm.evm.journal.cleanup();
}

function minimal(value: bigint): Uint8Array {
  return value === 0n ? new Uint8Array(0) : bigIntToBytes(value);
}

/** A system contract failed: the block would be invalid (EIP-7002, EIP-7251). */
export class SystemCallFailed extends Error {
  override readonly name = "SystemCallFailed";
}

/** Requests in ascending type order, empty ones included. @param logs of all transactions of the block, in order */
export async function endBlock(vm: VM, logs: readonly ExecutionLog[]): Promise<CLRequest<CLRequestType>[]> {
  const { common } = vm;
  const requests: CLRequest<CLRequestType>[] = [];
  if (common.isActivatedEIP(6110)) {
    const deposits = depositRequests(logs, depositContract(common));
    requests.push(new CLRequest(CLRequestType.Deposit, deposits));
  }
  if (common.isActivatedEIP(7002)) {
    const data = await systemCall(vm, common.param("withdrawalRequestPredeployAddress"));
    requests.push(new CLRequest(CLRequestType.Withdrawal, data));
  }
  if (common.isActivatedEIP(7251)) {
    const data = await systemCall(vm, common.param("consolidationRequestPredeployAddress"));
    requests.push(new CLRequest(CLRequestType.Consolidation, data));
  }
  return requests;
}

/** Calls as the system address, whose own account the call must leave as it was. */
async function systemCall(vm: VM, target: bigint): Promise<Uint8Array> {
  const to = new Address(bigIntToAddressBytes(target));
  const code = await vm.stateManager.getCode(to);
  if (code.length === 0) return new Uint8Array(0);
  const caller = new Address(bigIntToAddressBytes(vm.common.param("systemAddress")));
  const before = await vm.stateManager.getAccount(caller);
  const { execResult } = await vm.evm.runCall({ caller, to, gasLimit: vm.common.param("systemCallGasLimit") });
  if (before === undefined) await vm.stateManager.deleteAccount(caller);
  else await vm.stateManager.putAccount(caller, before);
  if (execResult.exceptionError !== undefined) throw new SystemCallFailed(`${to}: ${execResult.exceptionError.error}`);
  return execResult.returnValue;
}

function depositContract(common: Common): Uint8Array {
  // Not in `Common`'s public surface, but the only place where the genesis file's value is kept.
  const params: unknown = Reflect.get(common, "_chainParams");
  const named =
    typeof params === "object" && params !== null ? Reflect.get(params, "depositContractAddress") : undefined;
  return fromHex(typeof named === "string" ? named : DEPOSIT_CONTRACT);
}

/** EIP-6110: `DepositEvent(bytes pubkey, bytes withdrawal_credentials, bytes amount, bytes signature, bytes index)`. */
function depositRequests(logs: readonly ExecutionLog[], contract: Uint8Array): Uint8Array {
  const address = toHex(contract);
  const parts: Uint8Array[] = [];
  for (const log of logs) {
    const [topic] = log.topics;
    if (topic === undefined || toHex(topic) !== DEPOSIT_TOPIC || toHex(log.address) !== address) continue;
    parts.push(depositRequest(log.data));
  }
  return concat(...parts);
}

/** Lengths of the five fields, and the offsets at which the ABI puts them; any other layout invalidates the block. */
const DEPOSIT_FIELDS = [
  { offset: 160, length: 48 },
  { offset: 256, length: 32 },
  { offset: 320, length: 8 },
  { offset: 384, length: 96 },
  { offset: 512, length: 8 },
] as const;
const DEPOSIT_DATA_BYTES = 576;

function depositRequest(data: Uint8Array): Uint8Array {
  if (data.length !== DEPOSIT_DATA_BYTES) throw new SystemCallFailed("deposit log: layout");
  const word = (at: number): bigint => BigInt(`0x${toHex(data.subarray(at, at + 32))}`);
  const fields = DEPOSIT_FIELDS.map(({ offset, length }, index) => {
    if (word(32 * index) !== BigInt(offset) || word(offset) !== BigInt(length)) {
      throw new SystemCallFailed("deposit log: layout");
    }
    return data.slice(offset + 32, offset + 32 + length);
  });
  return concat(...fields);
}

/**
 * The settlement contract as a genesis account. Its constructor is executed in an EVM as if it were being deployed at
 * the target address on the target chain; what it returned is the code (immutables and the EIP-712 domain filled in),
 * what it stored is the storage. Nothing about the storage layout is written down here.
 */
import { Common, Hardfork, Mainnet } from "@ethereumjs/common";
import { createEVM } from "@ethereumjs/evm";
import { SimpleStateManager } from "@ethereumjs/statemanager";
import { Account, Address, bytesToHex, unpadBytes } from "@ethereumjs/util";
import { compareBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { type Abi, encodeAbiParameters } from "viem";
import { settlementArtifact } from "./artifact.ts";

/** EIP-170. */
const CODE_BYTES_MAX = 24_576;
/** A bid answers for the slot it names; its charge is attested after finality and a batch. Two hours of 12 s blocks. */
export const DEFAULT_WITHDRAWAL_DELAY = 600n;
/** As long as EIP-2935 remembers: time for members to notice and overtake with a fresher block. */
export const DEFAULT_STALE_DELAY = 8_191n;

/** A signer set: addresses of 20 bytes in any order, `threshold` more than half of them. */
export interface SettlementSigners {
  readonly signers: readonly Uint8Array[];
  readonly threshold: number;
}

/** The contract's constructor arguments. */
export interface SettlementParameters extends SettlementSigners {
  /** LATTICE of architecture.md §3: derived from name and chain id, 32 bytes. */
  readonly latticeId: Uint8Array;
  /** Who authorises proposer payments (atelier); the attesters when absent. */
  readonly payers?: SettlementSigners;
  /** Blocks. */
  readonly withdrawalDelay?: bigint;
  /** Blocks. */
  readonly staleDelay?: bigint;
}

/** An account for a genesis file: 0x-prefixed hex, storage slot → value, both 32 bytes. */
export interface GenesisAccount {
  readonly code: `0x${string}`;
  readonly storage: Readonly<Record<`0x${string}`, `0x${string}`>>;
}

/** Init code with its arguments: the data of a deployment transaction. */
export function settlementInitCode(parameters: SettlementParameters): `0x${string}` {
  const payers = parameters.payers ?? parameters;
  const artifact = settlementArtifact();
  const encoded = encodeAbiParameters(constructorInputs(artifact.abi), [
    `0x${toHex(parameters.latticeId)}`,
    ascending(parameters.signers),
    BigInt(parameters.threshold),
    ascending(payers.signers),
    BigInt(payers.threshold),
    parameters.withdrawalDelay ?? DEFAULT_WITHDRAWAL_DELAY,
    parameters.staleDelay ?? DEFAULT_STALE_DELAY,
  ]);
  return `${artifact.bytecode}${encoded.slice(2)}`;
}

/**
 * The contract as it would stand at `address` (20 bytes) on `chainId` after deployment.
 * @throws Error when the constructor refuses the arguments.
 */
export async function settlementGenesisAccount(
  parameters: SettlementParameters & { readonly chainId: bigint; readonly address: Uint8Array },
): Promise<GenesisAccount> {
  const common = new Common({ chain: { ...Mainnet, chainId: Number(parameters.chainId) }, hardfork: Hardfork.Prague });
  const stateManager = new SimpleStateManager({ common });
  const evm = await createEVM({ common, stateManager });
  const target = new Address(parameters.address);
  await stateManager.putAccount(target, new Account(1n));
  const result = await evm.runCode({
    code: fromHex(settlementInitCode(parameters)),
    to: target,
    gasLimit: 30_000_000n,
  });
  if (result.exceptionError !== undefined) {
    const reverted = result.returnValue.length === 0 ? "" : ` ${bytesToHex(result.returnValue)}`;
    throw new Error(`settlement constructor: ${result.exceptionError.error}${reverted}`);
  }
  if (result.returnValue.length > CODE_BYTES_MAX) throw new Error("settlement code exceeds EIP-170");

  const storage: Record<`0x${string}`, `0x${string}`> = {};
  const prefix = `${target.toString()}_`;
  for (const [key, value] of stateManager.storageStack.at(-1) ?? []) {
    if (!key.startsWith(prefix) || unpadBytes(value).length === 0) continue;
    storage[`0x${key.slice(prefix.length).replace(/^0x/, "").padStart(64, "0")}`] =
      `0x${toHex(value).padStart(64, "0")}`;
  }
  return { code: bytesToHex(result.returnValue), storage };
}

function ascending(signers: readonly Uint8Array[]): `0x${string}`[] {
  return [...signers].sort(compareBytes).map((signer): `0x${string}` => `0x${toHex(signer)}`);
}

function constructorInputs(abi: Abi) {
  const entry = abi.find((item) => item.type === "constructor");
  if (entry === undefined) throw new Error("artifact without a constructor");
  return entry.inputs;
}

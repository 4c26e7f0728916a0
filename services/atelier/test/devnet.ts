/** A small chain for tests: Prague from genesis, system contracts, funded wallets, a settlement contract. */
import { createTx, type TypedTxData } from "@ethereumjs/tx";
import { concat, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { addressOfSecret, keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import type { BlockAttributes } from "../src/core/candidate.ts";
import { ChainState } from "../src/evm/chain-state.ts";
import { type Genesis, genesisFrom } from "../src/evm/genesis.ts";
import systemContracts from "./system-contracts.json" with { type: "json" };

export const CHAIN_ID = 7_357_001n;
export const GWEI = 1_000_000_000n;
export const ETHER = 10n ** 18n;
export const BLOCK_GAS = 30_000_000n;
export const GENESIS_S = 1_700_000_000n;

/** An account of the tests, the same in every run. */
export interface Wallet {
  readonly secret: Uint8Array;
  readonly address: Uint8Array;
}

/** Wallet `index` of the genesis, holding 1000 ether below `WALLETS`. */
export function wallet(index: number): Wallet {
  const secret = keccak256(new TextEncoder().encode(`atelier test wallet ${index}`));
  return { secret, address: addressOfSecret(secret) };
}

export const SETTLEMENT = fromHex("5e771e0000000000000000000000000000000001");
/** Pays nothing and reverts, whatever is called. */
export const REVERTER = fromHex("0bad000000000000000000000000000000000001");
/** Takes value only while its storage slot 0 is not zero; otherwise reverts. `OPENER` sets it. */
export const GATE = fromHex("6a7e000000000000000000000000000000000001");

/**
 * `payBid(uint64 slot, bytes32 bidId)` of the settlement contract, by hand: logs
 * BidPaid(slot, bidId, caller, value) and keeps the value. The real one is tally's.
 */
const SETTLEMENT_CODE = [
  "34", // CALLVALUE
  "5f52", // PUSH0 MSTORE
  "33", // CALLER
  "602435", // PUSH1 36 CALLDATALOAD
  "600435", // PUSH1 4 CALLDATALOAD
  `7f${toHex(keccak256(new TextEncoder().encode("BidPaid(uint64,bytes32,address,uint256)")))}`,
  "60205f", // PUSH1 32 PUSH0
  "a4", // LOG4
  "00", // STOP
].join("");
const REVERTER_CODE = "5f5ffd";
/**
 * Without calldata: opens the gate (SSTORE 0 ← 1). With calldata: reverts while it is closed, then forwards all value
 * and the calldata to the settlement contract, so that a bundle can pay only after somebody has opened it.
 */
const GATE_CODE = [
  "36", // CALLDATASIZE
  "600a57", // PUSH1 10 JUMPI
  "60015f55", // SSTORE(0, 1)
  "00", // STOP
  "00",
  "5b", // 10: JUMPDEST
  "5f54", // SLOAD(0)
  "601457", // PUSH1 20 JUMPI
  "5f5ffd", // REVERT
  "00",
  "5b", // 20: JUMPDEST
  "365f5f37", // CALLDATACOPY(0, 0, CALLDATASIZE)
  "5f5f365f34", // retSize retOffset argsSize argsOffset value
  `73${toHex(SETTLEMENT)}`,
  "5a", // GAS
  "f1", // CALL
  "00",
].join("");

const WALLETS = 260;

const WITHOUT: ReadonlySet<string> = new Set();

/** @param without system contracts to leave out, by address */
export function devnetFile(without: ReadonlySet<string> = WITHOUT, storage = true): { [key: string]: unknown } {
  const alloc: { [address: string]: object } = {};
  for (const [address, account] of Object.entries(systemContracts.accounts)) {
    if (without.has(address)) continue;
    const { nonce, code } = account;
    alloc[address] = { balance: "0x0", nonce, code, ...(storage ? { storage: account.storage } : {}) };
  }
  for (let index = 0; index < WALLETS; index++) {
    alloc[`0x${toHex(wallet(index).address)}`] = { balance: `0x${(1000n * ETHER).toString(16)}` };
  }
  for (const [address, code] of [
    [SETTLEMENT, SETTLEMENT_CODE],
    [REVERTER, REVERTER_CODE],
    [GATE, GATE_CODE],
  ] as const) {
    alloc[`0x${toHex(address)}`] = { balance: "0x0", nonce: "0x1", code: `0x${code}` };
  }
  const forks = ["homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg", "istanbul"];
  return {
    config: {
      chainId: Number(CHAIN_ID),
      ...Object.fromEntries([...forks, "berlin", "london", "mergeNetsplit"].map((fork) => [`${fork}Block`, 0])),
      terminalTotalDifficulty: 0,
      terminalTotalDifficultyPassed: true,
      shanghaiTime: 0,
      cancunTime: 0,
      pragueTime: 0,
      depositContractAddress: "0x00000000219ab540356cbb839cbe05303d7705fa",
      blobSchedule: {
        cancun: { target: 3, max: 6, baseFeeUpdateFraction: 3_338_477 },
        prague: { target: 6, max: 9, baseFeeUpdateFraction: 5_007_716 },
      },
    },
    nonce: "0x0",
    timestamp: `0x${GENESIS_S.toString(16)}`,
    extraData: "0x",
    gasLimit: `0x${BLOCK_GAS.toString(16)}`,
    difficulty: "0x0",
    mixHash: `0x${"00".repeat(32)}`,
    coinbase: `0x${"00".repeat(20)}`,
    baseFeePerGas: `0x${GWEI.toString(16)}`,
    excessBlobGas: "0x0",
    blobGasUsed: "0x0",
    number: "0x0",
    gasUsed: "0x0",
    parentHash: `0x${"00".repeat(32)}`,
    alloc,
  };
}

export function devnetGenesis(): Genesis {
  return genesisFrom(devnetFile());
}

export function devnet(): Promise<ChainState> {
  return ChainState.open(devnetGenesis());
}

export const FEE_RECIPIENT = fromHex("fee0000000000000000000000000000000000001");

/** What a sequencer would ask for on the chain's head. */
export function attributesOn(chain: ChainState, over: Partial<BlockAttributes> = {}): BlockAttributes {
  const head = chain.head();
  return {
    parentHash: head.hash,
    timestamp: head.timestamp + 2n,
    prevRandao: keccak256(head.hash),
    feeRecipient: FEE_RECIPIENT,
    gasLimit: head.gasLimit,
    parentBeaconBlockRoot: keccak256(concat(head.hash, new Uint8Array(1))),
    extraData: new TextEncoder().encode("lattice"),
    withdrawals: [],
    ...over,
  };
}

export interface TransferFields {
  readonly from: Wallet;
  readonly nonce: bigint;
  readonly to?: Uint8Array;
  readonly valueWei?: bigint;
  readonly data?: Uint8Array;
  readonly gasLimit?: bigint;
  /** Priority fee, wei; the fee cap is 100 gwei unless given. */
  readonly tip?: bigint;
  readonly maxFee?: bigint;
  readonly chainId?: bigint;
}

const common = devnetGenesis().common;

/** A signed EIP-1559 transaction, raw. */
export function signed(fields: TransferFields): Uint8Array {
  return signedAs(fields.from, {
    type: 2,
    chainId: fields.chainId ?? CHAIN_ID,
    nonce: fields.nonce,
    to: `0x${toHex(fields.to ?? wallet(900).address)}`,
    value: fields.valueWei ?? 1n,
    data: fields.data ?? new Uint8Array(),
    gasLimit: fields.gasLimit ?? (fields.data === undefined ? 21_000n : 200_000n),
    maxFeePerGas: fields.maxFee ?? 100n * GWEI,
    maxPriorityFeePerGas: fields.tip ?? GWEI,
  });
}

/** Any transaction, signed by `from`. */
export function signedAs(from: Wallet, fields: TypedTxData): Uint8Array {
  const foreign = "chainId" in fields && fields.chainId !== undefined && fields.chainId !== CHAIN_ID;
  const chain = foreign ? genesisFrom(foreignFile(Number(fields.chainId))).common : common;
  return createTx(fields, { common: chain }).sign(from.secret).serialize();
}

function foreignFile(chainId: number): object {
  const file = devnetFile();
  return { ...file, config: { ...(file["config"] as object), chainId } };
}

/** keccak256 of the signature's text, its first four bytes. */
const PAY_BID = keccak256(new TextEncoder().encode("payBid(uint64,bytes32)")).slice(0, 4);

/** Calldata of `payBid(slot, bidId)`. */
export function payBid(slot: bigint, bidId: Uint8Array): Uint8Array {
  return concat(PAY_BID, fromHex(slot.toString(16).padStart(64, "0")), bidId);
}

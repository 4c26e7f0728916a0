/**
 * The local chain's genesis, in geth's JSON format: Prague from block 0, the system contracts where mainnet has them,
 * whatever accounts the lattice wants. Execution client, atelier and gateway all read the same file.
 */
import systemContracts from "./system-contracts.json" with { type: "json" };

export type Hex = `0x${string}`;

/** One account of the genesis state. `storage` maps 32-byte keys to 32-byte values. */
export interface GenesisAccount {
  readonly balanceWei?: bigint;
  readonly nonce?: bigint;
  readonly code?: Hex;
  readonly storage?: Readonly<Record<Hex, Hex>>;
}

export interface LocalGenesisOptions {
  readonly chainId: bigint;
  /** Whole Unix seconds, below the first slot's timestamp. */
  readonly timestampS: number;
  readonly gasLimit: bigint;
  /** By 20-byte address, 0x-prefixed. */
  readonly alloc: Readonly<Record<Hex, GenesisAccount>>;
  /** Wei per gas of the genesis block; the EIP-1559 rule moves it from there. Default 1 gwei. */
  readonly baseFeeWei?: bigint;
}

interface GethAccount {
  readonly balance: Hex;
  readonly nonce?: Hex;
  readonly code?: Hex;
  readonly storage?: Readonly<Record<Hex, Hex>>;
}

/** A genesis file as `geth init` and `@ethereumjs/client --gethGenesis` read it. */
export interface GethGenesis {
  readonly config: Readonly<Record<string, unknown>>;
  readonly nonce: Hex;
  readonly timestamp: Hex;
  readonly extraData: Hex;
  readonly gasLimit: Hex;
  readonly difficulty: Hex;
  readonly mixHash: Hex;
  readonly coinbase: Hex;
  readonly baseFeePerGas: Hex;
  readonly excessBlobGas: Hex;
  readonly blobGasUsed: Hex;
  readonly number: Hex;
  readonly gasUsed: Hex;
  readonly parentHash: Hex;
  readonly alloc: Readonly<Record<Hex, GethAccount>>;
}

/** Where the predeployed contracts stand (EIP-4788, 2935, 7002, 7251, 6110), in lower case. */
export const SYSTEM_ADDRESSES: readonly string[] = Object.keys(systemContracts.accounts);

const DEPOSIT_CONTRACT = "0x00000000219ab540356cbb839cbe05303d7705fa";
const ZERO_HASH: Hex = `0x${"0".repeat(64)}`;
const DEFAULT_BASE_FEE_WEI = 1_000_000_000n;
/** Every fork that geth activates by block number. */
const BLOCK_FORKS = [
  "homesteadBlock",
  "eip150Block",
  "eip155Block",
  "eip158Block",
  "byzantiumBlock",
  "constantinopleBlock",
  "petersburgBlock",
  "istanbulBlock",
  "berlinBlock",
  "londonBlock",
  "mergeNetsplitBlock",
] as const;

/** @throws RangeError when an account stands where a system contract is, or hex has not its length. */
export function localGenesis(options: LocalGenesisOptions): GethGenesis {
  const alloc: Record<Hex, GethAccount> = {};
  for (const [address, account] of Object.entries(systemContracts.accounts)) {
    alloc[hexOf(address)] = {
      balance: "0x0",
      nonce: hexOf(account.nonce),
      code: hexOf(account.code),
      storage: minimalStorage(address, account.storage),
    };
  }
  for (const [given, account] of Object.entries(options.alloc)) {
    if (!/^0x[0-9a-fA-F]{40}$/.test(given)) throw new RangeError(`genesis account ${given}: not a 20-byte address`);
    const address = hexOf(given.toLowerCase());
    if (alloc[address] !== undefined) throw new RangeError(`genesis account ${address} is given twice or reserved`);
    alloc[address] = {
      balance: quantity(account.balanceWei ?? 0n),
      ...(account.nonce === undefined ? {} : { nonce: quantity(account.nonce) }),
      ...(account.code === undefined ? {} : { code: account.code }),
      ...(account.storage === undefined ? {} : { storage: minimalStorage(address, account.storage) }),
    };
  }
  return {
    config: {
      chainId: Number(options.chainId),
      ...Object.fromEntries(BLOCK_FORKS.map((fork) => [fork, 0])),
      terminalTotalDifficulty: 0,
      terminalTotalDifficultyPassed: true,
      shanghaiTime: 0,
      cancunTime: 0,
      pragueTime: 0,
      depositContractAddress: DEPOSIT_CONTRACT,
      blobSchedule: {
        cancun: { target: 3, max: 6, baseFeeUpdateFraction: 3_338_477 },
        prague: { target: 6, max: 9, baseFeeUpdateFraction: 5_007_716 },
      },
    },
    nonce: "0x0",
    timestamp: quantity(BigInt(options.timestampS)),
    extraData: "0x",
    gasLimit: quantity(options.gasLimit),
    difficulty: "0x0",
    mixHash: ZERO_HASH,
    coinbase: `0x${"0".repeat(40)}`,
    baseFeePerGas: quantity(options.baseFeeWei ?? DEFAULT_BASE_FEE_WEI),
    excessBlobGas: "0x0",
    blobGasUsed: "0x0",
    number: "0x0",
    gasUsed: "0x0",
    parentHash: ZERO_HASH,
    alloc,
  };
}

/**
 * The trie holds values without leading zero bytes and no zeros at all; geth trims what a file says, ethereumjs takes
 * it as it stands and would arrive at another state root.
 */
function minimalStorage(address: string, storage: Readonly<Record<string, string>>): Record<Hex, Hex> {
  const entries = Object.entries(storage).flatMap(([key, value]): [Hex, Hex][] => {
    if (!/^0x[0-9a-fA-F]{64}$/.test(key) || !/^0x([0-9a-fA-F]{2}){0,32}$/.test(value)) {
      throw new RangeError(`genesis account ${address}: storage key of 32 bytes and value of at most 32 expected`);
    }
    const digits = value.slice(2).replace(/^(?:00)+/, "");
    return digits === "" ? [] : [[hexOf(key), `0x${digits}`]];
  });
  return Object.fromEntries(entries);
}

function quantity(value: bigint): Hex {
  return `0x${value.toString(16)}`;
}

function hexOf(value: string): Hex {
  return `0x${value.slice(2)}`;
}

/** Where a chain begins: from a geth-style genesis file. */
import { createBlock, type HeaderData } from "@ethereumjs/block";
import {
  type Common,
  createCommonFromGethGenesis,
  type GenesisState,
  type GethGenesis,
  parseGethGenesisState,
  type StoragePair,
} from "@ethereumjs/common";
import { MerklePatriciaTrie } from "@ethereumjs/mpt";
import { MerkleStateManager } from "@ethereumjs/statemanager";
import { type PrefixedHexString, ValueEncoding } from "@ethereumjs/util";
import { KZG_FOR_EXECUTION } from "./kzg.ts";
import type { NodeOverlay } from "./node-store.ts";

/** A chain's rules, its first accounts and its first header. */
export interface Genesis {
  readonly common: Common;
  readonly alloc: GenesisState;
  /** Fields of the genesis header; the state root is computed unless it is given. */
  readonly header: HeaderData;
}

/** A genesis file that does not describe a chain. */
export class GenesisError extends Error {
  override readonly name = "GenesisError";
}

/** @param file parsed JSON, as `geth init` reads it. @throws GenesisError */
export function genesisFrom(file: unknown): Genesis {
  if (!isGethGenesis(file)) throw new GenesisError("a geth genesis with config.chainId and alloc is expected");
  try {
    const common = createCommonFromGethGenesis(file, {
      chain: `chain-${file.config.chainId}`,
      customCrypto: { kzg: KZG_FOR_EXECUTION },
    });
    const header = { ...common.genesis(), number: 0n };
    common.setHardforkBy({ blockNumber: 0n, timestamp: BigInt(header.timestamp ?? 0) });
    return { common, alloc: parseGethGenesisState(file), header };
  } catch (error) {
    throw new GenesisError("the genesis does not describe a chain", { cause: error });
  }
}

function isGethGenesis(file: unknown): file is GethGenesis {
  if (!isRecord(file) || !isRecord(file["config"]) || !isRecord(file["alloc"])) return false;
  return Number.isSafeInteger(file["config"]["chainId"]);
}

function isRecord(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === "object" && value !== null;
}

/** Writes the accounts; returns the state root. */
export async function writeGenesis(genesis: Genesis, overlay: NodeOverlay): Promise<Uint8Array> {
  const trie = new MerklePatriciaTrie({
    useKeyHashing: true,
    common: genesis.common,
    db: overlay,
    valueEncoding: ValueEncoding.Bytes,
  });
  const stateManager = new MerkleStateManager({ common: genesis.common, trie });
  await stateManager.generateCanonicalGenesis(minimalStorage(genesis.alloc));
  return stateManager.getStateRoot();
}

/** Geth files may pad storage values with zeros, or set zeros; the trie must not. */
function minimalStorage(alloc: GenesisState): GenesisState {
  const state = structuredClone(alloc);
  for (const account of Object.values<GenesisState[PrefixedHexString]>({ ...state })) {
    if (Array.isArray(account) && account[2] !== undefined) {
      account[2] = account[2].flatMap(([slot, value]) => minimalEntry(slot, value));
    }
  }
  return state;
}

function minimalEntry(slot: PrefixedHexString, value: PrefixedHexString): StoragePair[] {
  const digits = value.slice(2).replace(/^(?:00)+/, "");
  return digits === "" ? [] : [[`0x${slot.slice(2).padStart(64, "0")}`, `0x${digits}`]];
}

/** The genesis block; its header commits to `stateRoot` unless the chain's own says otherwise. */
export function genesisBlock(genesis: Genesis, stateRoot: Uint8Array) {
  return createBlock({ header: { stateRoot, ...genesis.header } }, { common: genesis.common });
}

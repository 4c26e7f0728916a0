/**
 * Compiles the settlement contract with solc from npm. Nobody needs this to run a lattice: the result is committed as
 * `contracts/Settlement.json`, and a test compiles again and compares. `node src/contract/compile.ts` rewrites it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { hashBytes } from "@lattice/organism/crypto/hash.ts";
import solc from "solc";
import type { Abi } from "viem";

/** A compiled contract: code as 0x-prefixed hex; `deployedBytecode` has zeros where the immutables go. */
export interface Artifact {
  readonly contractName: string;
  /** Full compiler version, `0.8.37+commit…`. */
  readonly compiler: string;
  readonly settings: CompilerSettings;
  /** H/"lattice/tally/solidity-sources/v1" over every source's path and text, sorted by path; hex. */
  readonly sourceHash: string;
  readonly abi: Abi;
  readonly bytecode: `0x${string}`;
  readonly deployedBytecode: `0x${string}`;
}

/** The part of solc's standard JSON settings that decides the bytes. */
export interface CompilerSettings {
  readonly evmVersion: string;
  readonly optimizer: { readonly enabled: boolean; readonly runs: number };
  /** No metadata hash and no CBOR tail: the same bytes whatever the comments or the paths. */
  readonly metadata: { readonly bytecodeHash: "none"; readonly appendCBOR: false };
}

/** Cancun: transient storage is needed, nothing newer is. */
export const COMPILER_SETTINGS: CompilerSettings = {
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 10_000 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
};

/** "Transient storage can break composability": says itself that a guard cleared at the end of the call is safe. */
const TRANSIENT_STORAGE_WARNING = "2394";

const CONTRACTS = new URL("../../contracts/", import.meta.url);
const ARTIFACT = new URL("Settlement.json", CONTRACTS);
const require = createRequire(import.meta.url);

interface CompilerMessage {
  readonly errorCode: string;
  readonly formattedMessage: string;
}

interface CompilerOutput {
  readonly errors?: readonly CompilerMessage[];
  readonly contracts?: Record<string, Record<string, CompiledContract>>;
}

interface CompiledContract {
  readonly abi: Abi;
  readonly evm: {
    readonly bytecode: { readonly object: string };
    readonly deployedBytecode: { readonly object: string };
  };
}

/** What solc said, warnings included: the contract compiles without any but the one named below. */
export class CompileError extends Error {
  override readonly name = "CompileError";
}

/**
 * Compiles `<contractName>.sol` from `sources` (path → text); paths not given there are looked up in node_modules.
 * @throws CompileError with the compiler's own messages.
 */
export function compile(contractName: string, sources: Readonly<Record<string, string>>): Artifact {
  const read: Record<string, string> = { ...sources };
  const input = {
    language: "Solidity",
    sources: Object.fromEntries(Object.entries(sources).map(([path, content]) => [path, { content }])),
    settings: {
      ...COMPILER_SETTINGS,
      outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
    },
  };
  const resolve = (path: string): { contents: string } | { error: string } => {
    try {
      const contents = readFileSync(require.resolve(path), "utf8");
      read[path] = contents;
      return { contents };
    } catch {
      return { error: `not found: ${path}` };
    }
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: resolve })) as CompilerOutput;
  const messages = (output.errors ?? []).filter((message) => message.errorCode !== TRANSIENT_STORAGE_WARNING);
  if (messages.length > 0) throw new CompileError(messages.map((message) => message.formattedMessage).join("\n"));
  const contract = output.contracts?.[`${contractName}.sol`]?.[contractName];
  if (contract === undefined) throw new CompileError(`no contract ${contractName} in ${contractName}.sol`);
  return {
    contractName,
    compiler: String(solc.version()).replace(/\.Emscripten.*$/, ""),
    settings: COMPILER_SETTINGS,
    sourceHash: hashSources(read),
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
    deployedBytecode: `0x${contract.evm.deployedBytecode.object}`,
  };
}

/** The settlement contract as its sources stand now. */
export function compileSettlement(): Artifact {
  return compile("Settlement", { "Settlement.sol": readFileSync(new URL("Settlement.sol", CONTRACTS), "utf8") });
}

function hashSources(sources: Readonly<Record<string, string>>): string {
  const sorted = Object.entries(sources).sort(([a], [b]) => (a < b ? -1 : 1));
  return toHex(hashBytes("lattice/tally/solidity-sources/v1", Buffer.from(JSON.stringify(sorted))));
}

if (import.meta.main) writeFileSync(ARTIFACT, `${JSON.stringify(compileSettlement(), null, 2)}\n`);

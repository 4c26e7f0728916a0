/** A settlement contract on a fresh anvil, with committees, and short names for what tests do to it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fromHex } from "@lattice/organism/codec/codec.ts";
import {
  type Abi,
  BaseError,
  ContractFunctionRevertedError,
  decodeErrorResult,
  encodeFunctionData,
  getAddress,
  type PrivateKeyAccount,
  type TransactionReceipt,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { compile } from "../src/contract/compile.ts";
import { type SettlementParameters, settlementInitCode } from "../src/contract/genesis-account.ts";
import { SETTLEMENT_ABI } from "../src/contract/settlement-abi.ts";
import { attestationArgument, type Hex, hex } from "../src/contract/settlement-call.ts";
import { type Attestation, attestationDigest, settlementDomain } from "../src/core/attestation.ts";
import { type Leaf, merkleProof, merkleRoot, merkleTree } from "../src/core/merkle.ts";
import { type Chain, clients, startAnvil } from "./anvil.ts";
import { signDigest, type TestKey, testKey, testKeys } from "./keys.ts";

export const CHAIN_ID = 31337n;
export const LATTICE_ID = new Uint8Array(32).fill(0x1a);
export const WITHDRAWAL_DELAY = 5n;
export const STALE_DELAY = 4n;
export const ETHER = 10n ** 18n;

/** A key as a viem account. */
export function account(key: TestKey): PrivateKeyAccount {
  return privateKeyToAccount(hex(key.secret));
}

/** As viem shows addresses. */
export function checksummed(address: Uint8Array): Hex {
  return getAddress(hex(address));
}

export const ATTESTERS = testKeys("attester", 4);
export const PAYERS = testKeys("payer", 3);
export const PARAMETERS: SettlementParameters = {
  latticeId: LATTICE_ID,
  signers: ATTESTERS.map((key) => key.address),
  threshold: 3,
  payers: { signers: PAYERS.map((key) => key.address), threshold: 2 },
  withdrawalDelay: WITHDRAWAL_DELAY,
  staleDelay: STALE_DELAY,
};

export const signatures = (digest: Uint8Array, keys: readonly TestKey[]): Hex[] =>
  keys.map((key) => hex(signDigest(key, digest)));

type Functions = Extract<(typeof SETTLEMENT_ABI)[number], { type: "function" }>;
type Writes = Extract<Functions, { stateMutability: "payable" | "nonpayable" }>["name"];
type Reads = Extract<Functions, { stateMutability: "view" }>["name"];

export class Bench {
  readonly chain: Chain;
  readonly clients: ReturnType<typeof clients>;
  readonly settlement: Hex;
  #leaves = new Map<string, Leaf>();
  #batch = 0n;

  private constructor(chain: Chain, settlement: Hex, started: ReturnType<typeof clients>) {
    this.chain = chain;
    this.clients = started;
    this.settlement = settlement;
  }

  static async start(parameters: SettlementParameters = PARAMETERS): Promise<Bench> {
    const chain = await startAnvil();
    const started = clients(chain.url);
    const deployer = testKey("deployer");
    await started.tester.setBalance({ address: hex(deployer.address), value: 100n * ETHER });
    const hash = await started.sender.sendTransaction({
      account: account(deployer),
      data: settlementInitCode(parameters),
    });
    const receipt = await started.reader.waitForTransactionReceipt({ hash });
    assert.ok(receipt.contractAddress);
    return new Bench(chain, receipt.contractAddress.toLowerCase() as Hex, started);
  }

  get domain() {
    return settlementDomain(CHAIN_ID, fromHex(this.settlement));
  }

  async fund(key: TestKey, value: bigint): Promise<void> {
    await this.clients.tester.setBalance({ address: hex(key.address), value });
  }

  async balance(address: Uint8Array | Hex): Promise<bigint> {
    return this.clients.reader.getBalance({ address: typeof address === "string" ? address : hex(address) });
  }

  async read(functionName: Reads, args: readonly unknown[] = []): Promise<unknown> {
    const call = { address: this.settlement, abi: SETTLEMENT_ABI as readonly object[] as [], functionName, args };
    return this.clients.reader.readContract(call as never);
  }

  async amount(functionName: Reads, args: readonly unknown[] = []): Promise<bigint> {
    const value = await this.read(functionName, args);
    assert.equal(typeof value, "bigint");
    return value as bigint;
  }

  data(functionName: Writes, args: readonly unknown[]): Hex {
    return encodeFunctionData({ abi: SETTLEMENT_ABI, functionName, args } as never);
  }

  /** Sends, waits, and expects success. */
  async send(from: TestKey, functionName: Writes, args: readonly unknown[], value = 0n): Promise<TransactionReceipt> {
    return this.raw(from, this.settlement, this.data(functionName, args), value);
  }

  async raw(from: TestKey, to: Hex, data: Hex, value = 0n): Promise<TransactionReceipt> {
    return this.executed(await this.clients.sender.sendTransaction({ account: account(from), to, data, value }));
  }

  /** Waits for a transaction that was sent, and expects success. */
  async executed(hash: Hex): Promise<TransactionReceipt> {
    const receipt = await this.clients.reader.waitForTransactionReceipt({ hash });
    assert.equal(receipt.status, "success");
    return receipt;
  }

  /** The name of the error the contract refuses with, in the block after the latest; "ok" if it would not refuse. */
  async refusal(from: TestKey, functionName: Writes, args: readonly unknown[], value = 0n): Promise<string> {
    try {
      // eth_estimateGas runs on the pending block: the number and parent the transaction would meet.
      await this.clients.reader.estimateGas({
        account: hex(from.address),
        to: this.settlement,
        data: this.data(functionName, args),
        value,
        blockTag: "pending",
      });
      return "ok";
    } catch (error) {
      return errorName(error);
    }
  }

  /** Makes `address` the fee recipient from the block after the next on. */
  async feesTo(address: Hex): Promise<void> {
    await this.clients.tester.setCoinbase({ address });
    await this.mine(1);
  }

  async mine(blocks: number | bigint): Promise<void> {
    await this.clients.tester.mine({ blocks: Number(blocks) });
  }

  /** A next batch over the latest block: `credits` are added to the lifetime totals. Nothing is kept until `posted`. */
  async attestation(
    credits: readonly (readonly [Uint8Array, bigint])[],
    over: Partial<Attestation> = {},
  ): Promise<Batch> {
    const leaves = new Map(this.#leaves);
    for (const [recipient, amount] of credits) {
      const key = hex(recipient);
      leaves.set(key, { recipient, lifetimeTotal: (leaves.get(key)?.lifetimeTotal ?? 0n) + amount });
    }
    const tree = merkleTree([...leaves.values()]);
    const block = await this.clients.reader.getBlock();
    const attestation: Attestation = {
      latticeId: LATTICE_ID,
      batch: this.#batch + 1n,
      lastBlockNumber: block.number,
      lastBlockHash: fromHex(block.hash),
      root: merkleRoot(tree),
      total: [...leaves.values()].reduce((sum, leaf) => sum + leaf.lifetimeTotal, 0n),
      charges: [],
      poster: new Uint8Array(20),
      posterReimbursement: 0n,
      ...over,
    };
    const proofs = new Map([...leaves].map(([key, leaf]) => [key, { leaf, proof: merkleProof(tree, leaf) ?? [] }]));
    return { attestation, proofs, leaves };
  }

  digest(attestation: Attestation, domain = this.domain): Uint8Array {
    return attestationDigest(domain, attestation);
  }

  /** The arguments of `post` and `stage`. */
  signed(
    attestation: Attestation,
    keys: readonly TestKey[] = ATTESTERS.slice(0, 3),
    domain = this.domain,
  ): [object, Hex[]] {
    return [attestationArgument(attestation), signatures(this.digest(attestation, domain), keys)];
  }

  encode(abi: Abi, functionName: string, args: readonly unknown[]): Hex {
    return encodeFunctionData({ abi, functionName, args });
  }

  /** The chain went back to the empty contract. */
  forget(): void {
    this.#leaves = new Map();
    this.#batch = 0n;
  }

  async post(from: TestKey, batch: Batch, keys?: readonly TestKey[]): Promise<TransactionReceipt> {
    const receipt = await this.send(from, "post", this.signed(batch.attestation, keys));
    this.#batch = batch.attestation.batch;
    this.#leaves = batch.leaves;
    return receipt;
  }

  claimArguments(batch: Batch, recipient: Uint8Array): [Hex, bigint, Hex[]] {
    const entry = batch.proofs.get(hex(recipient));
    assert.ok(entry !== undefined);
    return [hex(recipient), entry.leaf.lifetimeTotal, entry.proof.map(hex)];
  }

  async deploy(from: TestKey, data: Hex): Promise<TransactionReceipt> {
    const hash = await this.clients.sender.sendTransaction({ account: account(from), data });
    return this.clients.reader.waitForTransactionReceipt({ hash });
  }

  /** Deploys test/Recipients.sol. */
  async deployRecipients(from: TestKey): Promise<Hex> {
    const source = readFileSync(new URL("Recipients.sol", import.meta.url), "utf8");
    const { contractAddress } = await this.deploy(from, compile("Recipients", { "Recipients.sol": source }).bytecode);
    assert.ok(contractAddress);
    return contractAddress.toLowerCase() as Hex;
  }

  /** What must hold after whatever happened: the books balance and are covered. */
  async assertBooks(): Promise<void> {
    const [accounted, refunds, escrow, free, held] = await Promise.all([
      this.amount("accounted"),
      this.amount("refundPool"),
      this.amount("escrowTotal"),
      this.amount("free"),
      this.balance(this.settlement),
    ]);
    assert.equal(accounted, refunds + escrow);
    assert.equal(free, held - accounted);
    assert.ok((await this.amount("totalAttested")) - (await this.amount("totalClaimed")) <= refunds);
  }
}

export interface Batch {
  readonly attestation: Attestation;
  readonly proofs: ReadonlyMap<string, { readonly leaf: Leaf; readonly proof: readonly Uint8Array[] }>;
  readonly leaves: Map<string, Leaf>;
}

/** The Solidity error inside whatever the client threw. */
function errorName(error: unknown): string {
  if (!(error instanceof BaseError)) throw error;
  const reverted = error.walk((cause) => cause instanceof ContractFunctionRevertedError);
  if (reverted instanceof ContractFunctionRevertedError) return reverted.data?.errorName ?? "unnamed";
  const carrying = error.walk((cause) => /^0x[0-9a-f]{8,}$/.test(dataOf(cause)));
  if (carrying !== null) return decodeErrorResult({ abi: SETTLEMENT_ABI, data: dataOf(carrying) as Hex }).errorName;
  throw error;
}

function dataOf(cause: unknown): string {
  return typeof cause === "object" && cause !== null && "data" in cause && typeof cause.data === "string"
    ? cause.data
    : "";
}

/**
 * A builder for tests: real blocks on `@ethereumjs/vm` 10.1.3, over the whole state since genesis. It is a stranger to
 * the execution client that judges them (which runs on its own 10.0.0).
 */
import type { Block } from "@ethereumjs/block";
import { createBlock } from "@ethereumjs/block";
import { createCommonFromGethGenesis, parseGethGenesisState } from "@ethereumjs/common";
import { MerkleStateManager } from "@ethereumjs/statemanager";
import { createFeeMarket1559Tx, createTxFromRLP } from "@ethereumjs/tx";
import { bytesToHex, createAddressFromString } from "@ethereumjs/util";
import { buildBlock, createVM, type VM } from "@ethereumjs/vm";
import type { Hex, PayloadEnvelope } from "../src/chain/execution-payload.ts";
import { parseEnvelope } from "../src/chain/execution-payload.ts";
import type { GethGenesis } from "../src/chain/genesis.ts";

/** The header fields that a sequencer dictates. */
export interface BuildFields {
  readonly parentHash: Hex;
  readonly timestamp: bigint;
  readonly prevRandao: Hex;
  readonly feeRecipient: Hex;
  readonly gasLimit: bigint;
  readonly parentBeaconBlockRoot: Hex;
  readonly extraData: Hex;
}

export class VmBuilder {
  readonly genesisHash: Hex;
  readonly #vm: VM;
  readonly #chainId: bigint;
  readonly #blocks = new Map<string, Block>();

  private constructor(vm: VM, genesis: Block) {
    this.#vm = vm;
    this.#chainId = vm.common.chainId();
    this.genesisHash = bytesToHex(genesis.hash());
    this.#blocks.set(this.genesisHash, genesis);
  }

  static async create(genesis: GethGenesis): Promise<VmBuilder> {
    const file = JSON.parse(JSON.stringify(genesis)) as Parameters<typeof createCommonFromGethGenesis>[0];
    const common = createCommonFromGethGenesis(file, { chain: "local" });
    const stateManager = new MerkleStateManager({ common });
    const vm = await createVM({ common, stateManager });
    await stateManager.generateCanonicalGenesis(parseGethGenesisState(file));
    const header = {
      number: 0n,
      stateRoot: await stateManager.getStateRoot(),
      timestamp: BigInt(genesis.timestamp),
      gasLimit: BigInt(genesis.gasLimit),
      baseFeePerGas: BigInt(genesis.baseFeePerGas),
      excessBlobGas: 0n,
      blobGasUsed: 0n,
    };
    return new VmBuilder(vm, createBlock({ header, withdrawals: [] }, { common, freeze: false, setHardfork: true }));
  }

  /** A transfer of 1 wei to `to`, signed by `secret`. */
  transfer(secret: Uint8Array, nonce: bigint, to: Hex): Uint8Array {
    return createFeeMarket1559Tx(
      {
        chainId: this.#chainId,
        nonce,
        to: createAddressFromString(to),
        value: 1n,
        gasLimit: 21_000n,
        maxFeePerGas: 10n ** 10n,
        maxPriorityFeePerGas: 10n ** 9n,
      },
      { common: this.#vm.common },
    )
      .sign(secret)
      .serialize();
  }

  knows(hash: Hex): boolean {
    return this.#blocks.has(hash);
  }

  /** The sender's next nonce after a known block. */
  async nonce(address: Hex, blockHash: Hex): Promise<bigint> {
    const vm = await this.#vm.shallowCopy();
    await vm.stateManager.setStateRoot(this.#blocks.get(blockHash)?.header.stateRoot ?? new Uint8Array(32));
    return (await vm.stateManager.getAccount(createAddressFromString(address)))?.nonce ?? 0n;
  }

  /** A sealed block on a known parent; it becomes a known parent itself. */
  async build(fields: BuildFields, transactions: readonly Uint8Array[]): Promise<PayloadEnvelope> {
    const parentBlock = this.#blocks.get(fields.parentHash);
    if (parentBlock === undefined) throw new Error(`the builder does not know block ${fields.parentHash}`);
    const vm = await this.#vm.shallowCopy();
    await vm.stateManager.setStateRoot(parentBlock.header.stateRoot);
    const builder = await buildBlock(vm, {
      parentBlock,
      headerData: {
        number: parentBlock.header.number + 1n,
        timestamp: fields.timestamp,
        mixHash: fields.prevRandao,
        coinbase: fields.feeRecipient,
        gasLimit: fields.gasLimit,
        parentBeaconBlockRoot: fields.parentBeaconBlockRoot,
        extraData: fields.extraData,
        baseFeePerGas: parentBlock.header.calcNextBaseFee(),
      },
      withdrawals: [],
      blockOpts: { putBlockIntoBlockchain: false },
    });
    for (const raw of transactions) {
      await builder.addTransaction(createTxFromRLP(raw, { common: vm.common }));
    }
    const { block, requests } = await builder.build();
    this.#blocks.set(bytesToHex(block.hash()), block);
    const executionRequests = (requests ?? [])
      .map((request) => bytesToHex(request.bytes))
      .filter(({ length }) => length > 4);
    return parseEnvelope({ executionPayload: block.toExecutionPayload(), executionRequests });
  }
}

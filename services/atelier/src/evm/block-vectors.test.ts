/**
 * Published Ethereum block tests (ethereum/tests, BlockchainTests/ValidBlocks), rebuilt: the engine gets the parent, the
 * transactions and what the proposer dictates, and must come to the hash that geth wrote. Not part of the project; read
 * from the directory that LATTICE_VECTORS names.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type Block, createBlockFromRLP } from "@ethereumjs/block";
import { isBlob4844Tx } from "@ethereumjs/tx";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { devnet, devnetGenesis } from "../../test/devnet.ts";
import vectors from "../../test/vectors/blocks.json" with { type: "json" };
import type { BlockAttributes } from "../core/candidate.ts";
import { ChainError, ChainState } from "./chain-state.ts";
import { type Genesis, genesisFrom } from "./genesis.ts";

interface Fixture {
  readonly network: string;
  readonly pre: { readonly [address: string]: object };
  readonly genesisRLP: string;
  readonly genesisBlockHeader: { readonly hash: string; readonly timestamp: string; readonly gasLimit: string };
  readonly blocks: readonly { readonly rlp: string; readonly blockHeader: { readonly hash: string } }[];
}

const folder =
  process.env["LATTICE_VECTORS"] === undefined ? undefined : join(process.env["LATTICE_VECTORS"], "ethereum-blocks");
const absent =
  folder !== undefined && existsSync(folder) ? false : "LATTICE_VECTORS names no directory with ethereum-blocks";

function genesisOf(fixture: Fixture): Genesis {
  const { timestamp, gasLimit } = fixture.genesisBlockHeader;
  const forks = ["homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg", "istanbul"];
  const genesis = genesisFrom({
    config: {
      chainId: 1,
      ...Object.fromEntries([...forks, "berlin", "london", "mergeNetsplit"].map((fork) => [`${fork}Block`, 0])),
      terminalTotalDifficultyPassed: true,
      shanghaiTime: 0,
      cancunTime: 0,
      blobSchedule: { cancun: { target: 3, max: 6, baseFeeUpdateFraction: 3_338_477 } },
    },
    nonce: "0x0",
    timestamp,
    extraData: "0x",
    gasLimit,
    difficulty: "0x0",
    mixHash: `0x${"00".repeat(32)}`,
    coinbase: `0x${"00".repeat(20)}`,
    alloc: fixture.pre,
  });
  const { header } = createBlockFromRLP(fromHex(fixture.genesisRLP), { common: genesis.common });
  return { ...genesis, header };
}

/** What the proposer decides, and nothing that follows from execution. */
function dictatedBy({ header, withdrawals }: Block): BlockAttributes {
  return {
    parentHash: header.parentHash,
    timestamp: header.timestamp,
    prevRandao: header.mixHash,
    feeRecipient: header.coinbase.bytes,
    gasLimit: header.gasLimit,
    parentBeaconBlockRoot: header.parentBeaconBlockRoot ?? new Uint8Array(32),
    extraData: header.extraData,
    withdrawals: (withdrawals ?? []).map((withdrawal) => ({
      index: withdrawal.index,
      validatorIndex: withdrawal.validatorIndex,
      address: withdrawal.address.bytes,
      amountGwei: withdrawal.amount,
    })),
  };
}

async function rebuild(fixture: Fixture): Promise<number> {
  const genesis = genesisOf(fixture);
  const building = await ChainState.open(genesis);
  const following = await ChainState.open(genesis);
  assert.equal(toHex(building.genesisHash), fixture.genesisBlockHeader.hash.slice(2));
  for (const { rlp, blockHeader } of fixture.blocks) {
    const bytes = fromHex(rlp);
    const block = createBlockFromRLP(bytes, { common: genesis.common });
    const execution = await building.begin(dictatedBy(block));
    // Blob transactions are executed where they come with a block, never built with.
    if (!block.transactions.some(isBlob4844Tx)) {
      for (const tx of block.transactions) {
        const decoding = building.decoder.decode(tx.serialize());
        assert.ok("transaction" in decoding, `${toHex(tx.hash())} does not decode`);
        await execution.run(decoding.transaction);
      }
      const sealed = await execution.seal();
      assert.equal(`0x${toHex(sealed.hash)}`, blockHeader.hash);
    }
    await building.importBlock(bytes);
    const { hash } = await following.importBlock(bytes);
    assert.equal(`0x${toHex(hash)}`, blockHeader.hash);
    await building.setHead(hash);
    await following.setHead(hash);
  }
  return fixture.blocks.length;
}

for (const group of folder === undefined || absent !== false ? [] : readdirSync(folder)) {
  const path = join(folder ?? "", group);
  if (!existsSync(path) || group === "LICENSE") continue;
  test(`ethereum/tests ${group}: every block is rebuilt to geth's hash`, async (context) => {
    let blocks = 0;
    for (const file of readdirSync(path).sort()) {
      const fixtures = JSON.parse(readFileSync(join(path, file), "utf8")) as { readonly [name: string]: Fixture };
      for (const [name, fixture] of Object.entries(fixtures)) {
        try {
          blocks += await rebuild(fixture);
        } catch (error) {
          if (error instanceof ChainError || error instanceof assert.AssertionError)
            error.message = `${name}: ${error.message}`;
          throw error;
        }
      }
    }
    assert.ok(blocks > 0);
    context.diagnostic(`${blocks} blocks`);
  });
}

test("ethereum/tests vectors are read from LATTICE_VECTORS", { skip: absent }, () => {
  assert.ok(folder !== undefined);
});

/** Blocks with transactions of types 2 and 4, reverts, a deployment, requests and a withdrawal; source in the file. */
test("our own blocks, judged VALID by another client, are rebuilt to their hashes", async () => {
  const chain = await devnet();
  assert.equal(toHex(chain.genesisHash), vectors.genesisHash);
  for (const { hash, rlp, executionRequests } of vectors.blocks) {
    const block = createBlockFromRLP(fromHex(rlp), { common: devnetGenesis().common });
    const execution = await chain.begin(dictatedBy(block));
    for (const tx of block.transactions) {
      const decoding = execution.decoder.decode(tx.serialize());
      assert.ok("transaction" in decoding);
      await execution.run(decoding.transaction);
    }
    const sealed = await execution.seal();
    assert.equal(toHex(sealed.hash), hash);
    assert.equal(toHex(sealed.rlp), rlp);
    assert.deepEqual(sealed.executionRequests.map(toHex), executionRequests);
    await chain.setHead((await chain.importBlock(fromHex(rlp))).hash);
  }
});

/**
 * Differential test against an independent EVM (revm, in foundry's anvil): the same transactions on the same parent
 * must give the same block hash, and the blocks read back over JSON-RPC must be taken over by the chain state.
 *
 * What anvil 1.7.1 does otherwise is taken out: it makes no EIP-4788 call (no contract, zero root) and no EIP-7002 and
 * 7251 calls (no storage in them), its genesis header commits to no state, and it chooses prevRandao by itself.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createBlockFromRPC, type JSONRPCBlock } from "@ethereumjs/block";
import type { AccessList } from "@ethereumjs/tx";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { type Anvil, startAnvil, WITHOUT_ANVIL } from "../../test/anvil.ts";
import {
  attributesOn,
  CHAIN_ID,
  devnetFile,
  FEE_RECIPIENT,
  GATE,
  GWEI,
  payBid,
  REVERTER,
  signed,
  signedAs,
  wallet,
} from "../../test/devnet.ts";
import { inputsOn, message } from "../../test/slot.ts";
import { buildCandidate } from "../evm/build.ts";
import { ChainState } from "../evm/chain-state.ts";
import { genesisFrom } from "../evm/genesis.ts";
import { verifyCandidate } from "../evm/verify.ts";
import { JsonRpcChain } from "./chain-source.ts";

const BEACON_ROOTS = "0x000f3df6d732807ef1319fb7b8bb8522d0beac02";
const BLOCKS = 3;

/** Init code that deploys `SSTORE(0, NUMBER)`. */
const DEPLOYMENT = fromHex("63435f55005f526004601cf3");

function transactions(block: number): Uint8Array[] {
  const nonce = BigInt(block);
  const raws: Uint8Array[] = [];
  for (let index = 0; index < 20; index++) {
    raws.push(signed({ from: wallet(index), nonce, valueWei: BigInt(index + 1), tip: BigInt(index) * 10_000_000n }));
  }
  const bid = new Uint8Array(32).fill(block + 1);
  raws.push(signed({ from: wallet(20), nonce, to: REVERTER, data: new Uint8Array(3), valueWei: 5n }));
  raws.push(signed({ from: wallet(21), nonce, to: GATE, data: payBid(1n, bid), valueWei: 7n, tip: 1n }));
  raws.push(signed({ from: wallet(22), nonce, to: GATE, data: new Uint8Array(), gasLimit: 100_000n }));
  raws.push(signed({ from: wallet(23), nonce, to: GATE, data: payBid(1n, bid), valueWei: 9n, tip: 2n }));
  const fees = { gasLimit: 200_000n, maxFeePerGas: 100n * GWEI, maxPriorityFeePerGas: 3n };
  raws.push(signedAs(wallet(24), { type: 2, chainId: CHAIN_ID, nonce, data: DEPLOYMENT, ...fees }));
  const legacy = { gasLimit: 60_000n, gasPrice: 50n * GWEI, to: `0x${toHex(wallet(950 + block).address)}` } as const;
  raws.push(signedAs(wallet(25), { type: 0, nonce, value: 11n, ...legacy }));
  const accessList: AccessList = [{ address: `0x${toHex(GATE)}`, storageKeys: [`0x${"00".repeat(32)}`] }];
  raws.push(signedAs(wallet(26), { type: 1, chainId: CHAIN_ID, nonce, accessList, ...legacy }));
  return raws;
}

async function anchored(anvil: Anvil): Promise<ChainState> {
  const genesis = genesisFrom(devnetFile(new Set([BEACON_ROOTS]), false));
  const first = (await anvil.call("eth_getBlockByNumber", "0x0", true)) as JSONRPCBlock;
  const { header } = createBlockFromRPC(first, [], { common: genesis.common });
  return ChainState.open({ ...genesis, header });
}

test("blocks of three rounds have the hash that an independent EVM gives them", { skip: WITHOUT_ANVIL }, async () => {
  const anvil = await startAnvil(devnetFile(new Set([BEACON_ROOTS]), false));
  try {
    const chain = await anchored(anvil);
    const source = new JsonRpcChain({ url: anvil.url, common: genesisFrom(devnetFile()).common, deadlineMs: 10_000 });
    await anvil.call("anvil_setCoinbase", `0x${toHex(FEE_RECIPIENT)}`);
    for (let block = 0; block < BLOCKS; block++) {
      const pool = transactions(block).map((raw, index) => message(index, raw));
      const dictated = { parentBeaconBlockRoot: new Uint8Array(32), extraData: new Uint8Array() };
      const draft = await buildCandidate(chain, inputsOn(chain, { pool, attributes: attributesOn(chain, dictated) }));
      assert.equal(draft.body.entries.length, pool.length);

      if (block === 0) {
        await anvil.call("anvil_setNextBlockBaseFeePerGas", `0x${draft.body.header.baseFeePerGas.toString(16)}`);
      }
      await anvil.call("evm_setNextBlockTimestamp", `0x${draft.body.attributes.timestamp.toString(16)}`);
      for (const { raw } of draft.body.entries) await anvil.call("eth_sendRawTransaction", `0x${toHex(raw)}`);
      await anvil.call("evm_mine");
      const mined = (await anvil.call("eth_getBlockByNumber", "latest", false)) as JSONRPCBlock;

      // The order is ours; only now is the prevRandao known that anvil chose.
      const attributes = attributesOn(chain, { ...dictated, prevRandao: fromHex(mined.mixHash ?? "") });
      const inputs = inputsOn(chain, { pool, attributes });
      const candidate = await buildCandidate(chain, inputs);
      assert.equal(`0x${toHex(candidate.body.blockHash)}`, mined.hash);
      assert.ok((await verifyCandidate(chain, inputs, candidate.bodyBytes)).accepted);

      const { removed, added } = await chain.follow(source);
      assert.deepEqual([removed.length, added.length], [0, 1]);
      assert.equal(`0x${toHex(chain.head().hash)}`, mined.hash);
    }

    const late = await anchored(anvil);
    const { added } = await late.follow(source);
    assert.deepEqual(
      added.map((info) => info.number),
      [1n, 2n, 3n],
    );
    assert.deepEqual(late.head(), chain.head());

    await anvil.call("anvil_rollback", 2);
    // anvil goes on from the base fee it had before rolling back; the rule follows from block 1.
    const second = added[1];
    assert.ok(second !== undefined);
    await anvil.call("anvil_setNextBlockBaseFeePerGas", `0x${second.baseFeePerGas.toString(16)}`);
    for (const delay of [5n, 7n]) {
      await anvil.call("evm_setNextBlockTimestamp", `0x${(chain.head().timestamp + delay).toString(16)}`);
      await anvil.call("evm_mine");
    }
    const change = await chain.follow(source);
    assert.deepEqual(
      change.removed.map((info) => info.number),
      [2n, 3n],
    );
    assert.deepEqual(
      change.added.map((info) => info.number),
      [2n, 3n],
    );
  } finally {
    await anvil.stop();
  }
});

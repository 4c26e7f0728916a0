import assert from "node:assert/strict";
import { test } from "node:test";
import { MerklePatriciaTrie } from "@ethereumjs/mpt";
import { MerkleStateManager } from "@ethereumjs/statemanager";
import { Account, Address, ValueEncoding } from "@ethereumjs/util";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import { devnetGenesis } from "../../test/devnet.ts";
import { type NodeOverlay, NodeStore } from "./node-store.ts";

const { common } = devnetGenesis();
const ACCOUNTS = 3_000;

function stateOn(db: NodeOverlay, root?: Uint8Array): MerkleStateManager {
  const place = root === undefined ? {} : { root };
  const trie = new MerklePatriciaTrie({
    useKeyHashing: true,
    common,
    db,
    valueEncoding: ValueEncoding.Bytes,
    ...place,
  });
  return new MerkleStateManager({ common, trie });
}

const address = (index: number): Address => new Address(keccak256(new TextEncoder().encode(`${index}`)).slice(12));
const slot = (index: number): Uint8Array => keccak256(new Uint8Array([index]));

/** Balances for all accounts; code and storage for every hundredth. */
async function write(store: NodeStore, root: Uint8Array | undefined, balance: bigint): Promise<Uint8Array> {
  const overlay = store.overlay();
  const state = stateOn(overlay, root);
  for (let index = 0; index < ACCOUNTS; index++) {
    await state.putAccount(address(index), new Account(1n, balance + BigInt(index)));
    if (index % 100 !== 0) continue;
    await state.putCode(address(index), new Uint8Array([index & 0xff, 1]));
    for (let key = 0; key < 4; key++) await state.putStorage(address(index), slot(key), new Uint8Array([key + 1]));
  }
  const result = await state.getStateRoot();
  store.absorb(overlay);
  return result;
}

test("sweeping keeps every node, slot and code of the roots it is given, and drops the others", async () => {
  const store = new NodeStore();
  const first = await write(store, undefined, 10n);
  const second = await write(store, first, 20n);
  const third = await write(store, second, 30n);
  const before = store.size;
  assert.ok(before > 20_000, `${before} nodes: enough for the sweep to begin`);
  store.sweep([second, third]);
  assert.ok(store.size < before);

  for (const [root, balance] of [
    [second, 20n],
    [third, 30n],
  ] as const) {
    const state = stateOn(store.overlay(), root);
    for (let index = 0; index < ACCOUNTS; index++) {
      assert.equal((await state.getAccount(address(index)))?.balance, balance + BigInt(index));
      if (index % 100 !== 0) continue;
      assert.deepEqual(await state.getCode(address(index)), new Uint8Array([index & 0xff, 1]));
      for (let key = 0; key < 4; key++) {
        assert.deepEqual(await state.getStorage(address(index), slot(key)), new Uint8Array([key + 1]));
      }
    }
  }
  assert.equal(store.get(toHex(first)), undefined);
  const kept = store.size;
  store.sweep([third]);
  assert.equal(store.size, kept, "not again before the store has doubled");
});

test("what is written for a block is not in the store before it is absorbed", async () => {
  const store = new NodeStore();
  const overlay = store.overlay();
  await overlay.put("aa", new Uint8Array([1]));
  assert.deepEqual(await overlay.get("aa"), new Uint8Array([1]));
  assert.equal(store.get("aa"), undefined);
  await assert.rejects(overlay.put("bb", "text"), TypeError);
  store.absorb(overlay);
  assert.deepEqual(store.get("aa"), new Uint8Array([1]));
});

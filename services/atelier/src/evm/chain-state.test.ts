import assert from "node:assert/strict";
import { test } from "node:test";
import { createBlock, createBlockFromRLP, type HeaderData } from "@ethereumjs/block";
import { MerklePatriciaTrie } from "@ethereumjs/mpt";
import { Caches, MerkleStateManager } from "@ethereumjs/statemanager";
import { createVM, runBlock } from "@ethereumjs/vm";
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { enginePayload } from "@lattice/organism/outcomes/execution-payload.ts";
import { attributesOn, devnet, devnetFile, devnetGenesis, GWEI, signed, wallet } from "../../test/devnet.ts";
import { inputsOn, message } from "../../test/slot.ts";
import { buildCandidate } from "./build.ts";
import { ChainError, type ChainProblem, type ChainSource, ChainState } from "./chain-state.ts";
import { GenesisError, genesisFrom } from "./genesis.ts";

const { common } = devnetGenesis();

function refusedAs(reason: ChainProblem) {
  return (error: unknown): boolean => error instanceof ChainError && error.reason === reason;
}

interface Made {
  readonly hash: Uint8Array;
  readonly rlp: Uint8Array;
}

/** A block of `transfers` transfers on the chain's head; `salt` tells siblings apart. */
async function made(chain: ChainState, transfers = 2, salt = 0): Promise<Made> {
  const { number } = chain.head();
  const execution = await chain.begin(attributesOn(chain, { extraData: new Uint8Array([salt]) }));
  for (let index = 0; index < transfers; index++) {
    const decoding = execution.decoder.decode(signed({ from: wallet(index), nonce: number }));
    assert.ok("transaction" in decoding);
    await execution.run(decoding.transaction);
  }
  return execution.seal();
}

async function extend(chain: ChainState, transfers = 2, salt = 0): Promise<Made> {
  const block = await made(chain, transfers, salt);
  await chain.importBlock(block.rlp);
  await chain.setHead(block.hash);
  return block;
}

/** The same block with other header fields, its hash made anew. */
function tampered(rlp: Uint8Array, header: HeaderData, keep = (count: number) => count): Uint8Array {
  const block = createBlockFromRLP(rlp, { common });
  const transactions = block.transactions.slice(0, keep(block.transactions.length));
  const changed = { ...block.header, ...header };
  return createBlock({ header: changed, transactions, withdrawals: block.withdrawals ?? [] }, { common }).serialize();
}

test("a chain begins with its genesis, and refuses another one", async () => {
  const chain = await devnet();
  assert.equal(chain.head().number, 0n);
  assert.deepEqual(chain.head().hash, chain.genesisHash);
  await ChainState.open(devnetGenesis(), { genesisHash: chain.genesisHash });
  await assert.rejects(
    ChainState.open(devnetGenesis(), { genesisHash: new Uint8Array(32) }),
    refusedAs("GENESIS_MISMATCH"),
  );
  const reordered = devnetFile();
  const alloc = Object.entries(reordered["alloc"] as object).reverse();
  const same = await ChainState.open(genesisFrom({ ...reordered, alloc: Object.fromEntries(alloc) }));
  assert.deepEqual(same.genesisHash, chain.genesisHash);
});

test("what is no genesis is refused", () => {
  const file = devnetFile();
  for (const broken of [
    undefined,
    null,
    [],
    {},
    { ...file, alloc: 3 },
    { ...file, config: {} },
    { ...file, config: { chainId: "1" } },
  ]) {
    assert.throws(() => genesisFrom(broken), GenesisError);
  }
});

test("blocks that one member made are executed and taken over by another", async () => {
  const maker = await devnet();
  const follower = await devnet();
  for (let block = 0; block < 3; block++) {
    const { rlp, hash } = await extend(maker, 3);
    const info = await follower.importBlock(rlp);
    assert.deepEqual(info.hash, hash);
    assert.equal(follower.head().number, BigInt(block), "importing alone does not move the head");
    const change = await follower.setHead(hash);
    assert.deepEqual([change.removed.length, change.added.map((added) => added.number)], [0, [BigInt(block) + 1n]]);
  }
  assert.deepEqual(follower.head(), maker.head());
});

test("ethereumjs' own runBlock accepts our block on our parent's state", async () => {
  const chain = await devnet();
  const first = await extend(chain, 3);
  const trie = new MerklePatriciaTrie({ useKeyHashing: true, common });
  const stateManager = new MerkleStateManager({ common, trie, caches: new Caches() });
  await stateManager.generateCanonicalGenesis(devnetGenesis().alloc);
  const vm = await createVM({ common, stateManager });
  const block = createBlockFromRLP(first.rlp, { common });
  const { stateRoot } = await runBlock(vm, { block, skipHeaderValidation: true });
  assert.deepEqual(stateRoot, chain.head().stateRoot);
});

const maker = await devnet();
const parent = await made(maker, 3);
const TAMPERED: readonly (readonly [ChainProblem, HeaderData])[] = [
  ["STATE_ROOT", { stateRoot: new Uint8Array(32) }],
  ["RECEIPTS_ROOT", { receiptTrie: new Uint8Array(32) }],
  ["TRANSACTIONS_ROOT", { transactionsTrie: new Uint8Array(32) }],
  ["WITHDRAWALS_ROOT", { withdrawalsRoot: new Uint8Array(32) }],
  ["REQUESTS_HASH", { requestsHash: new Uint8Array(32) }],
  ["LOGS_BLOOM", { logsBloom: new Uint8Array(256).fill(1) }],
  ["GAS_USED", { gasUsed: 63_001n }],
  ["GAS_LIMIT", { gasLimit: 31_000_000n }],
  ["BASE_FEE", { baseFeePerGas: GWEI }],
  ["EXCESS_BLOB_GAS", { excessBlobGas: 131_072n }],
  ["TIMESTAMP", { timestamp: maker.head().timestamp }],
  ["NUMBER", { number: 2n }],
  ["UNKNOWN_PARENT", { parentHash: new Uint8Array(32) }],
];
for (const [reason, header] of TAMPERED) {
  test(`a block with another ${Object.keys(header)[0]} is refused: ${reason}`, async () => {
    const chain = await devnet();
    await assert.rejects(chain.importBlock(tampered(parent.rlp, header)), refusedAs(reason));
    assert.equal((await chain.importBlock(parent.rlp)).number, 1n, "and the true one is still accepted");
  });
}

test("a block without one of its transactions, or with one that cannot run, is refused", async () => {
  const chain = await devnet();
  const shorter = tampered(parent.rlp, {}, (count) => count - 1);
  await assert.rejects(chain.importBlock(shorter), refusedAs("TRANSACTIONS_ROOT"));
  const { header, transactions } = createBlockFromRLP(parent.rlp, { common });
  const twice = createBlock({ header, transactions: [...transactions, ...transactions.slice(0, 1)] }, { common });
  await assert.rejects(chain.importBlock(twice.serialize()), refusedAs("INVALID_TRANSACTION"));
  await assert.rejects(chain.importBlock(parent.rlp.slice(1)), refusedAs("MALFORMED_BLOCK"));
  await assert.rejects(chain.importBlock(new Uint8Array()), refusedAs("MALFORMED_BLOCK"));
});

test("an engine payload must hash to what it says", async () => {
  const chain = await devnet();
  const pool = [message(0, signed({ from: wallet(0), nonce: 0n }))];
  const { body } = await buildCandidate(await devnet(), inputsOn(chain, { pool }));
  const payload = enginePayload(body);
  const wrongHash = { ...payload.executionPayload, blockHash: `0x${"11".repeat(32)}` } as const;
  await assert.rejects(chain.importPayload({ ...payload, executionPayload: wrongHash }), refusedAs("BLOCK_HASH"));
  const otherRoot = { ...payload, parentBeaconBlockRoot: `0x${"11".repeat(32)}` } as const;
  await assert.rejects(chain.importPayload(otherRoot), refusedAs("BLOCK_HASH"));
  await assert.rejects(chain.importPayload({ ...payload, executionRequests: ["0x0011"] }), refusedAs("BLOCK_HASH"));
  const garbled = { ...payload.executionPayload, transactions: ["0x02"] } as const;
  await assert.rejects(chain.importPayload({ ...payload, executionPayload: garbled }), refusedAs("MALFORMED_BLOCK"));
  assert.deepEqual((await chain.importPayload(payload)).hash, body.blockHash);
});

test("the head moves sideways and back, and blocks are built on either branch", async () => {
  const chain = await devnet();
  const a1 = await extend(chain, 1, 1);
  const a2 = await extend(chain, 1, 1);
  const stateOfA2 = chain.head().stateRoot;
  await chain.setHead(chain.genesisHash);
  const b1 = await extend(chain, 2, 2);
  const b2 = await extend(chain, 2, 2);

  const back = await chain.setHead(a2.hash);
  assert.deepEqual(
    back.removed.map((info) => toHex(info.hash)),
    [b1.hash, b2.hash].map(toHex),
  );
  assert.deepEqual(
    back.added.map((info) => toHex(info.hash)),
    [a1.hash, a2.hash].map(toHex),
  );
  assert.deepEqual(chain.head().stateRoot, stateOfA2);

  const a3 = await extend(chain, 1, 1);
  assert.equal(chain.info(a3.hash)?.number, 3n);
  await assert.rejects(chain.setHead(new Uint8Array(32)), refusedAs("UNKNOWN_BLOCK"));
});

test("several candidates are built on one parent at once, and only the adopted one stays", async () => {
  const chain = await devnet();
  const nodes = chain.nodes;
  const [first, second] = await Promise.all([made(chain, 3, 1), made(chain, 5, 2)]);
  assert.equal(chain.nodes, nodes, "a candidate writes nothing that stays");
  assert.ok(!equalBytes(first.hash, second.hash));
  const follower = await devnet();
  for (const { rlp, hash } of [first, second]) {
    await chain.importBlock(rlp);
    await follower.importBlock(rlp);
    assert.deepEqual(chain.info(hash), follower.info(hash));
  }
});

test("attributes that cannot follow the parent are refused", async () => {
  const chain = await devnet();
  const stale = attributesOn(chain, { timestamp: chain.head().timestamp });
  await assert.rejects(chain.begin(stale), refusedAs("BAD_ATTRIBUTES"));
  await assert.rejects(
    chain.begin(attributesOn(chain, { extraData: new Uint8Array(33) })),
    refusedAs("BAD_ATTRIBUTES"),
  );
  await assert.rejects(
    chain.begin(attributesOn(chain, { parentHash: new Uint8Array(32) })),
    refusedAs("UNKNOWN_PARENT"),
  );
});

test("blocks that fell behind cannot be built on any more", async () => {
  const chain = await ChainState.open(devnetGenesis(), { retain: 3 });
  const first = await extend(chain, 1);
  for (let block = 0; block < 3; block++) await extend(chain, 1);
  await chain.begin(attributesOn(chain, { parentHash: first.hash, timestamp: chain.head().timestamp + 2n }));
  await extend(chain, 1);
  await assert.rejects(chain.begin(attributesOn(chain, { parentHash: first.hash })), refusedAs("UNKNOWN_PARENT"));
});

/** A source over the blocks of another chain. */
function sourceOf(blocks: readonly Made[], numberFrom = 1n): ChainSource {
  const last = blocks.at(-1);
  assert.ok(last !== undefined);
  return {
    head: async () => ({ number: numberFrom + BigInt(blocks.length) - 1n, hash: last.hash }),
    blockByNumber: async (number) => blocks[Number(number - numberFrom)]?.rlp,
    blockByHash: async (hash) => blocks.find((block) => equalBytes(block.hash, hash))?.rlp,
  };
}

async function grown(lengths: number, salt: number, on?: readonly Made[]): Promise<Made[]> {
  const chain = await devnet();
  const blocks: Made[] = [];
  for (const block of on ?? []) {
    await chain.importBlock(block.rlp);
    await chain.setHead(block.hash);
    blocks.push(block);
  }
  for (let block = 0; block < lengths; block++) blocks.push(await extend(chain, 1, salt));
  return blocks;
}

test("following catches up, does nothing when there is nothing, and changes branch", async () => {
  const chain = await devnet();
  const common = await grown(2, 1);
  const ours = await grown(2, 2, common);
  const theirs = await grown(3, 3, common);
  const first = await chain.follow(sourceOf(ours));
  assert.deepEqual(
    first.added.map((info) => info.number),
    [1n, 2n, 3n, 4n],
  );
  assert.deepEqual(await chain.follow(sourceOf(ours)), { removed: [], added: [] });
  const switched = await chain.follow(sourceOf(theirs));
  assert.deepEqual(
    switched.removed.map((info) => toHex(info.hash)),
    ours.slice(2).map((block) => toHex(block.hash)),
  );
  assert.deepEqual(
    switched.added.map((info) => toHex(info.hash)),
    theirs.slice(2).map((block) => toHex(block.hash)),
  );
  const shorter = await chain.follow(sourceOf(common));
  assert.deepEqual([shorter.removed.length, shorter.added.length], [3, 0]);
});

test("a source whose chain has nothing in common, or whose head is not served, is refused", async () => {
  const chain = await ChainState.open(devnetGenesis(), { retain: 2 });
  await chain.follow(sourceOf(await grown(1, 1)));
  const far = await grown(5, 2);
  await assert.rejects(chain.follow(sourceOf(far)), refusedAs("TOO_FAR_BEHIND"));
  const missing = { ...sourceOf(far), blockByNumber: async () => undefined, blockByHash: async () => undefined };
  await assert.rejects(chain.follow(missing), refusedAs("UNKNOWN_BLOCK"));
  const lying = { ...sourceOf(far), blockByHash: async () => far[0]?.rlp };
  await assert.rejects(chain.follow(lying), refusedAs("BLOCK_HASH"));
  assert.equal(chain.head().number, 1n);
});

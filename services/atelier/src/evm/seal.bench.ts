/**
 * Sealing a block of 200 transfers, senders and recipients all different: building, verifying a peer's candidate and
 * taking the block over, against the block builder that ethereumjs ships, in the same run on the same parent.
 * Run: `node services/atelier/src/evm/seal.bench.ts`.
 */
import { performance } from "node:perf_hooks";
import { createBlockFromRLP } from "@ethereumjs/block";
import { MerklePatriciaTrie } from "@ethereumjs/mpt";
import { Caches, MerkleStateManager } from "@ethereumjs/statemanager";
import { createTxFromRLP } from "@ethereumjs/tx";
import { Address } from "@ethereumjs/util";
import { buildBlock, createVM } from "@ethereumjs/vm";
import { enginePayload } from "@lattice/organism/outcomes/execution-payload.ts";
import { attributesOn, devnet, devnetGenesis, signed, wallet } from "../../test/devnet.ts";
import { inputsOn, message } from "../../test/slot.ts";
import { buildCandidate } from "./build.ts";
import { genesisBlock } from "./genesis.ts";
import { TransactionDecoder } from "./transaction.ts";
import { verifyCandidate } from "./verify.ts";

export interface SealBench {
  readonly name: "seal";
  readonly transfers: number;
  readonly repeats: number;
  readonly peer: string;
  /** Decoding and recovering senders is done once per transaction and process, and counted by itself. */
  readonly rows: readonly { readonly what: string; readonly medianMs: number; readonly rawMs: readonly number[] }[];
  /** Building a candidate: transfers a second. */
  readonly transfersPerSecond: number;
  /** The shipped builder's time over ours; above 1 ours is faster. */
  readonly ratio: number;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

async function timed(work: () => unknown): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** @param options.transfers at most 250, the funded accounts of the test chain */
export async function bench(
  options: { readonly transfers?: number; readonly repeats?: number } = {},
): Promise<SealBench> {
  const { transfers = 200, repeats = 5 } = options;
  const raws = Array.from({ length: transfers }, (_, index) =>
    signed({ from: wallet(index), nonce: 0n, to: wallet(1_000 + index).address }),
  );
  const pool = raws.map((raw, index) => message(index, raw));
  const raw = { decode: [], build: [], verify: [], adopt: [], peer: [] } as Record<string, number[]>;
  const chain = await devnet();
  await chain.decoder.prepare(raws);

  // One unmeasured round first: all five are compared warm.
  for (let round = 0; round <= repeats; round++) {
    const attributes = attributesOn(chain, { extraData: new Uint8Array([round]) });
    const inputs = inputsOn(chain, { pool, attributes });
    const decoder = new TransactionDecoder(devnetGenesis().common);
    const times: Record<string, number> = { decode: await timed(() => decoder.prepare(raws)) };
    const building = { candidate: await buildCandidate(chain, inputs) };
    times["build"] = await timed(async () => {
      building.candidate = await buildCandidate(chain, inputs);
    });
    const { body, bodyBytes } = building.candidate;
    if (body.entries.length !== transfers) throw new Error("not every transfer is in the block");
    times["verify"] = await timed(async () => {
      if (!(await verifyCandidate(chain, inputs, bodyBytes)).accepted) throw new Error("our own candidate is refused");
    });
    times["adopt"] = await timed(() => chain.importPayload(enginePayload(body)));
    times["peer"] = await shippedBuilder(raws);
    if (round > 0) for (const [what, ms] of Object.entries(times)) raw[what]?.push(ms);
  }

  const rows = Object.entries(raw).map(([what, rawMs]) => ({ what, medianMs: median(rawMs), rawMs }));
  const of = (what: string): number => rows.find((row) => row.what === what)?.medianMs ?? Number.NaN;
  return {
    name: "seal",
    transfers,
    repeats,
    peer: "@ethereumjs/vm 10.1.3 buildBlock, Merkle state with caches, senders recovered",
    rows,
    transfersPerSecond: (transfers * 1_000) / of("build"),
    ratio: of("peer") / of("build"),
  };
}

/** Milliseconds that the shipped block builder takes for the same transfers on the same genesis. */
async function shippedBuilder(raws: readonly Uint8Array[]): Promise<number> {
  const genesis = devnetGenesis();
  const { common } = genesis;
  const trie = new MerklePatriciaTrie({ useKeyHashing: true, common });
  const stateManager = new MerkleStateManager({ common, trie, caches: new Caches() });
  await stateManager.generateCanonicalGenesis(genesis.alloc);
  const stateRoot = await stateManager.getStateRoot();
  const vm = await createVM({ common, stateManager });
  const parentBlock = createBlockFromRLP(genesisBlock(genesis, stateRoot).serialize(), { common });
  const txs = raws.map((raw) => createTxFromRLP(raw, { common }));
  for (const tx of txs) tx.getSenderPublicKey();
  return timed(async () => {
    const builder = await buildBlock(vm, {
      parentBlock,
      headerData: { timestamp: parentBlock.header.timestamp + 2n, coinbase: new Address(wallet(5_000).address) },
      withdrawals: [],
      blockOpts: { putBlockIntoBlockchain: false },
    });
    for (const tx of txs) await builder.addTransaction(tx);
    await builder.build();
  });
}

if (import.meta.main) console.log(JSON.stringify(await bench(), undefined, 2));

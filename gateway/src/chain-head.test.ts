import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ChainHead } from "./chain-head.ts";
import type { ChainBlock } from "./chain-reads.ts";

/** A node whose chain a test rewrites at will. */
class Node {
  chain: ChainBlock[] = [];
  readonly #all = new Map<string, ChainBlock>();
  #made = 0;
  asked = 0;

  constructor() {
    this.extend(1);
  }
  extend(blocks: number): void {
    for (let made = 0; made < blocks; made++) {
      this.#made += 1;
      const parent = this.chain.at(-1);
      const hash = this.#made.toString(16).padStart(64, "0");
      const block = {
        number: parent === undefined ? 0n : parent.number + 1n,
        hash,
        parentHash: parent?.hash ?? "00".repeat(32),
        transactions: [`t${hash}`],
      };
      this.#all.set(hash, block);
      this.chain.push(block);
    }
  }
  reorg(depth: number, blocks: number): void {
    this.chain = this.chain.slice(0, Math.max(1, this.chain.length - depth));
    this.extend(blocks);
  }
  block = async (which: string): Promise<ChainBlock | undefined> => {
    this.asked += 1;
    return which === "latest" ? this.chain.at(-1) : this.#all.get(which);
  };
}

function follow(node: Node) {
  const seen: ChainBlock[] = [];
  const head = new ChainHead({
    block: node.block,
    onBlock: (block) => seen.push(block),
    onDropped: (block) => {
      assert.equal(seen.at(-1)?.hash, block.hash, "dropped from the top");
      seen.pop();
    },
  });
  return { head, seen };
}

test("what is reported, minus what is dropped, is the node's chain, whatever reorgs there are", async () => {
  const step = fc.oneof(
    fc.record({ type: fc.constant("extend" as const), blocks: fc.integer({ min: 1, max: 5 }) }),
    fc.record({ type: fc.constant("reorg" as const), depth: fc.nat({ max: 6 }), blocks: fc.nat({ max: 7 }) }),
    fc.record({ type: fc.constant("poll" as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
      const node = new Node();
      const { head, seen } = follow(node);
      await head.poll();
      for (const each of steps) {
        if (each.type === "extend") node.extend(each.blocks);
        else if (each.type === "reorg") node.reorg(each.depth, each.blocks);
        else {
          await head.poll();
          assert.deepEqual(seen, node.chain);
        }
      }
    }),
  );
});

test("a head that stands costs one question; readings at once are one after another", async () => {
  const node = new Node();
  node.extend(10);
  const { head, seen } = follow(node);
  await Promise.all([head.poll(), head.poll(), head.poll()]);
  assert.equal(seen.length, 11);
  node.asked = 0;
  await head.poll();
  assert.equal(node.asked, 1);
});

test("after a long absence there is a hole, and nothing below it counts as dropped", async () => {
  const node = new Node();
  node.extend(3);
  const { head, seen } = follow(node);
  await head.poll();
  node.extend(500);
  await head.poll();
  assert.equal(seen.length, 4 + 64);
  assert.equal(head.head?.number, 503n);
});

test("a node that fails in between leaves everything as it was", async () => {
  const node = new Node();
  const { head, seen } = follow(node);
  await head.poll();
  node.extend(3);
  const block = node.block;
  let calls = 0;
  node.block = async () => undefined;
  const broken = new ChainHead({
    block: async (which) => {
      calls += 1;
      if (calls > 1) throw new Error("away");
      return block(which);
    },
    onBlock: () => assert.fail("nothing is reported of half a reading"),
    onDropped: () => assert.fail("nothing is dropped"),
  });
  await assert.rejects(broken.poll(), /away/);
  assert.equal(seen.length, 1);
  await assert.rejects(new ChainHead({ block: node.block, onBlock: () => {}, onDropped: () => {} }).poll(), {
    reason: "CHAIN_UNREACHABLE",
  });
});

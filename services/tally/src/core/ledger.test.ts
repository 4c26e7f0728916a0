import assert from "node:assert/strict";
import test from "node:test";
import { CodecError, decode, encode, fromHex, toHex, u256 } from "@lattice/organism/codec/codec.ts";
import fc from "fast-check";
import {
  claimProof,
  credit,
  emptyLedger,
  LEDGER,
  type Ledger,
  ledgerTree,
  lifetimeTotal,
  takeRemainder,
} from "./ledger.ts";
import { EMPTY_ROOT, type Leaf, merkleProof, merkleRoot, merkleTree, verifyMerkleProof } from "./merkle.ts";

const address = (byte: number): Uint8Array => new Uint8Array(20).fill(byte);

test("root of the example in @openzeppelin/merkle-tree's README", () => {
  const tree = merkleTree([
    { recipient: address(0x11), lifetimeTotal: 5_000_000_000_000_000_000n },
    { recipient: address(0x22), lifetimeTotal: 2_500_000_000_000_000_000n },
  ]);
  assert.equal(toHex(merkleRoot(tree)), "d4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77");
});

const anyLeaves: fc.Arbitrary<Leaf[]> = fc.uniqueArray(
  fc.record({
    recipient: fc.uint8Array({ minLength: 20, maxLength: 20 }),
    lifetimeTotal: fc.bigInt({ min: 1n, max: 1n << 100n }),
  }),
  { maxLength: 40, selector: (leaf) => toHex(leaf.recipient) },
);

test("every leaf has a proof, and none for one wei more or another recipient", () => {
  fc.assert(
    fc.property(anyLeaves, (leaves) => {
      const tree = merkleTree(leaves);
      const root = merkleRoot(tree);
      assert.deepEqual(merkleRoot(merkleTree([...leaves].reverse())), root);
      if (leaves.length === 0) assert.deepEqual(root, EMPTY_ROOT);
      for (const leaf of leaves) {
        const proof = merkleProof(tree, leaf);
        assert.ok(proof !== undefined);
        assert.ok(proof.length <= Math.ceil(Math.log2(leaves.length)) + 1);
        assert.equal(verifyMerkleProof(root, leaf, proof), true);
        assert.equal(verifyMerkleProof(root, { ...leaf, lifetimeTotal: leaf.lifetimeTotal + 1n }, proof), false);
        assert.equal(
          verifyMerkleProof(root, { ...leaf, recipient: leaf.recipient.with(0, ~(leaf.recipient[0] ?? 0)) }, proof),
          false,
        );
        assert.equal(verifyMerkleProof(root, leaf, [...proof, root]), false);
        assert.equal(verifyMerkleProof(root, leaf, [...proof, new Uint8Array(31)]), false);
        assert.equal(merkleProof(tree, { ...leaf, lifetimeTotal: leaf.lifetimeTotal + 1n }), undefined);
      }
    }),
  );
});

function attribution(credits: readonly [number, bigint][], remainderWei: bigint) {
  return {
    credits: credits.map(([byte, wei]) => ({ kind: "order-flow-provider" as const, recipient: address(byte), wei })),
    remainderWei,
  };
}

test("totals grow, sums are exact, proofs follow the ledger", () => {
  const ledger = emptyLedger();
  credit(ledger, attribution([[1, 10n], [2, 5n], [1, 7n]], 3n)); // biome-ignore format: one row
  credit(ledger, attribution([[2, 1n]], 2n));
  assert.equal(lifetimeTotal(ledger, address(1)), 17n);
  assert.equal(lifetimeTotal(ledger, address(2)), 6n);
  assert.equal(lifetimeTotal(ledger, address(3)), 0n);
  assert.deepEqual([ledger.total, ledger.remainder], [23n, 5n]);

  const tree = ledgerTree(ledger);
  const claim = claimProof(ledger, tree, address(1));
  assert.ok(claim !== undefined);
  assert.equal(claim.lifetimeTotal, 17n);
  assert.equal(verifyMerkleProof(merkleRoot(tree), { recipient: address(1), lifetimeTotal: 17n }, claim.proof), true);
  assert.equal(claimProof(ledger, tree, address(3)), undefined);
  credit(ledger, attribution([[1, 1n]], 0n));
  assert.equal(claimProof(ledger, tree, address(1)), undefined, "a tree of an older batch has no proof for now");

  assert.equal(takeRemainder(ledger, 4n), 4n);
  assert.equal(takeRemainder(ledger, 4n), 1n);
  assert.equal(ledger.remainder, 0n);
});

test("a snapshot is the ledger, whatever the order it grew in", () => {
  fc.assert(
    fc.property(anyLeaves, fc.bigInt({ min: 0n, max: 1n << 90n }), (leaves, remainder) => {
      const grow = (order: readonly Leaf[]): Ledger => {
        const ledger = emptyLedger();
        for (const leaf of order) {
          ledger.totals.set(toHex(leaf.recipient), leaf.lifetimeTotal);
          ledger.total += leaf.lifetimeTotal;
        }
        ledger.remainder = remainder;
        return ledger;
      };
      const bytes = encode(LEDGER, grow(leaves));
      assert.deepEqual(encode(LEDGER, grow([...leaves].reverse())), bytes);
      const back = decode(LEDGER, bytes);
      assert.equal(back.total, grow(leaves).total);
      assert.deepEqual(encode(LEDGER, back), bytes);
      assert.deepEqual(merkleRoot(ledgerTree(back)), merkleRoot(ledgerTree(grow(leaves))));
    }),
  );
});

test("snapshots that no ledger could have written are refused", () => {
  const entry = (byte: number, amount: bigint): string => toHex(address(byte)) + toHex(encode(u256, amount));
  const snapshot = (...entries: string[]): Uint8Array =>
    fromHex(entries.length.toString(16).padStart(8, "0") + entries.join("") + toHex(encode(u256, 0n)));
  const most = (1n << 256n) - 1n;
  assert.equal(decode(LEDGER, snapshot(entry(1, 1n), entry(2, 2n))).total, 3n);
  for (const wrong of [
    snapshot(entry(2, 1n), entry(1, 2n)),
    snapshot(entry(1, 1n), entry(1, 2n)),
    snapshot(entry(1, 0n)),
    snapshot(entry(1, most), entry(2, 1n)),
    snapshot(entry(1, 1n)).subarray(1),
  ]) {
    assert.throws(() => decode(LEDGER, wrong), CodecError);
  }
});

/**
 * The tree behind a claim: leaves keccak256(keccak256(abi.encode(address, uint256))), pairs hashed in sorted order.
 * Node for node OpenZeppelin's StandardMerkleTree (`@openzeppelin/merkle-tree`), so its proofs are ours and
 * `MerkleProof.sol` verifies both. Double hashing keeps an inner node from passing for a leaf.
 */
import { compareBytes, concat, equalBytes } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import { addressWord, uintWord, WORD_BYTES } from "./eip712.ts";

/** One recipient and everything it was ever owed, in wei. */
export interface Leaf {
  /** 20 bytes. */
  readonly recipient: Uint8Array;
  readonly lifetimeTotal: bigint;
}

/** A complete binary tree in an array, root first, leaves last in descending order of hash. */
export interface MerkleTree {
  readonly nodes: readonly Uint8Array[];
}

/** The root of no leaves at all: 32 zero bytes, which no proof reaches. */
export const EMPTY_ROOT: Uint8Array = new Uint8Array(WORD_BYTES);

export function leafHash(leaf: Leaf): Uint8Array {
  return keccak256(keccak256(concat(addressWord(leaf.recipient), uintWord(leaf.lifetimeTotal))));
}

export function merkleTree(leaves: readonly Leaf[]): MerkleTree {
  if (leaves.length === 0) return { nodes: [] };
  const hashes = leaves.map(leafHash).sort(compareBytes);
  const nodes: Uint8Array[] = new Array(2 * hashes.length - 1);
  hashes.forEach((hash, index) => {
    nodes[nodes.length - 1 - index] = hash;
  });
  for (let index = nodes.length - 1 - hashes.length; index >= 0; index--) {
    nodes[index] = hashPair(nodeAt(nodes, 2 * index + 1), nodeAt(nodes, 2 * index + 2));
  }
  return { nodes };
}

/** 32 bytes. */
export function merkleRoot(tree: MerkleTree): Uint8Array {
  return tree.nodes[0] ?? EMPTY_ROOT;
}

/** The siblings from leaf to root, 32 bytes each; undefined when the leaf is not in the tree. */
export function merkleProof(tree: MerkleTree, leaf: Leaf): Uint8Array[] | undefined {
  const hash = leafHash(leaf);
  const firstLeaf = (tree.nodes.length - 1) / 2;
  let index = tree.nodes.findIndex((node, at) => at >= firstLeaf && equalBytes(node, hash));
  if (index < 0) return undefined;
  const proof: Uint8Array[] = [];
  for (; index > 0; index = (index - 1) >> 1) proof.push(nodeAt(tree.nodes, index % 2 === 0 ? index - 1 : index + 1));
  return proof;
}

export function verifyMerkleProof(root: Uint8Array, leaf: Leaf, proof: readonly Uint8Array[]): boolean {
  if (proof.some((sibling) => sibling.length !== WORD_BYTES)) return false;
  return equalBytes(proof.reduce(hashPair, leafHash(leaf)), root);
}

function hashPair(a: Uint8Array, b: Uint8Array): Uint8Array {
  return keccak256(compareBytes(a, b) < 0 ? concat(a, b) : concat(b, a));
}

function nodeAt(nodes: readonly Uint8Array[], index: number): Uint8Array {
  const node = nodes[index];
  if (node === undefined) throw new RangeError(`no node ${index} in a tree of ${nodes.length}`);
  return node;
}

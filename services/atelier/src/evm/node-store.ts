/**
 * Where trie nodes and contract code are kept: in memory, by hash. Blocks write into overlays, so that a candidate
 * which is never adopted leaves nothing behind; nodes that no retained block needs are swept.
 */
import { RLP } from "@ethereumjs/rlp";
import { type BatchDBOp, type DB, KECCAK256_NULL_S, KECCAK256_RLP_S } from "@ethereumjs/util";
import { toHex } from "@lattice/organism/codec/codec.ts";

type Value = Uint8Array | string;

/** Hex of the state manager's prefix for code: "c". */
const CODE_PREFIX = "63";
/** Below this many nodes sweeping is not worth its walk. */
const SWEEP_FROM = 20_000;

/** Nodes of all adopted blocks. */
export class NodeStore {
  #nodes = new Map<string, Uint8Array>();
  #sweepAt = SWEEP_FROM;

  get size(): number {
    return this.#nodes.size;
  }

  get(key: string): Uint8Array | undefined {
    return this.#nodes.get(key);
  }

  overlay(): NodeOverlay {
    return new NodeOverlay(this);
  }

  /** Takes over what a block wrote. */
  absorb(overlay: NodeOverlay): void {
    for (const [key, node] of overlay.written()) this.#nodes.set(key, node);
  }

  /** Drops what none of `stateRoots` reaches, when the store has doubled since the last time. */
  sweep(stateRoots: Iterable<Uint8Array>): void {
    if (this.#nodes.size < this.#sweepAt) return;
    const kept = new Map<string, Uint8Array>();
    for (const root of stateRoots) this.#keepTrie(kept, toHex(root), (leaf) => this.#keepAccount(kept, leaf));
    this.#nodes = kept;
    this.#sweepAt = Math.max(SWEEP_FROM, kept.size * 2);
  }

  #keepAccount(kept: Map<string, Uint8Array>, rlp: Uint8Array): void {
    const [, , storageRoot, codeHash] = RLP.decode(rlp);
    if (!(storageRoot instanceof Uint8Array) || !(codeHash instanceof Uint8Array)) return;
    this.#keepTrie(kept, toHex(storageRoot), () => {});
    const codeKey = CODE_PREFIX + toHex(codeHash);
    const code = this.#nodes.get(codeKey);
    if (code !== undefined && `0x${toHex(codeHash)}` !== KECCAK256_NULL_S) kept.set(codeKey, code);
  }

  #keepTrie(kept: Map<string, Uint8Array>, root: string, onLeaf: (value: Uint8Array) => void): void {
    if (`0x${root}` === KECCAK256_RLP_S) return;
    const pending: string[] = [root];
    for (let key = pending.pop(); key !== undefined; key = pending.pop()) {
      if (kept.has(key)) continue;
      const node = this.#nodes.get(key);
      if (node === undefined) continue;
      kept.set(key, node);
      children(RLP.decode(node), pending, onLeaf);
    }
  }
}

type Item = Uint8Array | Item[];

/** Collects the hashes a node refers to; nodes shorter than a hash stand in their parent (yellow paper, appendix D). */
function children(node: Item, hashes: string[], onLeaf: (value: Uint8Array) => void): void {
  if (!Array.isArray(node)) return;
  const refer = (item: Item | undefined): void => {
    if (item === undefined) return;
    if (Array.isArray(item)) children(item, hashes, onLeaf);
    else if (item.length === 32) hashes.push(toHex(item));
  };
  const [path, value] = node;
  if (node.length === 2 && path instanceof Uint8Array) {
    // Hex-prefix encoding: bit 5 of the first byte marks a leaf.
    const leaf = ((path[0] ?? 0) & 0x20) !== 0;
    if (leaf && value instanceof Uint8Array) onLeaf(value);
    else if (!leaf) refer(value);
    return;
  }
  for (const item of node.slice(0, 16)) refer(item);
}

/** What one block writes, over what the store holds: the database that ethereumjs' tries see. */
export class NodeOverlay implements DB<string, Value> {
  readonly #store: NodeStore;
  readonly #written = new Map<string, Uint8Array>();

  constructor(store: NodeStore) {
    this.#store = store;
  }

  written(): Iterable<[string, Uint8Array]> {
    return this.#written;
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.#written.get(key) ?? this.#store.get(key);
  }

  async put(key: string, value: Value): Promise<void> {
    if (typeof value === "string") throw new TypeError("trie values are bytes");
    this.#written.set(key, value);
  }

  /** Nodes are immutable and shared between blocks: nothing is deleted here, sweeping does. */
  async del(_key: string): Promise<void> {}

  async batch(operations: BatchDBOp<string, Value>[]): Promise<void> {
    for (const operation of operations) if (operation.type === "put") await this.put(operation.key, operation.value);
  }

  /** Storage tries are shallow copies of the account trie: they write into the same block. */
  shallowCopy(): NodeOverlay {
    return this;
  }

  async open(): Promise<void> {}
}

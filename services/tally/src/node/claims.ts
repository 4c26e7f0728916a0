/** Proofs under the contract's root. The tree costs about 15 µs a recipient, so it is kept for the length of a batch. */

import { claimProof, type Ledger, ledgerTree } from "../core/ledger.ts";
import { type MerkleTree, merkleRoot } from "../core/merkle.ts";
import type { TallyState } from "../core/types.ts";

/** Arguments of `Settlement.claim`, and the batch whose root they are under. */
export interface Claim {
  readonly lifetimeTotal: bigint;
  /** 32 bytes each, from leaf to root. */
  readonly proof: readonly Uint8Array[];
  readonly batch: bigint;
  readonly root: Uint8Array;
}

export class Claims {
  #kept: { readonly ledger: Ledger; readonly tree: MerkleTree } | undefined;

  /** Undefined when the contract owes this recipient nothing under the last batch that is final on chain. */
  of(state: Pick<TallyState, "postedLedger" | "postedBatch">, recipient: Uint8Array): Claim | undefined {
    const { postedLedger: ledger, postedBatch } = state;
    if (ledger === undefined) return undefined;
    if (this.#kept?.ledger !== ledger) this.#kept = { ledger, tree: ledgerTree(ledger) };
    const { tree } = this.#kept;
    const found = claimProof(ledger, tree, recipient);
    return found === undefined ? undefined : { ...found, batch: postedBatch, root: merkleRoot(tree) };
  }
}

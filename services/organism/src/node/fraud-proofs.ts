/** Fraud proofs that a member has: in its journal, by hash, for ever (log.md §4). At most one per key ever blocked, and those still to be committed. */
import { decode, encode, fixed, list, toHex } from "../codec/codec.ts";
import { fraudProofHash } from "../committee/fraud.ts";
import type { Journal } from "../ports.ts";

const PENDING = list(fixed(32), 1024);
const PENDING_NAME = "fraud-proofs-to-commit";

export class FraudProofs {
  readonly #journal: Pick<Journal, "put" | "get">;

  constructor(journal: Pick<Journal, "put" | "get">) {
    this.#journal = journal;
  }

  get(hash: Uint8Array): Uint8Array | undefined {
    return this.#journal.get(name(hash));
  }

  /** Resolves once it is on disk. */
  async keep(proof: Uint8Array): Promise<void> {
    const hash = fraudProofHash(proof);
    if (this.get(hash) === undefined) await this.#journal.put(name(hash), proof);
  }

  /** Proofs of this member's own finding that the log does not have yet. */
  toCommit(): Uint8Array[] {
    const hashes = this.#journal.get(PENDING_NAME);
    return (hashes === undefined ? [] : decode(PENDING, hashes)).flatMap((hash) => this.get(hash) ?? []);
  }

  async setToCommit(proofs: readonly Uint8Array[]): Promise<void> {
    await this.#journal.put(PENDING_NAME, encode(PENDING, proofs.map(fraudProofHash)));
  }
}

function name(hash: Uint8Array): string {
  return `fraud-proof/${toHex(hash)}`;
}

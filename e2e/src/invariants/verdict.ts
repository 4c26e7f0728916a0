/** What is judged of a run, and what was found wrong. */

/** Every property, in the order in which it is reported. Append only: people and programs read these names. */
export const INVARIANTS = [
  /** Every exported certificate verifies under the key that the config pins. */
  "certificates_valid",
  /** Every decision names a quorum of its roster as signers. */
  "quorum_of_signers",
  "one_outcome_per_slot_and_stage",
  /** Every stage of every slot, by all six organisms. */
  "every_slot_decided",
  /** Allowed in fault scenarios only. */
  "no_slot_skipped",
  "empty_only_where_nothing",
  /** From 20 slots on at least 95 % end in a Result of every organism; of fewer slots it says nothing. */
  "results_at_least_95_percent",
  /** Each outcome names the certified outcomes it was made from. */
  "outcomes_follow_from_inputs",
  /** What was unsealed was frozen over the certified set of blind bids, and only bids under it won as blind ones. */
  "blind_closed_before_freeze",
  "acknowledged_bids_counted",
  /** Every block of the chain is a certified candidate; a fallback block fails its slot. */
  "head_only_on_certified_candidates",
  "accepted_blocks_on_chain",
  "transactions_in_block_or_told",
  "blind_bundle_landed",
  "seen_bundle_landed",
  "claim_paid",
  /** Credits and remainder are what came in, slot by slot, and no more came in than was paid on chain. */
  "refunds_conserve",
  "claims_within_credits",
  /** The settlement contract holds what its events say. */
  "settlement_balance_conserved",
] as const;
export type Invariant = (typeof INVARIANTS)[number];

export class Verdict {
  readonly #broken = new Map<Invariant, string[]>();
  /** Counts made on the way, for people. */
  readonly observed: Record<string, number> = {};

  fail(invariant: Invariant, problem: string): void {
    const problems = this.#broken.get(invariant) ?? [];
    problems.push(problem);
    this.#broken.set(invariant, problems);
  }

  require(holds: boolean, invariant: Invariant, problem: () => string): void {
    if (!holds) this.fail(invariant, problem());
  }

  count(name: string, by = 1): void {
    this.observed[name] = (this.observed[name] ?? 0) + by;
  }

  get invariants(): Record<Invariant, boolean> {
    return Object.fromEntries(INVARIANTS.map((name) => [name, !this.#broken.has(name)])) as Record<Invariant, boolean>;
  }

  get violations(): string[] {
    return INVARIANTS.flatMap((name) => (this.#broken.get(name) ?? []).map((problem) => `${name}: ${problem}`));
  }
}

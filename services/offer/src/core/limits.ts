/** Bounds of the state, whoever sends what. */

/** Bids that take part in one slot, at most; fewer where bundles are large (`bidsPerSlotMax`). */
export const BID_COUNT_CEILING = 1024;
/** Bids remembered for one slot, withdrawn ones included. */
export const STANDINGS_MAX = BID_COUNT_CEILING * 8;
/** Sealed bytes held for one slot. */
const BID_BYTES_PER_SLOT = 32 * 1024 * 1024;

export function bidsPerSlotMax(bidBytes: number): number {
  return Math.max(1, Math.min(BID_COUNT_CEILING, Math.floor(BID_BYTES_PER_SLOT / bidBytes)));
}

/** Submissions per searcher and slot for each bid it may have live: replacing is bounded too. */
export const SUBMISSIONS_PER_BID = 4;

/** Accounts whose escrow is followed; one fact about all of them stays below 128 KiB. */
export const ACCOUNTS_MAX = 2048;
export const SEARCHERS_PER_ACCOUNT = 8;
/** An account without escrow is forgotten after this many slots. */
export const EMPTY_ACCOUNT_SLOTS = 64n;
/** Certified escrow older than this vouches for nothing; below the contract's withdrawal delay. */
export const ESCROW_SLOTS_MAX = 32n;

/** Charges that the contract has not taken yet. */
export const DEBTS_MAX = 2048;
/** A charge that was never taken is forgotten after this many slots. */
export const DEBT_SLOTS_MAX = 512n;

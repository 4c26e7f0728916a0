/**
 * Who may bid against which account, and how much is left of it.
 *
 * Escrow is read from the chain by every member and counts once q members read the same (topic `escrow`). Which
 * accounts are read for a slot is fixed by the log when the slot before closes its blind bids, so members compare
 * like with like. A bid is covered by what its account has certified, less charges that the contract has not taken
 * yet, less the caps of its blind bids in slots still open: one deposit cannot vouch for two commitments.
 */
import { CodecError, compareBytes, decode, encode, equalBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { type Refusal, refuse } from "@lattice/organism/machine.ts";
import type { AuctionCommitment } from "@lattice/organism/outcomes/offer.ts";
import type { Charge } from "@lattice/organism/outcomes/tally.ts";
import { ESCROW_FACT } from "./codec.ts";
import {
  ACCOUNTS_MAX,
  DEBT_SLOTS_MAX,
  DEBTS_MAX,
  EMPTY_ACCOUNT_SLOTS,
  ESCROW_SLOTS_MAX,
  SEARCHERS_PER_ACCOUNT,
} from "./limits.ts";
import { isSignedBy, type Registration, registrationDigest } from "./requests.ts";
import type { State } from "./types.ts";

/** @param slot the slot that log time is in */
export function register(
  state: State,
  committee: Uint8Array,
  registration: Registration,
  slot: bigint,
): Refusal | undefined {
  const { terms, signature } = registration;
  if (!equalBytes(terms.committee, committee))
    return refuse("WRONG_COMMITTEE", "the registration is for another committee");
  if (terms.untilSlot < slot) return refuse("REGISTRATION_EXPIRED", `it ended with slot ${terms.untilSlot}`);
  const key = toHex(terms.account);
  const known = state.accounts.get(key);
  const searcher = toHex(terms.searcher);
  if (known?.searchers.get(searcher) === terms.untilSlot) return undefined;
  if (known !== undefined && !known.searchers.has(searcher) && known.searchers.size >= SEARCHERS_PER_ACCOUNT) {
    return refuse("ACCOUNTS_FULL", `an account authorises at most ${SEARCHERS_PER_ACCOUNT} searchers`);
  }
  const evicted = known === undefined && state.accounts.size >= ACCOUNTS_MAX ? oldestEmpty(state) : undefined;
  if (known === undefined && state.accounts.size >= ACCOUNTS_MAX && evicted === undefined) {
    return refuse("ACCOUNTS_FULL", `${ACCOUNTS_MAX} accounts with escrow are followed already`);
  }
  if (!isSignedBy(terms.account, registrationDigest(terms), signature)) {
    return refuse("BAD_SIGNATURE", "the registration is not signed by the account");
  }
  if (evicted !== undefined) state.accounts.delete(evicted);
  const account = known ?? { searchers: new Map<string, bigint>(), sinceSlot: slot };
  account.searchers.set(searcher, terms.untilSlot);
  state.accounts.set(key, account);
  return undefined;
}

/** The account without escrow that has been known longest; ties by address. */
function oldestEmpty(state: State): string | undefined {
  let oldest: { readonly key: string; readonly since: bigint } | undefined;
  for (const [key, { sinceSlot }] of state.accounts) {
    if ((state.escrow.get(key) ?? 0n) > 0n) continue;
    const earlier =
      oldest === undefined || sinceSlot < oldest.since || (sinceSlot === oldest.since && key < oldest.key);
    if (earlier) oldest = { key, since: sinceSlot };
  }
  return oldest?.key;
}

/** True when `searcher` may bid against `account` for `slot`. */
export function isAuthorised(state: State, account: Uint8Array, searcher: Uint8Array, slot: bigint): boolean {
  const until = state.accounts.get(toHex(account))?.searchers.get(toHex(searcher));
  return until !== undefined && until >= slot;
}

/**
 * Wei that a bid for `slot` may still count on; undefined when there is no recent certified reading.
 * @param replaced id of a bid that would make room
 */
export function uncommitted(
  state: State,
  account: Uint8Array,
  slot: bigint,
  replaced?: Uint8Array,
): bigint | undefined {
  const certified = state.escrow.get(toHex(account));
  if (certified === undefined || state.escrowSlot + ESCROW_SLOTS_MAX < slot) return undefined;
  let left = certified;
  for (const debt of state.debts.values()) if (equalBytes(debt.account, account)) left -= debt.wei;
  for (const { bids } of state.slots.values()) {
    for (const bid of bids.values()) {
      const counts = bid.context.class === "blind" && equalBytes(bid.escrowAccount, account);
      if (counts && (replaced === undefined || !equalBytes(bid.id, replaced))) left -= bid.capWei;
    }
  }
  return left;
}

/** Fixes what is to be read for `slot`. */
export function askEscrow(state: State, slot: bigint): void {
  if (state.accounts.size === 0 || (state.query !== undefined && state.query.slot >= slot)) return;
  const accounts = [...state.accounts.keys()].map(fromHex).sort(compareBytes);
  const charges = [...state.debts.keys()].map(fromHex).sort(compareBytes);
  state.query = { slot, accounts, charges };
}

/** What a member read, as the fact it states. */
export function escrowFact(wei: readonly bigint[], taken: readonly Uint8Array[]): Uint8Array {
  return encode(ESCROW_FACT, { version: 1, wei: [...wei], taken: [...taken] });
}

/** q members read the same. */
export function certifyEscrow(state: State, slot: bigint, fact: Uint8Array): Refusal | undefined {
  const { query } = state;
  if (query === undefined || query.slot !== slot)
    return refuse("FACT_UNEXPECTED", `no escrow was asked for in slot ${slot}`);
  let read: { readonly wei: bigint[]; readonly taken: Uint8Array[] };
  try {
    read = decode(ESCROW_FACT, fact);
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    return refuse("MALFORMED", `not an escrow reading: ${error.message}`);
  }
  const asked = new Set(query.charges.map(toHex));
  if (read.wei.length !== query.accounts.length || read.taken.some((id) => !asked.has(toHex(id)))) {
    return refuse("FACT_UNEXPECTED", "the reading does not answer the query");
  }
  const escrow = new Map<string, bigint>();
  for (const [index, account] of query.accounts.entries()) escrow.set(toHex(account), read.wei[index] ?? 0n);
  for (const [key, { sinceSlot }] of state.accounts) {
    if (escrow.get(key) === 0n && sinceSlot + EMPTY_ACCOUNT_SLOTS < slot) {
      state.accounts.delete(key);
      escrow.delete(key);
    }
  }
  state.escrow = escrow;
  state.escrowSlot = slot;
  state.query = undefined;
  for (const id of read.taken) state.debts.delete(toHex(id));
  return undefined;
}

/** From the decision on, blind winners and charged voids owe; tally's attribution and the contract settle it. */
export function owe(state: State, slot: bigint, auction: AuctionCommitment): void {
  for (const winner of auction.winners) {
    if (winner.class !== "blind") continue;
    state.debts.set(toHex(winner.bidId), { account: winner.escrowAccount, wei: winner.clearingWei, slot });
  }
  for (const { bidId, account, chargeWei } of auction.voids) {
    if (chargeWei > 0n) state.debts.set(toHex(bidId), { account, wei: chargeWei, slot });
  }
  const excess = state.debts.size - DEBTS_MAX;
  if (excess > 0) for (const key of debtsByAge(state).slice(0, excess)) state.debts.delete(key);
}

/** Tally has attributed the slot: what it does not charge is not owed. */
export function attributed(state: State, slot: bigint, charges: readonly Charge[]): void {
  for (const [key, debt] of state.debts) if (debt.slot === slot) state.debts.delete(key);
  for (const { bidId, account, wei } of charges) {
    if (wei > 0n && state.debts.size < DEBTS_MAX) state.debts.set(toHex(bidId), { account, wei, slot });
  }
}

/** Forgets whose authorisation has ended, and accounts for which nobody may bid any more and that owe nothing. */
export function forgetSearchers(state: State, belowSlot: bigint): void {
  const owing = new Set([...state.debts.values()].map(({ account }) => toHex(account)));
  for (const [key, { searchers }] of state.accounts) {
    for (const [searcher, until] of searchers) if (until < belowSlot) searchers.delete(searcher);
    if (searchers.size === 0 && !owing.has(key)) state.accounts.delete(key);
  }
}

/** Forgets charges that nobody collected in a long time. */
export function forgetDebts(state: State, belowSlot: bigint): void {
  for (const [key, { slot }] of state.debts) if (slot + DEBT_SLOTS_MAX < belowSlot) state.debts.delete(key);
}

function debtsByAge(state: State): string[] {
  const entries = [...state.debts].sort(([a, { slot: x }], [b, { slot: y }]) =>
    x !== y ? (x < y ? -1 : 1) : a < b ? -1 : 1,
  );
  return entries.map(([key]) => key);
}

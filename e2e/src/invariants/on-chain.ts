/** What the chain says: whose blocks it is made of, which transactions and bundles are in it, and where the money is. */
import { toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { CANDIDATE, type CandidateCommitment } from "@lattice/organism/outcomes/atelier.ts";
import { AUCTION } from "@lattice/organism/outcomes/offer.ts";
import { ACCEPTED } from "@lattice/organism/outcomes/relay.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import type { ChainView, SettlementEvent } from "./chain-view.ts";
import { type Decisions, type Run, slotOfTimestamp } from "./run.ts";
import type { Verdict } from "./verdict.ts";

/** Slots within which an acknowledged transaction is in a block, or its sender is told. */
const INCLUSION_SLOTS = 5n;
/** The same where slots may be skipped: what missed its round is sealed again for a later one, some times over. */
const INCLUSION_SLOTS_WITH_FAULTS = 40n;

/** Certified candidates by block hash. */
function candidatesOf(decisions: Decisions): Map<string, CandidateCommitment> {
  const found = new Map<string, CandidateCommitment>();
  for (const outcome of decisions.all("atelier", "candidate")) {
    const candidate = outcome.kind === "result" ? tryDecode(CANDIDATE, outcome.commitment) : undefined;
    if (candidate !== undefined) found.set(toHex(candidate.blockHash), candidate);
  }
  return found;
}

/** The slot of every transaction on chain. */
export function landedSlots(run: Run, decisions: Decisions, chain: ChainView): Map<string, bigint> {
  const candidates = candidatesOf(decisions);
  const slots = new Map<string, bigint>();
  for (const block of chain.blocks) {
    const slot = candidates.get(block.hash)?.slot ?? slotOfTimestamp(run.config, block.timestampS);
    for (const hash of block.transactions) slots.set(hash, slot);
  }
  return slots;
}

/**
 * The head advances on this lattice's blocks alone. Before the first complete slot its members were still coming up, and
 * the sequencer bridged the time with empty blocks of its own.
 */
export function checkBlocks(run: Run, decisions: Decisions, chain: ChainView, verdict: Verdict): void {
  const candidates = candidatesOf(decisions);
  const canonical = new Set(chain.blocks.map(({ hash }) => hash));
  const broken = (problem: string): void => verdict.fail("head_only_on_certified_candidates", problem);
  for (const block of chain.blocks) {
    verdict.count("blocks");
    const candidate = candidates.get(block.hash);
    if (candidate === undefined) {
      verdict.count("fallback_blocks");
      const slot = slotOfTimestamp(run.config, block.timestampS);
      // The chain was read after the outcomes: of later slots it may hold what the export does not.
      if (slot > run.last) continue;
      if (block.transactions.length > 0) broken(`block ${block.number} holds transactions and nobody certified it`);
      else if (slot >= run.firstComplete && !run.faultsAllowed)
        broken(`block ${block.number} (slot ${slot}) is no certified candidate`);
      continue;
    }
    if (candidate.blockNumber !== block.number || toHex(candidate.parentHash) !== block.parentHash)
      broken(`block ${block.number} does not stand where its candidate says`);
    if (candidate.transactions !== block.transactions.length)
      broken(`block ${block.number} does not hold what its candidate says`);
  }
  for (let slot = run.firstComplete; slot <= run.last; slot++) {
    const taken = decisions.outcome("relay", "accepted", slot);
    const accepted = taken?.kind === "result" ? tryDecode(ACCEPTED, taken.commitment) : undefined;
    const landed = accepted !== undefined && canonical.has(toHex(accepted.blockHash));
    if (accepted !== undefined && !landed && !run.faultsAllowed)
      verdict.fail("accepted_blocks_on_chain", `slot ${slot} was accepted and is not on chain`);
    const attributed = decisions.outcome("tally", "attribution", slot);
    const attribution = attributed === undefined ? undefined : tryDecode(ATTRIBUTION, attributed.commitment);
    if (attribution === undefined) continue;
    const holds = canonical.has(toHex(attribution.blockHash));
    verdict.require(
      attribution.landed === holds,
      "accepted_blocks_on_chain",
      () => `slot ${slot}: tally says landed ${attribution.landed}, the chain says ${holds}`,
    );
  }
}

export function checkTransactions(
  run: Run,
  chain: ChainView,
  landedIn: ReadonlyMap<string, bigint>,
  verdict: Verdict,
): void {
  const head = chain.blocks.at(-1);
  const headSlot = head === undefined ? 0n : slotOfTimestamp(run.config, head.timestampS);
  const patience = run.faultsAllowed ? INCLUSION_SLOTS_WITH_FAULTS : INCLUSION_SLOTS;
  for (const { hash, slot, bootstrap } of run.traffic.transactions) {
    verdict.count(bootstrap ? "bootstrap_transactions" : "sample_transactions");
    // What is handed in while the lattice comes up waits for its first slot.
    const from = BigInt(slot) > run.firstComplete ? BigInt(slot) : run.firstComplete;
    const landed = landedIn.get(hash);
    const inTime = landed !== undefined && landed <= from + patience;
    if (landed !== undefined) verdict.count("transactions_landed");
    if (inTime || run.traffic.toldFailed.has(hash)) continue;
    if (landed === undefined && headSlot <= from + patience) {
      verdict.count("transactions_still_in_time");
      continue;
    }
    verdict.fail(
      "transactions_in_block_or_told",
      `${hash}, acknowledged in slot ${slot}, ${landed === undefined ? "is in no block" : `landed in slot ${landed}`} and its sender was told nothing`,
    );
  }
}

/** A bundle landed when its payment, named in advance by the certified outcome, is in its own slot's certified block. */
export function checkBundles(run: Run, decisions: Decisions, chain: ChainView, verdict: Verdict): void {
  const landed = { blind: 0, seen: 0, tail: 0 };
  for (const outcome of decisions.all("offer", "auction")) {
    const auction = outcome.kind === "result" ? tryDecode(AUCTION, outcome.commitment) : undefined;
    const built = decisions.outcome("atelier", "candidate", outcome.slot);
    const candidate = built?.kind === "result" ? tryDecode(CANDIDATE, built.commitment) : undefined;
    if (auction === undefined || candidate === undefined) continue;
    const block = toHex(candidate.blockHash);
    for (const winner of auction.winners) {
      verdict.count(`${winner.class}_winners`);
      const paid = chain.events.some(
        (event) =>
          event.type === "bid-paid" &&
          event.blockHash === block &&
          event.slot === outcome.slot &&
          event.paymentId === toHex(winner.paymentId) &&
          event.wei >= winner.clearingWei,
      );
      if (paid) landed[winner.class] += 1;
    }
  }
  verdict.count("blind_bundles_landed", landed.blind);
  verdict.count("seen_bundles_landed", landed.seen);
  verdict.require(landed.blind > 0, "blind_bundle_landed", () => `none in slots up to ${run.last}`);
  verdict.require(landed.seen > 0, "seen_bundle_landed", () => `none in slots up to ${run.last}`);
}

export interface Claim {
  readonly recipient: string;
  readonly amount_wei: string;
  readonly tx_hash: string;
}

export function claimsOf(chain: ChainView): Claim[] {
  return chain.events.flatMap((event) =>
    event.type === "claimed"
      ? [{ recipient: `0x${event.recipient}`, amount_wei: event.wei.toString(), tx_hash: `0x${event.transactionHash}` }]
      : [],
  );
}

const sum = (events: readonly SettlementEvent[], type: SettlementEvent["type"]): bigint =>
  events.reduce((total, event) => (event.type === type ? total + event.wei : total), 0n);

export function checkMoney(run: Run, decisions: Decisions, chain: ChainView, verdict: Verdict): void {
  const { events } = chain;
  const credited = new Map<string, bigint>();
  let income = 0n;
  for (const outcome of decisions.all("tally", "attribution")) {
    const attribution = tryDecode(ATTRIBUTION, outcome.commitment);
    const what = `slot ${outcome.slot}`;
    if (attribution === undefined) continue;
    const { credits, refundableWei, remainderWei, landed } = attribution;
    const total = credits.reduce((all, { wei }) => all + wei, 0n);
    verdict.require(
      total + remainderWei === refundableWei,
      "refunds_conserve",
      () => `${what}: credits ${total} and remainder ${remainderWei} are not ${refundableWei}`,
    );
    if (!landed && refundableWei !== 0n) verdict.fail("refunds_conserve", `${what}: refunds for a block not on chain`);
    const built = decisions.outcome("atelier", "candidate", outcome.slot);
    const candidate = built?.kind === "result" ? tryDecode(CANDIDATE, built.commitment) : undefined;
    if (landed && candidate !== undefined) {
      const block = toHex(candidate.blockHash);
      const paid = sum(
        events.filter((event) => event.blockHash === block),
        "bid-paid",
      );
      verdict.require(
        refundableWei >= candidate.paymentsWei && paid >= candidate.paymentsWei,
        "refunds_conserve",
        () => `${what}: ${candidate.paymentsWei} certified as paid, ${paid} on chain, ${refundableWei} attributed`,
      );
    }
    income += refundableWei;
    for (const { recipient, wei } of credits) {
      const key = toHex(recipient);
      credited.set(key, (credited.get(key) ?? 0n) + wei);
    }
  }
  const arrived = sum(events, "bid-paid") + sum(events, "charged");
  verdict.require(income <= arrived, "refunds_conserve", () => `${income} attributed, only ${arrived} paid on chain`);

  const claimed = new Map<string, bigint>();
  for (const event of events) {
    if (event.type === "claimed") claimed.set(event.recipient, (claimed.get(event.recipient) ?? 0n) + event.wei);
  }
  for (const [recipient, wei] of claimed) {
    const due = credited.get(recipient) ?? 0n;
    verdict.require(wei <= due, "claims_within_credits", () => `${recipient} was paid ${wei}, credited ${due}`);
  }
  verdict.count("claims", claimed.size);
  verdict.require(
    [...claimed.values()].some((wei) => wei > 0n),
    "claim_paid",
    () => "no Claimed event on chain",
  );

  const expected =
    chain.genesisWei +
    sum(events, "bid-paid") +
    sum(events, "deposited") -
    sum(events, "withdrawn") -
    sum(events, "claimed") -
    sum(events, "reimbursed") -
    sum(events, "proposer-paid");
  const settlement = toHex(run.config.tally.content.settlement);
  const feesArrive = chain.blocks.some(({ feeRecipient }) => feeRecipient === settlement);
  verdict.require(
    feesArrive ? chain.headWei >= expected : chain.headWei === expected,
    "settlement_balance_conserved",
    () => `the contract holds ${chain.headWei}, its events say ${expected}`,
  );
}

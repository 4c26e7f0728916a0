/**
 * The offer machine: blind and seen bids of a slot, their two closes, and the auction that follows.
 *
 * bidding → (blind close: BlindClosed is decided) → (seen close) closed → q members agree whom to open: opening →
 * q agree what the bundles held: the outcome, or once more opening for the next best: reopened → done.
 * What is agreed is computed outside `apply`, from keys that only members have; `apply` checks that it is about this
 * slot's bids, in this order, and decides.
 */
import { compareBytes, encode, equalBytes, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { committeeId, type LatticeConfig, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { type Context, type Machine, type MachineEvent, type Refusal, refuse } from "@lattice/organism/machine.ts";
import { AUCTION, type AuctionCommitment, BLIND_CLOSED, OFFER_STAGES } from "@lattice/organism/outcomes/offer.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { type AdmissionContext, createAdmission, isRefusal } from "./admission.ts";
import { COMMAND, STATE, VERDICT } from "./codec.ts";
import { offerDuties, skipAtMs } from "./duties.ts";
import { askEscrow, attributed, certifyEscrow, forgetDebts, forgetSearchers, owe, register } from "./escrow.ts";
import type { Command, OfferDuty, SlotState, Standing, State, VerdictTopic } from "./types.ts";
import { ESCROW_TOPIC, VERDICT_TOPICS } from "./types.ts";

export type OfferMachine = Machine<State, Command, OfferDuty>;

export function createMachine(config: LatticeConfig): OfferMachine {
  const committee = committeeId(config, "offer");
  const admission = createAdmission(config);

  function command(state: State, author: number, given: Command, context: Context): Refusal | undefined {
    switch (given.type) {
      case "bid":
        return placeBid(state, given.bid, context);
      case "cancel": {
        const bid = admission.cancel(state, given.cancel, admissionContext(context));
        if (isRefusal(bid)) return bid;
        const slotState = slotOf(state, bid.context.slot);
        withdraw(slotState, bid.id);
        return undefined;
      }
      case "register":
        return register(state, committee, given.registration, slotAt(config, context.nowMs));
      case "slotShare":
        return placeSlotShare(state, author, given.slot, given.box, context);
      case "bundleShare":
        return placeBundleShare(state, author, given.slot, given.bidId, given.box, context);
    }
  }

  function placeBid(state: State, raw: Uint8Array, context: Context): Refusal | undefined {
    const admitted = admission.bid(state, raw, admissionContext(context));
    if (isRefusal(admitted)) return admitted;
    const { id, body } = admitted.bid;
    const { valueLayer, bundleLayer, escrowAccount, capWei, replacement } = body;
    const slotState = slotOf(state, body.context.slot);
    if (admitted.replaces !== undefined) withdraw(slotState, admitted.replaces.id);
    const searcher = toHex(body.context.searcher);
    const bid = { id, context: body.context, escrowAccount, capWei, replacement, valueLayer, bundleLayer };
    slotState.nonces.set(searcher, [...(slotState.nonces.get(searcher) ?? []), body.context.nonce]);
    slotState.bids.set(toHex(id), bid);
    slotState.standings.set(toHex(id), { searcher: body.context.searcher, standing: "live" });
    return undefined;
  }

  function placeSlotShare(
    state: State,
    author: number,
    slot: bigint,
    box: Uint8Array,
    context: Context,
  ): Refusal | undefined {
    const slotState = state.slots.get(slot);
    if (!context.open("auction", slot)) return refuse("SLOT_DECIDED", `the auction of slot ${slot} is over`);
    if (
      slotState?.phase !== "closed" ||
      slotState.contestants.length === 0 ||
      author >= context.quorumAt(slot).members
    ) {
      return refuse("SHARE_NOT_DUE", `no value of slot ${slot} is to be opened now`);
    }
    if (slotState.slotShares.has(author)) return refuse("DUPLICATE", `member ${author} has shared already`);
    slotState.slotShares.set(author, box);
    return undefined;
  }

  function placeBundleShare(
    state: State,
    author: number,
    slot: bigint,
    bidId: Uint8Array,
    box: Uint8Array,
    context: Context,
  ): Refusal | undefined {
    const slotState = state.slots.get(slot);
    if (!context.open("auction", slot)) return refuse("SLOT_DECIDED", `the auction of slot ${slot} is over`);
    const due = slotState?.opened.some((id) => equalBytes(id, bidId)) === true;
    if (slotState === undefined || !due || author >= context.quorumAt(slot).members) {
      return refuse("SHARE_NOT_DUE", "this bundle is not one to be opened");
    }
    const shares = slotState.bundleShares.get(toHex(bidId)) ?? new Map<number, Uint8Array>();
    if (shares.has(author)) return refuse("DUPLICATE", `member ${author} has shared already`);
    shares.set(author, box);
    slotState.bundleShares.set(toHex(bidId), shares);
    return undefined;
  }

  function closeBlind(state: State, slot: bigint, context: Context): Refusal | undefined {
    if (!context.open("blind", slot)) return refuse("SLOT_DECIDED", `blind bidding of slot ${slot} is decided`);
    const slotState = slotOf(state, slot);
    const bidIds = [...slotState.bids.values()].filter((bid) => bid.context.class === "blind").map((bid) => bid.id);
    bidIds.sort(compareBytes);
    const kind = bidIds.length === 0 ? "empty" : "result";
    context.decide({ stage: "blind", slot, kind, commitment: encode(BLIND_CLOSED, { version: 1, bidIds }) });
    slotState.blindClosed = true;
    slotState.blindIds = bidIds;
    askEscrow(state, slot + 1n);
    return undefined;
  }

  function closeSeen(state: State, slot: bigint, context: Context): Refusal | undefined {
    if (!context.open("auction", slot)) return refuse("SLOT_DECIDED", `the auction of slot ${slot} is over`);
    const slotState = slotOf(state, slot);
    if (slotState.phase !== "bidding") return refuse("DUPLICATE", `slot ${slot} is closed`);
    slotState.phase = "closed";
    const stands = blindStands(slot, context);
    const ids = [...slotState.bids.values()].filter((bid) => bid.context.class !== "blind").map((bid) => bid.id);
    slotState.contestants = [...ids, ...(stands ? slotState.blindIds : [])].sort(compareBytes);
    if (slotState.contestants.length > 0) return undefined;
    const { rule } = config.offer.content;
    const nothing = { blind: undefined, winners: [], blindBids: 0, seenBids: 0, rivals: [], voids: [] };
    conclude(state, slot, "empty", { version: 1, rule, ...nothing }, undefined, context);
    return undefined;
  }

  /** Blind bids count only if UnsealedRound was made under this very BlindClosed. */
  function blindStands(slot: bigint, context: Context): boolean {
    const closed = context.outcome("blind", slot);
    const unsealed = context.observed("unseal", "unsealed", slot);
    const named = unsealed === undefined ? undefined : tryDecode(UNSEALED, unsealed.commitment)?.blind;
    return closed?.kind === "result" && named !== undefined && equalBytes(outcomeDigest(closed), named);
  }

  function verdict(
    state: State,
    topic: VerdictTopic,
    slot: bigint,
    fact: Uint8Array,
    context: Context,
  ): Refusal | undefined {
    const slotState = state.slots.get(slot);
    if (slotState === undefined || !context.open("auction", slot)) {
      return refuse("SLOT_DECIDED", `the auction of slot ${slot} is over`);
    }
    const said = tryDecode(VERDICT, fact);
    if (said === undefined) return refuse("MALFORMED", "not a verdict");
    const expected = { ranked: "closed", checked: "opening", rechecked: "reopened" } as const;
    if (slotState.phase !== expected[topic]) return refuse("FACT_UNEXPECTED", `${topic} while ${slotState.phase}`);
    if (said.type === "final") {
      const opened = new Set(slotState.opened.map(toHex));
      const voids = [...said.auction.voids.map(({ bidId }) => bidId)];
      const known = voids.every((id) => isContestant(slotState, id));
      if (!known || said.auction.winners.some(({ bidId }) => !opened.has(toHex(bidId)))) {
        return refuse("FACT_UNEXPECTED", "the outcome names bids that were not opened");
      }
      const kind = said.auction.winners.length + voids.length === 0 ? "empty" : "result";
      conclude(state, slot, kind, said.auction, said.bodyHash, context);
      return undefined;
    }
    const again = said.bidIds.some((id) => slotState.opened.some((other) => equalBytes(other, id)));
    const known = said.bidIds.every((id) => isContestant(slotState, id));
    if (topic === "rechecked" || again || !known || said.bidIds.length === 0) {
      return refuse("FACT_UNEXPECTED", "these bundles may not be opened now");
    }
    slotState.opened.push(...said.bidIds);
    slotState.phase = topic === "ranked" ? "opening" : "reopened";
    return undefined;
  }

  function conclude(
    state: State,
    slot: bigint,
    kind: "result" | "empty",
    auction: AuctionCommitment,
    bodyHash: Uint8Array | undefined,
    context: Context,
  ): void {
    const commitment = encode(AUCTION, auction);
    const body = bodyHash === undefined ? {} : { bodyHash };
    if (!context.decide({ stage: "auction", slot, kind, commitment, ...body })) return;
    const slotState = slotOf(state, slot);
    const won = new Set(auction.winners.map(({ bidId }) => toHex(bidId)));
    const lost = new Set(slotState.contestants.map(toHex));
    const voided = new Set(auction.voids.map(({ bidId }) => toHex(bidId)));
    finish(slotState, (id) => (won.has(id) ? "won" : voided.has(id) ? "void" : lost.has(id) ? "lost" : "unanswered"));
    owe(state, slot, auction);
  }

  function skipped(state: State, stage: string, slot: bigint): undefined {
    const slotState = state.slots.get(slot);
    if (stage === "auction") {
      if (slotState !== undefined) finish(slotState, () => "unanswered");
      return;
    }
    if (slotState !== undefined) slotState.blindClosed = true;
    askEscrow(state, slot + 1n);
  }

  return {
    organism: "offer",
    stages: OFFER_STAGES,
    upstream: [
      { organism: "unseal", stage: "unsealed" },
      { organism: "tally", stage: "attribution" },
    ],
    state: STATE,
    command: COMMAND,
    genesis: () => ({
      slots: new Map(),
      accounts: new Map(),
      escrow: new Map(),
      escrowSlot: 0n,
      query: undefined,
      debts: new Map(),
    }),
    apply(state, event: MachineEvent<Command>, context) {
      switch (event.type) {
        case "command":
          return command(state, event.author, event.command, context);
        case "closed":
          if (event.stage === "blind") return closeBlind(state, event.slot, context);
          if (event.stage === "seen") return closeSeen(state, event.slot, context);
          return refuse("MALFORMED", `nothing closes at ${event.stage}`);
        case "agreed": {
          const { topic, slot, fact } = event;
          if (topic === ESCROW_TOPIC) return certifyEscrow(state, slot, fact);
          const known = VERDICT_TOPICS.find((each) => each === topic);
          return known === undefined
            ? refuse("MALFORMED", `nothing is known of ${topic}`)
            : verdict(state, known, slot, fact, context);
        }
        case "observed":
          if (event.organism === "tally") {
            const attribution = tryDecode(ATTRIBUTION, event.outcome.commitment);
            attributed(state, event.outcome.slot, attribution?.charges ?? []);
          }
          return undefined;
        case "skipped":
          return skipped(state, event.stage, event.slot);
      }
    },
    duties: (state, view) => offerDuties(config, state, view),
    skipAtMs: (stage, slot) => skipAtMs(config, stage, slot),
    hasInput: (state, _stage, slot, hash) => state.slots.get(slot)?.standings.has(toHex(hash)) === true,
    // Standings name everybody who bid, and what became of it.
    forGuests: (state, below) => ({ ...state, slots: new Map([...state.slots].filter(([slot]) => slot >= below)) }),
    collapse(state, slot) {
      for (const key of [...state.slots.keys()]) if (key < slot) state.slots.delete(key);
      forgetSearchers(state, slot);
      forgetDebts(state, slot);
    },
  };
}

/** What admission asks of the committee's state. */
function admissionContext(context: Context): AdmissionContext {
  return {
    rosterAt: (slot) => context.rosterAt(slot),
    open: (stage, slot) => context.open(stage, slot),
    unsealed: (slot) => (context.observed("unseal", "unsealed", slot)?.kind ?? "skipped") !== "skipped",
  };
}

function slotOf(state: State, slot: bigint): SlotState {
  const known = state.slots.get(slot);
  if (known !== undefined) return known;
  const fresh: SlotState = {
    bids: new Map(),
    standings: new Map(),
    nonces: new Map(),
    blindClosed: false,
    blindIds: [],
    phase: "bidding",
    contestants: [],
    slotShares: new Map(),
    opened: [],
    bundleShares: new Map(),
  };
  state.slots.set(slot, fresh);
  return fresh;
}

function withdraw(slotState: SlotState, id: Uint8Array): void {
  const key = toHex(id);
  const known = slotState.standings.get(key);
  slotState.bids.delete(key);
  if (known !== undefined) slotState.standings.set(key, { ...known, standing: "withdrawn" });
}

function isContestant(slotState: SlotState, id: Uint8Array): boolean {
  return slotState.contestants.some((other) => equalBytes(other, id));
}

/** The auction is over: what bids became is kept, what was sealed is dropped. */
function finish(slotState: SlotState, standing: (id: string) => Standing): void {
  for (const id of slotState.bids.keys()) {
    const known = slotState.standings.get(id);
    if (known !== undefined) slotState.standings.set(id, { ...known, standing: standing(id) });
  }
  slotState.bids.clear();
  slotState.nonces.clear();
  slotState.blindIds = [];
  slotState.contestants = [];
  slotState.slotShares.clear();
  slotState.bundleShares.clear();
  slotState.opened = [];
  slotState.blindClosed = true;
  slotState.phase = "done";
}

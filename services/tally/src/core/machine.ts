/**
 * tally's machine: attributes every slot, in order and without leaving one out, and batches what is owed for the
 * settlement contract. It never lets a slot expire: what cannot be found out yet is waited for.
 */
import { encode, equalBytes, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { type LatticeConfig, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { type Context, type Machine, type Refusal, refuse, type View } from "@lattice/organism/machine.ts";
import type { CandidateCommitment } from "@lattice/organism/outcomes/atelier.ts";
import { ATTRIBUTION, type AttributionCommitment, TALLY_STAGES } from "@lattice/organism/outcomes/tally.ts";
import { topicKind, topicOf } from "./attempt.ts";
import { closeBatchWhenDue, notePosted, openBatch, queueCharges, takeShare } from "./batch.ts";
import { hasLanded, judgeChainFact } from "./chain-fact.ts";
import { COLLECTED_WAITING_MAX, COMMAND, STATE } from "./codec.ts";
import { credit, emptyLedger, type Ledger } from "./ledger.ts";
import { candidateIn, incomeOf, kindOf, notLanded } from "./slot-attribution.ts";
import { STAGE, type TallyCommand, type TallyDuty, type TallyState } from "./types.ts";

/** How many slots a poster has before the next member tries as well. */
const POST_PATIENCE_SLOTS = 8;
/** Slots whose bodies are fetched ahead of their turn: atelier keeps 256, and the chain may be out of reach for a while. */
const BODIES_AHEAD = 192n;
/** What the contract can hold as a total. */
const TOTAL_MAX = (1n << 128n) - 1n;

export type TallyMachine = Machine<TallyState, TallyCommand, TallyDuty>;

export function createMachine(config: LatticeConfig, roster: Roster): TallyMachine {
  return {
    organism: "tally",
    stages: TALLY_STAGES,
    upstream: [
      { organism: "atelier", stage: "candidate" },
      { organism: "offer", stage: "auction" },
      { organism: "relay", stage: "accepted" },
    ],
    state: STATE,
    command: COMMAND,
    genesis: () => ({
      next: 1n,
      chain: undefined,
      scanned: undefined,
      landedNumber: 0n,
      collected: [],
      ledger: emptyLedger(),
      charges: [],
      charged: new Map(),
      sinceBatch: 0,
      postedBatch: 0n,
      batches: [],
      openLedger: undefined,
      postedLedger: undefined,
      slots: new Map(),
    }),

    apply(state, event, context) {
      switch (event.type) {
        case "command": {
          const signer = context.roster.members[event.author]?.signer;
          return takeShare(state, config, signer, event.author, event.command, context.nowMs);
        }
        case "agreed":
          switch (topicKind(event.topic)) {
            case "chain":
              return applyChain(state, config, context, event.slot, event.fact);
            case "attributed":
              return applyAttributed(state, config, context, event.slot, event.fact);
            case undefined:
              return refuse("MALFORMED", `no topic ${event.topic}`);
          }
          break;
        case "observed":
          passOver(state, config, context);
          return undefined;
        case "closed":
        case "skipped":
          return undefined;
      }
    },

    duties: (state, view) => [
      ...slotDuties(state, config, view),
      ...batchDuties(state, config, roster, view),
      ...bodyDuties(state, view),
    ],
    skipAtMs: () => undefined,
    hasInput: () => false,
    // What an attribution was computed from, and who signed batches that are over.
    forGuests(state, below) {
      const open = openBatch(state);
      return {
        ...state,
        batches: state.batches.map((batch) => (batch === open ? batch : { ...batch, signatures: new Map() })),
        slots: new Map([...state.slots].filter(([slot]) => slot >= below)),
      };
    },
    collapse(state, slot) {
      for (const key of [...state.slots.keys()]) if (key < slot) state.slots.delete(key);
    },
  };
}

/** q members saw the same chain. */
function applyChain(
  state: TallyState,
  config: LatticeConfig,
  context: Context,
  slot: bigint,
  bytes: Uint8Array,
): Refusal | undefined {
  if (slot !== state.next || state.chain !== undefined) return refuse("OUT_OF_TURN", `slot ${slot} is not waited for`);
  const candidate = candidateIn(context.observed("atelier", "candidate", slot));
  const fact = candidate === undefined ? undefined : judgeChainFact(state, candidate, bytes);
  if (candidate === undefined || fact === undefined) return refuse("BAD_FACT", `slot ${slot}: not this chain's word`);
  if (state.collected.length + fact.collected.length > COLLECTED_WAITING_MAX) {
    return refuse("BAD_FACT", `slot ${slot}: more charges than there can be`);
  }
  state.collected.push(...fact.collected);
  for (const event of fact.posted) notePosted(state, event);
  state.scanned = fact.scanned;
  if (hasLanded(state, candidate, fact)) {
    state.chain = fact;
    return undefined;
  }
  decide(state, config, context, notLanded(candidate));
  passOver(state, config, context);
  return undefined;
}

/** q members computed the same attribution. */
function applyAttributed(
  state: TallyState,
  config: LatticeConfig,
  context: Context,
  slot: bigint,
  bytes: Uint8Array,
): Refusal | undefined {
  if (slot !== state.next || state.chain === undefined) return refuse("OUT_OF_TURN", `slot ${slot} is not waited for`);
  const candidate = candidateIn(context.observed("atelier", "candidate", slot));
  const attribution = tryDecode(ATTRIBUTION, bytes);
  if (candidate === undefined || attribution === undefined || !fits(state, candidate, attribution)) {
    return refuse("BAD_FACT", `slot ${slot}: the attribution does not fit the block`);
  }
  credit(state.ledger, attribution);
  queueCharges(state, slot, attribution.charges);
  state.slots.set(slot, { collected: state.collected, scanned: state.scanned?.number ?? 0n });
  state.collected = [];
  state.landedNumber = candidate.blockNumber;
  state.chain = undefined;
  decide(state, config, context, attribution);
  passOver(state, config, context);
  return undefined;
}

/** The block, the income and the sum are those of certified outcomes; the distribution is q members' word. */
function fits(state: TallyState, candidate: CandidateCommitment, attribution: AttributionCommitment): boolean {
  const { landed, blockHash, parentHash, blockNumber, refundableWei, remainderWei, credits } = attribution;
  const credited = credits.reduce((total, { wei }) => total + wei, 0n);
  return (
    landed &&
    equalBytes(blockHash, candidate.blockHash) &&
    equalBytes(parentHash, candidate.parentHash) &&
    blockNumber === candidate.blockNumber &&
    refundableWei === incomeOf(candidate, state.collected) &&
    credited + remainderWei === refundableWei &&
    sumOf(state.ledger) + refundableWei <= TOTAL_MAX
  );
}

function sumOf(ledger: Ledger): bigint {
  return ledger.total + ledger.remainder;
}

/** Slots without a certified candidate have nothing to wait for. */
function passOver(state: TallyState, config: LatticeConfig, context: Context): void {
  for (;;) {
    const outcome = context.observed("atelier", "candidate", state.next);
    if (outcome === undefined || candidateIn(outcome) !== undefined) return;
    decide(state, config, context, notLanded(undefined));
  }
}

/** Ends slot `next`. */
function decide(state: TallyState, config: LatticeConfig, context: Context, attribution: AttributionCommitment): void {
  const slot = state.next;
  context.decide({ stage: STAGE, slot, kind: kindOf(attribution), commitment: encode(ATTRIBUTION, attribution) });
  state.next += 1n;
  state.sinceBatch += 1;
  closeBatchWhenDue(state, config, slot);
}

function slotDuties(state: TallyState, config: LatticeConfig, view: View): TallyDuty[] {
  const slot = state.next;
  const candidate = candidateIn(view.observed("atelier", "candidate", slot));
  if (candidate === undefined || view.nowMs < slotStartMs(config, slot)) return [];
  const type = state.chain === undefined ? "read-chain" : "attribute";
  const topic = topicOf(config, type === "read-chain" ? "chain" : "attributed", slot, view.nowMs);
  if (view.said(topic, slot) !== undefined) return [];
  const waiting = candidate.auction !== undefined && view.observed("offer", "auction", slot) === undefined;
  if (type === "attribute" && waiting) return [];
  return [{ type, key: `${topic}/${slot}`, slot, topic, promise: false }];
}

function batchDuties(state: TallyState, config: LatticeConfig, roster: Roster, view: View): TallyDuty[] {
  const open = openBatch(state);
  if (open === undefined) return [];
  const { batch } = open.attestation;
  const duties: TallyDuty[] = [];
  if (open.signedAtMs === 0) {
    const signs = roster.members[view.self]?.signer !== undefined && !open.signatures.has(view.self);
    if (signs) duties.push({ type: "attest", key: `attest/${batch}`, slot: open.slot, batch, promise: true });
  } else {
    const members = view.quorum.members;
    const rank = (view.self + members - Number(batch % BigInt(members))) % members;
    const turnMs = open.signedAtMs + rank * POST_PATIENCE_SLOTS * config.slotMs;
    if (view.nowMs >= turnMs)
      duties.push({ type: "post", key: `post/${batch}`, slot: open.slot, batch, promise: false });
  }
  return duties;
}

function bodyDuties(state: TallyState, view: View): TallyDuty[] {
  const duties: TallyDuty[] = [];
  for (let slot = state.next; slot < state.next + BODIES_AHEAD; slot++) {
    if (view.observed("atelier", "candidate", slot)?.kind !== "result") continue;
    duties.push({ type: "keep-body", key: `keep-body/${slot}`, slot, promise: false });
  }
  return duties;
}

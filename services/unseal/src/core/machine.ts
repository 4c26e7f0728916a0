/**
 * unseal's state machine: the freeze record first, then shares, then what members agree the messages say.
 *
 * One departure from "refused without any change of state": a share before the freeze, or a second, different share,
 * is refused *and* recorded as evidence, on every member alike, at most once per member and kind in a slot.
 */
import { compareBytes, equalBytes, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { type Roster, sealingThreshold } from "@lattice/organism/committee/roster.ts";
import { assertNever } from "@lattice/organism/fault.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import {
  type Context,
  type Machine,
  type MachineEvent,
  type Refusal,
  refuse,
  type View,
} from "@lattice/organism/machine.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import { UNSEAL_STAGES, UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { COMMAND, evidenceDigest, NO_BLIND_FACT, OPENED_FACT, STATE, sealedShareBytes } from "./codec.ts";
import { emptyRound } from "./round.ts";
import { freezeStepMs, slotTimes } from "./timing.ts";
import {
  type Evidence,
  NO_BLIND_TOPIC,
  OPENED_TOPIC,
  type SlotRecord,
  type UnsealCommand,
  type UnsealDuty,
  type UnsealState,
} from "./types.ts";

export const STAGE = "unsealed";

const EMPTY = new Uint8Array();

type FreezeCommand = Extract<UnsealCommand, { type: "freeze" }>;
type ShareCommand = Extract<UnsealCommand, { type: "share" }>;

export function createMachine(config: LatticeConfig): Machine<UnsealState, UnsealCommand, UnsealDuty> {
  const { gapSlots } = config.unseal.content;

  const thresholdOf = (roster: Roster): number => sealingThreshold(config, "unseal", roster);

  function record(state: UnsealState, slot: bigint): SlotRecord {
    let found = state.slots.get(slot);
    if (found === undefined) {
      found = emptyRecord();
      state.slots.set(slot, found);
    }
    return found;
  }

  /** Nothing is opened while nobody can build. A lattice that has just begun has built nothing yet. */
  function gateOpen(state: UnsealState, slot: bigint): boolean {
    const gap = BigInt(gapSlots);
    return slot <= gap || (state.candidateSlot !== undefined && state.candidateSlot + gap >= slot);
  }

  /** Why nothing more may be said about the slot; undefined while it is undecided and in the window. */
  function closedFor(slot: bigint, context: Context): Refusal | undefined {
    if (context.open(STAGE, slot)) return undefined;
    if (context.outcome(STAGE, slot) !== undefined) return refuse("SLOT_DECIDED", `slot ${slot} is decided`);
    return refuse("SLOT_OUT_OF_WINDOW", `slot ${slot} is not being worked on`);
  }

  function wrongEpoch(slot: bigint, epoch: bigint, roster: Roster): Refusal | undefined {
    if (epoch !== roster.epoch) return refuse("WRONG_EPOCH", `epoch ${epoch}, the roster's is ${roster.epoch}`);
    if (slot < roster.activationSlot || slot > roster.sealingUntilSlot) {
      return refuse("WRONG_EPOCH", `the sealing key of epoch ${epoch} does not serve slot ${slot}`);
    }
    return undefined;
  }

  function applyFreeze(state: UnsealState, command: FreezeCommand, context: Context): Refusal | undefined {
    const { slot } = command;
    const refusal = wrongEpoch(slot, command.epoch, context.rosterAt(slot)) ?? closedFor(slot, context);
    if (refusal !== undefined) return refusal;
    const known = state.slots.get(slot);
    if (known?.freeze !== undefined) return refuse("FREEZE_STANDS", `slot ${slot} is frozen`);
    const broadcast = context.observed("zipnet", "broadcast", slot);
    if (broadcast?.kind !== "result" || !equalBytes(outcomeDigest(broadcast), command.broadcast)) {
      return refuse("FREEZE_UNCERTIFIED", `no such Broadcast of slot ${slot} has been observed`);
    }
    const blind = context.observed("offer", "blind", slot);
    if (blind !== undefined) {
      // Once certified it counts, whatever was missing earlier: nobody may drop the blind bids by choice.
      if (command.blind === undefined || !equalBytes(outcomeDigest(blind), command.blind)) {
        return refuse("FREEZE_UNCERTIFIED", `the record does not name the observed BlindClosed of slot ${slot}`);
      }
    } else if (command.blind !== undefined || known?.noBlind !== true) {
      return refuse("FREEZE_UNCERTIFIED", `neither BlindClosed nor a quorum's NoBlind of slot ${slot} is here`);
    }
    if (!gateOpen(state, slot)) return refuse("GATE_CLOSED", `no candidate since slot ${slot - BigInt(gapSlots)}`);
    if (context.nowMs >= slotTimes(config, slot).expiryMs) return refuse("PAST_DEADLINE", `slot ${slot} has expired`);
    record(state, slot).freeze = { position: context.position, broadcast: command.broadcast, blind: command.blind };
    return undefined;
  }

  function keepEvidence(target: SlotRecord, found: Evidence): void {
    if (target.evidence.some(({ member, kind }) => member === found.member && kind === found.kind)) return;
    target.evidence.push(found);
  }

  function applyShare(
    state: UnsealState,
    author: number,
    command: ShareCommand,
    context: Context,
  ): Refusal | undefined {
    const { slot, sealed } = command;
    const { position } = context;
    const retained = slot >= state.retainedFrom && (context.open(STAGE, slot) || context.outcome(STAGE, slot));
    if (!retained) return closedFor(slot, context) ?? refuse("SLOT_OUT_OF_WINDOW", `slot ${slot} is forgotten`);
    const known = state.slots.get(slot);
    if (known?.freeze === undefined) {
      const digest = evidenceDigest(command);
      keepEvidence(record(state, slot), { member: author, kind: "share-before-freeze", position, digest });
      return refuse(
        "SHARE_BEFORE_FREEZE",
        `member ${author} released a share of slot ${slot} before its freeze record`,
      );
    }
    const earlier = known.shares.get(author);
    if (earlier !== undefined) {
      if (equalBytes(earlier, sealed)) return refuse("DUPLICATE", `member ${author}'s share of slot ${slot} is here`);
      keepEvidence(known, { member: author, kind: "share-conflict", position, digest: evidenceDigest(command) });
      return refuse("SHARE_CONFLICT", `member ${author} released two different shares of slot ${slot}`);
    }
    const refusal = wrongEpoch(slot, command.epoch, context.rosterAt(slot)) ?? closedFor(slot, context);
    if (refusal !== undefined) return refusal;
    const { members } = context.quorumAt(slot);
    if (author >= members) return refuse("NOT_AUTHOR", `member ${author} is none of slot ${slot}`);
    if (sealed.length !== sealedShareBytes(members)) {
      return refuse("MALFORMED", `a share boxed to ${members} members has another length`);
    }
    if (context.nowMs >= slotTimes(config, slot).expiryMs) return refuse("PAST_DEADLINE", `slot ${slot} has expired`);
    known.shares.set(author, sealed);
    return undefined;
  }

  /** Nothing was broadcast: decided without a freeze or shares, over the same two outcomes. */
  function settleEmpty(state: UnsealState, slot: bigint, context: Context): void {
    const broadcast = context.observed("zipnet", "broadcast", slot);
    if (broadcast?.kind !== "empty" || !context.open(STAGE, slot)) return;
    const blind = context.observed("offer", "blind", slot);
    if (blind === undefined && state.slots.get(slot)?.noBlind !== true) return;
    const commitment = emptyRound(outcomeDigest(broadcast), blind === undefined ? undefined : outcomeDigest(blind));
    context.decide({ stage: STAGE, slot, kind: "empty", commitment });
  }

  function applyObserved(state: UnsealState, outcome: Outcome, context: Context): Refusal | undefined {
    const { slot, kind } = outcome;
    switch (outcome.stage) {
      case "broadcast":
        if (kind === "skipped") context.decide({ stage: STAGE, slot, kind: "skipped", commitment: EMPTY });
        else if (slot >= state.retainedFrom) record(state, slot);
        settleEmpty(state, slot, context);
        return undefined;
      case "blind":
        settleEmpty(state, slot, context);
        return undefined;
      case "candidate":
        if (kind === "skipped") return undefined;
        if (state.candidateSlot === undefined || slot > state.candidateSlot) state.candidateSlot = slot;
        return undefined;
      case "attribution": {
        const attribution = tryDecode(ATTRIBUTION, outcome.commitment);
        if (attribution?.landed === true) markLanded(state, slot, attribution.landedMessages, context);
        return undefined;
      }
      default:
        return refuse("MALFORMED", `unseal does not follow stage ${outcome.stage}`);
    }
  }

  /**
   * A landed message id belongs to the attributed slot when that slot unsealed it; else to the one earlier slot that
   * did, from which it was carried. If several did, to none: ids are public after the broadcast, and whoever reuses
   * one must not bring about the opening of somebody else's message that never landed.
   */
  function markLanded(state: UnsealState, slot: bigint, ids: readonly Uint8Array[], context: Context): void {
    const wanted = new Map(ids.map((id) => [toHex(id), id]));
    const take = (from: bigint, owned: readonly Uint8Array[]): void => {
      if (owned.length === 0) return;
      const target = record(state, from);
      const all = new Map([...target.landed, ...owned].map((id) => [toHex(id), id]));
      target.landed = [...all.values()].sort(compareBytes);
    };
    const unsealedIn = (from: bigint): Uint8Array[] => {
      const outcome = from < state.retainedFrom ? undefined : context.outcome(STAGE, from);
      const commitment = outcome?.kind === "result" ? tryDecode(UNSEALED, outcome.commitment) : undefined;
      return (commitment?.messages ?? []).map(({ messageId }) => messageId).filter((id) => wanted.has(toHex(id)));
    };
    const own = unsealedIn(slot);
    take(slot, own);
    for (const id of own) wanted.delete(toHex(id));
    if (wanted.size === 0) return;
    const homes = new Map<string, bigint[]>();
    for (const from of state.slots.keys()) {
      if (from >= slot) continue;
      for (const id of unsealedIn(from)) homes.set(toHex(id), [...(homes.get(toHex(id)) ?? []), from]);
    }
    for (const [key, slots] of homes) {
      const id = wanted.get(key);
      const [home] = slots;
      if (slots.length === 1 && home !== undefined && id !== undefined) take(home, [id]);
    }
  }

  function applyOpened(state: UnsealState, slot: bigint, raw: Uint8Array, context: Context): Refusal | undefined {
    const closed = closedFor(slot, context);
    if (closed !== undefined) return closed;
    const known = state.slots.get(slot);
    if (known?.freeze === undefined || known.shares.size < thresholdOf(context.rosterAt(slot))) {
      return refuse("FREEZE_MISSING", `slot ${slot} cannot have been opened yet`);
    }
    const fact = tryDecode(OPENED_FACT, raw);
    const round = fact === undefined ? undefined : tryDecode(UNSEALED, fact.commitment);
    if (fact === undefined || round === undefined) return refuse("FACT_MISMATCH", "not an unsealed round");
    const { freeze } = known;
    const sameBlind =
      round.blind === undefined || freeze.blind === undefined
        ? round.blind === freeze.blind
        : equalBytes(round.blind, freeze.blind);
    if (!equalBytes(round.broadcast, freeze.broadcast) || !sameBlind) {
      return refuse("FACT_MISMATCH", `not a round of what slot ${slot} was frozen over`);
    }
    const opened = round.messages.length > 0;
    if (opened !== (fact.bodyHash !== undefined))
      return refuse("FACT_MISMATCH", "messages and body do not go together");
    context.decide({
      stage: STAGE,
      slot,
      kind: opened ? "result" : "empty",
      commitment: fact.commitment,
      ...(fact.bodyHash === undefined ? {} : { bodyHash: fact.bodyHash }),
    });
    return undefined;
  }

  function applyAgreed(
    state: UnsealState,
    topic: string,
    slot: bigint,
    fact: Uint8Array,
    context: Context,
  ): Refusal | undefined {
    if (topic === OPENED_TOPIC) return applyOpened(state, slot, fact, context);
    if (topic !== NO_BLIND_TOPIC) return refuse("MALFORMED", "unknown topic");
    if (!equalBytes(fact, NO_BLIND_FACT)) return refuse("MALFORMED", "not the fact of this topic");
    const closed = closedFor(slot, context);
    if (closed !== undefined) return closed;
    record(state, slot).noBlind = true;
    settleEmpty(state, slot, context);
    return undefined;
  }

  /** The freeze record, or what it waits for. */
  function freezeDuty(state: UnsealState, slot: bigint, known: SlotRecord, view: View): UnsealDuty | undefined {
    const { nowMs, self } = view;
    const times = slotTimes(config, slot);
    const broadcast = view.observed("zipnet", "broadcast", slot);
    if (broadcast === undefined || broadcast.kind === "skipped") return undefined;
    const blind = view.observed("offer", "blind", slot);
    if (blind === undefined && !known.noBlind) {
      if (nowMs < times.noBlindMs || view.said(NO_BLIND_TOPIC, slot) !== undefined) return undefined;
      return { kind: "no-blind", key: `no-blind/${slot}/0`, slot, promise: false };
    }
    if (broadcast.kind !== "result" || !gateOpen(state, slot)) return undefined;
    const roster = view.rosterAt(slot);
    if (wrongEpoch(slot, roster.epoch, roster) !== undefined) return undefined;
    // The slot's first member logs the record as soon as it can; the others step in from the shares' time on.
    const { members } = view.quorumAt(slot);
    const rank = (self - Number(slot % BigInt(members)) + members) % members;
    if (rank > 0 && nowMs < times.sharesMs + (rank - 1) * freezeStepMs(config)) return undefined;
    return {
      kind: "freeze",
      key: `freeze/${slot}/0`,
      slot,
      promise: false,
      broadcast: outcomeDigest(broadcast),
      blind: blind === undefined ? undefined : outcomeDigest(blind),
    };
  }

  function dutiesOf(state: UnsealState, slot: bigint, known: SlotRecord, view: View): UnsealDuty[] {
    const times = slotTimes(config, slot);
    // Past its deadline a slot stays sealed, and so does what an outage left half opened.
    if (view.nowMs >= times.expiryMs) return [];
    const outcome = view.outcome(STAGE, slot);
    if (known.freeze === undefined) {
      const duty = outcome === undefined ? freezeDuty(state, slot, known, view) : undefined;
      return duty === undefined ? [] : [duty];
    }
    const duties: UnsealDuty[] = [];
    if (outcome === undefined && !known.shares.has(view.self) && view.nowMs >= times.sharesMs) {
      duties.push({ kind: "share", key: `share/${slot}/${view.rosterAt(slot).epoch}`, slot, promise: true });
    }
    // Also after the others have decided: every member should hold the body and the openings.
    const readable = known.shares.size >= thresholdOf(view.rosterAt(slot)) && outcome?.kind !== "skipped";
    if (readable && view.said(OPENED_TOPIC, slot) === undefined) {
      duties.push({ kind: "open", key: `opened/${slot}/0`, slot, promise: true });
    }
    return duties;
  }

  return {
    organism: "unseal",
    stages: UNSEAL_STAGES,
    upstream: [
      { organism: "zipnet", stage: "broadcast" },
      { organism: "offer", stage: "blind" },
      { organism: "atelier", stage: "candidate" },
      { organism: "tally", stage: "attribution" },
    ],
    state: STATE,
    command: COMMAND,
    genesis: () => ({ version: 1, retainedFrom: 0n, candidateSlot: undefined, slots: new Map() }),
    apply(state, event: MachineEvent<UnsealCommand>, context) {
      switch (event.type) {
        case "command":
          return event.command.type === "freeze"
            ? applyFreeze(state, event.command, context)
            : applyShare(state, event.author, event.command, context);
        case "agreed":
          return applyAgreed(state, event.topic, event.slot, event.fact, context);
        case "observed":
          return applyObserved(state, event.outcome, context);
        case "skipped":
          // The slot stays sealed: the boxed shares have no further use here.
          state.slots.get(event.slot)?.shares.clear();
          return undefined;
        case "closed":
          return refuse("MALFORMED", "unseal closes nothing");
        default:
          return assertNever(event);
      }
    },
    duties: (state, view) => [...state.slots].flatMap(([slot, known]) => dutiesOf(state, slot, known, view)),
    skipAtMs: (_stage, slot) => slotTimes(config, slot).expiryMs,
    hasInput: () => false,
    // That there was a record is kept: what landed later is looked for in the slots that have one.
    forGuests: (state, below) => ({
      ...state,
      slots: new Map([...state.slots].map(([slot, known]) => [slot, slot < below ? emptyRecord() : known])),
    }),
    collapse(state, slot) {
      for (const old of [...state.slots.keys()]) if (old < slot) state.slots.delete(old);
      if (slot > state.retainedFrom) state.retainedFrom = slot;
    },
  };
}

function emptyRecord(): SlotRecord {
  return { freeze: undefined, noBlind: false, shares: new Map(), evidence: [], landed: [] };
}

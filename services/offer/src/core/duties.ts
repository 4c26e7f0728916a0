/**
 * What a member should do next, from state, the log and its own clock alone.
 *
 * A slot share is due only once the seen close is in the log; a bundle share only for bids that q members agreed to
 * open. After a slot's deadline its member lets it expire: it shares nothing more (log.md §5).
 */

import { toHex } from "@lattice/organism/codec/codec.ts";
import { sealingThreshold } from "@lattice/organism/committee/roster.ts";
import { type LatticeConfig, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { View } from "@lattice/organism/machine.ts";
import {
  type CloseStage,
  ESCROW_TOPIC,
  type OfferDuty,
  type SlotState,
  type State,
  type VerdictTopic,
} from "./types.ts";

/** When bids of a class are no longer in time, Unix ms. */
export function closeAtMs(config: LatticeConfig, stage: CloseStage, slot: bigint): number {
  const { blindCloseMs, seenCloseMs } = config.offer.content;
  return slotStartMs(config, slot) - (stage === "blind" ? blindCloseMs : seenCloseMs);
}

/** A stage not decided this long after its close is let go: twice the patience, so that a retry fits in. */
export function skipAtMs(config: LatticeConfig, stage: string, slot: bigint): number | undefined {
  const { patienceMs } = config.offer.content;
  if (stage === "blind") return closeAtMs(config, "blind", slot) + 2 * patienceMs;
  if (stage === "auction") return closeAtMs(config, "seen", slot) + 2 * patienceMs;
  return undefined;
}

/** Slots that one call looks at, at most: the rest is past its deadline or not due. */
const SLOTS_AT_ONCE = 32n;

export function offerDuties(config: LatticeConfig, state: State, view: View): OfferDuty[] {
  const duties: OfferDuty[] = [];
  const inTime = (stage: "blind" | "auction", slot: bigint): boolean =>
    view.outcome(stage, slot) === undefined && view.nowMs < (skipAtMs(config, stage, slot) ?? 0);

  const from = firstLive(config, view, "blind");
  for (let slot = from; slot < from + SLOTS_AT_ONCE && view.nowMs >= closeAtMs(config, "blind", slot); slot++) {
    if (inTime("blind", slot) && !view.hasClosed("blind", slot)) duties.push(closeDuty("blind", slot));
  }
  const fromSeen = firstLive(config, view, "auction");
  for (let slot = fromSeen; slot < fromSeen + SLOTS_AT_ONCE && view.nowMs >= closeAtMs(config, "seen", slot); slot++) {
    if (!inTime("auction", slot)) continue;
    // Without the unsealed round nobody knows whether the blind bids stand.
    const known = view.outcome("blind", slot) !== undefined && view.observed("unseal", "unsealed", slot) !== undefined;
    if (known && !view.hasClosed("seen", slot)) duties.push(closeDuty("seen", slot));
    const slotState = state.slots.get(slot);
    if (slotState !== undefined) duties.push(...auctionDuties(config, slot, slotState, view));
  }

  const { query } = state;
  if (
    query !== undefined &&
    view.nowMs < closeAtMs(config, "seen", query.slot) &&
    view.said(ESCROW_TOPIC, query.slot) === undefined
  ) {
    duties.push({ type: "escrow", key: `escrow/${query.slot}/0`, slot: query.slot, promise: false, query });
  }
  return duties;
}

function auctionDuties(config: LatticeConfig, slot: bigint, slotState: SlotState, view: View): OfferDuty[] {
  const threshold = sealingThreshold(config, "offer", view.rosterAt(slot));
  if (slotState.phase === "closed" && slotState.contestants.length > 0) {
    const share: OfferDuty = { type: "slot-share", key: `slot-share/${slot}/0`, slot, promise: true, lane: "ctl" };
    return [
      ...(slotState.slotShares.has(view.self) ? [] : [share]),
      ...(slotState.slotShares.size >= threshold ? verdictDuty("ranked", slot, view) : []),
    ];
  }
  if (slotState.phase !== "opening" && slotState.phase !== "reopened") return [];
  const shares = slotState.opened.flatMap((bidId): OfferDuty[] => {
    if (slotState.bundleShares.get(toHex(bidId))?.has(view.self) === true) return [];
    const key = `bundle-share/${slot}/${toHex(bidId)}`;
    return [{ type: "bundle-share", key, slot, promise: true, lane: "ctl", bidId }];
  });
  const ready = slotState.opened.every((id) => (slotState.bundleShares.get(toHex(id))?.size ?? 0) >= threshold);
  const topic = slotState.phase === "opening" ? "checked" : "rechecked";
  return [...shares, ...(ready ? verdictDuty(topic, slot, view) : [])];
}

function verdictDuty(topic: VerdictTopic, slot: bigint, view: View): OfferDuty[] {
  if (view.said(topic, slot) !== undefined) return [];
  return [{ type: "verdict", key: `${topic}/${slot}/0`, slot, promise: false, topic }];
}

function closeDuty(stage: CloseStage, slot: bigint): OfferDuty {
  return { type: "close", key: `close-${stage}/${slot}/0`, slot, promise: false, stage };
}

/** The lowest undecided slot that is not past its deadline by this member's clock. */
function firstLive(config: LatticeConfig, view: View, stage: "blind" | "auction"): bigint {
  const floor = view.floor(stage);
  const behindMs = view.nowMs - (skipAtMs(config, stage, floor) ?? 0);
  return behindMs < 0 ? floor : floor + BigInt(Math.floor(behindMs / config.slotMs)) + 1n;
}

/** Who proposes when, and until when anybody judges. Pure. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { type LatticeConfig, slotAt, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { View } from "@lattice/organism/machine.ts";
import { type AtelierDuty, type AtelierState, CANDIDATE_TOPIC, type SlotRecord, STAGE } from "./types.ts";

/** Slots before the running one in which a slow member still executes what was decided, so that it holds the body. */
const SLOTS_JUDGED = 2n;
/** Slots ahead of the running one that are built. */
const SLOTS_AHEAD = 2n;

/** 0 for the slot's proposer, then in turn. */
export function rankOf(self: number, slot: bigint, members: number): number {
  return (self - Number(slot % BigInt(members)) + members) % members;
}

/**
 * When a slot that nobody built expires, Unix ms. The sequencer waits for a quarter of the slot at most; the rest is
 * for a late candidate, which still tells unseal that somebody builds.
 */
export function expiryMs(config: LatticeConfig, slot: bigint): number {
  return slotStartMs(config, slot) + Math.floor(config.slotMs / 2) + 2 * config.atelier.content.patienceMs;
}

/** From when on a member of this rank proposes, Unix ms: the first at once, the others one patience after another. */
export function proposesFromMs(config: LatticeConfig, slot: bigint, rank: number, readyMs: number): number {
  if (rank === 0) return 0;
  const { candidateMs, patienceMs } = config.atelier.content;
  const missed = Math.max(slotStartMs(config, slot) - candidateMs, readyMs + patienceMs);
  return missed + (rank - 1) * patienceMs;
}

export function dutiesOf(config: LatticeConfig, state: AtelierState, view: View): AtelierDuty[] {
  const now = slotAt(config, view.nowMs);
  const duties: AtelierDuty[] = [];
  for (let slot = now - SLOTS_JUDGED; slot <= now + SLOTS_AHEAD; slot++) {
    const record = state.slots.get(slot);
    if (record !== undefined) duties.push(...slotDuties(config, slot, record, view));
  }
  return duties;
}

function slotDuties(config: LatticeConfig, slot: bigint, record: SlotRecord, view: View): AtelierDuty[] {
  const outcome = view.outcome(STAGE, slot);
  const parentHash = record.attributes.at(-1)?.parentHash;
  if (outcome?.kind === "skipped" || parentHash === undefined) return [];
  if (view.said(CANDIDATE_TOPIC, slot) !== undefined) return [];
  const duties: AtelierDuty[] = [];
  if (record.proposals.some(({ sealedBody }) => sealedBody.length > 0)) {
    duties.push({ type: "judge", key: `candidate/${slot}/0`, slot, promise: true });
  }
  const key = `proposal/${slot}/${toHex(parentHash.subarray(0, 16))}/0`;
  const rank = rankOf(view.self, slot, view.quorumAt(slot).members);
  const due = record.readyMs !== undefined && view.nowMs >= proposesFromMs(config, slot, rank, record.readyMs);
  const open = outcome === undefined && view.nowMs < expiryMs(config, slot);
  const own = record.proposals.some(
    (proposal) => proposal.author === view.self && toHex(proposal.parentHash) === toHex(parentHash),
  );
  if (due && open && !own) duties.push({ type: "propose", key, slot, parentHash, promise: true, lane: "bulk" });
  return duties;
}

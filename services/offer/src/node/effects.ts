/** Carries out duties: closes, key shares, openings, readings of the chain. */
import { encode, equalBytes, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import type { Submission } from "@lattice/organism/machine.ts";
import { errorFields } from "@lattice/organism/observe/logger.ts";
import { AUCTION_BODY } from "@lattice/organism/outcomes/offer.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import type { MemberHost } from "@lattice/organism/service.ts";
import type { Settings } from "../config.ts";
import { rulesOf } from "../core/auction.ts";
import { bundleIdentity, slotIdentity } from "../core/bid.ts";
import { escrowFact } from "../core/escrow.ts";
import { type Judged, judgeBundle, type Pool } from "../core/judgement.ts";
import type { Command, EscrowQuery, LiveBid, OfferDuty, SlotState, State, VerdictTopic } from "../core/types.ts";
import { encodeVerdict, propose } from "../core/verdict.ts";
import type { EscrowReader } from "./clients.ts";
import type { OpenedValues, Openings } from "./openings.ts";
import type { ReceivedBids } from "./received.ts";

export type OfferHost = MemberHost<State, Command, Settings>;

/** A reading that failed is tried again after this long. */
const CHAIN_PAUSE_MS = 500;

/** In which phase each verdict is due. */
const PHASE_OF = { ranked: "closed", checked: "opening", rechecked: "reopened" } as const;

export interface Effects {
  execute(duty: OfferDuty): Promise<Submission<Command> | undefined>;
  /** Lets go of what belongs to slots below. */
  forget(belowSlot: bigint): void;
}

export function createEffects(
  host: OfferHost,
  parts: {
    readonly openings: Openings;
    readonly received: ReceivedBids;
    readonly escrow: EscrowReader | undefined;
    readonly stopped: AbortSignal;
  },
): Effects {
  const { config } = host;
  const { openings, received, escrow, stopped } = parts;
  const { patienceMs, bundleBytes } = config.offer.content;
  const rules = rulesOf(config);
  const { committee } = host;
  /** By slot, and of which contestants: after a generation of the log has ended they may be others. */
  const values = new Map<bigint, { readonly of: string; readonly opened: OpenedValues }>();
  const bundles = new Map<bigint, Map<string, Judged<Uint8Array>>>();
  let chainPauseUntilMs = 0;

  function slotShare(slot: bigint): Submission<Command> | undefined {
    const slotState = host.state().slots.get(slot);
    if (slotState?.phase !== "closed" || slotState.contestants.length === 0) return undefined;
    const box = openings.shareOf("slot", slot, slotIdentity({ committee, epoch: host.rosterAt(slot).epoch, slot }));
    return { type: "machine", command: { type: "slotShare", slot, box } };
  }

  function bundleShare(slot: bigint, bidId: Uint8Array): Submission<Command> | undefined {
    const slotState = host.state().slots.get(slot);
    const bid = slotState?.bids.get(toHex(bidId));
    // The duty says so too; a losing bundle must stay shut even if the duty were wrong.
    const due = slotState?.opened.some((id) => equalBytes(id, bidId)) === true;
    if (bid === undefined || !due) return undefined;
    const box = openings.shareOf("bundle", slot, bundleIdentity(bid.context));
    return { type: "machine", command: { type: "bundleShare", slot, bidId, box } };
  }

  function poolOf(slot: bigint): Pool {
    const unsealed = host.observed("unseal", "unsealed", slot);
    const round = unsealed === undefined ? undefined : tryDecode(UNSEALED, unsealed.commitment);
    return new Map((round?.messages ?? []).map((message) => [toHex(message.messageId), message.disclosed]));
  }

  async function openedValues(slot: bigint, slotState: SlotState, pool: Pool): Promise<OpenedValues | undefined> {
    const of = slotState.contestants.map(toHex).join();
    const known = values.get(slot);
    if (known?.of === of) return known.opened;
    const bids = slotState.contestants.flatMap((id) => slotState.bids.get(toHex(id)) ?? []);
    const opened = await openings.values(slot, bids, new Map(slotState.slotShares), pool, rules);
    if (opened !== undefined) values.set(slot, { of, opened });
    return opened;
  }

  /** What the opened bundles hold; undefined while a key is missing. */
  async function openedBundles(
    slot: bigint,
    winners: readonly { readonly bid: LiveBid; readonly boxes: ReadonlyMap<number, Uint8Array> }[],
    { valid }: OpenedValues,
    pool: Pool,
  ): Promise<ReadonlyMap<string, Judged<Uint8Array>> | undefined> {
    const known = bundles.get(slot) ?? new Map<string, Judged<Uint8Array>>();
    bundles.set(slot, known);
    for (const { bid, boxes } of winners) {
      const key = toHex(bid.id);
      const promised = valid.find((each) => equalBytes(each.bidId, bid.id));
      if (known.has(key) || promised === undefined) continue;
      const opened = await openings.bundle(slot, bid, boxes);
      if (opened === undefined) return undefined;
      known.set(key, judgeBundle(bid, promised, opened.plain, pool, bundleBytes));
    }
    // No others: they may have been opened in a generation that is over, and are not in this one.
    return new Map([...known].filter(([key]) => winners.some(({ bid }) => toHex(bid.id) === key)));
  }

  async function verdict(topic: VerdictTopic, slot: bigint): Promise<Submission<Command> | undefined> {
    const slotState = host.state().slots.get(slot);
    if (slotState?.phase !== PHASE_OF[topic]) return undefined;
    const winners = slotState.opened.flatMap((id) => {
      const bid = slotState.bids.get(toHex(id));
      return bid === undefined ? [] : [{ bid, boxes: new Map(slotState.bundleShares.get(toHex(id))) }];
    });
    const takesBlind = slotState.contestants.some((id) => slotState.bids.get(toHex(id))?.context.class === "blind");
    const closed = takesBlind ? host.outcome("blind", slot) : undefined;
    const pool = poolOf(slot);
    const opened = await openedValues(slot, slotState, pool);
    const held = opened === undefined ? undefined : await openedBundles(slot, winners, opened, pool);
    if (opened === undefined || held === undefined) return undefined;
    const proposal = propose({
      ...opened,
      rules,
      blind: closed === undefined ? undefined : outcomeDigest(closed),
      bundles: held,
      reopened: topic === "rechecked",
    });
    if (proposal.type === "open") return { type: "saw", topic, slot, fact: encodeVerdict(proposal) };
    const { auction, body } = proposal;
    const bodyHash = body.length === 0 ? undefined : await host.bodies.put(slot, encode(AUCTION_BODY, body));
    return { type: "saw", topic, slot, fact: encodeVerdict({ type: "final", auction, bodyHash }) };
  }

  async function readEscrow(query: EscrowQuery): Promise<Submission<Command> | undefined> {
    if (escrow === undefined || host.clock.nowMs() < chainPauseUntilMs) return undefined;
    try {
      const reading = await escrow.read(query, stopped);
      return { type: "saw", topic: "escrow", slot: query.slot, fact: escrowFact(reading.wei, reading.taken) };
    } catch (error) {
      chainPauseUntilMs = host.clock.nowMs() + CHAIN_PAUSE_MS;
      host.meters.count("lattice_offer_chain_failures_total");
      if (!stopped.aborted) host.log.warn("escrow cannot be read", { slot: query.slot, ...errorFields(error) });
      return undefined;
    }
  }

  return {
    async execute(duty) {
      switch (duty.type) {
        case "close": {
          const inputs = received.list(duty.stage, duty.slot, host.clock.nowMs(), patienceMs);
          return { type: "close", stage: duty.stage, slot: duty.slot, inputs };
        }
        case "slot-share":
          return slotShare(duty.slot);
        case "bundle-share":
          return bundleShare(duty.slot, duty.bidId);
        case "verdict":
          return await verdict(duty.topic, duty.slot);
        case "escrow":
          return await readEscrow(duty.query);
      }
    },
    forget(belowSlot) {
      for (const kept of [values, bundles]) {
        for (const slot of [...kept.keys()]) if (slot < belowSlot) kept.delete(slot);
      }
      received.forget(belowSlot);
    },
  };
}

/** The node half of an offer member, and `lattice.offer.v1.OfferService` as it serves it. */
import { setTimeout as pause } from "node:timers/promises";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { ROSTER_STAGE } from "@lattice/organism/committee/roster.ts";
import { createOpeningPool } from "@lattice/organism/crypto/opening-pool.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { slotAt, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { defineService, type GrpcService } from "@lattice/organism/rpc/define.ts";
import { withHeartbeat } from "@lattice/organism/rpc/heartbeat.ts";
import type { OrganismNode } from "@lattice/organism/service.ts";
import { OfferService } from "@lattice/proto/lattice/offer/v1/offer_service_pb.ts";
import { type AdmissionContext, createAdmission, isRefusal } from "../core/admission.ts";
import { closeAtMs } from "../core/duties.ts";
import { isSignedBy, statusDigest } from "../core/requests.ts";
import type { CloseStage, Command, OfferDuty } from "../core/types.ts";
import { createEscrowReader } from "./clients.ts";
import { createEffects, type OfferHost } from "./effects.ts";
import { fault, faultOfRefusal } from "./faults.ts";
import { Openings } from "./openings.ts";
import { ReceivedBids } from "./received.ts";
import { bidFromWire, cancelFromWire, fixedFromWire, registrationFromWire, statusToWire, weiToWire } from "./wire.ts";

/** Slots for which a member remembers what came in at its own door. */
const RECEIVED_SLOTS = 16n;
/** Seen bids that may wait at the door for their UnsealedRound. */
const WAITING_MAX = 256;
const DOOR_POLL_MS = 10;

export function createNode(host: OfferHost): OrganismNode<Command, OfferDuty> {
  const { config, settings } = host;
  const stop = new AbortController();
  const received = new ReceivedBids();
  const pool = createOpeningPool({ workers: settings.OFFER_OPENING_WORKERS });
  const openings = new Openings({
    config,
    committee: host.committee,
    rosterAt: (slot) => host.rosterAt(slot),
    self: host.self,
    boxKey: agreementKey(host.secrets.boxKey),
    shareAt: (slot) => host.sharesAt(slot)?.secondShare,
    pool,
    random: host.random,
    log: host.log,
    meters: host.meters,
  });
  const url = settings.OFFER_CHAIN_RPC;
  const escrow =
    url === undefined
      ? undefined
      : createEscrowReader({
          url,
          settlement: config.offer.content.settlement,
          depth: settings.OFFER_CHAIN_DEPTH ?? config.tally.content.finalityDepth,
          timeoutMs: settings.OFFER_CHAIN_TIMEOUT_MS,
        });
  const effects = createEffects(host, { openings, received, escrow, stopped: stop.signal });
  return {
    execute: effects.execute,
    services: [offerService(host, received)],
    bodies: { auction: { readers: ["atelier"], publicWhenLanded: true } },
    decided(outcome) {
      if (outcome.stage === "auction" && outcome.slot > RECEIVED_SLOTS) effects.forget(outcome.slot - RECEIVED_SLOTS);
    },
    async start() {
      pool.warm();
      if (escrow === undefined) host.log.warn("OFFER_CHAIN_RPC is not set: this member certifies no escrow");
    },
    async stop() {
      stop.abort();
      await pool.close();
    },
  };
}

function offerService(host: OfferHost, received: ReceivedBids): GrpcService {
  const { config, clock, committee } = host;
  const admission = createAdmission(config);
  const { bundleBytes } = config.offer.content;

  const door: AdmissionContext = {
    rosterAt: (slot) => host.rosterAt(slot),
    open: (stage, slot) => host.outcome(stage, slot) === undefined,
    unsealed: (slot) => (host.observed("unseal", "unsealed", slot)?.kind ?? "skipped") !== "skipped",
  };

  function ready(): void {
    if (!host.caughtUp()) throw fault("NOT_READY");
  }

  let waiting = 0;
  /**
   * A searcher may have read the UnsealedRound a moment before this committee's log observes it: its bid waits at
   * the door instead of coming back. At most WAITING_MAX wait, and none longer than to the close.
   */
  async function untilUnsealed(slot: bigint, signal: AbortSignal): Promise<void> {
    const closesMs = closeAtMs(config, "seen", slot);
    const soon = (): boolean => closesMs - clock.nowMs() <= config.slotMs && clock.nowMs() < closesMs;
    if (waiting >= WAITING_MAX) return;
    waiting++;
    try {
      while (!door.unsealed(slot) && soon() && !signal.aborted) await pause(DOOR_POLL_MS);
    } finally {
      waiting--;
    }
  }

  async function apply(command: Command): Promise<void> {
    const refusal = await host.submit({ type: "machine", command });
    if (refusal !== undefined) throw faultOfRefusal(refusal);
  }

  return defineService(OfferService, {
    async getSealingKey({ slot: asked }) {
      const slot = asked === 0n ? slotAt(config, clock.nowMs()) : asked;
      const { sealingKey, activationSlot, sealingUntilSlot, epoch } = host.rosterAt(slot);
      if (sealingKey === undefined || slot < activationSlot || slot > sealingUntilSlot) {
        throw fault("NO_SEALING_KEY", `slot ${slot}`, {
          from_slot: `${activationSlot}`,
          until_slot: `${sealingUntilSlot}`,
        });
      }
      const certified = host.certified(ROSTER_STAGE, activationSlot);
      if (certified === undefined) throw fault("NOT_READY", "the certified roster is not loaded");
      return {
        committeeId: committee,
        epoch,
        sealingKey,
        fromSlot: activationSlot,
        untilSlot: sealingUntilSlot,
        roster: toWireOutcome(certified),
      };
    },

    async registerSearcher(request) {
      ready();
      const registration = registrationFromWire(request.registration);
      await apply({ type: "register", registration });
      const { escrow, escrowSlot } = host.state();
      const wei = escrow.get(toHex(registration.terms.account));
      return wei === undefined
        ? { certifiedWei: new Uint8Array(), certifiedSlot: 0n }
        : { certifiedWei: weiToWire(wei), certifiedSlot: escrowSlot };
    },

    async submitBid(request, call) {
      ready();
      const { id, body } = bidFromWire(request.bid, bundleBytes);
      const { slot, class: bidClass } = body.context;
      const key = toHex(id);
      // The same bytes again: a caller that did not hear the answer.
      if (host.state().slots.get(slot)?.standings.has(key) === true) return { bidId: id };
      const stage: CloseStage = bidClass === "blind" ? "blind" : "seen";
      const nowMs = clock.nowMs();
      if (nowMs >= closeAtMs(config, stage, slot))
        throw fault("CLASS_CLOSED", `${bidClass} bids of slot ${slot} closed`);
      if (stage === "seen") await untilUnsealed(slot, call.signal);
      const admitted = admission.bid(host.state(), request.bid, door);
      if (isRefusal(admitted)) throw faultOfRefusal(admitted);
      const refusal = await received.during(stage, slot, key, nowMs, () =>
        host.submit({ type: "machine", command: { type: "bid", bid: request.bid } }),
      );
      if (refusal === undefined || refusal.reason === "DUPLICATE") return { bidId: id };
      throw faultOfRefusal(refusal);
    },

    async cancelBid(request) {
      ready();
      const cancel = cancelFromWire(request.cancel);
      const admitted = admission.cancel(host.state(), cancel, door);
      if (isRefusal(admitted)) throw faultOfRefusal(admitted);
      await apply({ type: "cancel", cancel });
      return {};
    },

    async *watchAuctions({ fromSlot }, call) {
      for await (const beat of withHeartbeat(
        host.watch("auction", fromSlot, call.signal),
        config,
        clock,
        call.signal,
      )) {
        yield beat.type === "item"
          ? { event: { case: "outcome" as const, value: toWireOutcome(beat.item) } }
          : { event: { case: "heartbeatSlot" as const, value: beat.slot } };
      }
    },

    async *watchBlindClosed({ fromSlot }, call) {
      for await (const beat of withHeartbeat(host.watch("blind", fromSlot, call.signal), config, clock, call.signal)) {
        yield beat.type === "item"
          ? { event: { case: "outcome" as const, value: toWireOutcome(beat.item) } }
          : { event: { case: "heartbeatSlot" as const, value: beat.slot } };
      }
    },

    async getBidStatus({ slot, bidId, signature }) {
      ready();
      fixedFromWire("bid_id", bidId, 32);
      const known = host.state().slots.get(slot)?.standings.get(toHex(bidId));
      // Whoever is not the submitter learns nothing, not even that there is such a bid.
      const mine =
        known !== undefined && isSignedBy(known.searcher, statusDigest({ committee, slot, bidId }), signature);
      if (!mine) throw fault("BID_UNKNOWN");
      // A fixed delay: the answer's time says nothing about the auction.
      const fromMs = slotStartMs(config, slot + 1n) + config.slotMs;
      const status = statusToWire(known.standing);
      if (clock.nowMs() < fromMs || status === undefined) {
        throw fault("STATUS_NOT_YET", `after slot ${slot + 1n}`, { after_slot: `${slot + 1n}` });
      }
      return { status };
    },
  });
}

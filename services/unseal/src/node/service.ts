/** `lattice.unseal.v1.UnsealService` of one member. */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { ROSTER_STAGE } from "@lattice/organism/committee/roster.ts";
import { COMMON_FAULTS, faultsOf } from "@lattice/organism/fault.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { unsealIdentity } from "@lattice/organism/outcomes/unseal.ts";
import { defineService, type GrpcService } from "@lattice/organism/rpc/define.ts";
import { withHeartbeat } from "@lattice/organism/rpc/heartbeat.ts";
import type { MemberHost } from "@lattice/organism/service.ts";
import { UnsealService } from "@lattice/proto/lattice/unseal/v1/unseal_service_pb.ts";
import type { Settings } from "../config.ts";
import { FAULTS } from "../core/faults.ts";
import { STAGE } from "../core/machine.ts";
import type { UnsealCommand, UnsealState } from "../core/types.ts";
import type { Openings } from "./openings.ts";
import { messageIdFromWire, toWireRound } from "./wire.ts";

const fault = faultsOf("unseal", { ...COMMON_FAULTS, ...FAULTS });

type ServiceHost = Pick<
  MemberHost<UnsealState, UnsealCommand, Settings>,
  "config" | "rosterAt" | "clock" | "state" | "certified" | "watch"
>;

export function unsealService(host: ServiceHost, openings: () => Openings | undefined): GrpcService {
  const { config, clock } = host;
  const committee = committeeId(config, "unseal");

  return defineService(UnsealService, {
    async getSealingKey({ slot }) {
      const { sealingKey, epoch, activationSlot, sealingUntilSlot } = host.rosterAt(slot);
      if (sealingKey === undefined || slot < activationSlot || slot > sealingUntilSlot) {
        throw fault("SEALING_KEY_UNKNOWN", `no key for slot ${slot}`, {
          from_slot: activationSlot.toString(),
          to_slot: sealingUntilSlot.toString(),
        });
      }
      const certified = host.certified(ROSTER_STAGE, activationSlot);
      if (certified === undefined) throw fault("NOT_READY", "the certified roster is not loaded");
      return {
        sealingKey,
        epoch,
        fromSlot: activationSlot,
        toSlot: sealingUntilSlot,
        roster: toWireOutcome(certified),
      };
    },

    async *watchUnsealed({ fromSlot }, call) {
      for await (const beat of withHeartbeat(host.watch(STAGE, fromSlot, call.signal), config, clock, call.signal)) {
        yield beat.type === "heartbeat"
          ? { event: { case: "heartbeatSlot", value: beat.slot } }
          : { event: { case: "round", value: toWireRound(beat.item) } };
      }
    },

    async getOpening({ slot, messageId: wireId }) {
      const messageId = messageIdFromWire(wireId);
      const kept = openings();
      if (kept === undefined) throw fault("NOT_READY");
      const ids = host.state().slots.get(slot)?.landed ?? [];
      const landed = ids.some((id) => equalBytes(id, messageId));
      const opening = await kept.get(slot, messageId, landed);
      if (opening === undefined) throw fault(landed ? "OPENING_UNKNOWN" : "OPENING_NOT_LANDED");
      const { epoch } = host.rosterAt(slot);
      return {
        sigma: opening.sigma,
        identity: unsealIdentity(committee, epoch, slot),
        committeeId: committee,
        epoch,
        cell: opening.cell,
      };
    },
  });
}

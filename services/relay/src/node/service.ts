/** `lattice.relay.v1.RelayService`. */
import { COMMON_FAULTS, faultsOf } from "@lattice/organism/fault.ts";
import { defineService, type GrpcService } from "@lattice/organism/rpc/define.ts";
import { withHeartbeat } from "@lattice/organism/rpc/heartbeat.ts";
import type { MemberHost } from "@lattice/organism/service.ts";
import { RelayService } from "@lattice/proto/lattice/relay/v1/relay_service_pb.ts";
import type { RelaySettings } from "../config.ts";
import type { RelayCommand, RelayState } from "../core/types.ts";
import { toWireAcceptance } from "./wire.ts";

export function relayService(host: MemberHost<RelayState, RelayCommand, RelaySettings>): GrpcService {
  const fault = faultsOf("relay", COMMON_FAULTS);
  return defineService(RelayService, {
    async getAcceptance({ slot }) {
      const certified = host.certified("accepted", slot);
      if (certified === undefined) throw fault("OUTCOME_UNKNOWN", `slot ${slot} has no certified acceptance here`);
      return { acceptance: toWireAcceptance(certified) };
    },
    async *watchAccepted({ fromSlot }, call) {
      const { config, clock } = host;
      const accepted = host.watch("accepted", fromSlot, call.signal);
      for await (const beat of withHeartbeat(accepted, config, clock, call.signal)) {
        yield beat.type === "heartbeat"
          ? { event: { case: "heartbeatSlot", value: beat.slot } }
          : { event: { case: "acceptance", value: toWireAcceptance(beat.item) } };
      }
    },
  });
}

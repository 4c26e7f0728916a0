/** `lattice.atelier.v1.AtelierService`. */
import { COMMON_FAULTS, faultsOf } from "@lattice/organism/fault.ts";
import { defineService, type GrpcService } from "@lattice/organism/rpc/define.ts";
import { withHeartbeat } from "@lattice/organism/rpc/heartbeat.ts";
import type { MemberHost } from "@lattice/organism/service.ts";
import { AtelierService } from "@lattice/proto/lattice/atelier/v1/atelier_service_pb.ts";
import { STAGE } from "../core/types.ts";
import { toWireCandidate } from "./wire.ts";

const fault = faultsOf("atelier", COMMON_FAULTS);

type ServiceHost = Pick<MemberHost<unknown, unknown, unknown>, "config" | "clock" | "certified" | "watch">;

export function atelierService(host: ServiceHost): GrpcService {
  const { config, clock } = host;
  return defineService(AtelierService, {
    async getCandidate({ slot }) {
      const certified = host.certified(STAGE, slot);
      if (certified === undefined) throw fault("OUTCOME_UNKNOWN", `slot ${slot} has no certified candidate here`);
      return { candidate: toWireCandidate(certified) };
    },
    async *watchCandidates({ fromSlot }, { signal }) {
      for await (const beat of withHeartbeat(host.watch(STAGE, fromSlot, signal), config, clock, signal)) {
        yield beat.type === "heartbeat"
          ? { event: { case: "heartbeatSlot", value: beat.slot } }
          : { event: { case: "candidate", value: toWireCandidate(beat.item) } };
      }
    },
  });
}

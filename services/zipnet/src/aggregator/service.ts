/** `lattice.zipnet.v1.AggregatorService`. */
import { defineService, type GrpcService } from "@lattice/organism/rpc/define.ts";
import { AggregatorService } from "@lattice/proto/lattice/zipnet/v1/aggregator_service_pb.ts";
import type { Aggregator } from "./aggregator.ts";

export function aggregatorService(aggregator: Aggregator): GrpcService {
  return defineService(AggregatorService, {
    async submit({ envelope }) {
      return { repeated: await aggregator.submit(envelope) };
    },
    async getRound() {
      const round = aggregator.newest;
      const { publicKey: aggregatorKey } = aggregator;
      if (round === undefined) return { aggregatorKey };
      const { header, fold } = round;
      const { slot, rho, clientsCount: clients } = header;
      return { slot, rho, clients, participants: fold.participants, aggregatorKey };
    },
  });
}

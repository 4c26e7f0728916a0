/** Typed clients of zipnet's two services. Servers themselves call nobody: aggregators and clients come to them. */
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { type Client, connectAny, connectService } from "@lattice/organism/rpc/client.ts";
import { AggregatorService } from "@lattice/proto/lattice/zipnet/v1/aggregator_service_pb.ts";
import { ZipnetService } from "@lattice/proto/lattice/zipnet/v1/zipnet_service_pb.ts";

export type ServerClient = Client<typeof ZipnetService>;
export type AggregatorClient = Client<typeof AggregatorService>;

/** One server. @param address `host:port` */
export function connectServer(config: LatticeConfig, address: string): ServerClient {
  return connectService(ZipnetService, address, { committee: committeeId(config, "zipnet") });
}

/** All servers, one at a time: for reads and for what is accepted once. */
export function connectServers(config: LatticeConfig, addresses: readonly string[], first = 0): ServerClient {
  return connectAny(ZipnetService, addresses, { committee: committeeId(config, "zipnet"), first });
}

/** One aggregator. The vector may be larger than a usual request. */
export function connectAggregator(config: LatticeConfig, address: string): AggregatorClient {
  const requestBytes = (4 << 20) + config.zipnet.content.cells * config.zipnet.content.cellBytes;
  return connectService(AggregatorService, address, { committee: committeeId(config, "zipnet"), requestBytes });
}

/**
 * What the containers of the local lattice have in common: names, ports, mount points, volumes. compose.yaml, the
 * prepare container and the image are all made from this, so that they cannot disagree.
 */
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";

/** Members of each organism. */
export const MEMBERS = 3;

/** Inside every container. A service's name is its host name. */
export const PORTS = {
  /** gRPC of members and aggregator. */
  grpc: 7000,
  /** Metrics, `/livez`, `/readyz` of members, aggregator and gateway. */
  metrics: 9100,
  /** Relay members' Engine API. */
  relayEngine: 8551,
  natsClient: 4222,
  natsMonitor: 8222,
  gateway: 8080,
  chainRpc: 8545,
  chainEngine: 8551,
  sequencer: 8560,
  /** Listens on the container's own loopback only. */
  sequencerAdmin: 8561,
} as const;

/** Where a service finds its things. `volumes` is the prepare container's: one folder per volume it writes. */
export const MOUNTS = { kit: "/kit", secrets: "/secrets", data: "/data", seat: "/seat", volumes: "/volumes" } as const;

/**
 * What lies in a seat's volume: everything of one member's operator. `holder` leads to the keys that hold the seat, and its
 * steward moves it to those in reserve; beside them lies what their member writes.
 */
export const SEAT = {
  member: "member",
  standby: "standby",
  holder: "holder",
  /** The steward's memory and its credential. */
  steward: "steward",
} as const;
/** In the kit: what the operators of each committee have given one another. */
export const STANDBYS = "standbys";

/** The user of every container: no name on the host, no rights in the image. */
export const USER_ID = 10_001;

/** The public kit: config, rosters, endpoints, genesis. Read by everybody, written by the prepare container only. */
export const KIT_VOLUME = "kit";
/** What the sample users need, secrets included; its ledger is written there too. */
export const TRAFFIC_VOLUME = "traffic-data";

export const memberName = (organism: Organism, index: number): string => `${organism}-${index}`;

export const stewardName = (organism: Organism, index: number): string => `${memberName(organism, index)}-steward`;

/** The volume of one seat, which its member and its steward mount, and nobody else. */
export const seatVolume = (member: string): string => `${member}-seat`;
/** The volume that holds one service's secrets, and no other's. */
export const secretsVolume = (service: string): string => `${service}-secrets`;
/** The volume that holds one service's own state. */
export const dataVolume = (service: string): string => `${service}-data`;

/** Every member's service, in pipeline order. */
export function memberNames(): string[] {
  return ORGANISMS.flatMap((organism) => Array.from({ length: MEMBERS }, (_, index) => memberName(organism, index)));
}

/** Services other than members and stewards that are handed secrets. */
export const SECRET_HOLDERS = [
  "nats",
  "streams",
  "keeper",
  "trimmer",
  "execution",
  "sequencer",
  "gateway",
  "ceremonies",
  "ceremony-streams",
] as const;

/** Every volume that the prepare container writes. */
export function preparedVolumes(): string[] {
  return [KIT_VOLUME, ...memberNames().map(seatVolume), ...SECRET_HOLDERS.map(secretsVolume), TRAFFIC_VOLUME];
}

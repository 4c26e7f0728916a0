/** What each member process of a local lattice is started with. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { at, http, type Layout, type Ports } from "./layout.ts";

const ROOT = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));

/** The entry point of an organism's member process. */
export function memberScript(organism: Organism): string {
  return join(ROOT, "services", organism, "src", "main.ts");
}
export const AGGREGATOR_SCRIPT = join(ROOT, "services", "zipnet", "src", "aggregator", "aggregator-main.ts");
export const GATEWAY_SCRIPT = join(ROOT, "gateway", "src", "main.ts");
export const SEQUENCER_SCRIPT = join(ROOT, "deploy", "src", "chain", "sequencer-main.ts");
export const DEALER_SCRIPT = join(ROOT, "deploy", "src", "dealer", "dealer-main.ts");
export const EMBEDDED_SCRIPT = join(ROOT, "deploy", "src", "local", "embedded-main.ts");
export const KEEPER_SCRIPT = join(ROOT, "deploy", "src", "nats", "stream-keeper-main.ts");
export const TRIMMER_SCRIPT = join(ROOT, "deploy", "src", "nats", "trimmer-main.ts");
export const STEWARD_SCRIPT = join(ROOT, "deploy", "src", "roster", "steward-main.ts");
export const TRAFFIC_SCRIPT = join(ROOT, "deploy", "src", "local", "traffic-main.ts");

export interface EnvironmentOptions {
  readonly layout: Layout;
  readonly ports: Ports;
  readonly slotMs: number;
  readonly logLevel: string;
  readonly traceFile?: string;
}

/** Settings of the organism itself, by environment name. */
export function organismEnvironment(
  { layout, ports }: EnvironmentOptions,
  organism: Organism,
  index: number,
): Record<string, string> {
  switch (organism) {
    case "zipnet":
    case "unseal":
      return {};
    case "offer":
      return { OFFER_CHAIN_RPC: http(ports.chainRpc) };
    case "atelier":
      return {
        ATELIER_CHAIN_RPC: http(ports.chainRpc),
        ATELIER_GENESIS_FILE: layout.path("chain", "genesis.json"),
        ATELIER_SEQUENCER_URL: http(ports.sequencer),
      };
    case "relay":
      return {
        RELAY_ENGINE_LISTEN: at(ports.relayEngine[index] ?? 0),
        RELAY_ENGINE_JWT_FILE: layout.path("sequencer", "builder.jwt"),
        RELAY_SEQUENCER_URL: http(ports.sequencer),
      };
    case "tally":
      return {
        TALLY_CHAIN_RPC: http(ports.chainRpc),
        TALLY_SUBMIT_URL: http(ports.gateway),
        TALLY_POSTER_KEY_FILE: join(layout.member("tally", index), "poster.key"),
      };
  }
}

/** Everything a member process needs, on NATS. */
export function memberEnvironment(
  options: EnvironmentOptions,
  organism: Organism,
  index: number,
): Record<string, string> {
  const { layout, ports, logLevel, traceFile } = options;
  const own = ports.members[organism][index];
  const holder = layout.holder(organism, index);
  return {
    LATTICE_CONFIG_FILE: layout.config,
    LATTICE_ROSTERS_FILE: layout.rosters,
    LATTICE_ENDPOINTS_FILE: layout.endpoints,
    LATTICE_KEY_FILE: join(holder, "key.json"),
    LATTICE_DATA_DIR: join(holder, "data"),
    LATTICE_LISTEN: at(own?.grpc ?? 0),
    LATTICE_METRICS_LISTEN: at(own?.metrics ?? 0),
    LATTICE_NATS_SERVERS: ports.nats.map(({ client }) => `nats://${at(client)}`).join(","),
    LATTICE_NATS_CREDENTIALS_FILE: join(holder, "nats.json"),
    LATTICE_NATS_MONITOR_URL: ports.nats.map(({ monitor }) => http(monitor)).join(","),
    LATTICE_LOG_LEVEL: logLevel,
    ...(traceFile === undefined ? {} : { LATTICE_TRACE_FILE: traceFile }),
    ...organismEnvironment(options, organism, index),
  };
}

export function aggregatorEnvironment({ layout, ports, logLevel }: EnvironmentOptions): Record<string, string> {
  return {
    LATTICE_CONFIG_FILE: layout.config,
    LATTICE_ENDPOINTS_FILE: layout.endpoints,
    LATTICE_DATA_DIR: layout.path("aggregator"),
    LATTICE_LISTEN: at(ports.aggregator),
    LATTICE_LOG_LEVEL: logLevel,
  };
}

export function trimmerEnvironment({ layout, ports }: EnvironmentOptions): Record<string, string> {
  return {
    TRIMMER_CONFIG_FILE: layout.config,
    TRIMMER_ROSTERS_FILE: layout.rosters,
    TRIMMER_ENDPOINTS_FILE: layout.endpoints,
    TRIMMER_NATS_SERVERS: ports.nats.map(({ client }) => `nats://${at(client)}`).join(","),
    TRIMMER_CREDENTIALS_FILE: layout.path("nats", "trimmer.json"),
  };
}

export function keeperEnvironment({ layout, ports }: EnvironmentOptions): Record<string, string> {
  return {
    KEEPER_CONFIG_FILE: layout.config,
    KEEPER_ENDPOINTS_FILE: layout.endpoints,
    KEEPER_NATS_SERVERS: ports.nats.map(({ client }) => `nats://${at(client)}`).join(","),
    KEEPER_ADMINS_FILE: layout.path("nats", "admins.json"),
    KEEPER_REPLICAS: ports.nats.length.toString(),
  };
}

export function gatewayEnvironment({ layout, ports, logLevel }: EnvironmentOptions): Record<string, string> {
  return {
    LATTICE_CONFIG_FILE: layout.config,
    LATTICE_ROSTERS_FILE: layout.rosters,
    LATTICE_ENDPOINTS_FILE: layout.endpoints,
    LATTICE_LOG_LEVEL: logLevel,
    GATEWAY_LISTEN: at(ports.gateway),
    GATEWAY_CHAIN_RPC: http(ports.chainRpc),
    GATEWAY_DATA_DIR: layout.path("gateway"),
    GATEWAY_ISSUER_FILE: layout.path("admission", "issuer.json"),
    GATEWAY_SEARCHER_KEY_FILE: layout.path("gateway-searcher.json"),
    GATEWAY_CLIENTS: "6",
    GATEWAY_DISCLOSURE: "everything",
  };
}

export function sequencerEnvironment({ layout, ports, slotMs, logLevel }: EnvironmentOptions): Record<string, string> {
  return {
    SEQUENCER_LATTICE_CONFIG_FILE: layout.config,
    SEQUENCER_KEY_FILE: layout.path("sequencer", "key.json"),
    SEQUENCER_STORE_FILE: layout.path("sequencer", "blocks.jsonl"),
    SEQUENCER_PORT: String(ports.sequencer),
    SEQUENCER_ADMIN_PORT: String(ports.sequencerAdmin),
    SEQUENCER_RPC_URL: http(ports.chainRpc),
    SEQUENCER_ENGINE_URL: http(ports.chainEngine),
    SEQUENCER_ENGINE_JWT_FILE: layout.path("chain", "engine.jwt"),
    SEQUENCER_BUILDERS: ports.relayEngine.map(http).join(","),
    SEQUENCER_BUILDER_JWT_FILES: layout.path("sequencer", "builder.jwt"),
    SEQUENCER_EXTRA_DATA: "0x6c617474696365",
    // A crowded machine may be late; the next candidate is due long after.
    SEQUENCER_WINDOW_MS: String(Math.floor(slotMs * 0.4)),
    SEQUENCER_LOG_LEVEL: logLevel,
  };
}

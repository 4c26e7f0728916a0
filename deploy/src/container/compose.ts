/**
 * compose.yaml as an object: every service of the local lattice as a container. The file at the repository's root is
 * this object written down (`compose-main.ts`); a test keeps them equal.
 */
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { REFRESH_EVERY_SLOTS } from "../local/stewards.ts";
import {
  dataVolume,
  KIT_VOLUME,
  MEMBERS,
  MOUNTS,
  memberName,
  memberNames,
  PORTS,
  preparedVolumes,
  SEAT,
  STANDBYS,
  seatVolume,
  secretsVolume,
  stewardName,
  TRAFFIC_VOLUME,
  USER_ID,
} from "./plan.ts";
import { entryLines, resolve, type Template, templateLines, type Yaml, type YamlMap } from "./yaml.ts";

const HEALTHY = { condition: "service_healthy" };
const DONE = { condition: "service_completed_successfully" };

/** A value that whoever runs compose may set in the environment. */
const setting = (name: string, otherwise: string): string => `\${${name}:-${otherwise}}`;
const LOG_LEVEL = setting("LATTICE_LOG_LEVEL", "info");

const http = (service: string, port: number): string => `http://${service}:${port}`;
const every = (port: number): string => `0.0.0.0:${port}`;
const CHAIN_RPC = http("execution", PORTS.chainRpc);
const SEQUENCER = http("sequencer", PORTS.sequencer);

/** Read by everybody: what is public. */
const KIT_FILES = {
  config: `${MOUNTS.kit}/lattice.hex`,
  rosters: `${MOUNTS.kit}/rosters.json`,
  endpoints: `${MOUNTS.kit}/endpoints.json`,
  genesis: `${MOUNTS.kit}/genesis.json`,
} as const;
const secret = (name: string): string => `${MOUNTS.secrets}/${name}`;
/** In a member's and its steward's volume. */
const seat = (...names: string[]): string => [MOUNTS.seat, ...names].join("/");

/** Our own program asks; there is no curl in the image. One that gates others is asked more often. */
function health(url: string, seconds: number, ...more: string[]): YamlMap {
  return {
    test: ["CMD", "node", "deploy/bin/health.mjs", url, ...more],
    interval: `${seconds}s`,
    timeout: "10s",
    retries: 6,
    start_period: "180s",
  };
}
const local = (port: number, path: string): string => `http://127.0.0.1:${port}${path}`;
const GATE_S = 5;
const MEMBER_S = 12;

interface Mounted {
  readonly kit?: boolean;
  readonly secrets?: boolean;
  readonly data?: boolean;
}

/** The kit and one's own secrets for reading, one's own state for writing; nobody else's. */
function volumes(service: string, mounted: Mounted): YamlMap {
  return {
    volumes: [
      ...(mounted.kit === true ? [`${KIT_VOLUME}:${MOUNTS.kit}:ro`] : []),
      ...(mounted.secrets === true ? [`${secretsVolume(service)}:${MOUNTS.secrets}:ro`] : []),
      ...(mounted.data === true ? [`${dataVolume(service)}:${MOUNTS.data}`] : []),
    ],
  };
}

/** A member and its steward have one operator: they share its volume, and write to it both. */
function seatVolumes(member: string): YamlMap {
  return { volumes: [`${KIT_VOLUME}:${MOUNTS.kit}:ro`, `${seatVolume(member)}:${MOUNTS.seat}`] };
}

/** The organism's own settings; services/<organism>/src/config.ts. */
function organismSettings(organism: Organism): YamlMap {
  switch (organism) {
    case "zipnet":
    case "unseal":
      return {};
    case "offer":
      return { OFFER_CHAIN_RPC: CHAIN_RPC };
    case "atelier":
      return {
        ATELIER_CHAIN_RPC: CHAIN_RPC,
        ATELIER_GENESIS_FILE: KIT_FILES.genesis,
        ATELIER_SEQUENCER_URL: SEQUENCER,
      };
    case "relay":
      return {
        RELAY_ENGINE_LISTEN: every(PORTS.relayEngine),
        RELAY_ENGINE_JWT_FILE: seat("builder.jwt"),
        RELAY_SEQUENCER_URL: SEQUENCER,
      };
    case "tally":
      return {
        TALLY_CHAIN_RPC: CHAIN_RPC,
        TALLY_SUBMIT_URL: http("gateway", PORTS.gateway),
        TALLY_POSTER_KEY_FILE: seat("poster.key"),
      };
  }
}

/** Whom an organism's members call while they start, besides the broker. */
const WAITS_FOR: Readonly<Record<Organism, readonly string[]>> = {
  zipnet: [],
  unseal: [],
  offer: ["execution"],
  atelier: ["execution", "sequencer"],
  relay: ["sequencer"],
  tally: ["execution"],
};

const waiting = (done: readonly string[], healthy: readonly string[]): { readonly depends_on: YamlMap } => ({
  depends_on: Object.fromEntries([
    ...done.map((service) => [service, DONE]),
    ...healthy.map((service) => [service, HEALTHY]),
  ]),
});

function memberTemplate(organism: Organism): Template {
  const settings = organismSettings(organism);
  const extra = WAITS_FOR[organism];
  return {
    name: organism,
    content: {
      "<<": "member",
      command: [`services/${organism}/src/main.ts`],
      ...(Object.keys(settings).length === 0 ? {} : { environment: { "<<": "member-environment", ...settings } }),
      ...(extra.length === 0 ? {} : { depends_on: { "<<": "member-start", ...waiting([], extra).depends_on } }),
    },
  };
}

/** Of everybody that epochs which start by themselves need. */
const STEWARDS = ["stewards"];

const TEMPLATES: readonly Template[] = [
  {
    name: "container",
    content: {
      image: setting("LATTICE_IMAGE", "lattice:local"),
      user: `${USER_ID}:${USER_ID}`,
      init: true,
      read_only: true,
      tmpfs: ["/tmp:size=64m,mode=1777"],
      cap_drop: ["ALL"],
      security_opt: ["no-new-privileges:true"],
      restart: "on-failure",
      stop_signal: "SIGTERM",
      stop_grace_period: "20s",
      logging: { driver: "json-file", options: { "max-size": "10m", "max-file": "3" } },
    },
  },
  {
    name: "member-environment",
    content: {
      LATTICE_CONFIG_FILE: KIT_FILES.config,
      LATTICE_ROSTERS_FILE: KIT_FILES.rosters,
      LATTICE_ENDPOINTS_FILE: KIT_FILES.endpoints,
      LATTICE_KEY_FILE: seat(SEAT.holder, "key.json"),
      LATTICE_DATA_DIR: seat(SEAT.holder, "data"),
      LATTICE_LISTEN: every(PORTS.grpc),
      LATTICE_METRICS_LISTEN: every(PORTS.metrics),
      LATTICE_NATS_SERVERS: `nats://nats:${PORTS.natsClient}`,
      LATTICE_NATS_CREDENTIALS_FILE: seat(SEAT.holder, "nats.json"),
      LATTICE_NATS_MONITOR_URL: http("nats", PORTS.natsMonitor),
      LATTICE_LOG_LEVEL: LOG_LEVEL,
    },
  },
  { name: "member-start", content: waiting(["prepare", "streams"], ["nats"]).depends_on },
  {
    name: "member",
    content: {
      "<<": "container",
      environment: { "<<": "member-environment" },
      depends_on: { "<<": "member-start" },
      healthcheck: health(local(PORTS.metrics, "/readyz"), MEMBER_S),
    },
  },
  ...ORGANISMS.map(memberTemplate),
  {
    name: "steward-environment",
    content: {
      STEWARD_CONFIG_FILE: KIT_FILES.config,
      STEWARD_ENDPOINTS_FILE: KIT_FILES.endpoints,
      STEWARD_MEMBER_DIR: seat(SEAT.holder),
      STEWARD_STANDBY_DIR: seat(SEAT.standby),
      STEWARD_STATE_DIR: seat(SEAT.steward),
      STEWARD_NATS_SERVERS: `nats://ceremonies:${PORTS.natsClient}`,
      STEWARD_CREDENTIALS_FILE: seat(SEAT.steward, "ceremonies.json"),
      STEWARD_REFRESH_EVERY_SLOTS: setting("STEWARD_REFRESH_EVERY_SLOTS", String(REFRESH_EVERY_SLOTS)),
      STEWARD_ERA_EVERY_SLOTS: setting("STEWARD_ERA_EVERY_SLOTS", "0"),
      STEWARD_GATHER_SLOTS: setting("STEWARD_GATHER_SLOTS", "32"),
      STEWARD_CEREMONY_SLOTS: setting("STEWARD_CEREMONY_SLOTS", "16"),
      STEWARD_LISTEN: every(PORTS.metrics),
    },
  },
  {
    name: "steward",
    content: {
      "<<": "container",
      profiles: STEWARDS,
      command: ["deploy/src/roster/steward-main.ts"],
      healthcheck: health(local(PORTS.metrics, "/readyz"), MEMBER_S),
    },
  },
];

/** Runs once and is gone: its exit code is its health. */
const ONE_SHOT = { restart: "no", healthcheck: { disable: true } };

function services(): Record<string, YamlMap> {
  const container = (own: YamlMap): YamlMap => ({ "<<": "container", ...own });
  const members = ORGANISMS.flatMap((organism) =>
    Array.from({ length: MEMBERS }, (_, index): [string, YamlMap] => {
      const name = memberName(organism, index);
      return [name, { "<<": organism, ...seatVolumes(name) }];
    }),
  );
  const stewards = ORGANISMS.flatMap((organism) =>
    Array.from({ length: MEMBERS }, (_, index): [string, YamlMap] => {
      const member = memberName(organism, index);
      const environment = {
        "<<": "steward-environment",
        STEWARD_ORGANISM: organism,
        STEWARD_STANDBYS_DIR: `${MOUNTS.kit}/${STANDBYS}/${organism}`,
      };
      const start = waiting(["prepare", "ceremony-streams"], ["ceremonies", member]);
      return [stewardName(organism, index), { "<<": "steward", environment, ...start, ...seatVolumes(member) }];
    }),
  );
  const relays = Array.from({ length: MEMBERS }, (_, index) => http(memberName("relay", index), PORTS.relayEngine));
  return {
    prepare: container({
      ...ONE_SHOT,
      build: {
        context: ".",
        dockerfile: "deploy/container/Dockerfile",
        args: {
          NODE_IMAGE: setting("NODE_IMAGE", "node:24-bookworm-slim"),
          NATS_IMAGE: setting("NATS_IMAGE", "nats:2-alpine"),
        },
      },
      command: ["deploy/src/container/prepare-main.ts"],
      environment: {
        PREPARE_NAME: setting("LATTICE_NAME", "local"),
        PREPARE_SLOT_MS: setting("LATTICE_SLOT_MS", "4000"),
        PREPARE_LEAD_MS: setting("LATTICE_LEAD_MS", "60000"),
      },
      // Deals to everybody, so it mounts everybody's; it has exited before any of them starts. No network.
      network_mode: "none",
      volumes: preparedVolumes().map((volume) => `${volume}:${MOUNTS.volumes}/${volume}`),
    }),
    nats: container({
      entrypoint: ["nats-server"],
      command: ["--config", secret("server.conf")],
      ...waiting(["prepare"], []),
      healthcheck: health(local(PORTS.natsMonitor, "/healthz"), GATE_S),
      ...volumes("nats", { secrets: true, data: true }),
    }),
    streams: container({
      ...ONE_SHOT,
      command: ["deploy/src/container/streams-main.ts"],
      environment: {
        STREAMS_NATS_URL: `nats://nats:${PORTS.natsClient}`,
        STREAMS_ADMINS_FILE: secret("admins.json"),
      },
      ...waiting(["prepare"], ["nats"]),
      ...volumes("streams", { secrets: true }),
    }),
    keeper: container({
      command: ["deploy/src/nats/stream-keeper-main.ts"],
      environment: {
        KEEPER_CONFIG_FILE: KIT_FILES.config,
        KEEPER_ENDPOINTS_FILE: KIT_FILES.endpoints,
        KEEPER_NATS_SERVERS: `nats://nats:${PORTS.natsClient}`,
        KEEPER_ADMINS_FILE: secret("admins.json"),
        KEEPER_LISTEN: every(PORTS.metrics),
      },
      ...waiting(["prepare", "streams"], ["nats"]),
      healthcheck: health(local(PORTS.metrics, "/readyz"), MEMBER_S),
      ...volumes("keeper", { kit: true, secrets: true }),
    }),
    trimmer: container({
      command: ["deploy/src/nats/trimmer-main.ts"],
      environment: {
        TRIMMER_CONFIG_FILE: KIT_FILES.config,
        TRIMMER_ROSTERS_FILE: KIT_FILES.rosters,
        TRIMMER_ENDPOINTS_FILE: KIT_FILES.endpoints,
        TRIMMER_NATS_SERVERS: `nats://nats:${PORTS.natsClient}`,
        TRIMMER_CREDENTIALS_FILE: secret("trimmer.json"),
        TRIMMER_LISTEN: every(PORTS.metrics),
      },
      ...waiting(["prepare", "streams"], ["nats"]),
      healthcheck: health(local(PORTS.metrics, "/readyz"), MEMBER_S),
      ...volumes("trimmer", { kit: true, secrets: true }),
    }),
    execution: container({
      command: ["deploy/src/chain/execution-client-main.ts"],
      environment: {
        EXECUTION_GENESIS_FILE: KIT_FILES.genesis,
        EXECUTION_DATA_DIR: MOUNTS.data,
        EXECUTION_JWT_FILE: secret("engine.jwt"),
        EXECUTION_HOST: "0.0.0.0",
        EXECUTION_RPC_PORT: String(PORTS.chainRpc),
        EXECUTION_ENGINE_PORT: String(PORTS.chainEngine),
      },
      ...waiting(["prepare"], []),
      healthcheck: health(local(PORTS.chainRpc, "/"), GATE_S, "--rpc", "eth_blockNumber"),
      ports: [`127.0.0.1:${setting("CHAIN_RPC_PORT", "8545")}:${PORTS.chainRpc}`],
      ...volumes("execution", { kit: true, secrets: true, data: true }),
    }),
    sequencer: container({
      command: ["deploy/src/chain/sequencer-main.ts"],
      environment: {
        SEQUENCER_LATTICE_CONFIG_FILE: KIT_FILES.config,
        SEQUENCER_KEY_FILE: secret("key.json"),
        SEQUENCER_STORE_FILE: `${MOUNTS.data}/blocks.jsonl`,
        SEQUENCER_HOST: "0.0.0.0",
        SEQUENCER_PORT: String(PORTS.sequencer),
        SEQUENCER_ADMIN_PORT: String(PORTS.sequencerAdmin),
        SEQUENCER_RPC_URL: CHAIN_RPC,
        SEQUENCER_ENGINE_URL: http("execution", PORTS.chainEngine),
        SEQUENCER_ENGINE_JWT_FILE: secret("engine.jwt"),
        SEQUENCER_BUILDERS: relays.join(","),
        SEQUENCER_BUILDER_JWT_FILES: secret("builder.jwt"),
        SEQUENCER_EXTRA_DATA: "0x6c617474696365",
        // 0.4 of the slot, as for a lattice of processes: a crowded machine may be late.
        SEQUENCER_WINDOW_MS: setting("SEQUENCER_WINDOW_MS", "1600"),
        SEQUENCER_LOG_LEVEL: LOG_LEVEL,
      },
      ...waiting(["prepare"], ["execution"]),
      healthcheck: health(local(PORTS.sequencer, "/healthz"), GATE_S),
      ...volumes("sequencer", { kit: true, secrets: true, data: true }),
    }),
    ...Object.fromEntries(members),
    aggregator: container({
      command: ["services/zipnet/src/aggregator/aggregator-main.ts"],
      environment: {
        LATTICE_CONFIG_FILE: KIT_FILES.config,
        LATTICE_ENDPOINTS_FILE: KIT_FILES.endpoints,
        LATTICE_DATA_DIR: MOUNTS.data,
        LATTICE_LISTEN: every(PORTS.grpc),
        LATTICE_METRICS_LISTEN: every(PORTS.metrics),
        LATTICE_LOG_LEVEL: LOG_LEVEL,
      },
      ...waiting(
        ["prepare"],
        Array.from({ length: MEMBERS }, (_, index) => memberName("zipnet", index)),
      ),
      healthcheck: health(local(PORTS.metrics, "/readyz"), MEMBER_S),
      ...volumes("aggregator", { kit: true, data: true }),
    }),
    gateway: container({
      command: ["gateway/src/main.ts"],
      environment: {
        LATTICE_CONFIG_FILE: KIT_FILES.config,
        LATTICE_ROSTERS_FILE: KIT_FILES.rosters,
        LATTICE_ENDPOINTS_FILE: KIT_FILES.endpoints,
        LATTICE_LOG_LEVEL: LOG_LEVEL,
        GATEWAY_LISTEN: every(PORTS.gateway),
        GATEWAY_CHAIN_RPC: CHAIN_RPC,
        GATEWAY_DATA_DIR: MOUNTS.data,
        GATEWAY_ISSUER_FILE: secret("issuer.json"),
        GATEWAY_SEARCHER_KEY_FILE: secret("searcher.json"),
        GATEWAY_CLIENTS: "6",
        GATEWAY_DISCLOSURE: "everything",
      },
      ...waiting(["prepare"], ["execution", ...memberNames()]),
      healthcheck: health(local(PORTS.gateway, "/healthz"), GATE_S),
      ports: [`127.0.0.1:${setting("GATEWAY_PORT", "8080")}:${PORTS.gateway}`],
      ...volumes("gateway", { kit: true, secrets: true, data: true }),
    }),
    ceremonies: container({
      profiles: STEWARDS,
      entrypoint: ["nats-server"],
      command: ["--config", secret("server.conf")],
      ...waiting(["prepare"], []),
      healthcheck: health(local(PORTS.natsMonitor, "/healthz"), GATE_S),
      ...volumes("ceremonies", { secrets: true, data: true }),
    }),
    "ceremony-streams": container({
      ...ONE_SHOT,
      profiles: STEWARDS,
      command: ["deploy/src/container/streams-main.ts"],
      environment: {
        STREAMS_NATS_URL: `nats://ceremonies:${PORTS.natsClient}`,
        STREAMS_ADMINS_FILE: secret("admins.json"),
      },
      ...waiting(["prepare"], ["ceremonies"]),
      ...volumes("ceremony-streams", { secrets: true }),
    }),
    ...Object.fromEntries(stewards),
    traffic: container({
      profiles: ["traffic"],
      command: ["deploy/src/local/traffic-main.ts", JSON.stringify({ directory: MOUNTS.data })],
      // The sample users know the gateway as 127.0.0.1: they share its network, and nothing else of it.
      network_mode: "service:gateway",
      ...waiting(["prepare"], ["gateway"]),
      healthcheck: health(local(PORTS.gateway, "/healthz"), MEMBER_S),
      volumes: [`${TRAFFIC_VOLUME}:${MOUNTS.data}`],
    }),
    watch: container({
      profiles: ["watch"],
      ...ONE_SHOT,
      command: ["deploy/src/container/watch-main.ts"],
      environment: {
        LATTICE_CONFIG_FILE: KIT_FILES.config,
        LATTICE_ROSTERS_FILE: KIT_FILES.rosters,
        LATTICE_ENDPOINTS_FILE: KIT_FILES.endpoints,
        WATCH_SLOTS: setting("WATCH_SLOTS", "0"),
      },
      ...waiting(["prepare"], []),
      ...volumes("watch", { kit: true }),
    }),
  };
}

function volumeNames(all: Readonly<Record<string, YamlMap>>): string[] {
  const mounts = Object.values(all).flatMap((service) => (service["volumes"] ?? []) as readonly string[]);
  return [...new Set(mounts.map((mount) => mount.split(":")[0] ?? ""))];
}

/** Every service with all it inherits, as compose sees it after merging. */
export function composedServices(): Record<string, YamlMap> {
  return resolve(services(), TEMPLATES) as Record<string, YamlMap>;
}

/** Names of the volumes; all are plain local ones. */
export function composedVolumes(): string[] {
  return volumeNames(services());
}

/** compose.yaml's text. */
export function composeYaml(): string {
  const all = services();
  const volumes = Object.fromEntries(volumeNames(all).map((name): [string, Yaml] => [name, {}]));
  const sections: string[][] = [
    [
      "# The local lattice as containers; docs/containers.md.",
      "# Generated: change deploy/src/container/compose.ts and run deploy/src/container/compose-main.ts.",
      ...entryLines("name", "lattice"),
    ],
    ...TEMPLATES.map(templateLines),
    ["services:"],
    ...Object.entries(all).map(([name, service]) => entryLines(name, service, "  ")),
    entryLines("networks", { default: { driver: "bridge" } }),
    entryLines("volumes", volumes),
  ];
  return `${sections.map((section) => section.join("\n")).join("\n\n")}\n`;
}

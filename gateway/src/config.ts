/** The gateway's settings. It is the user's agent: it holds his client keys, and his searcher key if he has one. */
import { SettingsProblems, unknownSettings } from "@lattice/organism/node/settings.ts";
import { z } from "zod";

const ADDRESS = z.string().regex(/^(?:\[[0-9a-fA-F:.]+\]|[^\s:]+):\d{1,5}$/, "host:port expected");

export const SETTINGS = z.object({
  GATEWAY_LISTEN: ADDRESS.describe("Connect, gRPC-Web, gRPC, JSON and JSON-RPC on one port"),
  GATEWAY_CHAIN_RPC: z.url({ protocol: /^https?$/ }).describe("an execution node's JSON-RPC for reads"),
  GATEWAY_DATA_DIR: z.string().describe("journal of submissions and zipnet client state"),
  GATEWAY_CLIENTS: z.coerce
    .number()
    .int()
    .min(1)
    .max(256)
    .default(4)
    .describe("zipnet client identities that this gateway runs"),
  GATEWAY_ISSUER_FILE: z
    .string()
    .optional()
    .describe("throw-away lattices: the ticket issuer's key, so that the gateway writes its own tickets"),
  GATEWAY_TICKETS_FILE: z
    .string()
    .optional()
    .describe("tickets (JWT), one a line, for zipnet clients and the searcher"),
  GATEWAY_SEARCHER_KEY_FILE: z
    .string()
    .optional()
    .describe("JSON {secret}: the searcher that bids through this gateway, mode 0400"),
  GATEWAY_DISCLOSURE: z
    .enum(["nothing", "hash", "target", "everything"])
    .default("hash")
    .describe("what searchers may learn of a transaction"),
  GATEWAY_MAX_PENDING: z.coerce
    .number()
    .int()
    .min(1)
    .max(100_000)
    .default(2048)
    .describe("submissions waiting for a round"),
  GATEWAY_BIDDING_ORIGINS: z
    .string()
    .default("")
    .describe("web origins (https://…, comma-separated) that may bid with the searcher's key; none by default"),
  GATEWAY_METRICS_LISTEN: ADDRESS.optional().describe(
    "Prometheus metrics, /livez and /readyz, away from the public port",
  ),
});
export type GatewaySettings = z.infer<typeof SETTINGS>;

const ALL = SETTINGS.extend({
  LATTICE_CONFIG_HEX: z.string().optional(),
  LATTICE_CONFIG_FILE: z.string().optional(),
  LATTICE_ROSTERS_FILE: z.string(),
  LATTICE_ENDPOINTS_FILE: z.string(),
  LATTICE_LOG_LEVEL: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
});

/**
 * The gateway's settings and what it shares with members. As there, an empty value is none, and a name of ours that
 * nobody knows is a problem.
 * @throws SettingsProblems with all of them
 */
export function parseGatewaySettings(environment: Readonly<Record<string, string | undefined>>): z.infer<typeof ALL> {
  const set = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ""));
  const names = Object.keys(set);
  const problems = unknownSettings(names, ["GATEWAY_", "LATTICE_"], [...Object.keys(ALL.shape), "LATTICE_VECTORS"]);
  const parsed = ALL.safeParse(set);
  if (!parsed.success) {
    for (const { path, message } of parsed.error.issues) problems.push(`${path.join(".")}: ${message}`);
  }
  if ((set["LATTICE_CONFIG_HEX"] === undefined) === (set["LATTICE_CONFIG_FILE"] === undefined)) {
    problems.push("LATTICE_CONFIG_HEX or LATTICE_CONFIG_FILE: exactly one of the two is needed");
  }
  if (problems.length > 0 || !parsed.success) throw new SettingsProblems(problems);
  return parsed.data;
}

/** Settings of an aggregator, from the environment. It is no member: it has no roster entry, no share and no log. */
import { z } from "zod";

const ADDRESS = z.string().regex(/^[^\s:]+:\d{1,5}$/, "host:port expected");

export const AGGREGATOR_SETTINGS = z
  .strictObject({
    LATTICE_CONFIG_HEX: z.string().optional().describe("the lattice config, as the handshake gives it"),
    LATTICE_CONFIG_FILE: z.string().optional().describe("a file holding LATTICE_CONFIG_HEX"),
    LATTICE_ENDPOINTS_FILE: z.string().optional().describe("where members answer, by organism"),
    LATTICE_DATA_DIR: z.string().describe("envelopes of the last rounds, and the key when it is made here"),
    LATTICE_LISTEN: ADDRESS.describe("gRPC address"),
    LATTICE_METRICS_LISTEN: ADDRESS.optional().describe("Prometheus metrics, /livez and /readyz"),
    LATTICE_LOG_LEVEL: z.enum(["debug", "info", "warn", "error", "silent"]).default("info").describe("log level"),
    AGGREGATOR_SERVERS: z
      .string()
      .regex(/^[^\s:,]+:\d{1,5}(?:,[^\s:,]+:\d{1,5})*$/, "host:port, comma separated, expected")
      .optional()
      .describe("zipnet servers by index, instead of LATTICE_ENDPOINTS_FILE"),
    AGGREGATOR_KEY_FILE: z
      .string()
      .optional()
      .describe("Ed25519 seed in hex, mode 0400; made as aggregator.key in the data folder when left out"),
  })
  .refine((each) => (each.LATTICE_CONFIG_HEX === undefined) !== (each.LATTICE_CONFIG_FILE === undefined), {
    message: "exactly one of LATTICE_CONFIG_HEX and LATTICE_CONFIG_FILE is needed",
  })
  .refine((each) => (each.LATTICE_ENDPOINTS_FILE === undefined) !== (each.AGGREGATOR_SERVERS === undefined), {
    message: "exactly one of LATTICE_ENDPOINTS_FILE and AGGREGATOR_SERVERS is needed",
  });
export type AggregatorSettings = z.infer<typeof AGGREGATOR_SETTINGS>;

/** Settings from `environment`; problems as readable lines that never show a value. */
export function readAggregatorSettings(
  environment: Readonly<Record<string, string | undefined>>,
): { readonly settings: AggregatorSettings } | { readonly problems: readonly string[] } {
  const ours = Object.entries(environment).filter(
    ([name, value]) => /^(?:LATTICE|AGGREGATOR)_/.test(name) && value !== undefined && value !== "",
  );
  const parsed = AGGREGATOR_SETTINGS.safeParse(Object.fromEntries(ours));
  if (parsed.success) return { settings: Object.freeze(parsed.data) };
  const problems = parsed.error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `${path.join(".")}: ${message}`,
  );
  return { problems };
}

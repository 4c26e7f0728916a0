/** Settings of the process that makes streams of later generations. */
import { z } from "zod";

export const KEEPER_SETTINGS = z.object({
  KEEPER_CONFIG_FILE: z.string().describe("the lattice config, as the handshake gives it"),
  KEEPER_ENDPOINTS_FILE: z.string().describe("where members answer, by organism"),
  KEEPER_NATS_SERVERS: z.string().describe("nats://host:port, comma separated"),
  KEEPER_ADMINS_FILE: z.string().describe("JSON: the accounts' administrators by organism, mode 0400"),
  KEEPER_REPLICAS: z.coerce.number().int().min(1).max(5).default(1).describe("servers that keep each stream"),
  KEEPER_LISTEN: z
    .string()
    .regex(/^[^:]+:\d+$/, "host:port")
    .optional()
    .describe(
      "host:port of `/livez` and `/readyz`; ready once every committee was looked at without a failure; none when left out",
    ),
  KEEPER_EVERY_MS: z.coerce.number().int().min(500).default(3000).describe("how often it looks"),
});

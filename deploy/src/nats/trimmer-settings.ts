/** Settings of the process that trims the logs. */
import { z } from "zod";

export const TRIMMER_SETTINGS = z.object({
  TRIMMER_CONFIG_FILE: z.string().describe("the lattice config, as the handshake gives it"),
  TRIMMER_ROSTERS_FILE: z.string().describe("the six certified rosters"),
  TRIMMER_ENDPOINTS_FILE: z.string().describe("where members answer, by organism"),
  TRIMMER_NATS_SERVERS: z.string().describe("nats://host:port, comma separated"),
  TRIMMER_CREDENTIALS_FILE: z.string().describe("JSON: the trimmer's credentials by organism, mode 0400"),
  TRIMMER_LISTEN: z
    .string()
    .regex(/^[^:]+:\d+$/, "host:port")
    .optional()
    .describe(
      "host:port of `/livez` and `/readyz`; ready once every log was looked at without a failure; none when left out",
    ),
  TRIMMER_EVERY_MS: z.coerce.number().int().min(1000).default(15_000).describe("how often it looks"),
});

/** relay's own settings. */
import { z } from "zod";

export const SETTINGS = z.object({
  RELAY_ENGINE_LISTEN: z
    .string()
    .regex(/^[^\s:]+:\d{1,5}$/, "host:port expected")
    .describe("Engine-API-shaped endpoint for the sequencer"),
  RELAY_ENGINE_JWT_FILE: z.string().describe("32 bytes hex; HS256 tokens as the Engine API wants them"),
  RELAY_SEQUENCER_URL: z.url().describe("the sequencer's JSON-RPC, asked for its acknowledgements"),
});
export type RelaySettings = z.infer<typeof SETTINGS>;

/** atelier's own settings. */
import { z } from "zod";

export const SETTINGS = z.object({
  ATELIER_CHAIN_RPC: z.url().describe("JSON-RPC of the execution client that the chain's blocks are read from"),
  ATELIER_GENESIS_FILE: z.string().describe("the chain's genesis, as geth init reads it"),
  ATELIER_SEQUENCER_URL: z.url().describe("the sequencer's JSON-RPC, asked for each slot's attributes"),
});
export type AtelierSettings = z.infer<typeof SETTINGS>;

/** Settings of an offer member, from the environment. */
import { z } from "zod";

export const SETTINGS = z.object({
  /** JSON-RPC endpoint of the chain, where escrow is read. Without one this member certifies no escrow. */
  OFFER_CHAIN_RPC: z.url({ protocol: /^https?$/ }).optional(),
  /** Blocks below the head at which escrow is read; default: tally's finality depth. */
  OFFER_CHAIN_DEPTH: z.coerce.number().int().min(0).max(10_000).optional(),
  /** Deadline of one call to the chain, ms. */
  OFFER_CHAIN_TIMEOUT_MS: z.coerce.number().int().min(50).max(60_000).default(1500),
  /** Worker threads that open values, about 40 MB each; 0 opens between turns of the event loop. */
  OFFER_OPENING_WORKERS: z.coerce.number().int().min(0).max(16).default(0),
});
export type Settings = z.infer<typeof SETTINGS>;

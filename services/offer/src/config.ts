/** Settings of an offer member, from the environment. */
import { z } from "zod";

export const SETTINGS = z.object({
  OFFER_CHAIN_RPC: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe("the chain's JSON-RPC, where escrow is read; a member without one certifies no escrow"),
  OFFER_CHAIN_DEPTH: z.coerce
    .number()
    .int()
    .min(0)
    .max(10_000)
    .optional()
    .describe("blocks below the head at which escrow is read; tally's finality depth when absent"),
  OFFER_CHAIN_TIMEOUT_MS: z.coerce
    .number()
    .int()
    .min(50)
    .max(60_000)
    .default(1500)
    .describe("deadline of one exchange with the chain"),
  OFFER_OPENING_WORKERS: z.coerce
    .number()
    .int()
    .min(0)
    .max(16)
    .default(0)
    .describe("threads that open values, about 40 MB each; 0 opens between turns of the event loop"),
});
export type Settings = z.infer<typeof SETTINGS>;

/** tally's own settings. Everything that members must agree on is in the lattice config instead. */
import { z } from "zod";

export const SETTINGS = z
  .object({
    TALLY_CHAIN_RPC: z.url().describe("JSON-RPC of this member's own execution client: eth_ methods"),
    TALLY_CHAIN_TIMEOUT_MS: z.coerce.number().int().min(50).max(60_000).default(3000).describe("deadline of one call"),
    TALLY_SUBMIT_URL: z
      .url()
      .optional()
      .describe("where this member sends its own transactions: eth_sendRawTransaction of a gateway or node"),
    TALLY_POSTER_KEY_FILE: z
      .string()
      .optional()
      .describe("secp256k1 secret of a funded account that posts batches, 32 bytes hex, mode 0400"),
    TALLY_RESEND_SLOTS: z.coerce
      .number()
      .int()
      .min(1)
      .max(1000)
      .default(8)
      .describe("slots after which a batch that is not on chain is sent again"),
  })
  .refine((own) => (own.TALLY_SUBMIT_URL === undefined) === (own.TALLY_POSTER_KEY_FILE === undefined), {
    path: ["TALLY_SUBMIT_URL"],
    message: "TALLY_SUBMIT_URL and TALLY_POSTER_KEY_FILE: both or neither; without them this member posts nothing",
  });
export type TallySettings = z.infer<typeof SETTINGS>;

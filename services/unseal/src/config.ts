/** unseal's own settings. Everything that members must agree on is in the lattice config instead. */
import { z } from "zod";

export const SETTINGS = z.object({
  UNSEAL_OPENING_WORKERS: z.coerce
    .number()
    .int()
    .min(0)
    .max(16)
    .default(1)
    .describe("threads that open messages, about 40 MB each; 0 opens on the event loop (small lattices)"),
  UNSEAL_OPENINGS_KEEP_SLOTS: z.coerce
    .number()
    .int()
    .min(64)
    .max(1_000_000)
    .default(7200)
    .describe("slots for which openings of landed messages stay available"),
});
export type Settings = z.infer<typeof SETTINGS>;

/** Settings of a zipnet server, from the environment. */
import { z } from "zod";

const HEX_KEYS = z
  .string()
  .regex(/^[0-9a-f]{64}(?:,[0-9a-f]{64})*$/, "32-byte keys in lower-case hex, comma separated, expected")
  .transform((keys) => keys.split(","));

export const SETTINGS = z.object({
  ZIPNET_AGGREGATORS: HEX_KEYS.optional().describe(
    "Ed25519 keys of the aggregators whose sums this server forwards; any aggregator's when left out in a throw-away lattice",
  ),
  ZIPNET_SERVER_SERIAL: z.coerce
    .bigint()
    .min(1n)
    .default(1n)
    .describe("serial of the server key in the key file, when the operator's root key signs it here"),
  ZIPNET_SIGNED_SERVER_KEY: z
    .string()
    .regex(/^[0-9a-f]+$/, "lower-case hex expected")
    .optional()
    .describe("canonical server key signed by the operator elsewhere; instead of an operator key in the key file"),
});
export type Settings = z.infer<typeof SETTINGS>;

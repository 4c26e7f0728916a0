/** The dealer process: reads its parameters from standard input, deals, prints the public result, exits. */
import { readFileSync } from "node:fs";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { configToHex } from "@lattice/organism/identity/lattice-config.ts";
import { z } from "zod";
import { deal } from "./deal.ts";

const PARAMETERS = z.strictObject({
  directory: z.string().min(1),
  name: z.string(),
  chainId: z.coerce.bigint(),
  genesisMs: z.number().int(),
  slotMs: z.number().int(),
  members: z.number().int().min(3).max(7),
  settlement: z.string().regex(/^[0-9a-f]{40}$/),
});

const parsed = PARAMETERS.safeParse(JSON.parse(readFileSync(0, "utf8")));
if (!parsed.success) {
  for (const issue of parsed.error.issues) process.stderr.write(`dealer: ${issue.path.join(".")}: ${issue.message}\n`);
  process.exit(2);
}
const { directory, settlement, ...options } = parsed.data;
const { config, signers } = deal(directory, { ...options, settlement: fromHex(settlement) });
process.stdout.write(`${JSON.stringify({ config: configToHex(config), signers: signers.map(toHex) })}\n`);

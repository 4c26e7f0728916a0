/**
 * The dealer process: reads its parameters from standard input, deals, prints the public result, exits.
 * Exit codes: 0 dealt, 2 parameters, 5 the folder is not as it must be.
 */
import { readFileSync } from "node:fs";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { ConfigProblems, configToHex } from "@lattice/organism/identity/lattice-config.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { z } from "zod";
import { expectedProblem } from "../cli/expected.ts";
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

function say(...lines: readonly string[]): void {
  for (const line of lines) process.stderr.write(`dealer: ${line}\n`);
}

function given(): unknown {
  try {
    return JSON.parse(readFileSync(0, "utf8"));
  } catch {
    say("standard input: one JSON object with the parameters expected");
    process.exit(EXIT.usage);
  }
}

const parsed = PARAMETERS.safeParse(given());
if (!parsed.success) {
  say(...parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`));
  process.exit(EXIT.usage);
}
const { directory, settlement, ...options } = parsed.data;
try {
  const { config, signers } = deal(directory, { ...options, settlement: fromHex(settlement) });
  process.stdout.write(`${JSON.stringify({ config: configToHex(config), signers: signers.map(toHex) })}\n`);
} catch (error) {
  if (error instanceof ConfigProblems) {
    say(...error.problems);
    process.exit(EXIT.usage);
  }
  const expected = expectedProblem(error);
  if (expected === undefined) throw error;
  say(expected.line);
  process.exit(expected.code);
}

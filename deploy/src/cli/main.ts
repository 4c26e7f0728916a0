/** `builder`: the operator's command line. Data on stdout, everything else on stderr. */

import { EXIT } from "@lattice/organism/node/exit.ts";
import { makeProgram } from "./program.ts";

// Whoever reads our output may have enough of it (`| head`): that is not an error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(EXIT.ok);
});

try {
  await makeProgram().parseAsync();
} catch (error) {
  const expected = (await import("./expected.ts")).expectedProblem(error);
  if (expected === undefined) throw error;
  process.stderr.write(`${expected.line}\n`);
  process.exitCode = expected.code;
}

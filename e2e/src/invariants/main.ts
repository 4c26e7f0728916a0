/**
 * `node e2e/src/invariants/main.ts <export.json>`: judges a run from its exported outcomes and the chain client's RPC, in
 * a process of its own. Prints one JSON object; exit 0 when every invariant holds, 1 when one does not, 2 when the export
 * is none, 4 when the chain does not answer.
 */
import { readFileSync } from "node:fs";
import { CodecError } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { ConfigProblems } from "@lattice/organism/identity/lattice-config.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { type ChainView, readChain } from "./chain-view.ts";
import { judge } from "./judge.ts";
import { MalformedExport, parseRun, type Run } from "./run.ts";

function end(line: string, code: number): never {
  process.stderr.write(`invariants: ${line}\n`);
  process.exit(code);
}

const [file] = process.argv.slice(2);
if (file === undefined) end("which export?", EXIT.usage);
await initCrypto();
let run: Run;
try {
  run = parseRun(readFileSync(file, "utf8"));
} catch (error) {
  const expected = [MalformedExport, CodecError, ConfigProblems, KitProblem, SyntaxError].some(
    (kind) => error instanceof kind,
  );
  if (!expected && !(error instanceof Error && "code" in error)) throw error;
  end(`${file}: ${(error as Error).message}`, EXIT.usage);
}
let chain: ChainView;
try {
  chain = await readChain(run.chainRpc, run.config.tally.content.settlement);
} catch (error) {
  end(`the chain at ${run.chainRpc}: ${error instanceof Error ? error.message : String(error)}`, EXIT.timedOut);
}
const judgement = judge(run, chain);
process.stdout.write(`${JSON.stringify(judgement)}\n`);
process.exitCode = Object.values(judgement.invariants).every(Boolean) ? EXIT.ok : EXIT.failed;

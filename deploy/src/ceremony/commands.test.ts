import assert from "node:assert/strict";
import { test } from "node:test";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readConfig } from "@lattice/organism/node/kit.ts";
import { readably } from "./commands.ts";
import { CeremonyProblem } from "./member-folder.ts";

/** What a command says and ends with. */
async function said(work: () => Promise<number>): Promise<{ readonly lines: string[]; readonly code: number }> {
  const lines: string[] = [];
  const write = process.stderr.write;
  process.stderr.write = (chunk: string | Uint8Array): boolean => {
    lines.push(chunk.toString());
    return true;
  };
  try {
    return { code: await readably(work), lines };
  } finally {
    process.stderr.write = write;
  }
}

test("a file that is missing, of the kit or of a ceremony, is one line and a precondition; anything else is thrown", async () => {
  const missing = await said(async () => {
    readConfig("nowhere/lattice.hex");
    return EXIT.ok;
  });
  assert.deepEqual(missing, {
    code: EXIT.precondition,
    lines: ["lattice config: cannot read nowhere/lattice.hex: ENOENT\n"],
  });
  const foreign = await said(() => Promise.reject(new CeremonyProblem("made for relay")));
  assert.deepEqual(foreign, { code: EXIT.precondition, lines: ["made for relay\n"] });
  assert.deepEqual(await said(async () => EXIT.degraded), { code: EXIT.degraded, lines: [] });
  await assert.rejects(
    said(() => Promise.reject(new TypeError("a bug"))),
    TypeError,
  );
});

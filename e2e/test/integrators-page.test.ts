/** The code in docs/integrators.md does what the page says it does. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { create, toJson } from "@bufbuild/protobuf";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { blsPublicKey, blsSign } from "@lattice/organism/crypto/bls.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { CertifiedOutcomeSchema } from "@lattice/proto/lattice/committee/v1/outcome_pb.ts";

const FOLDER = dirname(fileURLToPath(import.meta.url));
const PAGE = readFileSync(join(dirname(dirname(FOLDER)), "docs", "integrators.md"), "utf8");

const SECRET = new Uint8Array(32).fill(7);
const OUTCOME: Outcome = {
  version: 1,
  committee: new Uint8Array(32).fill(1),
  generation: 0n,
  epoch: 0n,
  slot: 12n,
  stage: "broadcast",
  kind: "result",
  commitment: new Uint8Array([1, 2, 3]),
  bodyHash: new Uint8Array(32).fill(2),
};

/** As the gateway's JSON has it. */
function asJson(outcome: Outcome): Record<string, unknown> {
  const signature = blsSign(SECRET, outcomeDigest(outcome));
  const certified: CertifiedOutcome = { outcome, signature, signers: [0, 1] };
  return toJson(CertifiedOutcomeSchema, create(CertifiedOutcomeSchema, toWireOutcome(certified))) as Record<
    string,
    unknown
  >;
}

test("the page's certificate check accepts what is certified and refuses what is not", () => {
  const [, code] = /```js\n([\s\S]*?)```/.exec(PAGE) ?? [];
  assert.ok(code?.includes("export function verifyOutcome"));
  const { bodyHash: _, ...bodiless } = OUTCOME;
  const given = asJson(OUTCOME);
  const cases: [Record<string, unknown>, boolean][] = [
    [given, true],
    [asJson({ ...bodiless, kind: "skipped", commitment: new Uint8Array(), bodyHash: undefined }), true],
    [asJson({ ...OUTCOME, slot: 0n }), true],
    [{ ...given, slot: "13" }, false],
    [{ ...given, kind: "OUTCOME_KIND_EMPTY" }, false],
    [{ ...given, bodyHash: "" }, false],
    [{ ...given, signature: Buffer.alloc(96).toString("base64") }, false],
  ];
  const script = `${code}
    const key = Buffer.from(${JSON.stringify(Buffer.from(blsPublicKey(SECRET)).toString("hex"))}, "hex");
    const verdicts = ${JSON.stringify(cases.map(([each]) => each))}.map((outcome) => verifyOutcome(outcome, key));
    console.log(JSON.stringify(verdicts));`;
  // @noble/curves and @noble/hashes are found from this package, as they would be from an integrator's.
  const run = spawnSync(process.execPath, ["--input-type=module", "-e", script], { cwd: FOLDER, encoding: "utf8" });
  assert.equal(run.status, 0, run.stderr);
  assert.deepEqual(
    JSON.parse(run.stdout),
    cases.map(([, expected]) => expected),
  );
});

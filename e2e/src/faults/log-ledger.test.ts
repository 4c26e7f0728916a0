import assert from "node:assert/strict";
import { test } from "node:test";
import { checkLedger, type LedgerEntry } from "./log-ledger.ts";

const entries = (...keys: string[]): LedgerEntry[] =>
  keys.map((key) => {
    const [writer = "", number = ""] = key.split("/");
    return { writer: Number(writer), number: BigInt(number) };
  });

test("what was acknowledged is there once and in order; more may be there", () => {
  const applied = entries("0/0", "1/0", "0/1", "1/1", "0/2");
  assert.deepEqual(checkLedger(entries("0/0", "0/1", "1/0"), applied), []);
  assert.deepEqual(checkLedger([], []), []);
  // One whose fate the writer never learnt leaves a gap, or none.
  assert.deepEqual(checkLedger(entries("0/0", "0/2"), entries("0/0", "0/2")), []);
});

test("lost, doubled and reordered operations are each named", () => {
  for (const [acknowledged, applied, problem] of [
    [["0/0", "0/1"], ["0/0"], /0\/1 was acknowledged and is not there/],
    [["0/0"], ["0/0", "0/0"], /0\/0 was applied twice/],
    [["0/0", "0/1"], ["0/1", "0/0"], /0\/0 was applied after 0\/1/],
  ] as const) {
    const problems = checkLedger(entries(...acknowledged), entries(...applied));
    assert.equal(problems.length, 1, problems.join("; "));
    assert.match(problems[0] ?? "", problem);
  }
});

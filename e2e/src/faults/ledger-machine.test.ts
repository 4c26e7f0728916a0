import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode } from "@lattice/organism/codec/codec.ts";
import { checkLedger, LEDGER_STATE, type LedgerState, type Operation, record } from "./ledger-machine.ts";

const operations = (...keys: string[]): Operation[] =>
  keys.map((key) => {
    const [writer = "", number = ""] = key.split("/");
    return { writer: BigInt(writer), number: BigInt(number) };
  });
function stateOf(...keys: string[]): LedgerState {
  const state: LedgerState = { writers: new Map() };
  for (const each of operations(...keys)) assert.equal(record(state, each), true);
  return state;
}

test("what was acknowledged is there once and in order; more may be there", () => {
  assert.deepEqual(checkLedger(operations("0/0", "0/1", "1/0"), stateOf("0/0", "1/0", "0/1", "1/1", "0/2")), []);
  assert.deepEqual(checkLedger([], stateOf()), []);
  // One whose fate the writer never learnt leaves a gap, or none.
  assert.deepEqual(checkLedger(operations("0/0", "0/2"), stateOf("0/0", "0/2")), []);
});

test("lost, doubled and reordered operations are each named", () => {
  for (const [acknowledged, applied, problem] of [
    [["0/0", "0/1"], ["0/0"], /0\/1 was acknowledged and is not there/],
    [["0/1"], ["0/0", "0/2"], /0\/1 was acknowledged and is not there/],
    [["1/0"], ["0/0"], /1\/0 was acknowledged and is not there/],
    [["0/0"], ["0/0", "0/0"], /0\/0 was applied twice/],
    [["0/0", "0/1"], ["0/1", "0/0"], /0\/0 was applied after a later one/],
  ] as const) {
    const problems = checkLedger(operations(...acknowledged), stateOf(...applied));
    assert.equal(problems.length, 1, problems.join("; "));
    assert.match(problems[0] ?? "", problem);
  }
  // Late, and late again.
  assert.equal(checkLedger([], stateOf("0/1", "0/0", "0/0")).length, 2);
});

test("the state stays small while operations come, whatever is wrong with them", () => {
  const state = stateOf();
  for (let number = 0n; number < 100_000n; number++) record(state, { writer: 0n, number });
  assert.ok(encode(LEDGER_STATE, state).length < 100);
  let room = 0;
  while (record(state, { writer: 0n, number: 5n })) room += 1;
  assert.equal(room, 256);
  assert.equal(record(state, { writer: 0n, number: 100_000n }), true);
  assert.deepEqual(decode(LEDGER_STATE, encode(LEDGER_STATE, state)), state);
});

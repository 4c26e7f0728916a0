import assert from "node:assert/strict";
import { test } from "node:test";
import type { Checkpoint } from "./checkpoint.ts";
import { trimmableBelow } from "./trim.ts";

const at = (...positions: number[]): Checkpoint[] =>
  positions.map((position) => ({
    version: 3,
    committee: new Uint8Array(32),
    generation: 0n,
    epoch: 0n,
    rules: 1,
    position: BigInt(position),
    head: new Uint8Array(32),
    stateHash: new Uint8Array(32),
    stateBytes: 0,
    guestHash: new Uint8Array(32),
    guestBytes: 0,
  }));

test("the second newest checkpoint, once a quorum holds its snapshot", () => {
  assert.deepEqual(trimmableBelow([at(30, 20), at(30, 20), at(30, 20)], 2), { generation: 0n, position: 20n });
  assert.deepEqual(trimmableBelow([at(30, 20), at(20, 10), []], 2), { generation: 0n, position: 20n });
  assert.deepEqual(trimmableBelow([at(30, 20, 10), at(20, 10), at(10)], 3), { generation: 0n, position: 10n });
});

test("nothing while there is one checkpoint only, or too few hold an older one", () => {
  assert.deepEqual(trimmableBelow([at(30), at(30), at(30)], 2), undefined);
  assert.deepEqual(trimmableBelow([at(30, 20), at(30), at(30)], 2), undefined);
  assert.deepEqual(trimmableBelow([at(30, 20), [], []], 2), undefined);
  assert.deepEqual(trimmableBelow([], 2), undefined);
});

test("a member that names one snapshot twice is one member; another generation's positions do not mix", () => {
  assert.deepEqual(trimmableBelow([at(30, 20, 20), at(30)], 2), undefined);
  const next = at(5).map((each) => ({ ...each, generation: 1n }));
  assert.deepEqual(trimmableBelow([[...next, ...at(30, 20)], at(30, 20), at(30, 20)], 2), undefined);
  // The beginning of a generation counts as its first checkpoint.
  const born = at(12, 0).map((each) => ({ ...each, generation: 1n }));
  assert.deepEqual(trimmableBelow([born, born, at(30, 20)], 2), { generation: 1n, position: 0n });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { endOfSilence, type LeaderSign } from "./leader-probe.ts";

const signs = (...times: number[]): LeaderSign[] =>
  times.map((atMs, index) => ({ atMs, generation: 0n, lastPosition: BigInt(index) }));

test("the broker's recovery is the end of the longest silence", () => {
  assert.equal(endOfSilence(signs(0, 50, 3000, 3050, 8000, 8050, 10_000), 0)?.atMs, 8000);
  // One that lasts from the beginning counts as well; what came before does not.
  assert.equal(endOfSilence(signs(0, 6000, 9000, 9050), 7000)?.atMs, 9000);
});

test("a silence of less than a second is none", () => {
  assert.equal(endOfSilence(signs(50, 1000, 1999), 0), undefined);
  assert.equal(endOfSilence(signs(50, 1050), 0)?.atMs, 1050);
  assert.equal(endOfSilence([], 0), undefined);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { OthersGoOn } from "./others-go-on.ts";

const seen = (...positions: readonly (readonly [number, bigint])[]): Map<number, bigint> => new Map(positions);

test("a quorum of others that reads on twice, past what this member has read, has left it alone", () => {
  const others = new OthersGoOn(2, 10n);
  assert.equal(others.look(seen([0, 12n], [1, 12n])), false);
  assert.equal(others.look(seen([0, 13n], [1, 14n])), false);
  assert.equal(others.look(seen([0, 15n], [1, 15n])), true);
});

test("others that have read further and stand still may have lost the log as well", () => {
  const others = new OthersGoOn(2, 10n);
  for (let turn = 0; turn < 5; turn++) assert.equal(others.look(seen([0, 12n], [1, 12n])), false);
  // What they had kept is taken in once.
  assert.equal(others.look(seen([0, 13n], [1, 13n])), false);
  assert.equal(others.look(seen([0, 13n], [1, 13n])), false);
});

test("fewer than a quorum, or such as are still behind, do not count", () => {
  const fewer = new OthersGoOn(2, 10n);
  for (let turn = 11n; turn < 20n; turn++) assert.equal(fewer.look(seen([0, turn])), false);
  const behind = new OthersGoOn(2, 10n);
  for (let turn = 1n; turn <= 10n; turn++) assert.equal(behind.look(seen([0, turn], [1, turn])), false);
  assert.equal(behind.look(seen([0, 11n], [1, 11n])), false);
  assert.equal(behind.look(seen([0, 12n], [1, 12n])), true);
});

test("looks that show it have to follow one another", () => {
  const others = new OthersGoOn(2, 10n);
  others.look(seen([0, 11n], [1, 11n]));
  assert.equal(others.look(seen([0, 12n], [1, 12n])), false);
  assert.equal(others.look(seen([0, 13n])), false);
  assert.equal(others.look(seen([0, 14n], [1, 14n])), false);
  assert.equal(others.look(seen([0, 15n], [1, 15n])), false);
  assert.equal(others.look(seen([0, 16n], [1, 16n])), true);
});

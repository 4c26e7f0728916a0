import assert from "node:assert/strict";
import { test } from "node:test";
import { StreamPlaces } from "./stream-places.ts";

test("whoever has most gives way, its newest first, and nobody gives way to one that has as many", () => {
  const places = new StreamPlaces<string>(4);
  const [greedy, modest, third] = [{}, {}, {}];
  for (const name of ["a", "b", "c", "d"]) assert.equal(places.take(greedy, name), undefined);
  assert.equal(places.take(greedy, "e"), "e");
  assert.equal(places.take(modest, "x"), "d");
  assert.equal(places.take(modest, "y"), "c");
  assert.equal(places.take(modest, "z"), "z", "two and two");
  assert.equal(places.take(third, "u"), "b");
  assert.deepEqual([...places].sort(), ["a", "u", "x", "y"]);
  places.leave(greedy, "d");
  assert.equal(places.size, 4, "it had left already");
  places.leave(modest, "x");
  assert.equal(places.take(greedy, "f"), undefined);
});

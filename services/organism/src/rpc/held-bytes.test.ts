import assert from "node:assert/strict";
import { test } from "node:test";
import { HeldBytes } from "./held-bytes.ts";

test("above the limit those that hold longest go first, once, and no more than must", () => {
  const dropped: string[] = [];
  const held = new HeldBytes({ bytes: 100 });
  const [empty, first, second, third] = ["empty", "first", "second", "third"].map((name) =>
    held.hold(() => dropped.push(name)),
  );
  first?.add(40);
  second?.add(40);
  third?.add(20);
  assert.deepEqual(dropped, []);
  third?.add(1);
  assert.deepEqual([dropped, held.bytes], [["first"], 61]);
  first?.add(500);
  first?.release();
  assert.equal(held.bytes, 61, "what was dropped counts no more");
  second?.add(-40);
  second?.release();
  second?.release();
  assert.equal(held.bytes, 21);
  empty?.add(200);
  assert.deepEqual([dropped, held.bytes], [["first", "empty"], 21]);
});

test("each has its time", async () => {
  const held = new HeldBytes({ bytes: 100, forMs: 20 });
  const order: string[] = [];
  const last = Promise.withResolvers<void>();
  held.hold(() => order.push("first"));
  held.hold(() => order.push("released")).release();
  held.hold(() => {
    order.push("second");
    last.resolve();
  });
  await last.promise;
  assert.deepEqual([order, held.bytes], [["first", "second"], 0]);
});

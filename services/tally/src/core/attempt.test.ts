import assert from "node:assert/strict";
import { test } from "node:test";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import fc from "fast-check";
import { dealLattice } from "../../test/lattice.ts";
import { topicKind, topicOf } from "./attempt.ts";

const { config } = dealLattice();

test("topics change in periods that double, are ours, and are few, however long a slot takes", () => {
  const startMs = slotStartMs(config, 5n);
  assert.equal(topicOf(config, "chain", 5n, startMs - 5000), "chain");
  assert.equal(topicOf(config, "chain", 5n, startMs + 25_999), "chain");
  assert.equal(topicOf(config, "chain", 5n, startMs + 26_000), "chain/1");
  assert.equal(topicOf(config, "attributed", 5n, startMs + 77_999), "attributed/1");
  assert.equal(topicOf(config, "attributed", 5n, startMs + 78_000), "attributed/2");
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e15, noNaN: true }), (elapsedMs) => {
      const topic = topicOf(config, "chain", 5n, startMs + elapsedMs);
      assert.equal(topicKind(topic), "chain");
      assert.ok(Number(topic.split("/")[1] ?? 0) <= 30);
    }),
  );
});

test("other topics are not ours", () => {
  for (const topic of ["", "chains", "chain/", "chain/0", "chain/01", "chain/1/1", "chain/x", "escrow"]) {
    assert.equal(topicKind(topic), undefined, topic);
  }
  assert.equal(topicKind("attributed"), "attributed");
});

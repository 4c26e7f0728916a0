import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { ReceivedBids } from "./received.ts";

const id = (byte: number): string => toHex(new Uint8Array(32).fill(byte));

test("a close lists what was applied and what has not come back for longer than a patience, ascending, by stage", () => {
  const received = new ReceivedBids();
  received.pending("blind", 5n, id(3), 1000);
  received.pending("blind", 5n, id(1), 1000);
  received.pending("blind", 5n, id(2), 1950);
  received.pending("blind", 5n, id(4), 1000);
  received.pending("seen", 5n, id(5), 1000);
  received.pending("blind", 6n, id(6), 1000);
  received.applied(5n, id(3));
  received.refused(5n, id(4));
  assert.deepEqual(received.list("blind", 5n, 2000, 100).map(toHex), [id(1), id(3)]);
  assert.deepEqual(received.list("blind", 5n, 2051, 100).map(toHex), [id(1), id(2), id(3)]);
  assert.deepEqual(received.list("seen", 5n, 2000, 100).map(toHex), [id(5)]);
  received.forget(6n);
  assert.deepEqual(received.list("blind", 5n, 9000, 100), []);
  assert.deepEqual(received.list("blind", 6n, 9000, 100).map(toHex), [id(6)]);
});

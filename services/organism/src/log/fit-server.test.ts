import assert from "node:assert/strict";
import { test } from "node:test";
import { checkServer, olderThan, PAYLOAD_BYTES_MIN, SERVER_VERSION_MIN } from "./fit-server.ts";

test("versions compare by number", () => {
  for (const [version, old] of [
    ["2.10.22", true],
    ["2.10.23", false],
    ["2.9.99", true],
    ["2.15.1", false],
    ["3.0.0", false],
    ["2.10.23-RC.1", false],
    ["", true],
    ["nonsense", true],
  ] as const) {
    assert.equal(olderThan(version, "2.10.23"), old, version);
  }
});

test("a server is new enough and takes enough at once", () => {
  const fit = { version: SERVER_VERSION_MIN, max_payload: PAYLOAD_BYTES_MIN };
  checkServer(fit);
  assert.throws(() => checkServer({ ...fit, version: "2.10.22" }), { reason: "NATS_TOO_OLD" });
  assert.throws(() => checkServer({ ...fit, max_payload: PAYLOAD_BYTES_MIN - 1 }), {
    reason: "NATS_PAYLOAD_TOO_SMALL",
  });
  assert.throws(() => checkServer(undefined), { reason: "NATS_TOO_OLD" });
});

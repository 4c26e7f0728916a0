import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { inNamespace, namespacesPermitted } from "./network-namespace.ts";
import { PacketFilter } from "./packet-filter.ts";
import type { Seen } from "./packet-filter-probe.ts";

const PATIENCE_MS = 90_000;
const skip = namespacesPermitted() ? false : "a network namespace with iptables needs root";

test("in a network namespace packets are dropped by port and direction, and what was lost comes again", {
  skip,
}, () => {
  const [file, ...args] = inNamespace([process.execPath, join(import.meta.dirname, "packet-filter-probe.ts")]);
  const { status, stdout, stderr } = spawnSync(file, args, { encoding: "utf8", timeout: PATIENCE_MS });
  assert.equal(status, 0, stderr);
  const seen = JSON.parse(stdout) as Seen;
  assert.notEqual(seen.namespace, readlinkSync("/proc/self/ns/net"), "a namespace of its own");
  assert.deepEqual(seen.cutBoth, { heard: "", answered: "", other: "x" }, "the other port is not touched");
  assert.deepEqual(seen.mended, { heard: "both", answered: "" });
  assert.deepEqual(seen.cutDown, { heard: "down", answered: "" }, "it arrives, the answer does not");
  assert.deepEqual(seen.cutUp, { heard: "", answered: "up" }, "it does not arrive, the other side is heard");
  assert.ok(seen.lost > 0, "some were dropped");
  assert.deepEqual(seen.lossy, seen.sent, "all came, in order");
});

test("the rules of the machine itself are nobody's to replace", () => {
  assert.throws(() => new PacketFilter(), /of one's own only/);
});

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { blake3 } from "@napi-rs/blake-hash";
import { fromHex } from "../codec/codec.ts";
import { createNoTracer, createSlotTracer, type FinishedSpan, slotTraceIds } from "./tracing.ts";

const LATTICE = Uint8Array.from({ length: 32 }, (_, index) => index);
const attributes = { lattice: "test", chain_id: "1", organism: "relay", role: "member", member: "0" };
const folder = mkdtempSync(join(tmpdir(), "lattice-trace-"));
after(() => rmSync(folder, { recursive: true }));

test("golden: the trace id of slot 41 of lattice 000102…1f", () => {
  const ids = slotTraceIds(LATTICE, 41n);
  assert.deepEqual(ids, { traceId: "7ad832c9c001d69d0ef3766dc6aa12c9", rootSpanId: "f1f178ac40d06c89" });
  // Second engine, bytes laid out by hand: tag ‖ 32 bytes ‖ u64 big-endian.
  const bytes = Buffer.concat([Buffer.from("lattice/slot-trace/v1"), LATTICE, Buffer.from("0000000000000029", "hex")]);
  assert.equal(Buffer.from(blake3(bytes)).subarray(0, 24).toString("hex"), ids.traceId + ids.rootSpanId);
  assert.notEqual(slotTraceIds(LATTICE, 42n).traceId, ids.traceId);
  assert.notEqual(slotTraceIds(LATTICE.toReversed(), 41n).traceId, ids.traceId);
});

test("without a file or a collector nothing is traced", async () => {
  const tracer = await createSlotTracer({ latticeId: LATTICE, service: "relay", attributes, endpoint: "" });
  assert.equal(tracer, createNoTracer());
  tracer.span(1n, "relay/accepted", {}, 0, 1);
  await tracer.close();
});

test("spans of a slot join its trace below its root, whoever emits them", async () => {
  const file = join(folder, "spans.jsonl");
  const tracer = await createSlotTracer({ latticeId: LATTICE, service: "relay", attributes, file, endpoint: "" });
  tracer.span(41n, "relay/accepted", { kind: "result", position: 7n }, 1000, 1200);
  tracer.root(41n, { "slot.outcome": "landed" }, 900, 1300);
  tracer.span(42n, "relay/accepted", {}, 2000, 1999);
  await tracer.close();
  const spans = readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as FinishedSpan & { resource: object });
  const [first, root, second] = spans;
  const ids = slotTraceIds(LATTICE, 41n);
  assert.equal(spans.length, 3);
  assert.deepEqual([first?.traceId, first?.parentSpanId], [ids.traceId, ids.rootSpanId]);
  assert.match(first?.spanId ?? "", /^[0-9a-f]{16}$/);
  assert.deepEqual(first?.attributes, { kind: "result", position: "7", "lattice.slot": "41" });
  assert.deepEqual(first?.resource, attributes);
  assert.deepEqual([root?.traceId, root?.spanId, root?.parentSpanId], [ids.traceId, ids.rootSpanId, undefined]);
  assert.equal(second?.traceId, slotTraceIds(LATTICE, 42n).traceId);
  assert.equal(second?.endMs, 2000, "a clock that stepped back makes no negative span");
});

test("a call is traced below a sampled W3C context, and not below anything else", async () => {
  const file = join(folder, "calls.jsonl");
  const tracer = await createSlotTracer({ latticeId: LATTICE, service: "relay", attributes, file, endpoint: "" });
  const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
  tracer.call(`${parent}-01`, "lattice.relay.v1.RelayService/Watch", 1, 2, "OK");
  for (const refused of [`${parent}-00`, "", `${parent}-01 `, `00-${"0".repeat(32)}-00f067aa0ba902b7-01`]) {
    tracer.call(refused, "refused", 1, 2, "OK");
  }
  await tracer.close();
  const lines = readFileSync(file, "utf8").trim().split("\n");
  assert.equal(lines.length, 1);
  const span = JSON.parse(lines[0] ?? "") as FinishedSpan;
  assert.deepEqual(
    [span.traceId, span.parentSpanId, span.kind],
    ["4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "server"],
  );
});

test("OTLP: a collector receives the same ids; one that is down harms nobody", async () => {
  const bodies: Buffer[] = [];
  const paths: (string | undefined)[] = [];
  const collector = createServer((request, response) => {
    paths.push(request.url);
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      bodies.push(Buffer.concat(chunks));
      response.end();
    });
  });
  collector.listen(0, "127.0.0.1");
  await once(collector, "listening");
  const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
  const tracer = await createSlotTracer({ latticeId: LATTICE, service: "relay", attributes, endpoint: `${endpoint}/` });
  tracer.span(41n, "relay/accepted", { kind: "result" }, Date.now() - 5, Date.now());
  tracer.root(41n, {}, Date.now() - 10, Date.now());
  await tracer.close();
  collector.close();
  const body = Buffer.concat(bodies);
  const ids = slotTraceIds(LATTICE, 41n);
  assert.deepEqual(paths, ["/v1/traces"]);
  // protobuf field 1 of Span, 16 bytes; field 4 is the parent, 8 bytes; field 2 the span's own id.
  const occurs = (prefix: readonly number[], hex: string): boolean =>
    body.includes(Buffer.concat([Buffer.from(prefix), fromHex(hex)]));
  assert.ok(occurs([0x0a, 16], ids.traceId));
  assert.ok(occurs([0x22, 8], ids.rootSpanId));
  assert.ok(occurs([0x12, 8], ids.rootSpanId));
  assert.ok(body.includes("lattice-relay") && body.includes("relay/accepted"));

  const down = await createSlotTracer({ latticeId: LATTICE, service: "relay", attributes, endpoint });
  down.span(41n, "relay/accepted", {}, 0, 1);
  await down.close();
});

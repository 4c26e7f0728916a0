import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Fault } from "../fault.ts";
import { startHttpEndpoint } from "./http.ts";
import { createNoMeters } from "./meters.ts";
import { createMeters } from "./meters-otel.ts";
import { METRICS, metricEntry, STABLE_LABELS, UnknownMetric } from "./metric-catalogue.ts";

const labels = { lattice: "test", chain_id: "1", organism: "zipnet", role: "member", member: "2" };

async function get(
  port: number,
  path: string,
  method = "GET",
): Promise<{ status: number; text: string; type: string }> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
  return { status: response.status, text: await response.text(), type: response.headers.get("content-type") ?? "" };
}

test("Prometheus reads every figure with its help, type and the stable labels", async () => {
  const scraped = await createMeters({ labels });
  const { meters } = scraped;
  meters.count("lattice_entries_applied_total");
  meters.count("lattice_entries_applied_total", 2);
  meters.count("lattice_entries_refused_total", 1, { reason: 'DUPLICATE "x"\n' });
  meters.gauge("lattice_log_position", 5);
  meters.gauge("lattice_log_position", 9);
  meters.record("lattice_apply_seconds", 0.0002);
  meters.record("lattice_apply_seconds", 7);
  let ready = false;
  const http = await startHttpEndpoint({ port: 0, metrics: scraped, ready: () => ready });
  const { status, text, type } = await get(http.port, "/metrics?x=1");
  assert.equal(status, 200);
  assert.equal(type, "text/plain; version=0.0.4; charset=utf-8");
  const stable = 'lattice="test",chain_id="1",organism="zipnet",role="member",member="2"';
  const lines = text.split("\n");
  const has = (line: string): void => assert.ok(lines.includes(line), `${line}\nin\n${text}`);
  has("# HELP lattice_entries_applied_total Log entries applied.");
  has("# TYPE lattice_entries_applied_total counter");
  has(`lattice_entries_applied_total{${stable}} 3`);
  has(`lattice_entries_refused_total{reason="DUPLICATE \\"x\\"\\n",${stable}} 1`);
  has(`lattice_log_position{${stable}} 9`);
  has("# TYPE lattice_apply_seconds histogram");
  has(`lattice_apply_seconds_bucket{${stable},le="0.00025"} 1`);
  has(`lattice_apply_seconds_bucket{${stable},le="1"} 1`);
  has(`lattice_apply_seconds_bucket{${stable},le="+Inf"} 2`);
  has(`lattice_apply_seconds_count{${stable}} 2`);
  assert.match(text, /lattice_process_resident_memory_bytes\{[^}]+\} [1-9]/);
  assert.match(text, /lattice_process_event_loop_lag_seconds\{[^}]+\} [0-9]/);
  assert.ok(!text.includes("target_info") && !text.includes("otel_scope"));

  assert.equal((await get(http.port, "/livez")).status, 200);
  assert.deepEqual((await get(http.port, "/readyz")).status, 503);
  ready = true;
  assert.deepEqual((await get(http.port, "/readyz")).text, "ready\n");
  assert.equal((await get(http.port, "/")).status, 404);
  assert.equal((await get(http.port, "/metrics", "POST")).status, 405);
  await assert.rejects(
    startHttpEndpoint({ port: http.port, ready: () => true }),
    (error) => error instanceof Fault && error.reason === "ADDRESS_IN_USE",
  );
  await http.close();
  await scraped.close();
});

test("a metric, a type or a label that the catalogue does not have throws at first use, and is dropped in production", async () => {
  const registry = createNoMeters();
  const strict = await createMeters({ labels, strict: true });
  for (const meters of [registry, strict.meters]) {
    assert.throws(() => meters.count("lattice_surprise_total"), UnknownMetric);
    assert.throws(() => meters.gauge("lattice_entries_applied_total", 1), UnknownMetric);
    assert.throws(() => meters.count("lattice_entries_applied_total", 1, { slot: "41" }), UnknownMetric);
    meters.count("lattice_entries_applied_total");
  }
  const production = await createMeters({ labels, strict: false });
  production.meters.count("lattice_surprise_total");
  assert.ok(!(await production.scrape()).includes("surprise"));
  await strict.close();
  await production.close();
});

test("the registry remembers what was counted", () => {
  const meters = createNoMeters();
  meters.count("lattice_outcomes_total", 1, { stage: "broadcast", kind: "result" });
  meters.count("lattice_outcomes_total", 2, { kind: "result", stage: "broadcast" });
  meters.gauge("lattice_log_position", 4);
  meters.record("lattice_apply_seconds", 0.5);
  meters.record("lattice_apply_seconds", 0.25);
  assert.equal(meters.value("lattice_outcomes_total", { stage: "broadcast", kind: "result" }), 3);
  assert.equal(meters.value("lattice_outcomes_total"), 0);
  assert.equal(meters.value("lattice_log_position"), 4);
  assert.deepEqual([meters.value("lattice_apply_seconds"), meters.observations("lattice_apply_seconds")], [0.75, 2]);
  assert.deepEqual([...meters.all().keys()].sort()[2], 'lattice_outcomes_total{kind="result",stage="broadcast"}');
});

test("the catalogue keeps its own rules", () => {
  for (const [name, { type, unit, help, labels: own = [], buckets = [] }] of Object.entries(METRICS)) {
    assert.match(name, /^lattice_[a-z0-9]+(_[a-z0-9]+)*$/);
    assert.equal(name.endsWith("_total"), type === "counter", name);
    if (unit === "s") assert.match(name, /_seconds$/);
    if (unit === "By") assert.match(name, /_bytes$/);
    assert.match(help, /^[A-Z0-9].+\.$/, name);
    assert.ok(
      own.every((label) => !(STABLE_LABELS as readonly string[]).includes(label)),
      name,
    );
    assert.equal(buckets.length > 0, type === "histogram", name);
    assert.deepEqual(
      [...buckets],
      buckets.toSorted((a, b) => a - b),
      name,
    );
  }
});

test("every metric that the services and stewards use is in the catalogue, and the other way round", () => {
  const services = join(import.meta.dirname, "../../..");
  const used = new Map<string, string>();
  const CALL = /\.(count|gauge|record)\(\s*"(lattice_[a-z0-9_]+)"/g;
  const TYPES = { count: "counter", gauge: "gauge", record: "histogram" } as const;
  const packages = readdirSync(services, { withFileTypes: true }).flatMap((each) =>
    each.isDirectory() ? [join(services, each.name)] : [],
  );
  for (const folder of [...packages, join(services, "../gateway"), join(services, "../deploy")]) {
    for (const path of readdirSync(join(folder, "src"), { recursive: true, encoding: "utf8" })) {
      if (!path.endsWith(".ts") || path.endsWith(".test.ts")) continue;
      for (const [, call, name = ""] of readFileSync(join(folder, "src", path), "utf8").matchAll(CALL)) {
        metricEntry(name, TYPES[call as keyof typeof TYPES]);
        used.set(name, path);
      }
    }
  }
  assert.deepEqual(
    Object.keys(METRICS).filter((name) => !used.has(name)),
    [],
  );
});

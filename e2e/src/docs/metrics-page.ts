/** docs/metrics.md, from the catalogue of metrics. */
import { METRICS, type MetricEntry, STABLE_LABELS } from "@lattice/organism/observe/metric-catalogue.ts";
import { code, markdownTable } from "./markdown-table.ts";

const UNITS: Readonly<Record<MetricEntry["unit"], string>> = { s: "seconds", By: "bytes", "1": "" };

const INTRODUCTION = `# Metrics

Generated from \`services/organism/src/observe/metric-catalogue.ts\` by \`npm run generate\`; change that instead.

Members and aggregators serve them as Prometheus text under \`/metrics\` at \`LATTICE_METRICS_LISTEN\`, the gateway at
\`GATEWAY_METRICS_LISTEN\`; nothing is measured without that setting. The names are a public interface. Every metric carries the labels ${STABLE_LABELS.map(code).join(", ")}; the table
names the others. No label ever holds a slot, hash, address or anything a client said.
`;

export function metricsPage(): string {
  const rows = Object.entries(METRICS).map(([name, { type, unit, help, labels }]) => [
    code(name),
    type,
    UNITS[unit],
    (labels ?? []).map(code).join(", "),
    help,
  ]);
  const histograms = Object.entries(METRICS).filter(([, { buckets }]) => buckets !== undefined);
  const buckets = histograms.map(([name, entry]) => [code(name), (entry.buckets ?? []).join(", ")]);
  return [
    INTRODUCTION,
    markdownTable(["Metric", "Type", "Unit", "Labels", "Meaning"], rows),
    "",
    "## Buckets",
    "",
    markdownTable(["Histogram", "Upper bounds"], buckets),
    "",
  ].join("\n");
}

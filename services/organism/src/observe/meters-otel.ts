/**
 * Meters over OpenTelemetry, read by Prometheus. Loading the SDK costs about 12 MB and 50 ms a process (measured), so it
 * is imported only here, when somebody will scrape; embedded members use `createNoMeters`.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Meters } from "./meters.ts";
import {
  type MetricEntry,
  metricEntry,
  STABLE_LABELS,
  type StableLabels,
  strictByDefault,
} from "./metric-catalogue.ts";

export interface ScrapedMeters {
  readonly meters: Meters;
  /** All metrics in Prometheus' text format, version 0.0.4. */
  scrape(): Promise<string>;
  close(): Promise<void>;
}

export interface MetersOptions {
  readonly labels: StableLabels;
  /** Refuse metrics that the catalogue does not have by throwing; else they are dropped. Default: not in production. */
  readonly strict?: boolean;
}

type Labels = Readonly<Record<string, string>>;

/** @throws UnknownMetric from the meters, at the first use of what is not in the catalogue, when strict */
export async function createMeters(options: MetersOptions): Promise<ScrapedMeters> {
  const [{ MeterProvider }, { PrometheusExporter, PrometheusSerializer }, { resourceFromAttributes }] =
    await Promise.all([
      import("@opentelemetry/sdk-metrics"),
      import("@opentelemetry/exporter-prometheus"),
      import("@opentelemetry/resources"),
    ]);
  const strict = options.strict ?? strictByDefault();
  const reader = new PrometheusExporter({ preventServerStart: true });
  const provider = new MeterProvider({ resource: resourceFromAttributes({ ...options.labels }), readers: [reader] });
  const serializer = new PrometheusSerializer("", false, new RegExp(`^(${STABLE_LABELS.join("|")})$`), true, true);
  const meter = provider.getMeter("lattice");

  /** One instrument per name, made at first use. */
  const instruments = <I>(type: MetricEntry["type"], make: (name: string, entry: MetricEntry) => I) => {
    const made = new Map<string, I>();
    return (name: string, labels?: Labels): I | undefined => {
      const entry = metricEntry(name, type, labels, strict);
      if (entry === undefined) return undefined;
      const known = made.get(name) ?? make(name, entry);
      made.set(name, known);
      return known;
    };
  };
  const instrumentOptions = ({ help, unit, buckets }: MetricEntry) => ({
    description: help,
    unit,
    ...(buckets === undefined ? {} : { advice: { explicitBucketBoundaries: [...buckets] } }),
  });
  const counters = instruments("counter", (name, entry) => meter.createCounter(name, instrumentOptions(entry)));
  const gauges = instruments("gauge", (name, entry) => meter.createGauge(name, instrumentOptions(entry)));
  const histograms = instruments("histogram", (name, entry) => meter.createHistogram(name, instrumentOptions(entry)));

  const delay = monitorEventLoopDelay({ resolution: 20 });
  delay.enable();
  const meters: Meters = {
    count: (name, value = 1, labels = {}) => counters(name, labels)?.add(value, labels),
    gauge: (name, value, labels = {}) => gauges(name, labels)?.record(value, labels),
    record: (name, value, labels = {}) => histograms(name, labels)?.record(value, labels),
  };
  return {
    meters,
    async scrape() {
      meters.gauge("lattice_process_resident_memory_bytes", process.memoryUsage.rss());
      // NaN before the first sample.
      meters.gauge("lattice_process_event_loop_lag_seconds", (delay.percentile(99) || 0) / 1e9);
      delay.reset();
      const { resourceMetrics } = await reader.collect();
      return serializer.serialize(resourceMetrics);
    },
    async close() {
      delay.disable();
      await provider.shutdown();
    },
  };
}

import { metricEntry, strictByDefault } from "./metric-catalogue.ts";

/** Metrics by name; the names and labels are a public interface (docs/metrics.md). Low cardinality: never a slot, hash or id. */
export interface Meters {
  /** Adds to a counter, e.g. `lattice_entries_applied_total`. */
  count(name: string, value?: number, labels?: Readonly<Record<string, string>>): void;
  /** Sets a gauge, e.g. `lattice_log_position`. */
  gauge(name: string, value: number, labels?: Readonly<Record<string, string>>): void;
  /** Records into a histogram in seconds or bytes, as the name says. */
  record(name: string, value: number, labels?: Readonly<Record<string, string>>): void;
}

/** Meters that keep the latest figures in memory and show them to nobody: embedded members and tests. */
export interface MeterRegistry extends Meters {
  /** Sum of a counter, last value of a gauge, sum of a histogram; 0 when it was never touched. */
  value(name: string, labels?: Readonly<Record<string, string>>): number;
  /** How often a histogram was recorded into. */
  observations(name: string, labels?: Readonly<Record<string, string>>): number;
  /** Everything touched, `name{label="value"}` to figure. */
  all(): ReadonlyMap<string, number>;
}

function seriesOf(name: string, labels: Readonly<Record<string, string>> = {}): string {
  const names = Object.keys(labels);
  if (names.length === 0) return name;
  const pairs = names.sort().map((label) => `${label}="${labels[label]}"`);
  return `${name}{${pairs.join(",")}}`;
}

/**
 * No exporter and no dependency.
 * @throws UnknownMetric from the meters, at the use of what is not in the catalogue, when `strict`
 */
export function createNoMeters(strict = strictByDefault()): MeterRegistry {
  const sums = new Map<string, number>();
  const counts = new Map<string, number>();
  const add = (series: string, value: number): void => {
    sums.set(series, (sums.get(series) ?? 0) + value);
    counts.set(series, (counts.get(series) ?? 0) + 1);
  };
  return {
    count(name, value = 1, labels) {
      if (metricEntry(name, "counter", labels, strict) === undefined) return;
      add(seriesOf(name, labels), value);
    },
    gauge(name, value, labels) {
      if (metricEntry(name, "gauge", labels, strict) === undefined) return;
      sums.set(seriesOf(name, labels), value);
    },
    record(name, value, labels) {
      if (metricEntry(name, "histogram", labels, strict) === undefined) return;
      add(seriesOf(name, labels), value);
    },
    value: (name, labels) => sums.get(seriesOf(name, labels)) ?? 0,
    observations: (name, labels) => counts.get(seriesOf(name, labels)) ?? 0,
    all: () => sums,
  };
}

/** Metrics by name; the names and labels are a public interface (docs/metrics.md). Low cardinality: never a slot, hash or id. */
export interface Meters {
  /** Adds to a counter, e.g. `lattice_entries_applied_total`. */
  count(name: string, value?: number, labels?: Readonly<Record<string, string>>): void;
  /** Sets a gauge, e.g. `lattice_log_position`. */
  gauge(name: string, value: number, labels?: Readonly<Record<string, string>>): void;
  /** Records into a histogram in seconds or bytes, as the name says. */
  record(name: string, value: number, labels?: Readonly<Record<string, string>>): void;
}

/**
 * Every metric a member has: name, kind, unit, labels. The names are a public interface: dashboards, alerts and
 * docs/metrics.md are made from this table and checked against it. Low cardinality always: never a slot, hash, id,
 * address or anything a client said. Times in seconds, sizes in bytes, counters end in `_total`.
 */

export interface MetricEntry {
  readonly type: "counter" | "gauge" | "histogram";
  /** UCUM, as OpenTelemetry has it: `s`, `By`, `1` for counts. */
  readonly unit: "s" | "By" | "1";
  readonly help: string;
  /** Label names, besides those every metric has: lattice, chain_id, organism, role, member. */
  readonly labels?: readonly string[];
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[];
}

/** Labels that every metric of a member carries. */
export const STABLE_LABELS = ["lattice", "chain_id", "organism", "role", "member"] as const;
export type StableLabels = { readonly [L in (typeof STABLE_LABELS)[number]]: string };

const LATENCY_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const FAST_S = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1];

const counter = (help: string, ...labels: string[]): MetricEntry => ({ type: "counter", unit: "1", help, labels });
const gauge = (help: string, unit: MetricEntry["unit"] = "1", ...labels: string[]): MetricEntry => ({
  type: "gauge",
  unit,
  help,
  labels,
});
const seconds = (help: string, buckets: readonly number[], ...labels: string[]): MetricEntry => ({
  type: "histogram",
  unit: "s",
  help,
  labels,
  buckets,
});

export const METRICS: { readonly [name: string]: MetricEntry } = {
  // The committee's log, as this member applies it.
  lattice_entries_applied_total: counter("Log entries applied."),
  lattice_entries_refused_total: counter("Log entries refused, by reason.", "reason"),
  lattice_apply_seconds: seconds("Time to apply one entry.", FAST_S),
  lattice_log_position: gauge("Last log position applied."),
  lattice_log_refusing: gauge("1 while the log takes nothing from this member."),
  lattice_log_forks_total: counter(
    "Entries and answers of members that have another chain head: the broker forks, or they lie.",
  ),
  lattice_log_differing_members: gauge(
    "Members last seen on another chain; when they leave no quorum for this one, this member stops.",
  ),
  lattice_log_heads_agreeing: gauge(
    "Members, this one included, that showed this member's chain head when last asked.",
  ),
  lattice_log_degraded: gauge("1 while fewer than a quorum of members show this member's chain head."),
  lattice_log_withheld: gauge("1 while the log has entries that it does not deliver to this member."),
  lattice_committee_margin: gauge(
    "Members that speak and are not blocked, less the quorum: at 0 none may be lost any more.",
  ),
  lattice_committee_blocked_members: gauge("Members of the roster whose key was proven to say two things."),
  lattice_frauds_proven_total: counter("Fraud proofs that blocked a key, by kind (entries, votes).", "kind"),
  lattice_log_bytes: gauge("What the committee's log holds.", "By"),
  lattice_log_limit_bytes: gauge("What it may hold; 0 when it has no limit.", "By"),
  lattice_log_own_share: gauge("The part of its own quota, 0 to 1, that the fuller of this member's lanes holds."),
  lattice_log_nearly_full: gauge(
    "1 above 80 % of the log's limit or of this member's own quota: it begins no new slot.",
  ),
  lattice_generation: gauge("Generation of the committee's log that this member reads."),
  lattice_generation_ending: gauge("1 while members agree where a lost generation ends: no slot goes on."),
  lattice_generation_round: gauge("Round of that agreement; it grows while no quorum is heard."),
  lattice_rules_version: gauge("The rule version that governed the last entry applied."),
  lattice_rules_next_version: gauge("The rule version that is planned; 0 for none."),
  lattice_rules_next_position: gauge("The log position from which on it is to govern; 0 for none."),
  lattice_rules_build_version: gauge("The highest rule version that this member's build can follow."),
  lattice_checkpoint_position: gauge("Log position of the newest certified checkpoint."),
  lattice_checkpoint_dissent_total: counter("Votes for another state than this member's at a checkpoint.", "author"),
  lattice_bad_shares_total: counter(
    "Shares of certificates that turned out to be none, by the member that gave them.",
    "author",
  ),
  lattice_snapshot_position: gauge("Log position of the newest certified snapshot on disk."),
  lattice_snapshot_bytes: gauge("Size of the newest snapshot.", "By"),
  lattice_outcomes_total: counter("Decisions, by stage and kind (result, empty, skipped).", "stage", "kind"),
  lattice_archive_behind_slots: gauge(
    "Slots from the oldest on whose outcomes the archive did not take when it was last tried; 0 when it has all that this member holds.",
  ),
  lattice_archive_gone_slots_total: counter(
    "Slots whose outcomes this member let go of before it knew the archive to have them.",
  ),
  lattice_dkg_has_share: gauge(
    "1 while this member holds its shares of an epoch that is in force or to come; 0 once they are erased.",
    "1",
    "epoch",
  ),
  lattice_era: gauge("Newest era known, by committee: how often its certificate key has changed.", "1", "of"),
  lattice_roster_conflicts_total: counter(
    "Epochs of which two different certified rosters were heard, by committee; both are kept beside the data.",
    "of",
  ),
  // Calls.
  lattice_rpc_server_call_duration_seconds: seconds("Calls served, by method and status.", LATENCY_S, "method", "code"),
  lattice_rpc_server_open_streams: gauge("Server streams open now."),
  lattice_rpc_slow_consumers_total: counter("Streams ended because their reader was too slow.", "method"),
  // The organisms.
  lattice_zipnet_partial_seconds: seconds("Time to compute a round's partial.", LATENCY_S),
  lattice_zipnet_participants: gauge("Clients in the aggregator's newest sum."),
  lattice_zipnet_envelopes_total: counter("Envelopes an aggregator judged: folded, repeated, or the reason.", "result"),
  lattice_unseal_open_seconds: seconds("Time to open a slot once enough shares are there.", LATENCY_S),
  lattice_unseal_messages_opened_total: counter("Messages opened."),
  lattice_unseal_messages_failed_total: counter("Messages that count for nothing."),
  lattice_unseal_unusable_shares_total: counter("Shares of other members that do not verify.", "author", "problem"),
  lattice_unseal_frauds_total: counter("Shares that no honest member publishes.", "author", "kind"),
  lattice_offer_bad_shares_total: counter("Key shares of other members that did not verify."),
  lattice_offer_chain_failures_total: counter("Reads of the settlement contract that failed."),
  lattice_atelier_build_seconds: seconds("Time to build a candidate.", LATENCY_S),
  lattice_atelier_verify_seconds: seconds("Time to execute a proposed candidate.", LATENCY_S),
  lattice_atelier_candidates_refused_total: counter(
    "Proposed candidates that this member found wrong, by author and first objection.",
    "author",
    "objection",
  ),
  lattice_atelier_frauds_total: counter("Second, different proposals under one key.", "author"),
  lattice_atelier_chain_head: gauge("Number of the newest block executed here."),
  lattice_atelier_chain_failures_total: counter("Attempts to follow the chain that failed."),
  lattice_tally_chain_failures_total: counter("Reads of the chain that failed."),
  lattice_tally_attribution_problems_total: counter(
    "Landed slots whose certified inputs contradict each other.",
    "problem",
  ),
  lattice_tally_won_but_not_landed_total: counter("Slots whose block was acknowledged, but is not on chain."),
  lattice_tally_posts_sent_total: counter("Transactions sent to the settlement contract, post or stage.", "action"),
  // The gateway.
  lattice_gateway_calls_seconds: seconds(
    "Calls from users, by method and what came of it: ok, or the reason.",
    LATENCY_S,
    "method",
    "result",
  ),
  lattice_gateway_submissions: gauge("Transactions known here, by status.", "1", "status"),
  lattice_gateway_clients_ready: gauge("Clients of zipnet that this gateway runs and that are registered."),
  lattice_gateway_chain_head: gauge("Number of the newest block seen."),
  lattice_gateway_outcomes_total: counter(
    "Outcomes whose certificate was verified, by the organism they are of.",
    "of",
  ),
  // An operator's steward.
  lattice_steward_epoch: gauge("Epoch of the newest roster that a steward knows a quorum to have taken up."),
  lattice_steward_standbys: gauge("Seats for which a steward knows a standby."),
  lattice_steward_standby_missing: gauge(
    "Seats whose key was proven to say two things and for which nobody stands by.",
  ),
  lattice_steward_waiting: gauge("1 while an epoch is due and something keeps a steward from it; its log says what."),
  lattice_steward_ceremonies_total: counter(
    "Parts taken in ceremonies, by why (refresh, blocked, late) and end (done, failed, interrupted).",
    "why",
    "end",
  ),
  // The process.
  lattice_process_resident_memory_bytes: gauge("Resident set size.", "By"),
  lattice_process_event_loop_lag_seconds: gauge(
    "99th percentile of the event loop's delay since the last scrape.",
    "s",
  ),
};

/** A metric or a label that the catalogue does not have. */
export class UnknownMetric extends Error {
  override readonly name = "UnknownMetric";
}

/** Whether what the catalogue does not have is refused by throwing: everywhere but in production, where it is dropped. */
export function strictByDefault(): boolean {
  return process.env["NODE_ENV"] !== "production";
}

/** Why a metric cannot be used like this; undefined when it can. */
function problemOf(
  entry: MetricEntry | undefined,
  name: string,
  type: MetricEntry["type"],
  labels: Readonly<Record<string, string>>,
): string | undefined {
  if (entry === undefined) return `${name} is not in observe/metric-catalogue.ts`;
  if (entry.type !== type) return `${name} is a ${entry.type}, used as a ${type}`;
  const strange = Object.keys(labels).find((label) => !entry.labels?.includes(label));
  return strange === undefined ? undefined : `${name} has no label ${strange}`;
}

/**
 * The entry of a metric; undefined when it cannot be used like this and `strict` is off.
 * @throws UnknownMetric when it is not in the catalogue, has another type, or carries a label that it should not
 */
export function metricEntry(
  name: string,
  type: MetricEntry["type"],
  labels: Readonly<Record<string, string>> = {},
  strict = true,
): MetricEntry | undefined {
  const entry = METRICS[name];
  const problem = problemOf(entry, name, type, labels);
  if (problem === undefined) return entry;
  if (strict) throw new UnknownMetric(problem);
  return undefined;
}

/** What people see of a committee's log while a member applies it: metrics, lines and the trace of each slot. Decides nothing. */
import type { Applied, Committee } from "../committee/committee.ts";
import type { Outcome } from "../committee/outcome.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import type { Duty } from "../machine.ts";
import type { Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import type { SlotTracer } from "../observe/tracing.ts";
import type { Clock } from "../ports.ts";

export interface AppliedReportOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly self: number;
  readonly committee: Pick<Committee<unknown, unknown, Duty>, "position" | "roster" | "rules" | "speaks">;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meters: Meters;
  readonly tracer: SlotTracer;
}

export class AppliedReport {
  readonly #options: AppliedReportOptions;

  constructor(options: AppliedReportOptions) {
    this.#options = options;
  }

  /** @param seconds that applying it took */
  applied({ position, author, refusal, badShares, planned, activated }: Applied, seconds: number): void {
    const { logger, meters } = this.#options;
    meters.count("lattice_entries_applied_total");
    meters.record("lattice_apply_seconds", seconds);
    meters.gauge("lattice_log_position", Number(position));
    if (refusal !== undefined) {
      meters.count("lattice_entries_refused_total", 1, { reason: refusal.reason });
      logger.debug("entry refused", { position, author, ...refusal });
    }
    for (const share of badShares ?? []) {
      logger.error("a member's share is none; it does not count", { author: share.author, of: share.what, position });
      meters.count("lattice_bad_shares_total", 1, { author: String(share.author) });
    }
    if (planned !== undefined || activated !== undefined) this.rules();
  }

  /** Which rules govern, and which are to. */
  rules(): void {
    const { logger, meters, committee } = this.#options;
    const { rules, speaks, position } = committee;
    const { active, since, next } = rules;
    meters.gauge("lattice_rules_version", active);
    meters.gauge("lattice_rules_next_version", next?.version ?? 0);
    meters.gauge("lattice_rules_next_position", Number(next?.from ?? 0n));
    meters.gauge("lattice_rules_build_version", speaks.highest);
    if (since === position && since > 0n) logger.info("rules govern from here on", { rules: active, position });
    if (next === undefined) return;
    const plan = { rules: next.version, from_position: next.from, build_speaks: speaks.highest };
    if (next.version <= speaks.highest) logger.info("a quorum can follow newer rules", plan);
    else logger.error("a quorum can follow newer rules, this build cannot: it stops before them", plan);
  }

  /** @param live not read again after a restart: only then it is worth a line and a span */
  decided({ slot, stage, kind }: Outcome, live: boolean): void {
    const { organism, self, committee, config, clock, logger, meters, tracer } = this.#options;
    meters.count("lattice_outcomes_total", 1, { stage, kind });
    if (!live) return;
    const now = clock.nowMs();
    logger.info("decided", { slot, stage, kind });
    const startMs = Math.min(now, config.genesisMs + (Number(slot) - 1) * config.slotMs);
    tracer.span(slot, `${organism}/${stage}`, { kind, position: Number(committee.position) }, startMs, now);
    // The last organism ends the slot; its members take turns, so that the root stands once in a collector.
    const turn = Number(slot % BigInt(committee.roster.members.length));
    if (organism === ORGANISMS.at(-1) && turn === self) tracer.root(slot, { kind }, startMs, now);
  }
}

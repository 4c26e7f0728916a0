/** How full the log is, and whether it takes this member's entries: measured now and then, never waited for. */
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import type { Log, LogRefusal, LogUsage } from "../ports.ts";

/** How full the log may be when a slot begins (log.md §6). */
const USAGE_MAX = 0.8;

export class LogPressure {
  readonly #log: Log;
  readonly #meters: Meters;
  readonly #logger: Logger;
  #usage: LogUsage | undefined;
  /** The log takes nothing from this member now. */
  #refused = false;

  constructor(log: Log, meters: Meters, logger: Logger) {
    this.#log = log;
    this.#meters = meters;
    this.#logger = logger;
  }

  /** As last measured; undefined when the log does not say. */
  get usage(): LogUsage | undefined {
    return this.#usage;
  }

  /** So full that no new slot begins. */
  get full(): boolean {
    const { bytes, bytesMax, ownShare = 0 } = this.#usage ?? { bytes: 0, bytesMax: undefined };
    return ownShare > USAGE_MAX || (bytesMax !== undefined && bytes > bytesMax * USAGE_MAX);
  }

  measure(): void {
    const meters = this.#meters;
    const logger = this.#logger;
    if (this.#log.usage === undefined) return;
    this.#log.usage().then(
      (usage) => {
        const before = this.full;
        this.#usage = usage;
        meters.gauge("lattice_log_bytes", usage.bytes);
        meters.gauge("lattice_log_limit_bytes", usage.bytesMax ?? 0);
        meters.gauge("lattice_log_own_share", usage.ownShare ?? 0);
        meters.gauge("lattice_log_nearly_full", this.full ? 1 : 0);
        if (this.full === before) return;
        const found = { bytes: usage.bytes, bytes_max: usage.bytesMax ?? 0, own_share: usage.ownShare ?? 0 };
        if (this.full) logger.error("the log is nearly full: no new slot begins until it is trimmed", found);
        else logger.info("the log has room again", found);
      },
      (error: unknown) => logger.debug("the log does not say how full it is", errorFields(error)),
    );
  }

  /** @param refused why the log takes nothing from this member; undefined when it does (again) */
  noteRefused(refused: LogRefusal | undefined): void {
    this.#meters.gauge("lattice_log_refusing", refused === undefined ? 0 : 1);
    if ((refused !== undefined) === this.#refused) return;
    this.#refused = refused !== undefined;
    if (refused === undefined) this.#logger.info("the log takes this member's entries again");
    else {
      const { reason, message } = refused;
      this.#logger.error("the log refuses this member's entries; they are tried again", { reason, problem: message });
    }
  }
}

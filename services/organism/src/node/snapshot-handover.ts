/**
 * Certified snapshots on their way into the archive, beside what the member does: an archive that is slow or silent holds
 * up nothing. One is on its way and one waits at most; a newer one takes the place of the one that waits.
 */
import type { CertifiedCheckpoint } from "../committee/checkpoint.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { SnapshotStore } from "./snapshot-store.ts";

interface Snapshot {
  readonly certified: CertifiedCheckpoint;
  readonly state: Uint8Array;
}

export class SnapshotHandover {
  readonly #store: Pick<SnapshotStore, "save">;
  readonly #logger: Logger;
  #waiting: Snapshot | undefined;
  #running: Promise<void> | undefined;

  constructor(store: Pick<SnapshotStore, "save">, logger: Logger) {
    this.#store = store;
    this.#logger = logger;
  }

  /** Never waits, never throws: a failure is told of, and the next snapshot is tried. */
  hand(certified: CertifiedCheckpoint, state: Uint8Array): void {
    this.#waiting = { certified, state };
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    for (let next = this.#waiting; next !== undefined; next = this.#waiting) {
      this.#waiting = undefined;
      const { certified, state } = next;
      try {
        await this.#store.save(certified, state);
      } catch (error) {
        const { position } = certified.checkpoint;
        this.#logger.error("the archive does not take a snapshot", { position, ...errorFields(error) });
      }
    }
    // At once, not when whoever waits for it is told: what is handed over in between would lie there until the next.
    this.#running = undefined;
  }

  /** Resolves when nothing is on its way. */
  async settled(): Promise<void> {
    await this.#running;
  }
}

/**
 * What a member does about checkpoints besides voting: keeps the states that may yet be certified, makes the
 * certificate when q shares are in the log, and puts both on disk and into the archive. Uncertified states never leave memory.
 */
import type { CertifiedCheckpoint, Checkpoint } from "../committee/checkpoint.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import type { SnapshotHandover } from "./snapshot-handover.ts";
import type { SnapshotStore } from "./snapshot-store.ts";

/** States kept until they are certified: the newest ones. Each is as large as the whole state. */
const PENDING_MAX = 2;

export interface CheckpointKeeperOptions {
  /** The quorum of an epoch: as many shares make its certificates. */
  readonly quorumOf: (epoch: bigint) => number;
  /** The shares that are in the log for a position. */
  readonly votes: (position: bigint) => ReadonlyMap<number, Uint8Array>;
  /** The member's own. */
  readonly store: Pick<SnapshotStore, "save">;
  /** The archive's, when there is one. */
  readonly outside: Pick<SnapshotHandover, "hand"> | undefined;
  readonly logger: Logger;
  readonly meters: Meters;
  /** Called once a newer snapshot is on this member's disk. */
  readonly onSaved: (checkpoint: Checkpoint) => Promise<void>;
}

/** What applying an entry made, as far as it concerns checkpoints. */
interface Made {
  readonly checkpoint?: { readonly checkpoint: Checkpoint; readonly state: Uint8Array } | undefined;
  readonly certifiedCheckpoint?: Checkpoint | undefined;
}

export class CheckpointKeeper {
  readonly #options: CheckpointKeeperOptions;
  readonly #pending = new Map<bigint, Uint8Array>();
  #saving: Promise<void> = Promise.resolve();
  /** Of the generation that goes on: what is being saved of the one before does not count in it. */
  #saved: { position: bigint };

  /** @param savedPosition of the newest snapshot on disk; 0 for none */
  constructor(options: CheckpointKeeperOptions, savedPosition: bigint) {
    this.#options = options;
    this.#saved = { position: savedPosition };
  }

  /** Position of the newest certified snapshot on disk. */
  get savedPosition(): bigint {
    return this.#saved.position;
  }

  /** Positions begin anew. */
  beginGeneration(): void {
    this.#pending.clear();
    this.#saved = { position: 0n };
  }

  /** To be shown everything that was applied, in order. */
  applied({ checkpoint, certifiedCheckpoint }: Made): void {
    if (checkpoint !== undefined) {
      this.#pending.set(checkpoint.checkpoint.position, checkpoint.state);
      for (const old of [...this.#pending.keys()].slice(0, -PENDING_MAX)) this.#pending.delete(old);
    }
    if (certifiedCheckpoint !== undefined) this.#certify(certifiedCheckpoint);
  }

  #certify(checkpoint: Checkpoint): void {
    const { votes, meters } = this.#options;
    const quorum = this.#options.quorumOf(checkpoint.epoch);
    const state = this.#pending.get(checkpoint.position);
    for (const position of [...this.#pending.keys()])
      if (position <= checkpoint.position) this.#pending.delete(position);
    meters.gauge("lattice_checkpoint_position", Number(checkpoint.position));
    if (state === undefined || checkpoint.position <= this.#saved.position) return;
    const shares = [...votes(checkpoint.position)].sort(([a], [b]) => a - b);
    const signature = combineSignatures(
      shares.slice(0, quorum).map(([index, share]) => ({ index, signature: share })),
      quorum,
    );
    const certified = { checkpoint, signature, signers: shares.map(([index]) => index) };
    const saved = this.#saved;
    this.#saving = this.#saving.then(() => this.#save(certified, state, saved));
    this.#options.outside?.hand(certified, state);
  }

  async #save(certified: CertifiedCheckpoint, state: Uint8Array, saved: { position: bigint }): Promise<void> {
    const { store, logger, meters, onSaved } = this.#options;
    const { checkpoint } = certified;
    try {
      await store.save(certified, state);
      saved.position = checkpoint.position;
      meters.gauge("lattice_snapshot_bytes", state.length);
      meters.gauge("lattice_snapshot_position", Number(checkpoint.position));
      logger.info("snapshot", { position: checkpoint.position, bytes: state.length });
      await onSaved(checkpoint);
    } catch (error) {
      logger.error("the snapshot failed", { position: checkpoint.position, ...errorFields(error) });
    }
  }

  /** Resolves when what was certified so far is on disk. */
  async settled(): Promise<void> {
    await this.#saving;
  }
}

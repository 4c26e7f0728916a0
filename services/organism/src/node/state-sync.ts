/** Where a starting member's state comes from: its own snapshots, else its peers' or the archive's, else the log alone. */
import { CodecError } from "../codec/codec.ts";
import type { CertifiedCheckpoint } from "../committee/checkpoint.ts";
import type { Committee } from "../committee/committee.ts";
import { RulesUnknown, speaks } from "../committee/rules.ts";
import type { Duty } from "../machine.ts";
import type { Logger } from "../observe/logger.ts";
import { type Log, pause, type Timers } from "../ports.ts";
import type { KnownEras } from "./era-book.ts";
import { type FetchedSnapshot, fetchSnapshot, type SnapshotSource } from "./snapshot-fetcher.ts";
import type { SnapshotStore } from "./snapshot-store.ts";

/** No state to go on from: the log has been trimmed, and nobody gave a snapshot that it continues. */
export class NoSnapshot extends Error {
  override readonly name = "NoSnapshot";
}

/** With so many entries to read, a snapshot from elsewhere is asked for even though the log still holds them all. */
const WORTH_FETCHING = 4096n;
const PATIENCE_MS = 120_000;
const PAUSE_MS = 1000;

/**
 * Restores the newest own snapshot, of the newest generation, that is one of this version's states.
 * @throws RulesUnknown when it lies under rules that this build does not have: an older one would only lead up to them
 */
export async function restoreOwn<State, Command, D extends Duty>(
  committee: Committee<State, Command, D>,
  store: SnapshotStore,
  logger: Logger,
): Promise<void> {
  for (const { checkpoint } of store.held()) {
    checkRules(committee, checkpoint);
    const state = await store.load(checkpoint);
    if (state !== undefined && restores(committee, state, checkpoint.position, logger)) return;
  }
}

/** A quorum certified under which rules the state lies. @throws RulesUnknown */
function checkRules<State, Command, D extends Duty>(
  committee: Committee<State, Command, D>,
  { rules }: CertifiedCheckpoint["checkpoint"],
): void {
  if (!speaks(committee.speaks, rules)) throw new RulesUnknown(rules, committee.speaks, undefined);
}

function restores<State, Command, D extends Duty>(
  committee: Committee<State, Command, D>,
  state: Uint8Array,
  position: bigint,
  logger: Logger,
): boolean {
  try {
    committee.restore(state);
    return true;
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    logger.warn("a snapshot is not a state of this version; passed over", { position, problem: error.message });
    return false;
  }
}

export interface StateSyncOptions<State, Command, D extends Duty> {
  readonly committee: Committee<State, Command, D>;
  readonly log: Log;
  readonly store: SnapshotStore;
  readonly sources: readonly SnapshotSource[];
  readonly logger: Logger;
  readonly timers: Timers;
  readonly patienceMs?: number;
  /** The eras known; what `learnEras` learns comes in. The pinned one only when left out. */
  readonly eras?: KnownEras;
  /** Epochs whose certificate key is over for this member: what it says is not taken. */
  readonly keyIsOver: (epoch: bigint) => boolean;
  /** Asks the other members for theirs: certificates of a later era mean nothing before. */
  readonly learnEras?: () => Promise<void>;
}

/**
 * Makes sure that the log continues what this member has: fetches a certified snapshot when it does not, or when that
 * is much less to read. @throws NoSnapshot, RulesUnknown
 */
export async function syncState<State, Command, D extends Duty>(
  options: StateSyncOptions<State, Command, D>,
): Promise<void> {
  const { committee, log, store, logger, timers, patienceMs = PATIENCE_MS } = options;
  const until = timers.elapsedMs() + patienceMs;
  const refused = new Set<bigint>();
  for (;;) {
    const [first, last] = [await log.firstPosition(), await log.lastPosition()];
    const continued = first <= committee.position + 1n;
    if (continued && last < committee.position + WORTH_FETCHING) return;
    const fetched = await fetchNewer(options, first, refused);
    if (fetched !== undefined) {
      const { checkpoint } = fetched.certified;
      checkRules(committee, checkpoint);
      if (restores(committee, fetched.state, checkpoint.position, logger)) {
        await store.save(fetched.certified, fetched.state);
        logger.info("joined from a snapshot", {
          source: fetched.source,
          position: checkpoint.position,
          bytes: fetched.state.length,
        });
        return;
      }
      refused.add(checkpoint.position);
    }
    if (continued) return;
    const detail = `the log starts at position ${first}, this member has applied ${committee.position}`;
    if (timers.elapsedMs() >= until) throw new NoSnapshot(`${detail}, and nobody gave a snapshot that fits`);
    logger.warn("waiting for a snapshot from a peer or the archive", { problem: detail });
    await pause(timers, PAUSE_MS);
  }
}

function fetchNewer<State, Command, D extends Duty>(
  { committee, sources, logger, eras, keyIsOver, learnEras }: StateSyncOptions<State, Command, D>,
  first: bigint,
  refused: ReadonlySet<bigint>,
): Promise<FetchedSnapshot | undefined> {
  return fetchSnapshot({
    config: committee.config,
    organism: committee.organism,
    sources,
    log: logger,
    eras,
    learnEras,
    wanted: ({ checkpoint: { generation, position, epoch } }) =>
      generation === committee.generation &&
      !keyIsOver(epoch) &&
      position > committee.position &&
      position + 1n >= first &&
      !refused.has(position),
  });
}

/** A later generation than this member's own snapshots are of: whoever was away goes on there. */
export async function syncGeneration<State, Command, D extends Duty>({
  committee,
  store,
  sources,
  logger,
  eras,
  keyIsOver,
  learnEras,
}: Omit<StateSyncOptions<State, Command, D>, "timers">): Promise<void> {
  const { config, organism, generation } = committee;
  const wanted = ({ checkpoint }: CertifiedCheckpoint): boolean =>
    checkpoint.generation > generation && !keyIsOver(checkpoint.epoch);
  const fetched = await fetchSnapshot({ config, organism, sources, wanted, log: logger, eras, learnEras });
  if (fetched === undefined) return;
  const { checkpoint } = fetched.certified;
  if (!restores(committee, fetched.state, checkpoint.position, logger)) return;
  await store.save(fetched.certified, fetched.state);
  logger.info("joined a later generation", { source: fetched.source, generation: checkpoint.generation });
}

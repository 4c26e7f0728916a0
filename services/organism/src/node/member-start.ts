/**
 * What a starting member has before it says anything: what it kept, loaded; its committee at the newest certified state that
 * anybody gives it; and the log of the generation that this state is in.
 */
import { Committee } from "../committee/committee.ts";
import { generateSigningKey } from "../crypto/ed25519.ts";
import type { Duty } from "../machine.ts";
import { errorFields } from "../observe/logger.ts";
import { LogLost } from "../ports.ts";
import type { EntryTail } from "./entry-tail.ts";
import { EraBook } from "./era-book.ts";
import { EraMark } from "./era-mark.ts";
import { GenerationLog } from "./generation-log.ts";
import type { MemberOptions } from "./member-options.ts";
import { nodeTimers } from "./node-timers.ts";
import type { OutcomeArchive } from "./outcome-archive.ts";
import { ReadMarks } from "./read-marks.ts";
import { RosterBook } from "./roster-book.ts";
import { archiveSource, peerSource, type SnapshotSource } from "./snapshot-fetcher.ts";
import type { SnapshotStore } from "./snapshot-store.ts";
import { restoreOwn, syncGeneration, syncState } from "./state-sync.ts";
import { fileStorage, type KeptBodies } from "./storage.ts";
import { askOwnRosters } from "./succession.ts";

/** How the log of this generation stands: to be read; still to be made; or without what this member had read, and why. */
export type LogState = "there" | "awaited" | { readonly lost: string };

export interface MemberStart<State, Command, D extends Duty> {
  readonly committee: Committee<State, Command, D>;
  readonly log: GenerationLog;
  readonly archive: OutcomeArchive;
  readonly bodies: KeptBodies;
  readonly snapshots: SnapshotStore;
  /** Without it, or a log to go on in, this member has no part in ends of generations. */
  readonly tail: EntryTail | undefined;
  readonly marks: ReadMarks;
  readonly eraMark: EraMark;
  readonly eras: EraBook;
  readonly book: RosterBook;
  /** Keeps the eras known on disk; a disk that fails is told of, and stops nothing. */
  readonly saveEras: () => void;
  readonly logState: LogState;
}

/** @throws NoSnapshot, RulesUnknown, LogLost */
export async function startMember<State, Command, D extends Duty, Settings>(
  options: MemberOptions<State, Command, D, Settings>,
): Promise<MemberStart<State, Command, D>> {
  const { definition, config, directory, rosters, logger, meters, endpoints, connect, journal, nextLog } = options;
  const { organism } = definition;
  const committee = freshCommittee(options);
  options.onCommittee?.(committee);
  const storage = options.storage ?? fileStorage(directory);
  const eras = options.eras ?? new EraBook(config);
  const kept = eras.learnAll((await storage.eras?.()) ?? {});
  if (kept !== undefined) logger.error("what was kept of eras does not stand", { problem: kept });
  const evidence = options.storage === undefined ? { evidenceDirectory: directory } : {};
  const book = new RosterBook({ config, rosters, log: logger, meters, eras, ...evidence });
  const snapshots = await storage.snapshots(config, organism, eras.of);
  await restoreOwn(committee, snapshots, logger);
  const tail = nextLog === undefined ? undefined : await storage.tail?.();
  const log = new GenerationLog(options.log);
  const eraMark = new EraMark(committee, journal, eras.of);
  const sync = {
    committee,
    log,
    store: snapshots,
    sources: snapshotSources(options),
    logger,
    eras: eras.of,
    keyIsOver: eraMark.isOver,
    learnEras: () => askOwnRosters({ organism, config, book, endpoints, connect, logger }),
  };
  if (tail !== undefined) await syncGeneration(sync);
  if (committee.generation > 0n) {
    const later = await nextLog?.(committee.generation);
    if (later === undefined) throw new Error(`no log is known for generation ${committee.generation}`);
    await log.use(later, committee.generation);
  }
  const marks = new ReadMarks(committee, journal, tail);
  const read = marks.furthest();
  let logState: LogState = "there";
  // Of a generation that has only just been agreed on there may be no stream yet: then nothing is lost.
  if (committee.generation > 0n && read === 0n && !(await log.present())) logState = "awaited";
  else {
    try {
      await syncState({ ...sync, timers: options.timers ?? nodeTimers });
    } catch (error) {
      if (!(error instanceof LogLost) || !error.history || tail === undefined || read === 0n) throw error;
      logState = { lost: error.message };
    }
  }
  const archive = await storage.outcomes(organism);
  if (options.certifiedRoster !== undefined) await archive.put(options.certifiedRoster);
  const bodies = await storage.bodies();
  const saveEras = (): void => {
    storage.saveEras?.(eras.all).catch((error: unknown) => logger.error("eras cannot be kept", errorFields(error)));
  };
  return { committee, log, archive, bodies, snapshots, tail, marks, eraMark, eras, book, saveEras, logState };
}

/** A committee in the state of the very beginning. */
export function freshCommittee<State, Command, D extends Duty, Settings>({
  definition,
  config,
  rosters,
  checkpointEvery,
  rules,
  activationEntries,
}: MemberOptions<State, Command, D, Settings>): Committee<State, Command, D> {
  const roster = rosters[definition.organism];
  return new Committee<State, Command, D>({
    config,
    roster,
    machine: definition.createMachine(config, roster),
    ...(checkpointEvery === undefined ? {} : { checkpointEvery }),
    ...(rules === undefined ? {} : { rules }),
    ...(activationEntries === undefined ? {} : { activationEntries }),
  });
}

/** The other members in turn, beginning with the next one, then the archive. */
export function snapshotSources<State, Command, D extends Duty, Settings>(
  options: MemberOptions<State, Command, D, Settings>,
): SnapshotSource[] {
  const { definition, config, self, secrets, clock, endpoints, connect, archive } = options;
  const { organism } = definition;
  const memberKey = generateSigningKey(secrets.memberKey);
  const addresses = endpoints()[organism];
  // Epochs may have other numbers of members than the kit's roster: whoever has an address may be asked.
  const others = [...addresses.slice(self + 1), ...addresses.slice(0, self)];
  const peers = others.map((address) =>
    peerSource({ config, organism, self, memberKey, clock, address, ...(connect === undefined ? {} : { connect }) }),
  );
  return archive === undefined ? peers : [...peers, archiveSource(archive.snapshots, options.timers)];
}

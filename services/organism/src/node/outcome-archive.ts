/**
 * Certified outcomes outside state and log: append-only files, an index in memory, and live watchers. Bounded: a file of
 * old outcomes goes once all of them lie OUTCOMES_KEPT_SLOTS back and tally has attributed their slots.
 */
import { randomBytes } from "node:crypto";
import { copyFile, open, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { decode, encode } from "../codec/codec.ts";
import { CERTIFIED, type CertifiedOutcome } from "../committee/outcome.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import type { RecordFile } from "../ports.ts";
import { AppendFile, syncDirectory } from "./append-file.ts";

/** Events a watcher may lag behind before its stream is ended. */
export const WATCH_BUFFER_MAX = 1024;
const RECENT = 256;
/** Slots that a watcher is given before it is looked what is held further on. */
const SLOTS_AT_ONCE = 512n;
/** Outcomes that the disk has not taken, and that are tried again; more go to the other members for them. */
const UNKEPT_MAX = 256;

/** Slots below the newest that a member answers for by itself: 18 hours of four seconds. */
export const OUTCOMES_KEPT_SLOTS = 16_384n;
/** Outcomes in one file. */
const SEGMENT_RECORDS = 4096;

interface Segment {
  readonly file: RecordFile;
  records: number;
  newestSlot: bigint;
  /** The disk has not taken a record: it takes none behind it. */
  broken: boolean;
  /** Absent where it cannot be. */
  readonly remove?: () => Promise<void>;
}

interface Place {
  readonly segment: Segment;
  readonly offset: number;
  readonly length: number;
}

type OutcomeIndex = Map<string, Map<bigint, Place>>;
type OpenFile = (onRecord: (payload: Uint8Array, offset: number) => void) => Promise<RecordFile>;

/** Which outcome: what is not in memory is read when it is asked for. */
export interface HeldOutcome {
  readonly stage: string;
  readonly slot: bigint;
}

export interface ArchiveLimits {
  readonly keptSlots?: bigint;
  readonly segmentRecords?: number;
}
type Listener = (certified: CertifiedOutcome) => void;

export class OutcomeArchive {
  readonly #organism: string;
  readonly #segments: Segment[];
  readonly #index: OutcomeIndex;
  readonly #next: (() => Promise<Segment>) | undefined;
  readonly #limits: Required<ArchiveLimits>;
  readonly #recent = new Map<string, CertifiedOutcome>();
  readonly #unkept = new Map<string, CertifiedOutcome>();
  readonly #listeners = new Set<Listener>();
  /** Wakes those who wait for the next outcome. */
  readonly #watching = new Set<() => void>();
  #closed = false;
  /** Appends one after the other, so that a new file begins once. */
  #appending: Promise<unknown> = Promise.resolve();

  private constructor(
    organism: string,
    parts: { segments: Segment[]; index: OutcomeIndex; next?: () => Promise<Segment>; limits?: ArchiveLimits },
  ) {
    this.#organism = organism;
    this.#segments = parts.segments;
    this.#index = parts.index;
    this.#next = parts.next;
    this.#limits = { keptSlots: OUTCOMES_KEPT_SLOTS, segmentRecords: SEGMENT_RECORDS, ...parts.limits };
  }

  /**
   * Files `outcomes`, `outcomes.1`, `outcomes.2` … in the folder. The one that is gone on with is written anew: an older process that
   * still ends on this folder would write into it, and what follows would lie elsewhere than it is looked for.
   */
  static async open(directory: string, organism: string, limits?: ArchiveLimits): Promise<OutcomeArchive> {
    const index: OutcomeIndex = new Map();
    const names = await readdir(directory).catch(() => []);
    const numbers = names.flatMap((name) => {
      const number = /^outcomes(?:\.(\d+))?$/.exec(name);
      return number === null ? [] : [Number(number[1] ?? 0)];
    });
    const segments: Segment[] = [];
    const openNumber = (number: number): Promise<Segment> => {
      const path = join(directory, number === 0 ? "outcomes" : `outcomes.${number}`);
      return openSegment(
        (onRecord) => AppendFile.open(path, onRecord, { exclusive: true }),
        index,
        () => rm(path, { force: true }),
      );
    };
    for (const name of names) if (/^outcomes\..*\.new$/.test(name)) await rm(join(directory, name), { force: true });
    numbers.sort((a, b) => a - b);
    let newest = numbers.at(-1) ?? 0;
    if (numbers.length > 0) await takeOver(join(directory, newest === 0 ? "outcomes" : `outcomes.${newest}`));
    for (const number of numbers.length === 0 ? [0] : numbers) segments.push(await openNumber(number));
    const next = (): Promise<Segment> => openNumber(++newest);
    return new OutcomeArchive(organism, { segments, index, next, ...(limits === undefined ? {} : { limits }) });
  }

  /** One file, which only grows. @param openFile opens the records, handing over each that is there */
  static async over(openFile: OpenFile, organism: string): Promise<OutcomeArchive> {
    const index: OutcomeIndex = new Map();
    return new OutcomeArchive(organism, { segments: [await openSegment(openFile, index)], index });
  }

  has(stage: string, slot: bigint): boolean {
    return this.#index.get(stage)?.has(slot) ?? false;
  }

  /** Keeps a certified outcome; the second of a slot and stage is ignored. What fails is tried again with the next one. */
  async put(certified: CertifiedOutcome): Promise<void> {
    const { stage, slot } = certified.outcome;
    const key = `${stage}/${slot}`;
    if (this.has(stage, slot) || this.#recent.has(key) || this.#unkept.has(key)) return;
    this.#recent.set(key, certified);
    for (const listener of this.#listeners) listener(certified);
    try {
      await this.#store(key, certified);
    } finally {
      const [oldest] = this.#recent.keys();
      if (this.#recent.size > RECENT && oldest !== undefined) this.#recent.delete(oldest);
    }
    for (const [again, each] of [...this.#unkept]) {
      if (!this.#unkept.delete(again)) continue;
      // It was told of when it failed first.
      await this.#store(again, each).catch(() => undefined);
    }
  }

  async #store(key: string, certified: CertifiedOutcome): Promise<void> {
    const { stage, slot } = certified.outcome;
    const payload = encode(CERTIFIED, certified);
    const appended = this.#appending
      .then(() => this.#segment())
      .then((segment) => {
        segment.records += 1;
        if (slot > segment.newestSlot) segment.newestSlot = slot;
        const stored = segment.file.append(payload).catch((error: unknown) => {
          segment.broken = true;
          throw error;
        });
        return { segment, stored };
      });
    this.#appending = appended.catch(() => undefined);
    try {
      const { segment, stored } = await appended;
      place(this.#index, stage, slot, { segment, offset: await stored, length: payload.length });
    } catch (error) {
      if (this.#unkept.size < UNKEPT_MAX) this.#unkept.set(key, certified);
      throw error;
    }
  }

  async #segment(): Promise<Segment> {
    const last = this.#segments.at(-1);
    const takes = last !== undefined && !last.broken && last.records < this.#limits.segmentRecords;
    if (last !== undefined && (takes || this.#next === undefined)) return last;
    if (this.#next === undefined) throw new Error("an archive has a file");
    const next = await this.#next();
    this.#segments.push(next);
    return next;
  }

  /**
   * Lets go of whole files of old outcomes.
   * @param attributed the newest slot that tally is known to have attributed; 0 when this organism does not follow it
   */
  async prune(attributed: bigint): Promise<void> {
    let newest = 0n;
    for (const { newestSlot } of this.#segments) if (newestSlot > newest) newest = newestSlot;
    let below = newest - this.#limits.keptSlots;
    if (attributed > 0n && attributed < below) below = attributed;
    for (
      let oldest = this.#segments[0];
      oldest !== undefined && this.#segments.length > 1;
      oldest = this.#segments[0]
    ) {
      if (oldest.newestSlot >= below || oldest.remove === undefined) return;
      this.#segments.shift();
      for (const slots of this.#index.values()) {
        for (const [slot, { segment }] of slots) if (segment === oldest) slots.delete(slot);
      }
      await oldest.file.close();
      await oldest.remove();
    }
  }

  recent(stage: string, slot: bigint): CertifiedOutcome | undefined {
    return this.#recent.get(`${stage}/${slot}`);
  }

  async get(stage: string, slot: bigint): Promise<CertifiedOutcome | undefined> {
    const recent = this.recent(stage, slot);
    if (recent !== undefined) return recent;
    const at = this.#index.get(stage)?.get(slot);
    return at === undefined ? undefined : decode(CERTIFIED, await at.segment.file.read(at.offset, at.length));
  }

  /** What is held of `stages` from `fromSlot` on, by slot, in a slot as the stages are given. */
  held(stages: readonly string[], fromSlot: bigint): HeldOutcome[] {
    const held = stages.flatMap((stage) =>
      [...this.#heldSlots(stage)].filter((slot) => slot >= fromSlot).map((slot) => ({ stage, slot })),
    );
    return held.sort((a, b) =>
      a.slot < b.slot ? -1 : a.slot > b.slot ? 1 : stages.indexOf(a.stage) - stages.indexOf(b.stage),
    );
  }

  /** Also what is still on its way to the disk: its listeners have been told already. */
  #heldSlots(stage: string): Set<bigint> {
    const slots = new Set(this.#index.get(stage)?.keys() ?? []);
    for (const { outcome } of this.#recent.values()) if (outcome.stage === stage) slots.add(outcome.slot);
    return slots;
  }

  /**
   * Slots of which anything is held, from `from` on and in order, and the one to go on with: few at a time, because whoever
   * watches is one of many.
   */
  #slotsFrom(stages: readonly string[], from: bigint): { readonly slots: bigint[]; readonly next: bigint | undefined } {
    const below = from + SLOTS_AT_ONCE;
    const slots = new Set<bigint>();
    let next: bigint | undefined;
    const see = (slot: bigint): void => {
      if (slot < from) return;
      if (slot < below) slots.add(slot);
      else if (next === undefined || slot < next) next = slot;
    };
    for (const stage of stages) for (const slot of this.#index.get(stage)?.keys() ?? []) see(slot);
    for (const { outcome } of this.#recent.values()) if (stages.includes(outcome.stage)) see(outcome.slot);
    return { slots: [...slots].sort((a, b) => (a < b ? -1 : 1)), next };
  }

  /** The oldest slot held for a stage. */
  oldest(stage: string): bigint | undefined {
    let oldest: bigint | undefined;
    for (const slot of this.#index.get(stage)?.keys() ?? []) if (oldest === undefined || slot < oldest) oldest = slot;
    return oldest;
  }

  newest(stage: string): bigint | undefined {
    let newest: bigint | undefined;
    for (const slot of this.#index.get(stage)?.keys() ?? []) if (newest === undefined || slot > newest) newest = slot;
    return newest;
  }

  /**
   * Outcomes of `stages` from `fromSlot` on: what is held, by slot, then live ones as they are certified. 0: live only.
   * Ends with `signal`, and when the archive is closed: whoever follows goes to another member then.
   * @throws Fault SLOW_CONSUMER when the reader lags WATCH_BUFFER_MAX events behind
   */
  async *watch(stages: readonly string[], fromSlot: bigint, signal: AbortSignal): AsyncGenerator<CertifiedOutcome> {
    const queue: CertifiedOutcome[] = [];
    let overflow = false;
    let wake: () => void = () => undefined;
    const listener: Listener = (certified) => {
      if (!stages.includes(certified.outcome.stage) || certified.outcome.slot < fromSlot) return;
      if (queue.length >= WATCH_BUFFER_MAX) overflow = true;
      else queue.push(certified);
      wake();
    };
    const stop = (): void => wake();
    const over = (): boolean => signal.aborted || this.#closed;
    this.#listeners.add(listener);
    this.#watching.add(stop);
    signal.addEventListener("abort", stop);
    try {
      for (let from = fromSlot > 0n ? fromSlot : undefined; from !== undefined; ) {
        const { slots, next } = this.#slotsFrom(stages, from);
        for (const slot of slots) {
          for (const stage of stages) {
            if (over()) return;
            const certified = await this.get(stage, slot);
            if (certified === undefined) continue;
            // It may have come meanwhile.
            const live = queue.findIndex(({ outcome }) => outcome.slot === slot && outcome.stage === stage);
            if (live >= 0) queue.splice(live, 1);
            yield certified;
          }
        }
        from = next;
      }
      while (!over()) {
        if (overflow) throw faultsOf(this.#organism, COMMON_FAULTS)("SLOW_CONSUMER");
        const next = queue.shift();
        if (next === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (queue.length > 0 || over()) resolve();
          });
        } else yield next;
      }
    } finally {
      this.#listeners.delete(listener);
      this.#watching.delete(stop);
      signal.removeEventListener("abort", stop);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const end of this.#watching) end();
    await this.#appending;
    for (const { file } of this.#segments) await file.close();
  }
}

async function takeOver(path: string): Promise<void> {
  const anew = `${path}.${randomBytes(6).toString("hex")}.new`;
  try {
    await copyFile(path, anew);
    const file = await open(anew, "r+");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(anew, path);
  } catch (error) {
    await rm(anew, { force: true });
    // A full disk keeps nobody from starting: then it is gone on with as it is.
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  }
  await syncDirectory(dirname(path));
}

async function openSegment(openFile: OpenFile, index: OutcomeIndex, remove?: () => Promise<void>): Promise<Segment> {
  const found: { readonly stage: string; readonly slot: bigint; readonly offset: number; readonly length: number }[] =
    [];
  const file = await openFile((payload, offset) => {
    const { stage, slot } = decode(CERTIFIED, payload).outcome;
    found.push({ stage, slot, offset, length: payload.length });
  });
  const removable = remove === undefined ? {} : { remove };
  const segment: Segment = { file, records: found.length, newestSlot: 0n, broken: false, ...removable };
  for (const { stage, slot, offset, length } of found) {
    if (slot > segment.newestSlot) segment.newestSlot = slot;
    place(index, stage, slot, { segment, offset, length });
  }
  return segment;
}

function place(index: OutcomeIndex, stage: string, slot: bigint, at: Place): void {
  const slots = index.get(stage) ?? new Map<bigint, Place>();
  slots.set(slot, at);
  index.set(stage, slots);
}

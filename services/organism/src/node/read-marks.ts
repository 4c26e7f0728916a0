/**
 * How far this member has read its committee's log, and on which state it has spoken: kept in the journal, so that a
 * log which comes back with less, or with something else, is recognised after any restart (decision 29).
 */
import { decode, encode, equalBytes, fixed, type Infer, struct, u64 } from "../codec/codec.ts";
import { decodeEntry, ZERO_HASH } from "../committee/entry.ts";
import type { MemberJournal } from "../ports.ts";
import type { EntryTail } from "./entry-tail.ts";

/** Name in the journal of how far the log had been read, and its head there: a log that has lost that was rolled back. */
const APPLIED = "applied";
/** Name in the journal of the newest position on whose state something was promised: written beside each promise. */
const SAID_AT = "said-at";
const MARK = struct({ generation: u64, position: u64, head: fixed(32) });
type Mark = Infer<typeof MARK>;

/** Where a committee's state stands: the committee itself. */
export interface Reading extends Mark {
  /** Chain head after a position; undefined for one to come, and for one that the state has forgotten. */
  headAt(position: bigint): Uint8Array | undefined;
}

export class ReadMarks {
  /** The committee's own, as it goes on. */
  readonly #now: Reading;
  readonly #journal: MemberJournal;
  readonly #tail: EntryTail | undefined;
  /** How far the process before this one had read, and what it had last spoken on. */
  readonly #before: readonly (Mark | undefined)[];

  /** @param now looked at whenever it is needed: the committee itself */
  constructor(now: Reading, journal: MemberJournal, tail: EntryTail | undefined) {
    this.#now = now;
    this.#journal = journal;
    this.#tail = tail;
    this.#before = [this.#read(APPLIED), this.#read(SAID_AT)];
  }

  /**
   * How far this member is known to have read this generation's log: by its state, by the mark that goes with it, by
   * what it kept, and by what it said last. That one says no more than how long the log was: it may have been signed
   * over a forked one.
   */
  furthest(): bigint {
    const { generation, position } = this.#now;
    const known = [position];
    const mark = this.#read(APPLIED);
    if (mark?.generation === generation) known.push(mark.position);
    const kept = this.#tail?.newest(generation);
    if (kept !== undefined) known.push(kept);
    const entry = this.#journal.newestEntry();
    const said = entry === undefined ? undefined : decodeEntry(entry).body;
    if (said?.generation === generation) known.push(said.seenPosition);
    return known.reduce((most, each) => (each > most ? each : most));
  }

  /**
   * What was read before the last restart, and what was spoken on, must be what is read now; false at the positions where
   * it shows.
   */
  agrees(): boolean {
    const { generation, position, head } = this.#now;
    return this.#before.every(
      (mark) => mark?.position !== position || mark.generation !== generation || equalBytes(mark.head, head),
    );
  }

  async note(): Promise<void> {
    await this.#write(APPLIED, this.#now);
  }

  /** What was read since the newest snapshot, and spoken on, is read anew by the next process. */
  async forget(): Promise<void> {
    const nothing = { generation: this.#now.generation, position: 0n, head: ZERO_HASH };
    for (const name of [APPLIED, SAID_AT]) await this.#write(name, nothing);
  }

  /** The point that this member has spoken on, when its state does not reach it any more, or has gone another way. */
  spokenOn(): { readonly position: bigint; readonly head: Uint8Array } | undefined {
    const said = this.#read(SAID_AT);
    const { generation, position } = this.#now;
    if (said?.generation !== generation) return undefined;
    if (said.position > position) return said;
    const head = this.#now.headAt(said.position);
    return head === undefined || equalBytes(head, said.head) ? undefined : said;
  }

  /** The same journal; every promise says on which state it was given, unless `ending`. */
  noting(ending: () => boolean): MemberJournal {
    const journal = this.#journal;
    let noted: Promise<void> = Promise.resolve();
    let notedAt = { generation: -1n, position: -1n };
    return {
      nextIncarnation: (atLeast) => journal.nextIncarnation(atLeast),
      promise: async (key, slot, value) => {
        const { generation, position } = this.#now;
        // Positions begin again with every generation.
        if ((generation !== notedAt.generation || position > notedAt.position) && !ending()) {
          notedAt = { generation, position };
          // What it speaks on it can hand over, also when all members are killed at once and the stream is lost with them.
          noted = Promise.all([this.#write(SAID_AT, this.#now), this.#tail?.written()]).then(() => undefined);
        }
        await Promise.all([journal.promise(key, slot, value), noted]);
      },
      promised: (key) => journal.promised(key),
      isPromised: (key) => journal.isPromised(key),
      entry: (id, raw) => journal.entry(id, raw),
      put: (name, value) => journal.put(name, value),
      get: (name) => journal.get(name),
      trim: (slot) => journal.trim(slot),
      close: () => journal.close(),
      wrote: (id) => journal.wrote(id),
      newestEntry: () => journal.newestEntry(),
    };
  }

  #read(name: string): Mark | undefined {
    const kept = this.#journal.get(name);
    return kept === undefined ? undefined : decode(MARK, kept);
  }

  #write(name: string, { generation, position, head }: Mark): Promise<void> {
    return this.#journal.put(name, encode(MARK, { generation, position, head }));
  }
}

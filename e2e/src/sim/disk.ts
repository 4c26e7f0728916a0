/**
 * A member's disk: what has been synced survives a crash, of what has not a prefix may. Same contract as the files of
 * production (`file-journal.ts`, `append-file.ts`, `file-body-store.ts`, `snapshots.ts`).
 */

import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { CertifiedCheckpoint } from "@lattice/organism/committee/checkpoint.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { type EntryTail, tailHash } from "@lattice/organism/node/entry-tail.ts";
import type { LinksByOrganism } from "@lattice/organism/node/era-book.ts";
import { OutcomeArchive } from "@lattice/organism/node/outcome-archive.ts";
import { compareCheckpoints } from "@lattice/organism/node/snapshot-fetcher.ts";
import { SNAPSHOTS_KEPT, type SnapshotKey } from "@lattice/organism/node/snapshot-store.ts";
import type { KeptBodies, MemberStorage } from "@lattice/organism/node/storage.ts";
import { type MemberJournal, PromiseConflict, type RecordFile } from "@lattice/organism/ports.ts";
import type { SeededRandom } from "./random.ts";
import type { SimProcess, VirtualTime } from "./virtual-time.ts";

const BODY_SLOTS_KEPT = 64n;
const TAIL_LOST_MOST = 40;

interface KeptSnapshot {
  readonly certified: CertifiedCheckpoint;
  readonly state: Uint8Array;
}

interface Kept {
  incarnation: bigint;
  readonly promises: Map<string, { readonly slot: bigint; readonly bytes: Uint8Array }>;
  readonly values: Map<string, Uint8Array>;
  readonly entries: Set<string>;
  newestEntry: Uint8Array | undefined;
  readonly outcomes: Uint8Array[];
  readonly bodies: Map<string, { readonly slot: bigint; readonly body: Uint8Array }>;
  readonly landed: Set<bigint>;
  snapshots: readonly KeptSnapshot[];
  eras: LinksByOrganism | undefined;
  /** What was read, by generation and position. Not synced: a killed process loses nothing of it, a power cut its end. */
  readonly tail: Map<bigint, Map<bigint, Uint8Array>>;
}

function empty(): Kept {
  return {
    incarnation: 0n,
    promises: new Map(),
    values: new Map(),
    entries: new Set(),
    newestEntry: undefined,
    outcomes: [],
    bodies: new Map(),
    landed: new Set(),
    snapshots: [],
    eras: undefined,
    tail: new Map(),
  };
}

function copyOf(kept: Kept): Kept {
  return {
    incarnation: kept.incarnation,
    promises: new Map(kept.promises),
    values: new Map(kept.values),
    entries: new Set(kept.entries),
    newestEntry: kept.newestEntry,
    outcomes: [...kept.outcomes],
    bodies: new Map(kept.bodies),
    landed: new Set(kept.landed),
    snapshots: [...kept.snapshots],
    eras: kept.eras,
    tail: new Map([...kept.tail].map(([generation, entries]) => [generation, new Map(entries)])),
  };
}

interface Write {
  readonly process: SimProcess;
  readonly apply: (kept: Kept) => void;
}

export class SimDisk {
  #kept = empty();
  #backup: Kept | undefined;
  #writes: Write[] = [];
  #busyUntilMs = 0;
  /** A multiple of the usual time of a sync. */
  slowness = 1;
  /** Nothing can be written. */
  full = false;
  /** What is read goes to the tail no more, until the process is started again: as in the real one after a failed write. */
  tailFailed = false;
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;

  constructor(time: VirtualTime, random: SeededRandom) {
    this.#time = time;
    this.#random = random;
  }

  get isNew(): boolean {
    return this.#kept.incarnation === 0n;
  }

  /** Resolves once it is synced; never for a process that died before. Writes of one disk are synced in order. */
  write(process: SimProcess, apply: (kept: Kept) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.full) {
        process.after(0.1, () => reject(new Error("ENOSPC: no space left on device")));
        return;
      }
      const write = { process, apply };
      this.#writes.push(write);
      const syncMs = this.#random.between(0.1, 1.5) * this.slowness;
      this.#busyUntilMs = Math.max(this.#busyUntilMs, this.#time.nowMs) + (this.#writes.length > 1 ? 0.01 : syncMs);
      process.after(this.#busyUntilMs - this.#time.nowMs, () => {
        this.#sync(write);
        resolve();
      });
    });
  }

  #sync(until: Write): void {
    for (;;) {
      const next = this.#writes.shift();
      if (next === undefined) return;
      next.apply(this.#kept);
      if (next === until) return;
    }
  }

  /** kill -9 or power: of what was not synced a prefix is there. */
  crash(): void {
    const survives = this.#random.below(this.#writes.length + 1);
    for (const { apply } of this.#writes.slice(0, survives)) apply(this.#kept);
    this.#writes = [];
    this.#busyUntilMs = 0;
  }

  /** As `crash`, and the end of what was written without a sync goes as well. */
  powerCut(): void {
    this.crash();
    for (const entries of this.#kept.tail.values()) {
      const lost = this.#random.below(Math.min(entries.size, TAIL_LOST_MOST) + 1);
      for (const position of [...entries.keys()].slice(entries.size - lost)) entries.delete(position);
    }
  }

  /** Certified snapshots that are held whole. */
  get snapshots(): readonly CertifiedCheckpoint[] {
    return this.#kept.snapshots.map(({ certified }) => certified);
  }

  /** Whether it has this entry in its tail. */
  holds(generation: bigint, position: bigint): boolean {
    return this.#kept.tail.get(generation)?.has(position) === true;
  }

  backUp(): void {
    this.#backup = copyOf(this.#kept);
  }

  /** Puts the last backup back; nothing when there was none. */
  restore(): boolean {
    if (this.#backup === undefined) return false;
    this.#kept = copyOf(this.#backup);
    return true;
  }

  /** A copy in another machine. */
  copyTo(other: SimDisk): void {
    other.#kept = copyOf(this.#kept);
  }

  wipe(): void {
    this.#kept = empty();
  }

  journal(process: SimProcess): MemberJournal {
    const { promises, values, entries } = copyOf(this.#kept);
    const written = new Map<string, { readonly bytes: Uint8Array; durable: boolean; done: Promise<void> }>();
    for (const [key, { bytes }] of promises) written.set(key, { bytes, durable: true, done: Promise.resolve() });
    let { incarnation, newestEntry } = this.#kept;
    return {
      nextIncarnation: async (atLeast) => {
        incarnation = incarnation + 1n > atLeast ? incarnation + 1n : atLeast;
        const next = incarnation;
        await this.write(process, (kept) => {
          if (next > kept.incarnation) kept.incarnation = next;
        });
        return next;
      },
      promise: async (key, slot, bytes) => {
        const known = written.get(key);
        if (known !== undefined) {
          if (!equalBytes(known.bytes, bytes)) throw new PromiseConflict(key);
          return known.done;
        }
        const kept = { bytes: bytes.slice(), durable: false, done: Promise.resolve() };
        written.set(key, kept);
        kept.done = this.write(process, (disk) => disk.promises.set(key, { slot, bytes: kept.bytes })).then(() => {
          kept.durable = true;
        });
        return kept.done;
      },
      promised: (key) => {
        const known = written.get(key);
        return known?.durable === true ? known.bytes : undefined;
      },
      isPromised: (key) => written.get(key)?.durable === true,
      entry: async (id, raw) => {
        const key = toHex(id);
        const copy = raw.slice();
        entries.add(key);
        newestEntry = copy;
        await this.write(process, (kept) => {
          kept.entries.add(key);
          kept.newestEntry = copy;
        });
      },
      wrote: (id) => entries.has(toHex(id)),
      newestEntry: () => newestEntry,
      put: async (name, bytes) => {
        const copy = bytes.slice();
        values.set(name, copy);
        await this.write(process, (kept) => kept.values.set(name, copy));
      },
      get: (name) => values.get(name),
      trim: async (slot) => {
        for (const [key, { slot: at }] of promises) if (at < slot) written.delete(key);
        await this.write(process, (kept) => {
          for (const [key, { slot: at }] of kept.promises) if (at < slot) kept.promises.delete(key);
        });
      },
      close: async () => undefined,
    };
  }

  storage(process: SimProcess, onOutcome: (record: Uint8Array) => void): MemberStorage {
    return {
      outcomes: (organism) => OutcomeArchive.over((onRecord) => this.#records(process, onRecord, onOutcome), organism),
      bodies: async () => this.#bodies(process),
      eras: async () => this.#kept.eras,
      saveEras: (links) =>
        this.write(process, (kept) => {
          kept.eras = links;
        }),
      tail: async () => this.#tail(),
      snapshots: async () => {
        let own = this.#kept.snapshots;
        const find = (key: SnapshotKey): KeptSnapshot | undefined =>
          own.find(
            ({ certified: { checkpoint } }) =>
              checkpoint.generation === key.generation && checkpoint.position === key.position,
          );
        return {
          held: () => own.map(({ certified }) => certified),
          save: async (certified, state) => {
            if (find(certified.checkpoint) !== undefined) return;
            const copy = { certified, state: state.slice() };
            await this.write(process, (kept) => {
              kept.snapshots = newest([copy, ...kept.snapshots]);
            });
            own = newest([copy, ...own]);
          },
          load: async (key) => find(key)?.state.slice(),
          read: async (key, offset, length) => find(key)?.state.slice(offset, offset + length),
        };
      },
    };
  }

  #tail(): EntryTail {
    const { tail } = this.#kept;
    const before = copyOf(this.#kept).tail;
    const newestOf = new Map<bigint, bigint>();
    for (const [generation, entries] of tail) for (const position of entries.keys()) newestOf.set(generation, position);
    let closed = false;
    this.tailFailed = false;
    return {
      newest: (generation) => newestOf.get(generation),
      hashAt(generation, position) {
        const raw = before.get(generation)?.get(position);
        return raw === undefined ? undefined : tailHash(raw);
      },
      append: (generation, position, raw) => {
        const newest = newestOf.get(generation);
        this.tailFailed ||= this.full;
        if (closed || this.tailFailed || (newest !== undefined && position <= newest)) return;
        const entries = tail.get(generation) ?? new Map<bigint, Uint8Array>();
        tail.set(generation, entries.set(position, raw));
        newestOf.set(generation, position);
      },
      read: async (generation, position) => (this.tailFailed ? undefined : tail.get(generation)?.get(position)),
      written: () => Promise.resolve(),
      async keepFrom(generation, position) {
        for (const [held, entries] of tail) {
          if (held === generation) for (const at of entries.keys()) if (at < position) entries.delete(at);
          if (held < generation || entries.size === 0) {
            tail.delete(held);
            newestOf.delete(held);
          }
        }
      },
      async close() {
        closed = true;
      },
    };
  }

  async #records(
    process: SimProcess,
    onRecord: (payload: Uint8Array, offset: number) => void,
    onOutcome: (record: Uint8Array) => void,
  ): Promise<RecordFile> {
    const own = [...this.#kept.outcomes];
    for (const [offset, record] of own.entries()) onRecord(record, offset);
    return {
      append: async (payload) => {
        const offset = own.push(payload.slice()) - 1;
        onOutcome(payload);
        await this.write(process, (kept) => kept.outcomes.push(payload.slice()));
        return offset;
      },
      read: async (offset) => own[offset] ?? new Uint8Array(),
      close: async () => undefined,
    };
  }

  #bodies(process: SimProcess): KeptBodies {
    const bodies = new Map(this.#kept.bodies);
    const landed = new Set(this.#kept.landed);
    return {
      put: async (slot, body) => {
        const hash = blake3(body);
        const copy = { slot, body: body.slice() };
        bodies.set(toHex(hash), copy);
        await this.write(process, (kept) => kept.bodies.set(toHex(hash), copy));
        return hash;
      },
      get: async (hash) => bodies.get(toHex(hash))?.body.slice(),
      markLanded: async (slot) => {
        if (landed.has(slot)) return;
        landed.add(slot);
        await this.write(process, (kept) => kept.landed.add(slot));
      },
      landed: (slot) => landed.has(slot),
      prune: async (newest) => {
        const prune = (held: Map<string, { readonly slot: bigint }>): void => {
          for (const [key, { slot }] of held) if (slot + BODY_SLOTS_KEPT < newest) held.delete(key);
        };
        prune(bodies);
        await this.write(process, (kept) => prune(kept.bodies));
      },
    };
  }
}

function newest(snapshots: readonly KeptSnapshot[]): readonly KeptSnapshot[] {
  const sorted = [...snapshots].sort((a, b) => compareCheckpoints(b.certified, a.certified));
  return sorted.slice(0, SNAPSHOTS_KEPT);
}

/**
 * The journal on disk: one append-only file, compacted at open and when it has grown.
 *
 * One process owns it. Opening takes the file over: a second link is made before it is read, and whoever wrote to it
 * until then finds that link before it acknowledges anything more, and fails. So two processes started on one folder
 * never both believe that they promise.
 *
 * Long promises (vectors, chunks of them) stay on disk, with their hash and place in memory.
 */
import { link, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { bytes, decode, encode, equalBytes, fixed, type Infer, struct, text, u64, union } from "../codec/codec.ts";
import { hashBytes } from "../crypto/hash.ts";
import { type MemberJournal, PromiseConflict } from "../ports.ts";
import { AppendFile, CorruptFile, syncDirectory } from "./append-file.ts";

const VALUE_BYTES_MAX = 32 * 1024 * 1024;
/** Most of a journal is entries that have landed long ago: what a restart reads of them should not take long. */
const COMPACT_FROM_BYTES = 8 * 1024 * 1024;
/** A journal that is large because it has much to remember is not compacted before it has grown by so much. */
const COMPACT_GROWTH = 3;
/** Promises above this are read from the file when they are asked for. */
const SHORT_BYTES = 4096;
/** Long promises that are read at once when the file is replaced. */
const COPIED_AT_ONCE = 8;
/** Ids of own entries that are remembered: far more than can be on their way at once, on either lane. */
const ENTRIES_KEPT = 16_384;

const RECORD = union({
  incarnation: struct({ incarnation: u64 }),
  promise: struct({ key: text(256), slot: u64, bytes: bytes(VALUE_BYTES_MAX) }),
  /** Empty `raw`: kept through a compaction for its id only, as all but the newest are. */
  entry: struct({ id: fixed(32), raw: bytes(VALUE_BYTES_MAX) }),
  put: struct({ name: text(256), bytes: bytes(VALUE_BYTES_MAX) }),
  trim: struct({ below: u64 }),
});
type JournalRecord = Infer<typeof RECORD>;

interface Place {
  readonly file: AppendFile;
  readonly offset: number;
  readonly length: number;
}

interface KeptPromise {
  readonly slot: bigint;
  readonly hash: Uint8Array;
  /** Undefined for a long one that is on disk. */
  bytes: Uint8Array | undefined;
  /** Of a long one, once it is on disk. */
  place: Place | undefined;
  /** Resolves once the promise is on disk. */
  written: Promise<void>;
  durable: boolean;
}

export interface FileJournalOptions {
  /** Compact once the file is larger than this, bytes, and three times what was left of it last. */
  readonly compactFromBytes?: number;
}

export class FileJournal implements MemberJournal {
  readonly #path: string;
  readonly #compactFromBytes: number;
  #compactFrom: number;
  #file: AppendFile | undefined;
  #incarnation = 0n;
  #below = 0n;
  readonly #promises = new Map<string, KeptPromise>();
  readonly #values = new Map<string, Uint8Array>();
  readonly #entries = new Set<string>();
  /** The same in a ring, by age. */
  #entryRing: string[] = [];
  #entryTurn = 0;
  #newestEntry: { readonly key: string; readonly raw: Uint8Array } | undefined;
  /** While the file is being replaced, writes wait: what they acknowledge must be in the file that stays. */
  #compacting: Promise<void> = Promise.resolve();

  private constructor(path: string, options: FileJournalOptions) {
    this.#path = path;
    this.#compactFromBytes = options.compactFromBytes ?? COMPACT_FROM_BYTES;
    this.#compactFrom = this.#compactFromBytes;
  }

  /** Opens `<directory>/journal` and takes it over from whoever had it. @throws CorruptFile */
  static async open(directory: string, options: FileJournalOptions = {}): Promise<FileJournal> {
    const journal = new FileJournal(join(directory, "journal"), options);
    await journal.#takeOver();
    return journal;
  }

  async #takeOver(): Promise<void> {
    const taken = `${this.#path}.taken`;
    for (;;) {
      const found = await takeLink(this.#path, taken);
      // Read by the link, so that it is this very file whatever its owner does to the name meanwhile.
      const places: (readonly [string, number, number])[] = [];
      const old = await AppendFile.open(found ? taken : this.#path, (payload, offset) => {
        const record = decode(RECORD, payload);
        this.#remember(record);
        if (record.type === "promise" && record.bytes.length > SHORT_BYTES) {
          places.push([record.key, offset + payload.length, record.bytes.length]);
        }
      });
      try {
        for (const [key, end, length] of places) {
          const kept = this.#promises.get(key);
          if (kept !== undefined) lies(kept, { file: old, offset: end - length, length });
        }
        if (!found || (await sameFile(this.#path, taken))) {
          await this.#compact();
          break;
        }
      } finally {
        await old.close();
      }
      this.#forgetAll();
    }
    await rm(taken, { force: true });
  }

  #forgetAll(): void {
    this.#incarnation = 0n;
    this.#below = 0n;
    this.#newestEntry = undefined;
    this.#entryRing = [];
    this.#entryTurn = 0;
    for (const kept of [this.#promises, this.#values, this.#entries]) kept.clear();
  }

  #remember(record: JournalRecord): void {
    switch (record.type) {
      case "incarnation":
        this.#incarnation = record.incarnation;
        return;
      case "promise": {
        const { key, slot, bytes: value } = record;
        const short = value.length > SHORT_BYTES ? undefined : value;
        const kept = { slot, hash: promiseHash(value), bytes: short, place: undefined };
        this.#promises.set(key, { ...kept, written: Promise.resolve(), durable: true });
        return;
      }
      case "put":
        this.#values.set(record.name, record.bytes);
        return;
      case "trim":
        this.#below = record.below;
        for (const [key, { slot }] of this.#promises) if (slot < record.below) this.#promises.delete(key);
        return;
      case "entry":
        this.#rememberEntry(record.id, record.raw);
        return;
    }
  }

  #rememberEntry(id: Uint8Array, raw: Uint8Array): void {
    const key = entryKey(id);
    if (raw.length > 0) this.#newestEntry = { key, raw };
    if (this.#entries.has(key)) return;
    // Not by taking the first of the set: it walks past everything that was ever removed there.
    const oldest = this.#entryRing[this.#entryTurn];
    if (oldest !== undefined) this.#entries.delete(oldest);
    this.#entryRing[this.#entryTurn] = key;
    this.#entryTurn = (this.#entryTurn + 1) % ENTRIES_KEPT;
    this.#entries.add(key);
  }

  /** @returns the file, and where in it the record ends */
  async #write(record: JournalRecord): Promise<{ readonly file: AppendFile; readonly end: number }> {
    await this.#compacting;
    const file = this.#file;
    if (file === undefined) throw new Error("the journal is closed or could not be replaced");
    const payload = encode(RECORD, record);
    return { file, end: (await file.append(payload)) + payload.length };
  }

  async nextIncarnation(atLeast: bigint): Promise<bigint> {
    const next = this.#incarnation + 1n > atLeast ? this.#incarnation + 1n : atLeast;
    this.#incarnation = next;
    await this.#write({ type: "incarnation", incarnation: next });
    return next;
  }

  async promise(key: string, slot: bigint, value: Uint8Array): Promise<void> {
    const known = this.#promises.get(key);
    if (known !== undefined) {
      if (!equalBytes(known.hash, promiseHash(value))) throw new PromiseConflict(key);
      return known.written;
    }
    // Remembered before it is on disk: a second promise made meanwhile must meet the first.
    const copy = value.slice();
    const kept: KeptPromise = {
      slot,
      hash: promiseHash(copy),
      bytes: copy,
      place: undefined,
      written: Promise.resolve(),
      durable: false,
    };
    this.#promises.set(key, kept);
    kept.written = this.#write({ type: "promise", key, slot, bytes: copy }).then(({ file, end }) => {
      kept.durable = true;
      const replaced = kept.place !== undefined || file !== this.#file;
      if (!replaced) lies(kept, { file, offset: end - copy.length, length: copy.length });
    });
    return kept.written;
  }

  promised(key: string): Uint8Array | undefined {
    const kept = this.#promises.get(key);
    if (kept?.durable !== true) return undefined;
    return kept.bytes ?? (kept.place === undefined ? undefined : readSync(key, kept.hash, kept.place));
  }

  isPromised(key: string): boolean {
    return this.#promises.get(key)?.durable === true;
  }

  async entry(id: Uint8Array, raw: Uint8Array): Promise<void> {
    this.#rememberEntry(id, raw);
    await this.#write({ type: "entry", id, raw });
  }

  wrote(id: Uint8Array): boolean {
    return this.#entries.has(entryKey(id));
  }

  newestEntry(): Uint8Array | undefined {
    return this.#newestEntry?.raw;
  }

  async put(name: string, value: Uint8Array): Promise<void> {
    const kept = value.slice();
    this.#values.set(name, kept);
    await this.#write({ type: "put", name, bytes: kept });
  }

  get(name: string): Uint8Array | undefined {
    return this.#values.get(name);
  }

  async trim(slot: bigint): Promise<void> {
    if (slot > this.#below) {
      this.#remember({ type: "trim", below: slot });
      await this.#write({ type: "trim", below: slot });
    }
    if ((this.#file?.size ?? 0) > this.#compactFrom) await this.#compact();
  }

  /** Writes what is alive to a new file and renames it over the old one. */
  #compact(): Promise<void> {
    const run = this.#compacting.then(() => this.#rewrite());
    this.#compacting = run.catch(() => undefined);
    return run;
  }

  async #rewrite(): Promise<void> {
    const temporary = `${this.#path}.new`;
    await rm(temporary, { force: true });
    const fresh = await AppendFile.open(temporary, () => undefined, { exclusive: true });
    const old = this.#file;
    const places = new Map<KeptPromise, Place>();
    try {
      const alive: JournalRecord[] = [
        { type: "incarnation", incarnation: this.#incarnation },
        { type: "trim", below: this.#below },
        ...[...this.#values].map(([name, value]) => ({ type: "put", name, bytes: value }) as const),
        ...[...this.#entries].map((key) => {
          const raw = key === this.#newestEntry?.key ? this.#newestEntry.raw : new Uint8Array();
          return { type: "entry", id: new Uint8Array(Buffer.from(key, "latin1")), raw } as const;
        }),
      ];
      await Promise.all(alive.map((record) => fresh.append(encode(RECORD, record))));
      const promises = [...this.#promises];
      while (promises.length > 0) {
        await Promise.all(
          takeSome(promises).map(async ([key, kept]) => {
            const value = kept.bytes ?? (await readPlace(key, kept.hash, kept.place));
            const payload = encode(RECORD, { type: "promise", key, slot: kept.slot, bytes: value });
            const end = (await fresh.append(payload)) + payload.length;
            places.set(kept, { file: fresh, offset: end - value.length, length: value.length });
          }),
        );
      }
      await this.#stillOwner();
    } catch (error) {
      await fresh.close();
      throw error;
    }
    await rename(temporary, this.#path);
    // From here on the old file is nobody's; if the folder cannot be synced, nothing may be acknowledged any more.
    this.#file = undefined;
    for (const [kept, place] of places) lies(kept, place);
    await old?.close();
    await syncDirectory(dirname(this.#path));
    this.#compactFrom = Math.max(this.#compactFromBytes, COMPACT_GROWTH * fresh.size);
    this.#file = fresh;
  }

  /** A running owner must not rename its file over one that somebody else has taken: an empty append tells. */
  async #stillOwner(): Promise<void> {
    await this.#file?.append(encode(RECORD, { type: "trim", below: this.#below }));
  }

  /** Waits for what is being written, then gives the file up. */
  async close(): Promise<void> {
    await this.#compacting;
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}

function promiseHash(value: Uint8Array): Uint8Array {
  return hashBytes("lattice/journal/promise/v1", value);
}

/** A long promise lies there, where its bytes end the record: they need not be kept here. */
function lies(kept: KeptPromise, place: Place): void {
  if (place.length <= SHORT_BYTES) return;
  kept.place = place;
  kept.bytes = undefined;
}

/** As many as are written at once: all short ones up to the next few long ones. */
function takeSome(promises: [string, KeptPromise][]): [string, KeptPromise][] {
  let long = 0;
  let count = 0;
  for (; count < promises.length && long < COPIED_AT_ONCE; count++) {
    if (promises[count]?.[1].bytes === undefined) long++;
  }
  return promises.splice(0, count);
}

async function readPlace(key: string, hash: Uint8Array, place: Place | undefined): Promise<Uint8Array> {
  if (place === undefined) throw new CorruptFile(`the promise ${key} lies nowhere`);
  return judged(key, hash, await place.file.read(place.offset, place.length));
}

function readSync(key: string, hash: Uint8Array, { file, offset, length }: Place): Uint8Array {
  return judged(key, hash, file.readSync(offset, length));
}

/** What is said again must be what was promised, whatever happened to the disk meanwhile. */
function judged(key: string, hash: Uint8Array, value: Uint8Array): Uint8Array {
  if (equalBytes(promiseHash(value), hash)) return value;
  throw new CorruptFile(`the promise ${key} is damaged on disk`);
}

/** A byte per character: half of what hex would keep in memory. */
function entryKey(id: Uint8Array): string {
  return Buffer.from(id).toString("latin1");
}

/** File systems without hard links have no second process to fear for; everything else is an error. */
const NO_LINKS = new Set(["ENOENT", "ENOTSUP", "EOPNOTSUPP", "EPERM", "ENOSYS"]);

/** Makes the second link by which an owner learns that it is one no more. @returns false when there is nothing to take */
async function takeLink(path: string, taken: string): Promise<boolean> {
  await rm(taken, { force: true });
  try {
    await link(path, taken);
    return true;
  } catch (error) {
    if (NO_LINKS.has((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}

async function sameFile(a: string, b: string): Promise<boolean> {
  const [first, second] = await Promise.all([stat(a), stat(b)]);
  return first.ino === second.ino && first.dev === second.dev;
}

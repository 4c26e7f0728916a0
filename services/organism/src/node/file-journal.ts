/**
 * The journal on disk: one append-only file, compacted at open and when it has grown.
 *
 * One process owns it. Opening takes the file over: a second link is made before it is read, another file is put in its place,
 * and then that link goes. Whoever wrote to it until then finds it so before it acknowledges anything more, and fails. So two
 * processes started on one folder never both believe that they promise.
 *
 * Long promises (vectors, chunks of them) stay on disk, with their hash and place in memory.
 */
import { randomBytes } from "node:crypto";
import { link, open, readdir, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { bytes, decode, encode, equalBytes, fixed, type Infer, struct, text, u64, union } from "../codec/codec.ts";
import { hashBytes } from "../crypto/hash.ts";
import { type MemberJournal, PromiseConflict } from "../ports.ts";
import { AppendFile, CorruptFile, FileTaken, syncDirectory } from "./append-file.ts";
import { makeFolder } from "./make-folder.ts";

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
    for (let replaced = false; !replaced; ) {
      const taken = ownName(this.#path, "taken");
      const found = await takeLink(this.#path, taken);
      try {
        replaced = await this.#takeOnce(found ? taken : undefined);
      } catch (error) {
        await rm(taken, { force: true });
        throw error;
      }
      if (replaced) break;
      await this.#file?.close();
      this.#file = undefined;
      this.#forgetAll();
    }
    await this.#dropLinks();
  }

  /** @param taken the link; undefined where there are none. @returns whether this is the owner now */
  async #takeOnce(taken: string | undefined): Promise<boolean> {
    // An owner that did not see the link yet must not put there what it has written; nor does half a file stay lying about.
    for (const name of await beside(this.#path, "new")) await rm(name, { force: true });
    // Read by the link, so that it is this very file whatever its owner does to the name meanwhile.
    const places: (readonly [string, number, number])[] = [];
    const old = await AppendFile.open(taken ?? this.#path, (payload, offset) => {
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
      // Looked at last: another may be starting as well, and what it has acknowledged since is not in here.
      const replaced = await this.#rewrite(async () => taken === undefined || (await sameFile(this.#path, taken)));
      // Nor may another that has read the same put its own there later: what is there then is taken over once more.
      return replaced && (taken === undefined || (await linksTo(this.#path, old)).length === 1);
    } finally {
      await old.close();
    }
  }

  /** Of files that are nobody's any more; a link to this one is of somebody who is taking it over. */
  async #dropLinks(): Promise<void> {
    for (const name of await beside(this.#path, "taken")) {
      const there = await stat(name).catch(() => undefined);
      if (there?.ino !== this.#file?.inode) await rm(name, { force: true });
    }
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
    const run = this.#compacting.then(async () => {
      await this.#rewrite(() => this.#stillOwner());
    });
    this.#compacting = run.catch(() => undefined);
    return run;
  }

  /** @param may asked when everything is written. @returns what it said: the file is replaced only then */
  async #rewrite(may: () => Promise<boolean>): Promise<boolean> {
    // A name of its own: a file that somebody else is still writing must not be put in this one's place.
    const temporary = ownName(this.#path, "new");
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
      if (!(await may())) {
        await fresh.close();
        await rm(temporary, { force: true });
        return false;
      }
      await fresh.rename(this.#path);
    } catch (error) {
      await fresh.close();
      // On a full disk it would lie there until the next try.
      await rm(temporary, { force: true });
      const gone = (error as NodeJS.ErrnoException).code === "ENOENT";
      throw gone ? new FileTaken(`${this.#path}: another process takes the file over`) : error;
    }
    // From here on the old file is nobody's; if the folder cannot be synced, nothing may be acknowledged any more.
    this.#file = undefined;
    for (const [kept, place] of places) lies(kept, place);
    if (old !== undefined) await this.#letGo(old);
    await syncDirectory(dirname(this.#path));
    this.#compactFrom = Math.max(this.#compactFromBytes, COMPACT_GROWTH * fresh.size);
    this.#file = fresh;
    return true;
  }

  /** A running owner must not rename its file over one that somebody else has taken: an empty append tells. */
  async #stillOwner(): Promise<boolean> {
    await this.#file?.append(encode(RECORD, { type: "trim", below: this.#below }));
    return true;
  }

  /** Whoever took the old file just before it was replaced goes on with what it read there. @throws FileTaken */
  async #letGo(old: AppendFile): Promise<void> {
    const links = await linksTo(this.#path, old);
    await old.close();
    if (links.length > 0) throw new FileTaken(`${this.#path}: another process has taken the file over`);
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
const NO_LINKS = new Set(["ENOTSUP", "EOPNOTSUPP", "EPERM", "ENOSYS"]);

/** `<path>.<anything>.<kind>`, and what it was called before: `<path>.<kind>`. */
async function beside(path: string, kind: "new" | "taken"): Promise<string[]> {
  const folder = dirname(path);
  const own = (name: string): boolean => name.startsWith(`${basename(path)}.`) && name.endsWith(`.${kind}`);
  return (await readdir(folder).catch(() => [])).filter(own).map((name) => join(folder, name));
}

function ownName(path: string, kind: "new" | "taken"): string {
  return `${path}.${randomBytes(6).toString("hex")}.${kind}`;
}

/**
 * Makes the second link by which an owner learns that it is one no more; of an empty file where there was none. Nobody
 * removes another's: while both links went an owner would find none. @returns false where there are no links
 */
async function takeLink(path: string, taken: string): Promise<boolean> {
  for (;;) {
    try {
      await link(path, taken);
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT") await makeEmpty(path);
      else if (NO_LINKS.has(code ?? "")) return false;
      else throw error;
    }
  }
}

async function makeEmpty(path: string): Promise<void> {
  makeFolder(dirname(path), 0o700);
  await (await open(path, "a", 0o600)).close();
}

/** False as well when one is not there any more. */
async function sameFile(a: string, b: string): Promise<boolean> {
  const [first, second] = await Promise.all([a, b].map((path) => stat(path).catch(() => undefined)));
  return first !== undefined && first.ino === second?.ino && first.dev === second.dev;
}

/** The names by which `file`, once the one at `path`, was taken over. */
async function linksTo(path: string, file: AppendFile): Promise<string[]> {
  const found: string[] = [];
  for (const name of await beside(path, "taken")) {
    const there = await stat(name).catch(() => undefined);
    if (there?.ino === file.inode) found.push(name);
  }
  return found;
}

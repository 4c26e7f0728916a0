/**
 * The journal on disk: one append-only file, compacted at open and when it has grown.
 *
 * One process owns it. Opening takes the file over: a second link is made before it is read, and whoever wrote to it
 * until then finds that link before it acknowledges anything more, and fails. So two processes started on one folder
 * never both believe that they promise.
 */
import { link, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { bytes, decode, encode, equalBytes, fixed, type Infer, struct, text, u64, union } from "../codec/codec.ts";
import { type MemberJournal, PromiseConflict } from "../ports.ts";
import { AppendFile, syncDirectory } from "./append-file.ts";

const VALUE_BYTES_MAX = 32 * 1024 * 1024;
const COMPACT_FROM_BYTES = 64 * 1024 * 1024;
/** Ids of own entries that are remembered: far more than can be on their way at once, on either lane. */
const ENTRIES_KEPT = 16_384;

const RECORD = union({
  incarnation: struct({ incarnation: u64 }),
  promise: struct({ key: text(256), slot: u64, bytes: bytes(VALUE_BYTES_MAX) }),
  /** Empty `raw`: kept through a compaction for its id only. */
  entry: struct({ id: fixed(32), raw: bytes(VALUE_BYTES_MAX) }),
  put: struct({ name: text(256), bytes: bytes(VALUE_BYTES_MAX) }),
  trim: struct({ below: u64 }),
});
type JournalRecord = Infer<typeof RECORD>;

interface KeptPromise {
  readonly slot: bigint;
  readonly bytes: Uint8Array;
  /** Resolves once the promise is on disk. */
  written: Promise<void>;
  durable: boolean;
}

export interface FileJournalOptions {
  /** Compact once the file is larger than this, bytes. */
  readonly compactFromBytes?: number;
}

export class FileJournal implements MemberJournal {
  readonly #path: string;
  readonly #compactFromBytes: number;
  #file: AppendFile | undefined;
  #incarnation = 0n;
  #below = 0n;
  readonly #promises = new Map<string, KeptPromise>();
  readonly #values = new Map<string, Uint8Array>();
  readonly #entries = new Set<string>();
  /** While the file is being replaced, writes wait: what they acknowledge must be in the file that stays. */
  #compacting: Promise<void> = Promise.resolve();

  private constructor(path: string, options: FileJournalOptions) {
    this.#path = path;
    this.#compactFromBytes = options.compactFromBytes ?? COMPACT_FROM_BYTES;
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
      const old = await AppendFile.open(found ? taken : this.#path, (payload) =>
        this.#remember(decode(RECORD, payload)),
      );
      await old.close();
      if (!found || (await sameFile(this.#path, taken))) break;
      this.#forgetAll();
    }
    await this.#compact();
    await rm(taken, { force: true });
  }

  #forgetAll(): void {
    this.#incarnation = 0n;
    this.#below = 0n;
    for (const kept of [this.#promises, this.#values, this.#entries]) kept.clear();
  }

  #remember(record: JournalRecord): void {
    switch (record.type) {
      case "incarnation":
        this.#incarnation = record.incarnation;
        return;
      case "promise": {
        const { key, slot, bytes: value } = record;
        this.#promises.set(key, { slot, bytes: value, written: Promise.resolve(), durable: true });
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
        this.#rememberEntry(record.id);
        return;
    }
  }

  #rememberEntry(id: Uint8Array): void {
    const key = entryKey(id);
    this.#entries.delete(key);
    this.#entries.add(key);
    if (this.#entries.size <= ENTRIES_KEPT) return;
    const [oldest] = this.#entries;
    if (oldest !== undefined) this.#entries.delete(oldest);
  }

  async #write(record: JournalRecord): Promise<void> {
    await this.#compacting;
    if (this.#file === undefined) throw new Error("the journal is closed or could not be replaced");
    await this.#file.append(encode(RECORD, record));
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
      if (!equalBytes(known.bytes, value)) throw new PromiseConflict(key);
      return known.written;
    }
    // Remembered before it is on disk: a second promise made meanwhile must meet the first.
    const kept: KeptPromise = { slot, bytes: value.slice(), written: Promise.resolve(), durable: false };
    this.#promises.set(key, kept);
    kept.written = this.#write({ type: "promise", key, slot, bytes: kept.bytes }).then(() => {
      kept.durable = true;
    });
    return kept.written;
  }

  promised(key: string): Uint8Array | undefined {
    const kept = this.#promises.get(key);
    return kept?.durable === true ? kept.bytes : undefined;
  }

  async entry(id: Uint8Array, raw: Uint8Array): Promise<void> {
    this.#rememberEntry(id);
    await this.#write({ type: "entry", id, raw });
  }

  wrote(id: Uint8Array): boolean {
    return this.#entries.has(entryKey(id));
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
    if ((this.#file?.size ?? 0) > this.#compactFromBytes) await this.#compact();
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
    try {
      const alive: JournalRecord[] = [
        { type: "incarnation", incarnation: this.#incarnation },
        { type: "trim", below: this.#below },
        ...[...this.#promises].map(
          ([key, { slot, bytes: value }]) => ({ type: "promise", key, slot, bytes: value }) as const,
        ),
        ...[...this.#values].map(([name, value]) => ({ type: "put", name, bytes: value }) as const),
        ...[...this.#entries].map(
          (key) => ({ type: "entry", id: new Uint8Array(Buffer.from(key, "latin1")), raw: new Uint8Array() }) as const,
        ),
      ];
      await Promise.all(alive.map((record) => fresh.append(encode(RECORD, record))));
      await this.#stillOwner();
    } catch (error) {
      await fresh.close();
      throw error;
    }
    await rename(temporary, this.#path);
    // From here on the old file is nobody's; if the folder cannot be synced, nothing may be acknowledged any more.
    this.#file = undefined;
    await old?.close();
    await syncDirectory(dirname(this.#path));
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
